"""Trainings that are killed and stopped, over and over, end like one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow  # minutes: some 30 processes, each of which imports TensorFlow

_STEPS, _SAVE_EVERY = 160, 4
_FLAGS = (
    "--recipe=quickstart_shapes", "--dataset.num_examples=16", "--augment.random_crop.size=65",
    "--model.backbone=mobilenet_v2_tiny", "--train.batch_size=4", f"--train.steps={_STEPS}",
    f"--train.save_every={_SAVE_EVERY}", "--train.eval_every=10", "--train.log_every=3",
)  # fmt: skip


class _Training:
    """One process that trains.

    Attributes:
      process: the process.
    """

    def __init__(self, root, workdir, data_dir, *flags):
        self._workdir = workdir
        self._output = workdir.with_suffix(".log")
        command = [sys.executable, "scripts/train.py", *_FLAGS, *flags]
        command += [f"--workdir={workdir}", f"--data_dir={data_dir}"]
        with open(self._output, "wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=root,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Tests may run in the background, where Ctrl-C is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    @property
    def printed(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_for(self, moment: str, rng: random.Random) -> bool:
        """Waits for a moment to kill it; returns false if it ended before."""
        is_there = {
            "start": lambda: True,
            "step": lambda: "compiling the first step" in self.printed,
            "saving": lambda: any((self._workdir / "checkpoints").glob("partial-*")),
            "saving best": lambda: any((self._workdir / "best").glob("partial-*")),
            "evaluating": lambda: "evaluating" in self.printed,
        }[moment]
        while not is_there():
            if self.process.poll() is not None:
                return False
            time.sleep(0.0005)
        delay = {"start": 6, "step": 6, "saving": 0.01, "saving best": 0.01, "evaluating": 1}
        time.sleep(rng.uniform(0, delay[moment]))
        return self.process.poll() is None

    def end(self, number: int) -> int:
        """Sends a signal; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=300)


def _tensors(workdir):
    """Name -> value, of the last checkpoint."""
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints" / f"ckpt-{_STEPS}"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name not in ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE")
    }


def _left_behind(workdir):
    return [
        path
        for path in workdir.rglob("*")
        if path.name == "lock" or path.name.startswith("partial-") or path.suffix == ".tmp"
    ]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(root, tmp_path_factory):
    """(workdir, data_dir) of a training that was left alone."""
    directory = tmp_path_factory.mktemp("left_alone")
    training = _Training(root, directory / "run", directory / "data")
    assert training.process.wait(timeout=900) == 0, training.printed[-2000:]
    return directory / "run", directory / "data"


def _check_equal(workdir, expected):
    for name in ("metrics.csv", "recipe.json", "dataset.json", "best/best.json"):
        assert (workdir / name).read_bytes() == (expected / name).read_bytes(), name
    tensors, others = _tensors(workdir), _tensors(expected)
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, others[name], err_msg=name)
    pictures = sorted(path.name for path in (expected / "pictures").iterdir())
    assert sorted(path.name for path in (workdir / "pictures").iterdir()) == pictures
    for name in ("training_curve.png", *(f"pictures/{picture}" for picture in pictures)):
        assert (workdir / name).read_bytes() == (expected / name).read_bytes(), name
    assert not _left_behind(workdir)


def test_twenty_kills_and_six_signals_change_nothing(root, uninterrupted, tmp_path):
    expected, data_dir = uninterrupted
    rng = random.Random(int(os.environ.get("DEEPLAB_TF_TRIAL_SEED", "0")))
    moments = ["start", *["step"] * 7, *["saving"] * 6, *["saving best"] * 2, *["evaluating"] * 4]
    events = [(signal.SIGKILL, moment) for moment in moments]
    events += [(signal.SIGTERM, m) for m in ("step", "saving", "evaluating", "step")]
    events += [(signal.SIGINT, m) for m in ("step", "evaluating")]
    rng.shuffle(events)
    workdir, sent = tmp_path / "run", []
    for number, moment in events:
        training = _Training(root, workdir, data_dir)
        if not training.wait_for(moment, rng):
            assert training.process.wait() == 0, training.printed[-2000:]
            break  # it is complete
        code = training.end(number)
        sent.append((number, moment))
        assert "Traceback" not in training.printed
        if number == signal.SIGKILL:
            assert code == -signal.SIGKILL
        elif code != 0:  # the last step was made
            assert code == 128 + number, training.printed[-2000:]
            assert "stopped at step" in training.printed
            assert not _left_behind(workdir)
    training = _Training(root, workdir, data_dir)
    assert training.process.wait(timeout=900) == 0, training.printed[-2000:]
    _check_equal(workdir, expected)
    kills = sum(number == signal.SIGKILL for number, _ in sent)
    print(f"{kills} kills, {len(sent) - kills} other signals: {sent}")
    assert kills >= 15


def test_a_signal_saves_the_step_that_it_came_in(root, uninterrupted, tmp_path):
    expected, data_dir = uninterrupted
    seldom = ("--train.save_every=1000", "--train.eval_every=1000")
    workdir = tmp_path / "run"
    training = _Training(root, workdir, data_dir, *seldom)
    assert training.wait_for("step", random.Random(1))
    assert training.end(signal.SIGTERM) == 128 + signal.SIGTERM
    (index,) = (workdir / "checkpoints").glob("ckpt-*.index")
    step = int(index.stem.removeprefix("ckpt-"))
    assert f"stopped at step {step}; the last checkpoint is of step {step}" in training.printed
    again = _Training(root, workdir, data_dir)
    assert again.process.wait(timeout=900) == 0, again.printed[-2000:]
    assert f"resuming at step {step} of {_STEPS}" in again.printed
    rows = (workdir / "metrics.csv").read_text().splitlines()
    assert rows[-2:] == (expected / "metrics.csv").read_text().splitlines()[-2:]


def test_a_second_signal_ends_a_training_at_once(root, uninterrupted, tmp_path):
    _, data_dir = uninterrupted
    training = _Training(root, tmp_path / "run", data_dir)
    assert training.wait_for("step", random.Random(2))
    training.process.send_signal(signal.SIGINT)
    while "a second signal stops at once" not in training.printed:
        assert training.process.poll() is None
        time.sleep(0.0005)
    code = training.end(signal.SIGINT)
    assert code in (-signal.SIGINT, 130)  # 130: the step was over before the second signal came
