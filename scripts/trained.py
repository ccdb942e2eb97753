"""The flags that say which trained model is meant, for the scripts that read one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cli
import zoo
from absl import flags

from deeplab_tf.recipe.options import Recipe

if TYPE_CHECKING:  # importing data imports TensorFlow
    import keras

    from deeplab_tf.recipe.dataset_spec import DatasetSpec

WORKDIR = flags.DEFINE_string("workdir", None, "of a training run or of convert_weights.py")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, last, or the step of one")
flags.register_validator(
    "checkpoint",
    lambda value: value in ("best", "last") or value.isdecimal(),
    message="must be best, last or a step",
)


def workdir() -> str:
    """The directory.

    Raises:
      ValueError: the flag was not given.
    """
    cli.require(workdir=WORKDIR.value)
    return WORKDIR.value


def recipe() -> Recipe:
    """What was trained; imports TensorFlow."""
    from deeplab_tf.training import checkpoints

    return checkpoints.load_recipe(workdir(), zoo.MODEL_CONFIGS)


def spec() -> DatasetSpec:
    """The classes it was trained on; imports TensorFlow."""
    from deeplab_tf.training import checkpoints

    return checkpoints.load_spec(workdir())


def model(output_stride: int | None) -> keras.Model:
    """The network with the weights that --checkpoint names; imports TensorFlow."""
    from deeplab_tf.training import checkpoints

    choice = _CHECKPOINT.value
    return checkpoints.load_model(
        workdir(),
        zoo.MODEL_CONFIGS,
        checkpoint=int(choice) if choice.isdecimal() else choice,
        output_stride=output_stride,
    )
