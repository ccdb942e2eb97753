"""Checkpoints of a training run.

workdir/checkpoints/     the last few states, from which the same command resumes
workdir/best/            the weights with the best score so far
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.recipe.files import json_object, write_text
from deeplab_tf.recipe.options import describe, is_of
from deeplab_tf.recipe.parts import BuiltOptimizer
from deeplab_tf.training.state import RunState
from deeplab_tf.weights import weights_by_name


class Checkpointer:
    """Saves and restores the state of a training run. A save is complete or not there.

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

    def save(self, step: int) -> str:
        """Saves everything; returns the checkpoint's path.

        Raises:
          OSError: it could not be written, e.g. the disk is full. Earlier ones are intact.
        """
        return _save(self._checkpoint, self.directory, step, self._max_to_keep)

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
            step = self.last_step()
            if step == 0:
                return 0
        path = os.path.join(self.directory, f"ckpt-{step}")
        if not os.path.exists(path + ".index"):
            known = ", ".join(map(str, _steps(self.directory))) or "none"
            raise FileNotFoundError(
                f"no checkpoint of step {step} in {self.directory}; there: {known}."
            )
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

    def save_best(self, step: int, score: float) -> bool:
        """Saves the weights alone if the score is the highest so far; returns whether it is.

        Raises:
          OSError: it could not be written. The earlier best is intact.
        """
        if not score > self.best()[1]:  # NaN neither
            return False
        _save(self._weights, self._best_directory, step, max_to_keep=None)
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
        return self._recorded("step", int), float(self._recorded(self._metric, float))

    def _recorded(self, key: str, kind: type) -> Any:
        """A value of best.json."""
        try:
            with open(self._best_path, encoding="utf-8") as file:
                value = json_object(file.read(), "the best").get(key)
            if not is_of(value, kind):
                raise ValueError(f"{key} must be {describe(kind)}; got {value}")
        except ValueError as error:
            raise ValueError(
                f"{self._best_path} is damaged ({error}); remove {self._best_directory}. The next"
                " evaluation writes it again."
            ) from error
        return value

    def restore_best(self) -> int:
        """Restores the best weights; returns their step, 0 if none were saved.

        Raises:
          ValueError: the checkpoint is damaged or of another model.
        """
        steps = _steps(self._best_directory)
        recorded = self._recorded("step", int) if os.path.exists(self._best_path) else 0
        step = recorded if recorded in steps else max(steps, default=0)
        if not step and os.path.exists(self._best_path):
            raise ValueError(
                f"the best weights are missing in {self._best_directory}, but best.json is there;"
                " use another checkpoint of the run."
            )
        if step:
            path = os.path.join(self._best_directory, f"ckpt-{step}")
            self._read(self._weights, path, all_of_it=False)
        return step

    def _read(self, checkpoint: tf.train.Checkpoint, path: str, *, all_of_it: bool) -> None:
        try:
            status = checkpoint.read(path)
            status.assert_existing_objects_matched()
            if all_of_it:
                status.assert_consumed()
            else:
                status.expect_partial()
        except (AssertionError, IndexError, ValueError, tf.errors.OpError) as error:
            raise _unreadable(path, error) from error


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


def _save(
    checkpoint: tf.train.Checkpoint, directory: str, step: int, max_to_keep: int | None
) -> str:
    os.makedirs(directory, exist_ok=True)
    _remove(directory, "partial-")  # of a run that was killed while saving
    path = os.path.join(directory, f"ckpt-{step}")
    partial = os.path.join(directory, f"partial-{step}")
    try:
        checkpoint.write(partial)
        # TensorFlow writes the index in place. Renamed last, it shows that the rest is complete.
        for ending in (".data-00000-of-00001", ".index"):
            os.replace(partial + ending, path + ending)
    except (tf.errors.OpError, OSError) as error:
        _remove(directory, "partial-")
        whole = ", ".join(f"ckpt-{s}" for s in _steps(directory)) or "none"
        raise OSError(
            f"could not save {path}: {str(error).splitlines()[0][:300]}. Intact: {whole}. Make room"
            " or choose another workdir; the same command resumes from the last one."
        ) from error
    for old in _steps(directory)[:-max_to_keep] if max_to_keep else ():
        _remove(directory, f"ckpt-{old}.")
    return path


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


def has_weights(workdir: str) -> bool:
    """Whether anything was trained in the workdir: states to resume from, or best weights."""
    return has_checkpoints(workdir) or bool(_steps(os.path.join(workdir, "best")))
