"""Prediction of whole images of any size, averaged over scales and flips."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from deeplab_tf.evaluation.predict import (
    LARGEST_SIDE,
    ScaledPredict,
    check_classes_of_pixels,
    check_network_size,
    checked_image,
)
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.options import option

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeImage(ScaledPredict):
    """The image at its own size; probabilities are averaged (DeepLab's code)."""

    kind: ClassVar[str] = "whole_image"

    pad_size: tuple[int, int] | None = option(
        None,
        "height and width that images are padded to, as in DeepLab's code: 513,513 for PASCAL VOC,"
        " 1025,2049 for Cityscapes; none: no padding",
        minimum=1,
        maximum=LARGEST_SIDE,
        may_change=True,
    )

    def predictor(self, model: keras.Model) -> Predictor:
        """A predictor that uses the model's weights as they are at each image."""
        return Predictor(model, self)

    def export_model(self, model: keras.Model) -> keras.Model:
        """The model itself: an export has one scale and no padding."""
        return model


class Predictor:
    """A model behind one graph for images of every size.

    Keep it as long as there are images to predict: the model is traced once, at the first image.
    The weights are read at each image, so they may be trained in between.

    Attributes:
      num_classes: K, outputs of the model.
    """

    def __init__(self, model: keras.Model, options: WholeImage):
        """Traces nothing yet.

        Args:
          model: image [N, H, W, 3] RGB 0..255 -> logits [N, h, w, K], at the image's size or
            smaller.
          options: scales, flip and padding.

        Raises:
          ValueError: the model gives one class to the whole image.
        """
        check_classes_of_pixels(model)
        # code: logits are resized from their own size to the image's, not by way of the scaled
        # image's size
        network = _without_last_resize(model)

        # Sizes and the flip are inputs, not Python values: a trace for each size costs seconds. No
        # XLA for the same reason.
        @tf.function(
            input_signature=[
                tf.TensorSpec([1, None, None, 3], tf.float32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([2], tf.int32),
                tf.TensorSpec([], tf.bool),
            ]
        )
        def logits_of(image, network_size, least_logits_size, flip):
            size = tf.shape(image)[1:3]
            image = _mirror_if(flip, _resize(image, network_size))
            logits = tf.cast(network(image, training=False), tf.float32)
            logits_size = tf.maximum(tf.shape(logits)[1:3], least_logits_size)
            logits = _mirror_if(flip, _resize(logits, logits_size))
            return _resize(logits, size)[0]

        self._network = network
        self._logits_of = logits_of
        self._options = options
        self.num_classes = model.output_shape[-1]

    def probabilities(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Class probabilities of one image.

        The image is resized to each scale, the logits are resized back to the image's size, and
        their softmax is averaged (code: DeepLab's multi-scale evaluation, which resizes the logits
        of scales below 1 to their size at scale 1 first).

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.

        Returns:
          float32 [H, W, K]; sums to 1 over K.

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel, has floats in 0..1, is
            larger than `pad_size`, or has a side above 65535 at one of the scales.
        """
        passes = self._passes(image)
        total = tf.nn.softmax(next(passes))
        count = 1
        for logits in passes:
            total += tf.nn.softmax(logits)
            count += 1
        return total / count

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The most probable class of each pixel; arguments and errors as in `probabilities`.

        Returns:
          int32 [H, W].
        """
        if len(self._options.scales) == 1 and not self._options.flip:
            # Softmax rounds nearly equal logits to equal probabilities. One pass can do without
            # and equals model.predict(image[None]).argmax(-1).
            scores = next(self._passes(image))
        else:
            scores = self.probabilities(image)
        return tf.argmax(scores, axis=-1, output_type=tf.int32)

    def _passes(self, image: Any) -> Iterator[tf.Tensor]:
        """Logits [H, W, K] of each scale and flip."""
        from deeplab_tf.layers.resize import scaled_side

        options = self._options
        image = checked_image(image)
        height, width = image.shape[:2]
        if options.pad_size is not None:
            image = _padded(image, options.pad_size)
        least_logits_size = (1, 1)
        if min(options.scales) < 1:  # only where it is needed: it takes a hundredth of a second
            least_logits_size = self._network.compute_output_shape((1, *image.shape))[1:3]
        for scale in options.scales:
            size = [scaled_side(side, scale) for side in image.shape[:2]]
            check_network_size(size, "predict.scales", self._network)
            for flipped in (False, True) if options.flip else (False,):
                logits = self._logits_of(image[None], size, least_logits_size, flipped)
                yield logits[:height, :width]


def predict_probabilities(
    model: keras.Model, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> tf.Tensor:
    """Class probabilities of one image; for several images keep a predictor.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, h, w, K].
      image: [H, W, 3] RGB 0..255.
      scales: image scales over which probabilities are averaged.
      flip: average over the mirrored image too.

    Returns:
      float32 [H, W, K]; sums to 1 over K.
    """
    return WholeImage(scales=tuple(scales), flip=flip).predictor(model).probabilities(image)


def predict_label_map(
    model: keras.Model, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> tf.Tensor:
    """The most probable class of each pixel; arguments as in `predict_probabilities`.

    Returns:
      int32 [H, W].
    """
    return WholeImage(scales=tuple(scales), flip=flip).predictor(model).label_map(image)


def _without_last_resize(model: keras.Model) -> keras.Model:
    """The model up to the logits at their own size, or the model itself if it has no such layer."""
    from deeplab_tf.layers.names import LOGITS_RESIZE

    resizes = [layer for layer in model.layers if layer.name == LOGITS_RESIZE]
    return keras.Model(model.input, resizes[0].input[0]) if resizes else model


def _padded(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The image with gray below and to the right; image pooling and the border see it (code)."""
    missing = [new - old for new, old in zip(size, image.shape[:2], strict=True)]
    if min(missing) < 0:
        raise ValueError(
            f"images must be at most pad_size, {size[0]}x{size[1]} pixels; got"
            f" {image.shape[0]}x{image.shape[1]}. Set --predict.pad_size to a larger size, a"
            " multiple of the output stride plus 1, or to none."
        )
    gray = 127.5  # code: the network normalizes it to 0
    paddings = [[0, missing[0]], [0, missing[1]], [0, 0]]
    return tf.pad(image, paddings, constant_values=gray)


def _resize(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    # code: bilinear with align_corners, for images and logits; the identity at the same size
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)


def _mirror_if(flip: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.cond(flip, lambda: tf.reverse(x, axis=[2]), lambda: x)
