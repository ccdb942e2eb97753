"""Programs that use one workdir at the same time."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow  # processes that import TensorFlow

_FLAGS = (
    "--recipe=quickstart_shapes", "--dataset.num_examples=16", "--augment.random_crop.size=65",
    "--model.backbone=mobilenet_v2_tiny", "--train.batch_size=4", "--train.save_every=2",
    "--train.eval_every=4", "--train.max_to_keep=1",
)  # fmt: skip


def _start(root, script, *flags):
    return subprocess.Popen(
        [sys.executable, f"scripts/{script}.py", *flags],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stdout.read()[-2000:]
        time.sleep(0.01)


@pytest.fixture
def flags(tmp_path):
    """Of a training that is longer than any test."""
    return (*_FLAGS, "--train.steps=100000", f"--data_dir={tmp_path / 'data'}")


@pytest.fixture
def training(root, flags, tmp_path):
    """A training in `tmp_path`/run that has saved its best weights."""
    process = _start(root, "train", *flags, f"--workdir={tmp_path / 'run'}")
    _wait_for((tmp_path / "run" / "best" / "best.json").exists, process)
    yield process
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)


def test_a_second_training_in_a_workdir_is_refused_with_the_first_ones_name(
    root, flags, training, tmp_path
):
    second = _start(root, "train", *flags, f"--workdir={tmp_path / 'run'}")
    output = second.communicate(timeout=300)[0]
    assert second.returncode == 1
    assert f"run is in use by process {training.pid} on " in output
    assert "Traceback" not in output
    assert training.poll() is None


def test_two_trainings_at_once_share_what_they_draw(root, flags, tmp_path):
    flags = [*flags[:-2], "--train.steps=4", flags[-1]]
    both = [_start(root, "train", *flags, f"--workdir={tmp_path / name}") for name in "ab"]
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    metrics = [(tmp_path / name / "metrics.csv").read_text() for name in "ab"]
    assert metrics[0] == metrics[1]
    assert not list((tmp_path / "data").rglob("*incomplete*"))


def test_a_workdir_is_evaluated_exported_and_predicted_while_it_is_trained(
    root, training, tmp_path
):
    workdir = f"--workdir={tmp_path / 'run'}"
    shared = ("--checkpoint=last",)  # max_to_keep=1: it is replaced every two steps
    for attempt in range(2):
        programs = {
            "evaluate": (workdir, *shared, f"--data_dir={tmp_path / 'data'}"),
            "export": (workdir, *shared, f"--output={tmp_path / f'model{attempt}'}"),
            "predict": (
                workdir, *shared, f"--images={root / 'docs' / 'images' / 'quickstart.png'}",
                f"--output={tmp_path / f'predictions{attempt}'}",
            ),
        }  # fmt: skip
        running = {name: _start(root, name, *flags) for name, flags in programs.items()}
        for name, process in running.items():
            output = process.communicate(timeout=600)[0]
            assert process.returncode == 0, f"{name}: {output[-2000:]}"
        scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
        assert 0 <= scores["mean_iou"] <= 1
        assert (tmp_path / f"model{attempt}" / "saved_model.pb").exists()
        assert sorted(os.listdir(tmp_path / f"predictions{attempt}")) == [
            "index.html", "legend.png", "predictions.jsonl", "quickstart.png",
            "quickstart_overlay.png",
        ]  # fmt: skip
    assert training.poll() is None
