"""Networks that were saved as a .keras file."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
import zlib

import numpy as np

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.weights.fit import weights_by_name
from deeplab_tf.weights.limits import check_zip

_OUR_MODELS = "deeplab_tf>SegmentationModel"  # the class under its name for Keras


def open_network(path: str) -> keras.Model:
    """Opens a network of this package that was saved with `model.save("<name>.keras")`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file holds another model, or is damaged.
    """
    try:
        with open(path, "rb") as file:
            check_zip(file)
            with zipfile.ZipFile(file) as archive:
                config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, zlib.error, KeyError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not a readable Keras file: {error}") from error
    found = config.get("registered_name") if isinstance(config, dict) else None
    if found != _OUR_MODELS:
        raise ValueError(
            f"{path} holds a Keras model that is not one of this package's networks"
            f" ({_OUR_MODELS}); it has the class {found}. Open it with keras.saving.load_model."
        )
    with _named_keras(path) as name:
        try:
            # Keras' safe mode, the default, refuses everything that would run code of the file.
            return keras.saving.load_model(name, compile=False)
        except (
            zipfile.BadZipFile, AttributeError, KeyError, OSError, TypeError, ValueError
        ) as error:  # fmt: skip
            reason = " ".join(str(error)[:300].split())
            raise ValueError(f"{path} is not a readable Keras file: {reason}") from error


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
