"""The flags that choose a trained model, for the scripts that read one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import checkpoint_flag
import cli
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.files import check_local
from deeplab_tf.recipe.parts import Recipe

if TYPE_CHECKING:
    import keras

WORKDIR = flags.DEFINE_string("workdir", None, "of a training run or of convert_weights.py")


def workdir() -> str:
    """The directory.

    Raises:
      ValueError: the flag is not given, or it is a URL.
      FileNotFoundError: there is no such directory.
    """
    cli.require(workdir=WORKDIR.value)
    check_local(WORKDIR.value)
    if not os.path.isdir(WORKDIR.value):
        raise FileNotFoundError(
            f"there is no directory {WORKDIR.value}; --workdir must be that of a training run or of"
            " convert_weights.py."
        )
    return WORKDIR.value


def recipe(parts: recipe_flags.Parts, path: str | None = None) -> Recipe:
    """What was trained, with the given flags of these parts in place of its values.

    Args:
      parts: of which there are flags.
      path: of the workdir; None: --workdir.
    """
    return recipe_flags.apply(zoo.load_recipe(path or workdir()), parts)


def model(output_stride: int | None, path: str | None = None) -> keras.Model:
    """The network with the weights that --checkpoint names, and its classes as `dataset_spec`.

    Args:
      output_stride: see `zoo.load_model`.
      path: of the workdir; None: --workdir.
    """
    return checkpoint_flag.load_model(path or workdir(), output_stride)
