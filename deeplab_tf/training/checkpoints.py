"""What a run leaves in its workdir, and how it is read back.

workdir/recipe.json      what is trained
workdir/dataset.json     its classes, so that nothing else needs the dataset
workdir/checkpoints/     the last few states, from which the same command goes on
workdir/best/            the weights with the best mean IoU so far
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import shutil
from collections.abc import Mapping
from typing import Literal

import keras
import tensorflow as tf

from deeplab_tf.recipe.options import Recipe
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_text
from deeplab_tf.training.optimizers import Momentum
from deeplab_tf.recipe.as_json import differences, from_json, to_json
from deeplab_tf.weights import weights_by_name


class Checkpointer:
    """Saves and restores the state of a training run; a save is whole or not there.

    Attributes:
      directory: where the checkpoints are.
    """

    def __init__(
        self,
        workdir: str,
        model: keras.Model,
        optimizer: Momentum | None = None,
        max_to_keep: int = 5,
    ):
        """Nothing is written or read yet.

        Args:
          workdir: of the run.
          model: its weights and random states are saved.
          optimizer: saved too, if given; leave it out to read weights alone.
          max_to_keep: checkpoints kept in `checkpoints/`.
        """
        self.directory = os.path.join(workdir, "checkpoints")
        self._best_directory = os.path.join(workdir, "best")
        self._model = model
        self._max_to_keep = max_to_keep
        # By name: the order of layers depends on the output stride and on auxiliary outputs.
        weights = weights_by_name(model)
        parts = {"model": weights}
        if optimizer is not None:
            parts["optimizer_slots"] = optimizer.slots
            # Keras does not track these with the model; a dropout that began anew would make
            # another run of a resumed one.
            generators = (getattr(layer, "seed_generator", None) for layer in model.layers)
            parts["random_states"] = [g.state.value for g in generators if g is not None]
        self._checkpoint = tf.train.Checkpoint(**parts)
        self._weights = tf.train.Checkpoint(model=weights)
        self._complete = optimizer is not None

    def save(self, step: int) -> str:
        """Saves everything; returns the checkpoint's path.

        Raises:
          OSError: it could not be written, e.g. the disk is full. Earlier ones are intact.
        """
        return _save(self._checkpoint, self.directory, step, self._max_to_keep)

    def restore(self, step: int | None = None) -> int:
        """Restores the checkpoint of `step`, or the last one.

        Returns:
          Its step; 0 if there is no checkpoint at all.

        Raises:
          FileNotFoundError: there are checkpoints but none of this step.
          ValueError: the checkpoint is damaged or of another model.
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
        self._read(self._checkpoint, path, all_of_it=self._complete)
        return step

    def last_step(self) -> int:
        """Step of the last checkpoint, 0 if there is none."""
        return max(_steps(self.directory), default=0)

    def save_best(self, step: int, mean_iou: float) -> bool:
        """Saves the weights alone if no earlier `mean_iou` was as high; whether it did.

        Raises:
          OSError: it could not be written. The earlier best is intact.
        """
        if mean_iou <= self.best()[1]:
            return False
        _save(self._weights, self._best_directory, step, max_to_keep=1)
        write_text(
            os.path.join(self._best_directory, "best.json"),
            json.dumps({"step": step, "mean_iou": mean_iou}) + "\n",
        )
        return True

    def best(self) -> tuple[int, float]:
        """(step, mean IoU) of the best weights; (0, -1) if none were saved."""
        path = os.path.join(self._best_directory, "best.json")
        if not os.path.exists(path):
            return 0, -1.0
        with open(path) as file:
            record = json.load(file)
        return record["step"], record["mean_iou"]

    def restore_best(self) -> int:
        """Restores the best weights; returns their step, 0 if none were saved.

        Raises:
          ValueError: the checkpoint is damaged or of another model.
        """
        step = max(_steps(self._best_directory), default=0)
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
            raise ValueError(
                f"checkpoint {path} does not fit this model or is damaged:"
                f" {str(error).splitlines()[0][:300]}. It must come from the recipe.json beside it;"
                " another checkpoint of the run may be whole."
            ) from error


def _steps(directory: str) -> list[int]:
    found = glob.glob(os.path.join(glob.escape(directory), "ckpt-*.index"))
    return sorted(int(re.search(r"ckpt-(\d+)\.index$", path)[1]) for path in found)


def _save(checkpoint: tf.train.Checkpoint, directory: str, step: int, max_to_keep: int) -> str:
    os.makedirs(directory, exist_ok=True)
    _remove(directory, "partial-")  # of a run that was killed while saving
    path = os.path.join(directory, f"ckpt-{step}")
    partial = os.path.join(directory, f"partial-{step}")
    try:
        checkpoint.write(partial)
        # TensorFlow writes the index in place. Renamed last, it says that the rest is whole.
        for ending in (".data-00000-of-00001", ".index"):
            os.replace(partial + ending, path + ending)
    except (tf.errors.OpError, OSError) as error:
        _remove(directory, "partial-")
        whole = ", ".join(f"ckpt-{s}" for s in _steps(directory)) or "none"
        raise OSError(
            f"could not save {path}: {str(error).splitlines()[0][:300]}. Intact: {whole}. Make room"
            " or choose another workdir; the same command goes on from the last one."
        ) from error
    for old in _steps(directory)[:-max_to_keep]:
        _remove(directory, f"ckpt-{old}.")
    return path


def _remove(directory: str, prefix: str) -> None:
    # The index first: without it nothing takes the rest for a checkpoint.
    names = [name for name in os.listdir(directory) if name.startswith(prefix)]
    for name in sorted(names, key=lambda name: not name.endswith(".index")):
        path = os.path.join(directory, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def has_checkpoints(workdir: str) -> bool:
    """Whether anything was trained in this workdir."""
    return bool(_steps(os.path.join(workdir, "checkpoints")))


def save_recipe(workdir: str, recipe: Recipe) -> None:
    """Writes recipe.json; once there are checkpoints, only if it is of the same run.

    Raises:
      ValueError: the workdir holds checkpoints of a run with other settings.
      OSError: the workdir cannot be written.
    """
    path = os.path.join(workdir, "recipe.json")
    if os.path.exists(path) and has_checkpoints(workdir):
        differing = differences(
            load_recipe(workdir, {recipe.model.kind: type(recipe.model)}), recipe
        )
        if differing:
            raise ValueError(
                f"{workdir} holds a run of another recipe:\n  "
                + "\n  ".join(differing)
                + "\nuse another workdir, or the settings it was started with."
            )
    try:
        write_text(path, to_json(recipe))
    except OSError as error:
        raise OSError(
            f"the workdir {workdir} cannot be written: {error}; choose one that can."
        ) from error


def load_recipe(workdir: str, model_configs: Mapping[str, type]) -> Recipe:
    """Reads recipe.json.

    Args:
      workdir: of a run.
      model_configs: kind -> dataclass.

    Raises:
      FileNotFoundError: the workdir is not one of a run.
      ValueError: the file is not a recipe of a known model.
    """
    return from_json(_read_text(workdir, "recipe.json"), model_configs)


def save_spec(workdir: str, spec: DatasetSpec) -> None:
    """Writes dataset.json; once there are checkpoints, only if its classes are the same.

    Raises:
      ValueError: the workdir was trained on other classes.
      OSError: the workdir cannot be written.
    """
    if os.path.exists(os.path.join(workdir, "dataset.json")) and has_checkpoints(workdir):
        old = load_spec(workdir)
        if (old.class_names, old.ignore_label) != (spec.class_names, spec.ignore_label):
            raise ValueError(
                f"{workdir} was trained on the classes {', '.join(old.class_names)} with"
                f" ignore_label {old.ignore_label}; the dataset now has"
                f" {', '.join(spec.class_names)} with {spec.ignore_label}. Use another workdir, or"
                " put the dataset back as it was."
            )
    write_text(os.path.join(workdir, "dataset.json"), spec.to_json())


def load_spec(workdir: str) -> DatasetSpec:
    """Reads dataset.json.

    Raises:
      FileNotFoundError: the workdir is not one of a run.
    """
    return DatasetSpec.from_json(_read_text(workdir, "dataset.json"))


def _read_text(workdir: str, name: str) -> str:
    path = os.path.join(workdir, name)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"no {name} in {workdir}; it must be the --workdir of a training run or of"
            " convert_weights.py."
        )
    with open(path) as file:
        return file.read()


def load_model(
    workdir: str,
    model_configs: Mapping[str, type],
    *,
    checkpoint: Literal["best", "last"] | int = "best",
    output_stride: int | None = None,
    auxiliary: bool = False,
) -> keras.Model:
    """Builds a run's network outside any strategy and fills it.

    Args:
      workdir: of the run.
      model_configs: kind -> dataclass.
      checkpoint: "best" (the last, if the run has not evaluated), "last", or a step.
      output_stride: to run at; None: the recipe's.
      auxiliary: with the outputs that are there for training alone, in a dict.

    Returns:
      A keras.Model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K] float32.

    Raises:
      FileNotFoundError: the workdir is not one of a run, or has no such checkpoint.
      ValueError: a checkpoint is damaged or of another model.
    """
    config = load_recipe(workdir, model_configs).model
    if output_stride is not None:
        config = dataclasses.replace(config, output_stride=output_stride)
    model = config.build(load_spec(workdir).num_classes, auxiliary=auxiliary)
    checkpointer = Checkpointer(workdir, model)
    if checkpoint == "best" and checkpointer.restore_best():
        return model
    step = None if checkpoint in ("best", "last") else int(checkpoint)
    if checkpointer.restore(step) == 0:
        raise FileNotFoundError(f"no checkpoint in {workdir} yet; train for longer.")
    return model
