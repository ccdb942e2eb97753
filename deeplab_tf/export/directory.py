"""The directory of an export: it appears when all is written and checked, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deeplab_tf.recipe.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def new_directory(directory: str, model: keras.Model, spec: DatasetSpec) -> Iterator[str]:
    """Gives a temporary directory, which becomes `directory` if the block ends without an error.

    Args:
      directory: must be empty or absent.
      model: that is exported: image -> logits [N, H, W, K].
      spec: of the dataset whose classes it predicts.

    Raises:
      ValueError: the model does not have one output per class of `spec`.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
    """
    spec.check_outputs(model.output_shape[-1])
    directory = os.path.abspath(directory)
    if os.path.exists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise FileExistsError(
            f"{directory} must be empty or absent. Remove it or choose another directory."
        )
    temporary = f"{directory}.{os.getpid()}.tmp"
    os.makedirs(temporary)
    try:
        yield temporary
        os.rename(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
