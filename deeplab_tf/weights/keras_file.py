"""Networks that were saved as a .keras file."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
import zipfile
import zlib
from typing import Any

import numpy as np

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.weights.fit import weights_by_name
from deeplab_tf.weights.limits import check_claimed_bytes, check_zip
from deeplab_tf.weights.skeleton import without_memory

_OUR_MODELS = "deeplab_tf>SegmentationModel"  # the class under its name for Keras
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def open_network(path: str) -> keras.Model:
    """Opens a network of this package that was saved with `model.save("<name>.keras")`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file holds another model, claims more than it holds, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            check_zip(file)
            with zipfile.ZipFile(file) as archive:
                config = json.loads(archive.read(_CONFIG))
                found = config.get("registered_name") if isinstance(config, dict) else None
                if found == _OUR_MODELS:
                    _check_stored(archive.read(_WEIGHTS))
    except FileNotFoundError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, OverflowError, RecursionError,
        RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is not a readable Keras file: {_line(error)}") from error
    if found != _OUR_MODELS:
        raise ValueError(
            f"{path} holds a Keras model that is not one of this package's networks"
            f" ({_OUR_MODELS}); it has the class {str(found)[:100]}. Open it with"
            " keras.saving.load_model."
        )
    with _named_keras(path) as name:
        try:
            _check_network(config, os.path.getsize(path))
            # Keras' safe mode, the default, refuses everything that would run code of the file.
            return keras.saving.load_model(name, compile=False)
        except MemoryError:
            raise
        except Exception as error:  # whatever a layer raises on a config that is damaged
            raise ValueError(f"{path} is not a readable Keras file: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error)[:300].split()) or type(error).__name__


def _check_stored(weights: bytes) -> None:
    """Checks that the arrays of an HDF5 file are in it, as they are."""
    import h5py  # which Keras reads it with

    def check(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        elsewhere = item.external or item.is_virtual or item.chunks
        nbytes = math.prod(item.shape or ()) * item.dtype.itemsize
        if elsewhere or item.id.get_storage_size() != nbytes:
            raise ValueError(
                f"array {name[:100]} must be stored as it is, with {nbytes} bytes for its shape"
                f" {item.shape}; got {item.id.get_storage_size()}"
            )

    with h5py.File(io.BytesIO(weights), "r") as file:
        file.visititems(check)


def _check_network(config: dict[str, Any], file_bytes: int) -> None:
    """Checks that the network of a config is not far larger than its file."""
    model = without_memory(
        lambda: keras.saving.deserialize_keras_object({**config, "compile_config": None})
    )
    if model is not None:
        claimed = sum(math.prod(weight.shape) * 4 for weight in model.weights)  # of float32
        check_claimed_bytes(claimed, file_bytes, "its network's weights")


@contextlib.contextmanager
def _named_keras(path: str):
    """A name of the file that ends in .keras, which Keras insists on."""
    if path.endswith(".keras"):
        yield path
        return
    with tempfile.TemporaryDirectory() as directory:
        link = os.path.join(directory, "network.keras")
        os.symlink(os.path.abspath(path), link)
        yield link


def read_keras(path: str) -> dict[str, np.ndarray]:
    """The weights of such a network by this package's names; errors as in `open_network`."""
    return {name: np.asarray(w) for name, w in weights_by_name(open_network(path)).items()}
