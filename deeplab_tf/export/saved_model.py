"""TensorFlow SavedModel: pixels in, label map and probabilities out, any image size."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from deeplab_tf.export.directory import new_directory
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_text
from deeplab_tf.recipe.lazy import keras, tf

# The SavedModel format's place for files that TensorFlow does not read.
_SPEC_PATH = os.path.join("assets.extra", "dataset.json")
# ours: the rounding of two graphs of one network; a wrong weight changes probabilities by far more
_TOLERANCE = 1e-3


def write_saved_model(model: keras.Model, spec: DatasetSpec, directory: str) -> None:
    """Writes a SavedModel, reads it back and compares it with the model.

    Signature serving_default: image uint8 [N, H, W, 3] RGB, any size ->
    {"label_map": int32 [N, H, W], "probabilities": float32 [N, H, W, K]}. The names and colors
    of the classes are in assets.extra/dataset.json.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K]; built outside any strategy.
      spec: of the dataset whose classes the model predicts.
      directory: to write to; must be empty or absent. It appears when all is written.

    Raises:
      ValueError: the model does not have one output per class of `spec`.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
      RuntimeError: the export does not give the model's predictions; it is removed.
    """
    try:
        with new_directory(directory, model, spec) as temporary:
            _write(model, temporary)
            write_text(os.path.join(temporary, _SPEC_PATH), spec.to_json())
            _check(model, temporary)
    except tf.errors.OpError as error:
        raise OSError(f"could not write {directory}: {error.message}") from error


class SavedModel:
    """A SavedModel that `write_saved_model` wrote.

    Attributes:
      spec: of the dataset whose classes it predicts.
    """

    def __init__(self, directory: str):
        """Loads it.

        Raises:
          FileNotFoundError: the directory has none.
        """
        for name in ("saved_model.pb", _SPEC_PATH):
            if not os.path.exists(os.path.join(directory, name)):
                raise FileNotFoundError(
                    f"no {name} in {directory}; it must be a SavedModel that export.py wrote."
                )
        with open(os.path.join(directory, _SPEC_PATH)) as file:
            self.spec = DatasetSpec.from_json(file.read())
        # Kept: the variables live no longer than the loaded object.
        self._loaded = tf.saved_model.load(directory)
        self._serve = self._loaded.signatures["serving_default"]

    def predict(self, images: Any) -> dict[str, tf.Tensor]:
        """The signature: uint8 [N, H, W, 3] -> {"label_map", "probabilities"}."""
        return self._serve(image=tf.constant(images, tf.uint8))


def _write(model: keras.Model, directory: str) -> None:
    def serve(image):
        logits = tf.cast(model(tf.cast(image, tf.float32), training=False), tf.float32)
        return {
            # Of the logits: softmax rounds nearly equal ones to equal probabilities.
            "label_map": tf.argmax(logits, axis=-1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(logits),
        }

    # Not tf.saved_model.save of a tf.Module: converters do not freeze Keras' variables in one.
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", serve, [tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")]
    )
    archive.write_out(directory, verbose=False)


def _check(model: keras.Model, directory: str) -> None:
    # Two images that are not square: neither batch nor size may be frozen into the graph.
    images = np.random.default_rng(0).integers(0, 256, (2, 65, 97, 3), np.uint8)
    written = SavedModel(directory).predict(images)
    expected = tf.nn.softmax(model(images.astype(np.float32), training=False)).numpy()
    difference = np.abs(written["probabilities"].numpy() - expected).max()
    label_map = written["label_map"].numpy()
    # The same class, or one that is as probable but for rounding.
    chosen = np.take_along_axis(expected, label_map[..., None], axis=-1)[..., 0]
    shortfall = (expected.max(axis=-1) - chosen).max()
    # Written so that a NaN fails too.
    if not (difference <= _TOLERANCE and shortfall <= _TOLERANCE):
        raise RuntimeError(
            "the SavedModel must give the model's predictions; probabilities differ by up to"
            f" {difference:.3g}, and a chosen class is up to {shortfall:.3g} less probable than"
            " the model's. Nothing was kept. Please report this with the versions of TensorFlow"
            " and Keras."
        )
