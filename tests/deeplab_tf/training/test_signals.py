"""Signals stop a run after a step, or in an evaluation, and nothing is lost."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from typing import ClassVar

import pytest

from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.training.loop import train
from deeplab_tf.training.signals import Stopped, raise_if_stopped, stop_requests


@pytest.fixture(autouse=True)
def handlers():
    """Handlers as of a program in the foreground; tests may run in the background."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_handlers_come_back(number, capfd):
    before = signal.getsignal(number)
    with stop_requests() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped):
            stop.check()
    assert stop.number == number
    assert signal.getsignal(number) is before
    assert "stopping after this step; a second signal stops at once" in capfd.readouterr().err


def test_a_signal_that_was_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
    assert stop.number == 0


def test_other_threads_leave_the_handlers_alone():
    seen = []

    def in_thread():
        with stop_requests() as stop:
            seen.extend([stop.number, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [0, signal.default_int_handler]


def test_the_exit_code_is_that_of_the_signal():
    raise_if_stopped(0)
    with pytest.raises(KeyboardInterrupt):
        raise_if_stopped(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:
        raise_if_stopped(signal.SIGTERM)
    assert caught.value.code == 143


def test_a_second_signal_ends_the_process(root):
    script = (
        "import os, signal\n"
        "from deeplab_tf.training.signals import stop_requests\n"
        "with stop_requests():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")


def _train(recipe, workdir, print_fn=None):
    printed = []
    train(
        recipe, workdir=str(workdir), check_data=False, print_fn=print_fn or printed.append
    )  # fmt: skip
    return printed


def test_a_stopped_run_has_saved_its_step_and_resumes(photos, recipe_of, pointwise, tmp_path):
    recipe = recipe_of(
        photos, steps=6, model=pointwise, train={"save_every": 100, "eval_every": 3}
    )  # fmt: skip
    _train(recipe, tmp_path / "whole")
    printed = []

    def stop_at_once(line):
        printed.append(line)
        if line == "compiling the first step":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        _train(recipe, tmp_path / "run", stop_at_once)
    assert caught.value.code == 143
    assert printed[-1] == "stopped at step 1; the last checkpoint is of step 1"
    assert not (tmp_path / "run" / "lock").exists()
    assert "resuming at step 1 of 6" in _train(recipe, tmp_path / "run")
    for name in ("metrics.csv", "best/best.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Interrupted(WholeImage):
    """Sends a signal to the process at the first image of an evaluation."""

    kind: ClassVar[str] = "interrupted"

    def predictor(self, model):
        """The usual one, with the signal."""
        predictor = super().predictor(model)
        label_map = predictor.label_map

        def interrupted(image):
            os.kill(os.getpid(), signal.SIGINT)
            return label_map(image)

        predictor.label_map = interrupted
        return predictor


@pytest.mark.parametrize("steps", [4, 2])  # an evaluation midway, and the last one
def test_an_evaluation_that_was_stopped_is_made_first_on_resuming(
    photos, recipe_of, pointwise, tmp_path, steps
):
    recipe = recipe_of(photos, steps=steps, model=pointwise)
    _train(recipe, tmp_path / "whole")
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        _train(dataclasses.replace(recipe, predict=_Interrupted()), run)
    assert (run / "checkpoints" / "ckpt-2.index").exists()
    assert not (run / "best").exists()
    printed = _train(recipe, run)
    assert f"resuming at step 2 of {steps}" in printed
    assert any(line.startswith("step 2: val mean IoU") for line in printed)
    for name in ("metrics.csv", "best/best.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert _train(recipe, run)[-1].endswith(f"is complete: it is trained to step {steps}")
