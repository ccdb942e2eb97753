"""Checkpoints of a training run.

workdir/checkpoints/     the last few states, from which the same command resumes
workdir/best/            the weights with the best score so far

A checkpoint is two files, ckpt-<step>.index and ckpt-<step>.data-00000-of-00001. The index is the
last to appear and the first to go. An empty file ckpt-<step>.unproven beside them marks a state
that may be diverging; see recovery.py.
"""

from __future__ import annotations

import functools
import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.recipe.files import sync, write_text
from deeplab_tf.recipe.json_files import checked, read_json
from deeplab_tf.recipe.parts import BuiltOptimizer
from deeplab_tf.training.state import RunState
from deeplab_tf.weights import weights_by_name

_UNPROVEN = ".unproven"


class Checkpointer:
    """Saves and restores the state of a training run. A save is complete or not there.

    It counts as saved once the disk has it, so that a power failure does not lose it either.

    Attributes:
      directory: where the checkpoints are.
    """

    def __init__(
        self,
        workdir: str,
        model: keras.Model,
        optimizer: BuiltOptimizer | None = None,
        state: RunState | None = None,
        *,
        max_to_keep: int = 5,
        best_metric: str = "mean_iou",
    ):
        """Nothing is written or read yet.

        Args:
          workdir: of the run.
          model: its weights and random states are saved.
          optimizer: saved too, if given; leave it out, and the state, to read weights alone.
          state: of the run. If it has a moving average, that is what `save_best` saves.
          max_to_keep: checkpoints kept in `checkpoints/`.
          best_metric: the score that `save_best` compares.
        """
        self.directory = os.path.join(workdir, "checkpoints")
        self._best_directory = os.path.join(workdir, "best")
        self._best_path = os.path.join(self._best_directory, "best.json")
        self._max_to_keep, self._metric = max_to_keep, best_metric
        # By name: the order of layers depends on the output stride and on auxiliary outputs.
        weights = weights_by_name(model)
        average = state.average if state is not None else None
        parts = {"model": weights}
        if optimizer is not None:
            parts["optimizer_slots"] = optimizer.slots
            # Keras does not track these with the model. With a dropout that starts again from its
            # seed, a resumed run would be another run.
            generators = (getattr(layer, "seed_generator", None) for layer in model.layers)
            parts["random_states"] = [g.state.value for g in generators if g is not None]
        self._without_state = tf.train.Checkpoint(**parts)  # as versions before 0.3 wrote it
        if state is not None:
            parts["state"] = state.checkpointed()
        self._checkpoint = tf.train.Checkpoint(**parts)
        self._weights = tf.train.Checkpoint(model=average.variables if average else weights)
        self._average = tf.train.Checkpoint(state={"average": weights})
        self._complete = optimizer is not None

    def save(self, step: int, *, proven: bool = True) -> str:
        """Saves everything, and removes states that need not be kept.

        Those are kept: the last `max_to_keep` states that are proven, and the last one in any case.
        A run that diverges thus does not push out the states to return to.

        Args:
          step: optimizer steps made.
          proven: whether the state is worth returning to; if that is not known yet, false.

        Returns:
          The checkpoint's path.

        Raises:
          OSError: it could not be written, e.g. the disk is full. Earlier ones are intact.
        """
        path = _save(self._checkpoint, self.directory, step, proven=proven)
        self._prune()
        return path

    def prove(self, step: int) -> None:
        """Notes that the state of a step is worth returning to, if there is a checkpoint of it."""
        marker = os.path.join(self.directory, f"ckpt-{step}{_UNPROVEN}")
        if os.path.exists(marker):
            os.remove(marker)
            self._prune()

    def _prune(self) -> None:
        steps, proven = _steps(self.directory), _proven_steps(self.directory)
        for old in steps[:-1]:
            if old not in proven[-self._max_to_keep :]:
                _remove(self.directory, f"ckpt-{old}.")

    def restore(self, step: int | None = None, *, average: bool = False) -> int:
        """Restores the checkpoint of `step`, or the last one.

        Args:
          step: None: the last one's.
          average: read the moving average of the weights into the model, and nothing else.

        Returns:
          Its step; 0 if there is no checkpoint at all.

        Raises:
          FileNotFoundError: there are checkpoints but none of this step.
          ValueError: the checkpoint is damaged, of another model, or has no moving average.
        """
        if step is None:
            return self._read_newest(
                self.last_step, functools.partial(self.restore, average=average)
            )
        self.check_step(step)
        path = os.path.join(self.directory, f"ckpt-{step}")
        if average:
            if not _has(path, "state/average/"):
                raise ValueError(
                    f"checkpoint {path} has no moving average of the weights; it must come from a"
                    " run with --train.ema_decay."
                )
            self._read(self._average, path, all_of_it=False)
        else:
            checkpoint = self._checkpoint if _has(path, "state/") else self._without_state
            self._read(checkpoint, path, all_of_it=self._complete)
        return step

    def last_step(self) -> int:
        """Step of the last checkpoint, 0 if there is none."""
        return max(_steps(self.directory), default=0)

    def last_proven_step(self) -> int:
        """Step of the last checkpoint that is worth returning to, 0 if there is none."""
        return max(_proven_steps(self.directory), default=0)

    def check_step(self, step: int) -> None:
        """Checks that there is a checkpoint of this step.

        Raises:
          FileNotFoundError: there is none.
        """
        steps = _steps(self.directory)
        if step not in steps:
            known = ", ".join(map(str, steps)) or "none"
            raise FileNotFoundError(
                f"no checkpoint of step {step} in {self.directory}; there: {known}."
            )

    def forget_after(self, step: int) -> None:
        """Removes the checkpoints of later steps."""
        for later in reversed(_steps(self.directory)):
            if later > step:
                _remove(self.directory, f"ckpt-{later}.")

    def forget_best_after(self, step: int) -> None:
        """Removes the best weights if they are of a later step."""
        if max(_steps(self._best_directory), default=0) > step:
            _remove(self._best_directory, "")

    def save_best(self, step: int, score: float) -> bool:
        """Saves the weights alone if the score is the highest so far; returns whether it is.

        Raises:
          OSError: it could not be written. The earlier best is intact.
        """
        if not score > self.best()[1]:  # NaN neither
            return False
        _save(self._weights, self._best_directory, step)
        write_text(self._best_path, json.dumps({"step": step, self._metric: score}) + "\n")
        # A run that returned to an earlier step may have a later best one.
        for old in _steps(self._best_directory):
            if old != step:
                _remove(self._best_directory, f"ckpt-{old}.")
        return True

    def best(self) -> tuple[int, float]:
        """(step, score) of the best weights; (0, -1) if none were saved.

        Raises:
          ValueError: best.json is damaged.
        """
        if not os.path.exists(self._best_path):
            return 0, -1.0
        best = self._recorded({"step": int, self._metric: float})
        return best["step"], float(best[self._metric])

    def _recorded(self, schema: Mapping[str, Any], **others: Any) -> dict[str, Any]:
        """What is in best.json."""
        try:
            return read_json(self._best_path, lambda tree: checked(tree, schema, **others))
        except ValueError as error:
            raise ValueError(
                f"{error} Remove {self._best_directory}; the next evaluation writes it again."
            ) from error

    def restore_best(self) -> int:
        """Restores the best weights; returns their step, 0 if none were saved.

        Raises:
          ValueError: the checkpoint is damaged or of another model.
        """

        def read(step):
            path = os.path.join(self._best_directory, f"ckpt-{step}")
            self._read(self._weights, path, all_of_it=False)
            return step

        return self._read_newest(self._best_step, read)

    def _best_step(self) -> int:
        while True:
            recorded, steps = self._recorded_step(), _steps(self._best_directory)
            if not recorded:
                return max(steps, default=0)
            if recorded in steps:
                return recorded
            if recorded == self._recorded_step():  # else a training has just replaced it
                raise ValueError(
                    f"the best weights, of step {recorded}, are missing in {self._best_directory};"
                    " use another checkpoint of the run."
                )

    def _recorded_step(self) -> int:
        """Step of the best weights in best.json, 0 without that file."""
        if not os.path.exists(self._best_path):
            return 0
        # Whichever metric was the best one's.
        return self._recorded({"step": int}, others=float)["step"]

    def _read_newest(self, newest: Callable[[], int], read: Callable[[int], int]) -> int:
        """Reads the newest checkpoint, and a newer one if a training replaces it in the meantime.

        Returns:
          Its step, 0 if there is none.
        """
        while step := newest():
            try:
                return read(step)
            except (FileNotFoundError, ValueError):
                if newest() == step:
                    raise
        return 0

    def _read(self, checkpoint: tf.train.Checkpoint, path: str, *, all_of_it: bool) -> None:
        try:
            status = checkpoint.read(path)
            # Else TensorFlow warns of each value that it does not use. The checks below stay as
            # strict.
            status.expect_partial()
            status.assert_existing_objects_matched()
            if all_of_it:
                status.assert_consumed()
        except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
            # A read that fails returns no status: TensorFlow would still warn, at the latest when
            # the process ends.
            tf.get_logger().addFilter(_is_not_about_unused_values)
            raise _unreadable(path, error) from error


def _is_not_about_unused_values(record: logging.LogRecord) -> bool:
    # cited: TensorFlow 2.21, python/checkpoint/checkpoint.py, of a restore that is deleted
    return not record.getMessage().startswith(
        (
            "Detecting that an object or model or tf.train.Checkpoint is being deleted",
            "Value in checkpoint could not be found in the restored object",
            "An attribute in the restored object could not be found in the checkpoint",
        )
    )


def _has(path: str, prefix: str) -> bool:
    """Whether names in a checkpoint begin with `prefix`."""
    try:
        return any(name.startswith(prefix) for name, _ in tf.train.list_variables(path))
    except (ValueError, tf.errors.OpError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"checkpoint {path} does not fit this model or is damaged:"
        f" {str(error).splitlines()[0][:300]}. It must come from the recipe.json beside it; another"
        " checkpoint of the run may be intact."
    )


def _steps(directory: str) -> list[int]:
    paths = glob.glob(os.path.join(glob.escape(directory), "ckpt-*.index"))
    found = (re.search(r"ckpt-(\d+)\.index$", path) for path in paths)
    return sorted(int(match[1]) for match in found if match)


def _proven_steps(directory: str) -> list[int]:
    marked = os.path.join(directory, "ckpt-{}" + _UNPROVEN)
    return [step for step in _steps(directory) if not os.path.exists(marked.format(step))]


def _save(
    checkpoint: tf.train.Checkpoint, directory: str, step: int, *, proven: bool = True
) -> str:
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, f"ckpt-{step}")
    partial = os.path.join(directory, f"partial-{step}")
    try:
        checkpoint.write(partial)
        _remove(directory, f"ckpt-{step}.")
        if not proven:
            write_text(path + _UNPROVEN, "")
        # TensorFlow writes the index in place. Renamed last, it shows that the rest is complete.
        for ending in (".data-00000-of-00001", ".index"):
            sync(partial + ending)
            os.replace(partial + ending, path + ending)
            sync(directory)
    except (tf.errors.OpError, OSError) as error:
        _remove(directory, "partial-")
        whole = ", ".join(f"ckpt-{s}" for s in _steps(directory)) or "none"
        raise OSError(
            f"could not save {path}: {str(error).splitlines()[0][:300]}. Intact: {whole}. Make room"
            " or choose another workdir; the same command resumes from the last one."
        ) from error
    return path


def remove_incomplete(workdir: str) -> None:
    """Removes what a run left behind that was killed while it saved.

    Raises:
      OSError: it cannot be removed.
    """
    for directory in (os.path.join(workdir, name) for name in ("checkpoints", "best")):
        if not os.path.isdir(directory):
            continue
        _remove(directory, "partial-")
        whole = {f"ckpt-{step}" for step in _steps(directory)}
        for name in os.listdir(directory):
            stem = name.split(".")[0]
            parts = r"ckpt-\d+\.(data-00000-of-00001|unproven)"
            if re.fullmatch(parts, name) and stem not in whole:
                _remove(directory, f"{stem}.")


def _remove(directory: str, prefix: str) -> None:
    # The index first: without it the rest is not taken for a checkpoint.
    names = [name for name in os.listdir(directory) if name.startswith(prefix)]
    for name in sorted(names, key=lambda name: not name.endswith(".index")):
        path = os.path.join(directory, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def has_checkpoints(workdir: str) -> bool:
    """Whether the workdir has a state to resume from."""
    return bool(_steps(os.path.join(workdir, "checkpoints")))


def saved_step(workdir: str) -> int:
    """The step of the last state to resume from; 0 if there is none."""
    return max(_steps(os.path.join(workdir, "checkpoints")), default=0)


def has_best(workdir: str) -> bool:
    """Whether the workdir has best weights."""
    return bool(_steps(os.path.join(workdir, "best")))


def has_weights(workdir: str) -> bool:
    """Whether anything was trained in the workdir: states to resume from, or best weights."""
    return has_checkpoints(workdir) or has_best(workdir)
