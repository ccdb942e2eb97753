"""export.py: what it refuses, and what the model card says of the weights."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from random_runs import ROOT, run, spec_of, write_run

from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.export.opened import open_export
from deeplab_tf.training.workdir.contents import save_source

SPEC = spec_of(("ground", "tree", "car"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> pathlib.Path:
    """Three photos with labels, and workdirs."""
    place = tmp_path_factory.mktemp("place")
    random = np.random.default_rng(0)
    for name in "abc":
        for folder, picture in {
            "images": random.integers(0, 256, (40, 56, 3), np.uint8),
            "labels": random.integers(0, 3, (40, 56), np.uint8),
        }.items():
            (place / folder).mkdir(exist_ok=True)
            Image.fromarray(picture).save(place / folder / f"{name}.png")
    (place / "classes.txt").write_text("ground\ntree\ncar\n")
    (place / "notes.jpg").write_text("not a picture")
    write_run(place, "run", SPEC)
    write_run(place, "resized", SPEC, predict=ResizedImage(min_side=32, max_side=64))
    return place


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--precision=int8"], "--precision: for --format=litert alone; leave it out for saved_"),
        (["--format=litert", "--signature_names=released"], "for --format=saved_model alone"),
        (["--format=litert", "--height=100000"], "--height must be 1 to 8192 pixels; got 100000"),
        (
            ["--output={place}/notes.jpg/model"],
            "notes.jpg is not a directory. Choose another directory.",
        ),
        (["--images={place}/notes.jpg"], "notes.jpg: not a picture"),
        (["--workdir={place}/absent"], "there is no directory"),
        (["--output=gs://bucket/model"], "'gs://bucket/model' must be a path of this machine"),
    ],
)
def test_a_mistake_is_one_line_before_tensorflow_is_imported(place, tmp_path, flags, message):
    flags = [flag.replace("{place}", str(place)) for flag in flags]
    done = run("export", f"--workdir={place}/run", f"--output={tmp_path}/model", *flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert "loading TensorFlow" not in done.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.slow  # a process that imports TensorFlow for each
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--predict.pad_size=65,65"], "--predict.pad_size is not for exports"),
        (["--predict=sliding_window"], "an export cannot predict by sliding_window"),
        (["--workdir={place}/resized", "--predict.flip=true"], "cannot predict by resized_image"),
        (["--format=keras", "--predict.flip=true"], "--predict.flip are not for --format=keras"),
        (["--predict.scales=-1"], "predict.scales"),
    ],
)
def test_predictions_that_an_export_does_not_have_are_refused(place, tmp_path, flags, message):
    flags = [flag.replace("{place}", str(place)) for flag in flags]
    done = run("export", f"--workdir={place}/run", f"--output={tmp_path}/model", *flags)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.slow  # four processes that import TensorFlow
def test_the_card_has_the_scores_of_these_weights_alone(place, tmp_path):
    write_run(place, "scored", SPEC)
    workdir = f"--workdir={place}/scored"
    before = run("export", workdir, f"--output={tmp_path}/before")
    assert before.returncode == 0, before.stderr
    text = (tmp_path / "before" / "model_card.md").read_text()
    assert f"`python scripts/evaluate.py {workdir} --checkpoint=best` finds them" in text

    evaluated = run("evaluate", workdir)
    assert evaluated.returncode == 0, evaluated.stderr
    exported = run("export", workdir, f"--output={tmp_path}/after", "--predict.flip=true")
    assert exported.returncode == 0, exported.stderr
    text = (tmp_path / "after" / "model_card.md").read_text()
    assert "| mean IoU |" in text and "| IoU of tree |" in text and "split val" in text
    assert "predicted by whole_image, scales [1.0], flip false" in text
    assert "This file predicts images as a whole, at their own size, and of the mirrored" in text

    damaged = place / "scored" / "evaluation.json"
    whole = damaged.read_text()
    damaged.write_text(json.dumps({**json.loads(whole), "iou": 5}))
    refused = run("export", workdir, f"--output={tmp_path}/refused")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "evaluation.json: iou must be an object; got 5" in refused.stderr
    assert not (tmp_path / "refused").exists()
    damaged.write_text(whole)

    shutil.rmtree(place / "scored" / "checkpoints")
    write_run(place, "scored", SPEC)  # other random weights
    exported = run("export", workdir, f"--output={tmp_path}/other")
    assert exported.returncode == 0, exported.stderr
    assert "Not known yet" in (tmp_path / "other" / "model_card.md").read_text()


@pytest.mark.slow  # a process that imports TensorFlow
def test_the_card_of_converted_weights_has_no_training_that_was_not(place, tmp_path):
    write_run(place, "converted", SPEC)
    save_source(str(place / "converted"), "model.npz", "DeepLabv3+")
    exported = run("export", f"--workdir={place}/converted", f"--output={tmp_path}/model")
    assert exported.returncode == 0, exported.stderr
    text = (tmp_path / "model" / "model_card.md").read_text()
    assert "Weights: converted from model.npz; how they were trained is not known here." in text
    assert '"model"' in text and '"schedule"' not in text and '"train"' not in text


@pytest.mark.slow  # two processes that import TensorFlow
def test_what_a_killed_export_leaves_is_no_export_and_the_next_one_completes(place, tmp_path):
    flags = (f"--workdir={place}/run", f"--output={tmp_path}/model")
    killed = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "export.py"), *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "model.incomplete").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "model").exists()
    done = run("export", *flags)
    assert done.returncode == 0, done.stderr
    left = [name for name in os.listdir(tmp_path) if not name.endswith(".lock")]
    assert left == ["model"] and open_export(str(tmp_path / "model")).kind == "saved_model"
