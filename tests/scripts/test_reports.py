"""The pages that evaluate.py and compare.py write, as a user starts them."""

import json
import os
import pathlib
import shutil
import types

import numpy as np
import pytest
import scoring
import tensorflow as tf
from PIL import Image
from random_runs import run, spec_of, write_run

from deeplab_tf import zoo
from deeplab_tf.classifier import ClassifierConfig
from deeplab_tf.data.datasets.image_classes import ImageClasses
from deeplab_tf.evaluation.classify import Classify
from deeplab_tf.recipe.parts import Eval
from deeplab_tf.training.workdir.checkpoints import Checkpointer

CLASSES = ("ground", "<script>alert(1)</script>", 'car & "van"')
SIZES = {"one": (1, 1), "a <b>": (40, 56), "b&amp;": (33, 65), "c": (48, 32), "large": (600, 1300)}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Photos with labels, one of which is all void, and two workdirs."""
    place = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for name, (height, width) in {**SIZES, "void": (20, 20)}.items():
        label = random.integers(0, 3, (height, width), np.uint8)
        label[:, width // 3 : width // 2] = 255
        if name == "void":
            label[:] = 255
        for folder, picture in {
            "images": random.integers(0, 256, (height, width, 3), np.uint8),
            "labels": label,
        }.items():
            (place / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(place / folder / f"{name}.png")
    (place / "classes.txt").write_text("\n".join(CLASSES))
    write_run(place, "first", spec_of(CLASSES), val_fraction=0.9)
    write_run(place, "second", spec_of(CLASSES), val_fraction=0.9)
    return place


def test_a_network_that_has_diverged_is_refused(tmp_path):
    write_run(tmp_path, "run", spec_of(CLASSES))
    workdir = str(tmp_path / "run")
    model = zoo.load_model(workdir)
    values = model.weights[-1].numpy()
    values.flat[0] = np.nan
    model.weights[-1].assign(values)
    Checkpointer(workdir, model).save(8)
    with pytest.raises(ValueError, match="of step 8 in .* is not: the run has diverged"):
        zoo.load_model(workdir)
    assert zoo.load_model(workdir, checkpoint=7).checkpoint_step == 7


@pytest.mark.slow  # two processes that import TensorFlow
def test_evaluate_writes_a_report_beside_the_scores(place, tmp_path):
    flags = ("--eval.trimap_widths=1,2", "--eval.boundary_iou=true", "--report_images=1")
    done = run("evaluate", f"--workdir={place}/first", f"--output={tmp_path}/new/s.json", *flags)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/new/s.html" in done.stdout
    assert sorted(os.listdir(tmp_path / "new")) == ["s.csv", "s.html", "s.json"]
    page = (tmp_path / "new" / "s.html").read_text()
    scores = json.loads((tmp_path / "new" / "s.json").read_text())
    assert f"<b>{100 * scores['mean_iou']:.1f}&thinsp;%</b>" in page
    for part in (
        "&lt;script&gt;alert(1)",
        "step 7, fingerprint ",
        "--report_images=1",
        f"split val, {scores['num_examples']} images, fingerprint of names and label pixels"
        f" {scores['data']}",
        "whole_image, scales [1.0], flip false",
        "&quot;kind&quot;: &quot;deeplabv3plus&quot;",
    ):
        assert part in page
    assert "<script>alert" not in page and page.count('class="example"') == 3

    without = run("evaluate", f"--workdir={place}/first", "--report_images=0")
    assert without.returncode == 0, without.stderr
    page = (place / "first" / "evaluation.html").read_text()
    assert "data:image/jpeg" not in page and len(page) < 60_000


@pytest.mark.slow  # three processes that import TensorFlow
def test_an_export_is_scored_in_place_of_its_network(place, tmp_path):
    """Neither writes over the scores of the network."""
    workdir, export = f"--workdir={place}/first", f"--export={tmp_path}/model"
    exported = run("export", workdir, f"--output={tmp_path}/model")
    assert exported.returncode == 0, exported.stderr
    found = {}
    for name, flags in {"network": (), "export": (export,)}.items():
        done = run("evaluate", workdir, f"--output={tmp_path}/{name}.json", *flags)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["export"]["confusion_matrix"] == found["network"]["confusion_matrix"]
    assert "weights" not in found["export"] and found["export"]["predict"] is None
    assert found["export"]["export"]["kind"] == "saved_model"
    page = (tmp_path / "export.html").read_text()
    assert found["export"]["export"]["sha256"] in page and "as exported; images at their" in page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--output must be given"),
        (["--output={new}", "--predict.flip=true"], "an export predicts as it was exported"),
        (["--output={new}", "--checkpoint=last"], "--checkpoint is for the network"),
    ],
)
def test_flags_that_an_export_does_not_take_are_named(place, tmp_path, flags, message):
    flags = [flag.replace("{new}", f"{tmp_path}/new.json") for flag in flags]
    done = run("evaluate", f"--workdir={place}/first", f"--export={place}/absent", *flags)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert "loading TensorFlow" not in done.stdout and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["class_weights.json", "recipe-until-5.json", "training_curve.png"]
)
def test_scores_do_not_replace_a_file_of_the_run(place, name):
    done = run("evaluate", f"--workdir={place}/first", f"--output={place}/first/{name}")
    assert done.returncode == 1 and f"{name} is a file of the training run" in done.stderr


@pytest.mark.slow  # a process that imports TensorFlow
def test_a_label_that_cannot_be_read_is_one_line(place, tmp_path):
    labels = tmp_path / "labels"
    shutil.copytree(place / "labels", labels)
    for path in labels.iterdir():
        path.write_bytes(b"no picture")
    done = run("evaluate", f"--workdir={place}/first", f"--dataset.labels_dir={labels}",
               f"--output={tmp_path}/s.json")  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "cannot be read: not a picture in PNG format" in done.stderr.splitlines()[-1]
    assert sorted(os.listdir(tmp_path)) == ["labels"]


@pytest.mark.slow  # two processes that import TensorFlow
def test_compare_writes_a_page_with_both_predictions(place, tmp_path):
    runs = f"--workdirs={place}/first,{place}/second"
    done = run(
        "compare", runs, f"--output={tmp_path}/out", "--names=<i>one,two", "--report_images=2"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["compare.html", "compare.json"]
    page = (tmp_path / "out" / "compare.html").read_text()
    tree = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert page.count('class="example"') == 2 and page.count('data-layer="prediction-1"') == 4
    for row in tree["images"][:2]:
        assert f"mean IoU {100 * row['first']:.1f} % and {100 * row['second']:.1f} %" in page
    assert "&lt;i&gt;one alone is right" in page and "<i>one" not in page
    assert "weights 1" in page and "prediction 2" in page

    (tmp_path / "blocked" / "compare.html").mkdir(parents=True)
    blocked = run("compare", runs, f"--output={tmp_path}/blocked", "--names=one,two")
    assert blocked.returncode == 1 and "loading TensorFlow" not in blocked.stdout
    assert "compare.html cannot be written: it names a directory. Name anoth" in blocked.stderr


@pytest.mark.slow  # three processes that import TensorFlow
def test_one_network_is_compared_with_itself_predicted_in_another_way(place, tmp_path):
    runs = f"--workdirs={place}/first,{place}/first"
    names, output = "--names=small,large", f"--output={tmp_path}/out"
    done = run("compare", runs, names, output, "--predict.scales=0.5", "--", "--predict.scales=2")
    assert done.returncode == 0, done.stderr
    compared = json.loads((tmp_path / "out" / "compare.json").read_text())
    page = (tmp_path / "out" / "compare.html").read_text()
    found = compared["differences"]["mean_iou"]
    for key, scale in (("first", 0.5), ("second", 2.0)):
        alone = run("evaluate", f"--workdir={place}/first", f"--output={tmp_path}/{key}.json",
                    f"--predict.scales={scale}", "--report_images=0")  # fmt: skip
        assert alone.returncode == 0, alone.stderr
        scores = json.loads((tmp_path / f"{key}.json").read_text())
        assert found[key] == scores["mean_iou"]
        assert f"whole_image, scales [{scale}]" in page


@pytest.mark.slow  # two processes that import TensorFlow
def test_two_checkpoints_of_one_network_are_compared(place, tmp_path):
    shutil.copytree(place / "first", tmp_path / "run")
    workdir = str(tmp_path / "run")
    model = zoo.load_model(workdir)
    model.weights[0].assign(-model.weights[0])
    Checkpointer(workdir, model).save(8)
    flags = (f"--workdirs={workdir},{workdir}", "--names=a,b", f"--output={tmp_path}/out")
    done = run("compare", *flags, "--checkpoint=8", "--", "--checkpoint=7")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.index("of step 8, fingerprint") < page.index("of step 7, fingerprint")

    absent = run("compare", *flags, "--checkpoint=8", "--", "--checkpoint=9")
    assert absent.returncode == 1 and "evaluating" not in absent.stdout
    assert "9" in absent.stderr.splitlines()[-1], absent.stderr


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("photo.jpg", "unexpected argument 'photo.jpg'"),
        (
            "--output=b",
            "after -- there must be flags of predict, as --predict.flip=true, or --check",
        ),
    ],
)
def test_what_follows_the_flags_of_a_comparison_is_checked(after, message):
    done = run("compare", "--workdirs=a,b", "--output=a", "--", after)
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1]


@pytest.mark.slow  # a process that imports TensorFlow
def test_an_unknown_flag_of_the_second_network_is_named(place, tmp_path):
    done = run("compare", f"--workdirs={place}/first,{place}/second", f"--output={tmp_path}/out",
               "--", "--predict.flop=true")  # fmt: skip
    assert done.returncode == 1
    assert "flag 'predict.flop'" in done.stderr and "given after --" in done.stderr


@pytest.mark.slow  # a process that imports TensorFlow
def test_accuracies_have_a_report(place, tmp_path):
    for folder in ("train", "val"):
        for i, name in enumerate(("cat", "dog", "owl")):
            (tmp_path / folder / name).mkdir(parents=True)
            for j in range(3):
                picture = np.full((20, 24, 3), 60 * i + j, np.uint8)
                Image.fromarray(picture).save(tmp_path / folder / name / f"{j}.png")
    dataset = ImageClasses(train_dir=str(tmp_path / "train"), val_dir=str(tmp_path / "val"))
    write_run(
        place,
        "classifier",
        dataset.open(None).spec,
        model=ClassifierConfig(backbone="mobilenet_v2_tiny"),
        dataset=dataset,
        predict=Classify(size=32),
        eval=Eval(best_metric="top_1"),
    )
    output = tmp_path / "scores.json"
    done = run("evaluate", f"--workdir={place}/classifier", f"--output={output}")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "scores.html").read_text()
    assert "top-1 accuracy" in page and "owl" in page and "9 images" in page


@pytest.mark.parametrize("script", ["evaluate", "compare"])
def test_a_number_of_images_out_of_range_is_refused(script):
    done = run(script, "--report_images=101")
    assert done.returncode == 1
    assert "--report_images=101: 101 is not an integer in the range [0, 100]" in done.stderr


def test_an_example_that_was_replaced_since_it_was_scored_is_named():
    image, label = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.int32)

    def read(index):
        found = {"image": image, "label": label, "name": f"photo {index.numpy()}"}
        return {key: tf.constant(value) for key, value in found.items()}

    predictor = types.SimpleNamespace(label_map=lambda image: tf.ones(image.shape[:2], tf.int32))
    scored = scoring.Scored(
        types.SimpleNamespace(names=("photo 0", "other")),
        predictor,
        types.SimpleNamespace(read=read),
    )
    example = scoring.example([scored, scored], 0)
    assert example.name == "photo 0" and example.size == (4, 6)
    assert len(example.label_maps) == 2 and (example.label_maps[1] == 1).all()
    with pytest.raises(ValueError, match="example 2 must be 'other', as it was scored; got 'photo"):
        scoring.example([scored], 1)


def test_an_example_that_is_gone_since_it_was_scored_is_named(tmp_path):
    source = types.SimpleNamespace(
        read=lambda index: {"image": tf.io.read_file(f"{tmp_path}/gone.png")},
        name=lambda index: "gone.png",
    )
    scored = scoring.Scored(types.SimpleNamespace(names=("gone",)), None, source)
    with pytest.raises(ValueError, match="^gone.png cannot be read again: .*No such file"):
        scoring.example([scored], 0)
