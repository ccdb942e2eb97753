"""The scripts that read a trained model, as a user starts them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.training import checkpoints
from deeplab_tf.recipe.options import DataConfig, EvalConfig, Recipe, TrainConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.model import DeepLabV3Plus

ROOT = pathlib.Path(__file__).parent.parent.parent


def run(script: str, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Photos of two sizes with labels, and the workdir of a network with random weights."""
    place = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for name, (height, width) in {"a": (40, 56), "b": (33, 65), "c": (48, 32)}.items():
        for folder, picture in {
            "images": random.integers(0, 256, (height, width, 3), np.uint8),
            "labels": random.integers(0, 3, (height, width), np.uint8),
        }.items():
            (place / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(place / folder / f"{name}.png")
    (place / "classes.txt").write_text("ground\ntree\ncar\n")
    recipe = Recipe(
        model=DeepLabV3Plus(backbone="mobilenet_v2_tiny", atrous_rates=(1,), aspp_channels=8),
        data=DataConfig(
            dataset="folder",
            images_dir=str(place / "images"),
            labels_dir=str(place / "labels"),
            class_names_file=str(place / "classes.txt"),
            val_fraction=0.34,
        ),
        train=TrainConfig(steps=1),
        eval=EvalConfig(),
    )
    spec = DatasetSpec(
        name="folder",
        class_names=("ground", "tree", "car"),
        ignore_label=255,
        palette=bit_palette(3),
        splits={"train": 2, "val": 1},
    )
    workdir = str(place / "run")
    checkpoints.save_recipe(workdir, recipe)
    checkpoints.save_spec(workdir, spec)
    checkpoints.Checkpointer(workdir, recipe.model.build(3)).save(1)
    return place


@pytest.mark.slow  # four processes that import TensorFlow
def test_an_export_predicts_what_the_workdir_predicts_and_a_bad_image_is_named(place, tmp_path):
    exported = run("export", f"--workdir={place}/run", f"--output={tmp_path}/model")
    assert exported.returncode == 0, exported.stderr
    again = run("export", f"--workdir={place}/run", f"--output={tmp_path}/model")
    assert again.returncode == 1
    assert "must be empty or not there" in again.stderr and "Traceback" not in again.stderr

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
        f"--saved_model={tmp_path}/model",
        f"--images={place}/images/*.png",
        f"--output={tmp_path}/second",
    )
    assert from_export.returncode == 0, from_export.stderr

    names = sorted(os.listdir(tmp_path / "first"))
    assert names == sorted(
        ["legend.png", *(f"{n}{end}.png" for n in "abc" for end in ("", "_overlay"))]
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
def test_evaluate_prints_the_table_and_writes_the_scores(place):
    done = run("evaluate", f"--workdir={place}/run", "--eval.flip=true")
    assert done.returncode == 0, done.stderr
    for word in ("ground", "tree", "car", "mean IoU", "pixel accuracy"):
        assert word in done.stdout
    scores = json.loads((place / "run" / "evaluation.json").read_text())
    assert 1 <= scores["num_examples"] <= 2
    assert scores["eval"]["flip"] is True
    assert 0 <= scores["mean_iou"] <= 1


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("evaluate", [], "--workdir"),
        ("export", ["--workdir=x"], "--output"),
        ("predict", ["--output=x", "--images=y"], "one of --workdir and --saved_model"),
        ("predict", ["--workdir=x", "--output=x", "--images=nowhere/*.jpg"], "no images at"),
    ],
)
def test_what_is_missing_is_said_before_tensorflow_is_imported(script, flags, message):
    done = run(script, *flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_the_export_formats_of_the_flag_are_the_exporters():
    from deeplab_tf.export import EXPORTERS

    done = run("export", "--help")
    assert f"--format: <{'|'.join(EXPORTERS)}>" in done.stdout
