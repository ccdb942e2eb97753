"""The directory of an export: it appears when all is written and checked, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import check_local, check_writable, sync, write_text
from deeplab_tf.recipe.lock import locked

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def new_directory(directory: str, model: keras.Model, spec: DatasetSpec) -> Iterator[str]:
    """`whole_directory` with labels.txt in it, after a check of what is exported.

    labels.txt has the names of the classes, one per line, in the order of the outputs.

    Args:
      directory: must be empty or absent.
      model: that is exported: image -> logits [N, H, W, K].
      spec: of the dataset whose classes it predicts.

    Raises:
      ValueError: the model is not functional, does not have one output per class of `spec`, or
        takes other images than RGB.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written, or another process is writing it.
    """
    if not getattr(model, "outputs", None):
        raise ValueError(
            "an export takes a functional model, keras.Model(inputs, outputs); got an object of"
            f" {type(model).__name__}."
        )
    spec.check_outputs(model.output_shape[-1])
    if model.input_shape[-1] != 3:
        raise ValueError(
            f"an export takes RGB images; the model takes {model.input_shape[-1]} channels. Save it"
            " with model.save(...)."
        )
    with whole_directory(directory) as temporary:
        write_text(os.path.join(temporary, "labels.txt"), "\n".join(spec.class_names) + "\n")
        yield temporary


@contextlib.contextmanager
def whole_directory(directory: str) -> Iterator[str]:
    """Gives a temporary directory, which becomes `directory` if the block ends without an error.

    What a killed process left of it, "<directory>.incomplete", is removed first.

    Args:
      directory: must be empty or absent.

    Raises:
      FileExistsError: the directory is not empty.
      OSError: it cannot be written, or another process is writing it.
    """
    check_new(directory)
    directory = os.path.realpath(directory)  # a link to a directory cannot be replaced by one
    temporary = f"{directory}.incomplete"
    with locked(f"{directory}.lock", f"the directory {directory}"):
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        try:
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    sync(os.path.join(folder, name))
            check_new(directory)
            os.rename(temporary, directory)
            sync(os.path.dirname(directory))
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            raise OSError(error.errno, error.strerror, directory) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_new(directory: str) -> None:
    """Checks that a directory is empty or absent, and that there can be a new one in its place.

    Raises:
      FileExistsError: it is neither.
      ValueError: it is empty, or a URL.
      OSError: it is where a file system is mounted, or the directory around cannot be written.
    """
    check_local(directory)
    if os.path.lexists(directory) and (not os.path.isdir(directory) or os.listdir(directory)):
        raise FileExistsError(
            f"{directory} must be empty or absent. Remove it or choose another directory."
        )
    if os.path.ismount(directory):
        raise OSError(
            f"{directory} is where a file system is mounted, and cannot be renamed. Choose another"
            f" directory, e.g. {os.path.join(directory, 'model')}."
        )
    try:
        check_writable(f"{os.path.realpath(directory)}.lock")
    except OSError as error:
        raise OSError(f"{error} Choose another directory.") from error
