"""The scripts that read a trained model, as a user starts them."""

import csv
import dataclasses
import json
import os
import pathlib
import types

import numpy as np
import pytest
import scoring
from PIL import Image
from random_runs import run, spec_of, write_run

from deeplab_tf import zoo
from deeplab_tf.export import EXPORTERS
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval

SPEC = spec_of(("ground", "tree", "car"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Photos of three sizes with labels, which have a void line, and a workdir."""
    place = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for name, (height, width) in {"a": (40, 56), "b": (33, 65), "c": (48, 32)}.items():
        label = random.integers(0, 3, (height, width), np.uint8)
        label[:, width // 2] = 255
        for folder, picture in {
            "images": random.integers(0, 256, (height, width, 3), np.uint8),
            "labels": label,
        }.items():
            (place / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(place / folder / f"{name}.png")
    (place / "classes.txt").write_text("ground\ntree\ncar\n")
    write_run(place, "run", SPEC)
    return place


@pytest.mark.slow  # four processes that import TensorFlow
def test_an_export_predicts_what_the_workdir_predicts_and_a_bad_image_is_named(place, tmp_path):
    exported = run("export", f"--workdir={place}/run", f"--output={tmp_path}/model")
    assert exported.returncode == 0, exported.stderr
    again = run("export", f"--workdir={place}/run", f"--output={tmp_path}/model")
    assert again.returncode == 1
    assert "must be empty or absent" in again.stderr and "Traceback" not in again.stderr

    (tmp_path / "bad.jpg").write_text("no picture")
    from_workdir = run(
        "predict",
        f"--workdir={place}/run",
        f"--images={place}/images,{tmp_path}/bad.jpg",
        f"--output={tmp_path}/first",
    )
    assert from_workdir.returncode == 1
    assert "1 of 4 images failed" in from_workdir.stderr and "bad.jpg" in from_workdir.stderr
    assert "Traceback" not in from_workdir.stderr
    from_export = run(
        "predict",
        f"--model={tmp_path}/model",
        f"--images={place}/images/*.png",
        f"--output={tmp_path}/second",
    )
    assert from_export.returncode == 0, from_export.stderr

    names = sorted(os.listdir(tmp_path / "first"))
    assert names == sorted(
        [
            "index.html",
            "legend.png",
            "predictions.jsonl",
            *(f"{n}{end}.png" for n in "abc" for end in ("", "_overlay")),
        ]
    )
    for name in "abc":
        with (
            Image.open(place / "images" / f"{name}.png") as photo,
            Image.open(tmp_path / "first" / f"{name}.png") as first,
            Image.open(tmp_path / "second" / f"{name}.png") as second,
        ):
            assert first.size == photo.size
            assert first.mode == "P"
            np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.slow  # a process that imports TensorFlow
def test_each_image_that_fails_is_named_in_one_line_and_the_others_are_predicted(place, tmp_path):
    photos, output = tmp_path / "photos", tmp_path / "output"
    photos.mkdir()
    for name in ("a", "b", "c", "d" * 240):
        Image.new("RGB", (9, 7)).save(photos / f"{name}.png")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "line\nbreak.jpg").write_text("")
    (output / "b.png").mkdir(parents=True)  # where the prediction of b belongs
    (output / "predictions.jsonl").write_text("damaged\n")
    flags = (f"--images={photos}", f"--output={output}", "--overwrite")
    done = run("predict", f"--workdir={place}/run", *flags)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for line, (path, reason) in zip(
        errors,
        [
            ("b.png", "Is a directory"),
            ("d" * 240, "File name too long"),
            (r"line\nbreak.jpg", "it is empty"),
            ("pipe.jpg", "it is a pipe, not a regular file"),
            ("", "4 of 6 images failed"),
        ],
        strict=True,
    ):
        assert path in line and reason in line
    assert "Traceback" not in done.stderr
    assert "predictions of 2 images are in" in done.stdout
    written = {path.name for path in output.rglob("*") if path.is_file()}
    assert {"a.png", "a_overlay.png", "c.png", "c_overlay.png", "legend.png"} <= written
    assert not [name for name in written if name.endswith(".tmp")]


@pytest.mark.slow  # a process that imports TensorFlow
def test_evaluate_prints_the_table_and_writes_the_scores(place):
    done = run("evaluate", f"--workdir={place}/run", "--predict.flip=true")
    assert done.returncode == 0, done.stderr
    for word in ("ground", "tree", "car", "mean IoU", "pixel accuracy"):
        assert word in done.stdout
    scores = json.loads((place / "run" / "evaluation.json").read_text())
    assert 1 <= scores["num_examples"] <= 2
    assert scores["predict"]["kind"] == "whole_image" and scores["predict"]["flip"] is True
    assert 0 <= scores["mean_iou"] <= 1


@pytest.mark.slow  # a process that imports TensorFlow
def test_scores_go_where_output_says(place, tmp_path):
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    output = tmp_path / "new" / "scores.json"
    done = run("evaluate", f"--workdir={place}/run", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert "mean_iou" in json.loads(output.read_text())
    after = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("evaluate", [], "--workdir"),
        ("evaluate", ["--eval.scales=1"], "Unknown command line flag 'eval.scales'"),
        ("evaluate", ["--predict.output_stride=3"], "expected 8|16|32; got '3'"),
        ("export", ["--workdir=x"], "--output"),
        ("predict", ["--output=x", "--images=y"], "one of --model and --workdir"),
        ("predict", ["--workdir=docs", "--output=x", "--images=nowhere/*.jpg"], "no images at"),
        ("trimap", ["--workdirs=x"], "--output must be given"),
        (
            "trimap",
            ["--workdirs=x", "--output=y", "--widths=5,0"],
            "trimap_widths must be at least 1",
        ),
        ("trimap", ["--workdirs=x", "--output=y", "--widths=1,b"], "--widths must be integers"),
        ("trimap", ["--workdirs=a/x,b/x", "--output=y"], "--names must be 2 different ones"),
        ("trimap", ["--workdirs=x,y", "--names=a", "--output=z"], "--names must be 2 different"),
        (
            "trimap",
            ["--workdirs=x", "--output=y", "--eval.trimap_widths=1"],
            "leave --eval.trimap_widths out",
        ),
        ("trimap", ["--workdirs=x", "--output=README.md"], "Name another directory with --output."),
        ("compare", ["--workdirs=x,y"], "--output must be given"),
        ("compare", ["--workdirs=x", "--output=z"], "--workdirs must name two; got x"),
        ("compare", ["--workdirs=x,y,z", "--output=z"], "--workdirs must name two; got x, y, z"),
        ("compare", ["--workdirs=a/x,b/x", "--output=y"], "--names must be 2 different ones"),
        ("compare", ["--workdirs=x,y", "--output=README.md"], "Name another directory with --outp"),
        ("evaluate", ["--workdir=x", "--output=x.csv"], "--output must name a JSON file"),
        ("evaluate", ["--workdir=nowhere"], "there is no directory nowhere; --workdir must be"),
        (
            "evaluate",
            ["--workdir=scripts", "--output=README.md/x"],
            "README.md is not a directory. Name another file with --output.",
        ),
    ],
)
def test_wrong_flags_are_refused_before_tensorflow_is_imported(script, flags, message):
    done = run(script, *flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_the_export_formats_of_the_flag_are_the_exporters():
    done = run("export", "--help")
    assert f"--format: <{'|'.join(EXPORTERS)}>" in done.stdout


@pytest.mark.slow  # three processes that import TensorFlow
def test_what_does_not_fit_is_refused_in_one_line(place, tmp_path):
    other = tmp_path / "classes.txt"
    other.write_text("ground\ntree\nboat\n")
    (tmp_path / "model").mkdir()
    for script, flags, message in (
        (
            "evaluate",
            [f"--dataset.class_names_file={other}"],
            "trained on the classes ground, tree, car",
        ),
        (
            "evaluate",
            ["--eval.excluded_classes=9"],
            "excluded_classes must be among the classes 0..2",
        ),
        (
            "predict",
            [f"--images={place}/images", f"--output={tmp_path}/out", "--predict.pad_size=33,33"],
            "at most pad_size, 33x33 pixels; got 40x56. Set --predict.pad_size to a larger",
        ),
    ):
        done = run(script, f"--workdir={place}/run", *flags)
        assert done.returncode == 1
        assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow  # two processes that import TensorFlow
def test_the_score_of_a_test_server_is_explained(place):
    write_run(place, "published", SPEC, eval=Eval(split="test"), expected_mean_iou=87.8)
    done = run("evaluate", f"--workdir={place}/published")
    assert done.returncode == 1
    for part in ("87.80 is from the test server", "not public", "--eval.split=val scores 'val'"):
        assert part in done.stderr
    done = run("evaluate", f"--workdir={place}/published", "--eval.split=val")
    assert done.returncode == 0, done.stderr
    assert "the recipe's source states a mean IoU of 87.80 on test" in done.stdout


def test_only_a_test_split_without_labels_is_that_of_a_test_server():
    def dataset(label):
        example = {"label": types.SimpleNamespace(numpy=lambda: np.full((2, 2), label))}
        source = types.SimpleNamespace(read=lambda index: example)
        spec = types.SimpleNamespace(name="voc2012", ignore_label=255)
        return types.SimpleNamespace(
            spec=spec, sources={"test": source}, source=lambda split: source
        )

    def recipe(expected):
        return types.SimpleNamespace(expected_mean_iou=expected, eval=Eval(split="test"))

    assert scoring.source(recipe(80.0), dataset(1)).read(0)
    assert scoring.source(recipe(None), dataset(255)).read(0)
    with pytest.raises(
        ValueError, match="^the published mean IoU of 80.00 is from the test server"
    ):
        scoring.source(recipe(80.0), dataset(255))


def spec(*class_names: str, name: str = "found", ignore_label: int = 255) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        class_names=class_names,
        ignore_label=ignore_label,
        palette=bit_palette(len(class_names)),
        splits={},
    )


def test_the_classes_of_the_model_are_scored_under_the_name_of_the_dataset():
    trained_on = spec("ground", "tree", "car", name="trained")
    same = scoring.scored_spec(trained_on, spec("ground", "tree", "car"))
    assert same == spec("ground", "tree", "car")
    # a folder without a file of names, whose labels show two classes
    assert scoring.scored_spec(trained_on, spec("ground", "tree")).num_classes == 3


def test_a_dataset_may_have_classes_that_the_model_lacks():
    trained_on, found = spec("tree", "car", name="trained"), spec("ground", "tree", "car")
    assert scoring.scored_spec(trained_on, found) == found
    without, also = (zoo.released_spec(f"pascal_context{name}") for name in ("", "60"))
    assert scoring.scored_spec(without, also) == also
    for other in (
        spec("ground", "tree", "boat"),  # lacks one
        spec("ground", "tree", "car", ignore_label=254),
        spec("ground", "tree", "car", ignore_label=-1),  # one class per image
    ):
        with pytest.raises(ValueError, match="the model was trained on the classes tree, car"):
            scoring.scored_spec(dataclasses.replace(trained_on), other)


@pytest.mark.slow  # a process that imports TensorFlow
def test_a_model_without_background_is_scored_on_a_dataset_with_it(place, tmp_path):
    (tmp_path / "classes.txt").write_text("ground\ntree\ncar\n")
    write_run(place, "two_classes", spec_of(("tree", "car")))
    flags = (f"--output={tmp_path}/scores.json", "--eval.trimap_widths=1,2")
    done = run("evaluate", f"--workdir={place}/two_classes", *flags)
    assert done.returncode == 0, done.stderr
    assert "never predicted, since the model was not trained on it: ground" in done.stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [row[0] for row in scores["confusion_matrix"]] == [0, 0, 0]
    assert sum(scores["confusion_matrix"][0]) > 0 and scores["iou"]["ground"] == 0
    assert [*scores["trimap"]] == ["1", "2"]


@pytest.mark.slow  # four processes that import TensorFlow
def test_trimap_compares_models_on_the_same_images(place, tmp_path):
    write_run(place, "other", SPEC)
    write_run(place, "other_eval", SPEC, eval=Eval(absent_classes="zero"))
    output = tmp_path / "figure"
    runs = f"--workdirs={place}/run,{place}/other"
    done = run("trimap", runs, "--widths=1,5", f"--output={output}", "--names=first,second")
    assert done.returncode == 0, done.stderr
    tree = json.loads((output / "trimap.json").read_text())
    assert tree["widths"] == [1, 5] and [*tree["models"]] == ["first", "second"]
    rows = list(csv.DictReader((output / "trimap.csv").read_text().splitlines()))
    for row in rows:
        bands = [tree["models"][name]["trimap"][row["width"]] for name in ("first", "second")]
        one, two = (100 * band["mean_iou"] for band in bands)
        assert float(row["first"]) == pytest.approx(one, abs=1e-4)
        assert float(row["difference"]) == pytest.approx(one - two, abs=2e-4)
        assert f"{one:.2f}" in done.stdout
        found = tree["differences"][row["width"]]["mean_iou"]
        assert 100 * found["difference"] == pytest.approx(one - two)
        for end in ("low", "high"):
            assert float(row[f"difference_{end}"]) == pytest.approx(100 * found[end], abs=1e-4)
            assert f"{100 * found[end]:.2f}" in done.stdout
        assert found["low"] <= found["difference"] <= found["high"]
    assert [*rows[0]] == [
        *("width", "first", "second", "difference", "difference_low", "difference_high")
    ]
    assert [row["width"] for row in rows] == ["1", "5"]
    with Image.open(output / "trimap.png") as picture:
        assert picture.size[0] == 800
    alone = run("evaluate", f"--workdir={place}/run", f"--output={tmp_path}/alone.json")
    assert alone.returncode == 0, alone.stderr
    scores = json.loads((tmp_path / "alone.json").read_text())
    assert scores["mean_iou"] == tree["models"]["first"]["mean_iou"]
    assert "trimap" not in scores and "trimap_widths" not in scores["eval"]

    flags = (f"--output={tmp_path}/one", "--dataset.val_fraction=0.1")
    one_image = run("trimap", runs, "--widths=1", *flags)
    assert one_image.returncode == 0, one_image.stderr
    (row,) = csv.DictReader((tmp_path / "one" / "trimap.csv").read_text().splitlines())
    assert [*row] == ["width", "run", "other", "difference"]
    assert "differences" not in json.loads((tmp_path / "one" / "trimap.json").read_text())

    unlike = f"--workdirs={place}/run,{place}/other_eval"
    done = run("trimap", unlike, "--widths=1", f"--output={tmp_path}/unlike")
    assert done.returncode == 1 and not (tmp_path / "unlike").exists()
    assert (
        "eval.absent_classes is exclude in run and zero in other_eval. Give --eval.absent_classes."
        in done.stderr
    )


@pytest.mark.slow  # three processes that import TensorFlow
def test_compare_scores_both_models_on_the_same_images(place, tmp_path):
    write_run(place, "rival", SPEC)
    runs = f"--workdirs={place}/run,{place}/rival"
    flags = ("--dataset.val_fraction=0.67", "--eval.boundary_iou=true")
    done = run("compare", runs, f"--output={tmp_path}/out", *flags)
    assert done.returncode == 0, done.stderr
    tree = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert tree["models"] == ["run", "rival"] and tree["num_examples"] == len(tree["images"]) == 2
    alone = run("evaluate", f"--workdir={place}/rival", f"--output={tmp_path}/s.json", *flags)
    assert alone.returncode == 0, alone.stderr
    scores = json.loads((tmp_path / "s.json").read_text())
    for name in ("mean_iou", "mean_boundary_iou", "frequency_weighted_iou"):
        row = tree["differences"][name]
        assert row["second"] == scores[name]
        assert row["difference"] == pytest.approx(row["first"] - row["second"])
        assert f"{100 * row['difference']:+.2f}" in done.stdout
        assert f"({100 * scores['intervals'][name][0]:.1f} to " in alone.stdout
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["ground", "tree", "car"]
    assert {"iou_low", "class_accuracy_high", "boundary_iou"} <= rows[0].keys()

    one = run("compare", runs, f"--output={tmp_path}/one", "--dataset.val_fraction=0.1")
    assert one.returncode == 1 and not (tmp_path / "one").exists()
    assert "--eval.split must have two examples or more to compare; got 1." in one.stderr
    assert "building the network" not in one.stdout


@pytest.mark.slow  # a process that imports TensorFlow
def test_trimap_of_labels_without_void_is_an_error_and_no_picture(place, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in (place / "labels").iterdir():
        with Image.open(path) as label:
            Image.fromarray(np.minimum(np.asarray(label), 2)).save(labels / path.name)
    flags = (f"--workdirs={place}/run", f"--dataset.labels_dir={labels}", "--widths=3")
    done = run("trimap", *flags, f"--output={tmp_path}/figure")
    assert done.returncode == 1
    assert "there is no curve: the labels of" in done.stderr and "no void" in done.stderr
    assert not (tmp_path / "figure").exists()
