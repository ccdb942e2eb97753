"""The class of the networks: a Keras model that knows its classes and checks its images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from deeplab_tf.recipe.dataset_spec import DatasetSpec

_KERAS_BATCH_SIZE = 32  # of keras.Model.predict


@keras.saving.register_keras_serializable(package="deeplab_tf")
class SegmentationModel(keras.Model):
    """A functional model: image [N, H, W, C] 0..255 -> logits [N, H, W, K] float32.

    Attributes:
      dataset_spec: the classes that the model predicts, with their names and colors; saved with
        the model. None: unknown.
    """

    dataset_spec: DatasetSpec | None = None

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Iterable[keras.callbacks.Callback] | None = None,
    ) -> Any:
        """Predicts as keras.Model.predict does, after a check of the images.

        Datasets and generators are not checked. Images of one batch are predicted without a
        progress bar, unless `verbose` asks for it.

        Args:
          x: [N, H, W, C] 0..255, RGB if C is 3.
          batch_size: see keras.Model.predict, like the rest.
          verbose: see there.
          steps: see there.
          callbacks: see there.

        Returns:
          float32 [N, H, W, K], numpy.

        Raises:
          ValueError: the images have another shape or a type that is not numeric, or they are
            floats in 0..1.
        """
        _check_images(x, self.input_shape[-1])
        one_batch = getattr(x, "ndim", 0) == 4 and 1 <= len(x) <= (batch_size or _KERAS_BATCH_SIZE)
        plain = steps is None and callbacks is None and verbose in ("auto", 0)
        if one_batch and plain and not self._has_replicas():
            # Without the pipeline of Keras' predict, which takes as long as a small network.
            return self.predict_on_batch(x)
        return super().predict(
            x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks
        )

    def _has_replicas(self) -> bool:
        """Whether it was built under a strategy of several; each would predict the whole batch."""
        strategy = getattr(self, "distribute_strategy", None)  # of the TensorFlow backend
        return strategy is not None and strategy.num_replicas_in_sync > 1

    def get_config(self) -> dict[str, Any]:
        """The graph, and the classes as JSON."""
        spec = self.dataset_spec
        return {**super().get_config(), "dataset_spec": None if spec is None else spec.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> SegmentationModel:
        """The model that `get_config` describes, randomly initialized."""
        config = dict(config)
        spec = config.pop("dataset_spec", None)
        model = super().from_config(config, custom_objects)
        model.dataset_spec = None if spec is None else DatasetSpec.from_json(spec)
        return model


def check_values(image: Any) -> None:
    """Checks that an image or a batch is not in floats of 0..1 or -1..1.

    Args:
      image: an array or a tensor of any shape.

    Raises:
      ValueError: it is. Pixels of 0 and 1 alone may be meant so.
    """
    if "float" not in _dtype_name(image):
        return
    values = keras.ops.convert_to_numpy(image)
    if not values.size or values.min() < -1 or not values.max() <= 1:
        return
    if values.min() < 0:
        raise ValueError(
            "images must be RGB 0..255; these floats lie in -1..1. The model normalizes them"
            " itself."
        )
    if (values != np.rint(values)).any():
        raise ValueError("images must be RGB 0..255; these floats lie in 0..1. Multiply by 255.")


def _check_images(images: Any, channels: int) -> None:
    wanted = f"images must be one array [N, H, W, {channels}]"
    if isinstance(images, list | tuple):
        if len(images) == 1 and len(getattr(images[0], "shape", ())) == 4:
            return _check_images(images[0], channels)  # Keras takes a list of its one input
        raise ValueError(
            f"{wanted}; got a {type(images).__name__} of {len(images)}. Join images of one size"
            " with numpy.stack(images); predict others one by one, each as image[None]."
        )
    if not (isinstance(images, np.ndarray) or keras.ops.is_tensor(images)):
        return  # a dataset or a generator
    if not _dtype_name(images).startswith(("float", "bfloat", "int", "uint")):
        raise ValueError(f"images must be of a numeric type; got {images.dtype}.")
    shape = tuple(images.shape)
    if len(shape) == 3:
        channels_first = shape[0] == channels != shape[2]
        batch = "numpy.moveaxis(image, 0, -1)[None]" if channels_first else "image[None]"
        raise ValueError(f"{wanted}; got the shape {shape}. Add the batch axis: {batch}.")
    if len(shape) == 4 and shape[1] == channels != shape[3]:
        raise ValueError(
            f"{wanted}; got the shape {shape}. Put the channels last:"
            " numpy.moveaxis(images, 1, -1)."
        )
    if len(shape) != 4 or shape[3] != channels:
        raise ValueError(f"{wanted}; got the shape {shape}.")
    check_values(images)


def _dtype_name(values: Any) -> str:
    """The name of a dtype of any backend, e.g. "uint8"."""
    return str(getattr(values.dtype, "name", values.dtype)).rpartition(".")[2]
