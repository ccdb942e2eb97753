"""Predictions for single images of any size: averaged over scales and flips, if asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.recipe.options import EvalConfig, scaled_side
from deeplab_tf.layers import ResizeLike, ResizeToRemainder
from jpu_tf.sliding_window import SlidingWindowPredictor, checked_image


class Predictor:
    """A model behind one graph that serves every image size.

    Keep it for as long as there are images to predict: the model is traced once, at the first
    image. It reads the model's weights anew at each call, so they may be trained in between.

    Attributes:
      num_classes: K, outputs of the model.
    """

    def __init__(self, model: keras.Model, *, pad_size: tuple[int, int] | None = None):
        """Traces nothing yet.

        Args:
          model: image [N, H, W, 3] RGB 0..255 -> logits [N, h, w, K], at the image's size or
            smaller.
          pad_size: (H, W) that images are padded to, grey at the bottom and on the right, before
            the network sees them (code: DeepLab's evaluation). Image pooling and the border see
            what is added. None: images stay as they are.
        """
        # code: logits go to the image's size from their own one, not over the scaled image's
        model = _without_last_resize(model)

        # Sizes and the flip are inputs, not Python values: a trace per size costs seconds. No
        # XLA for the same reason: it compiles for each size.
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
            logits = tf.cast(model(image, training=False), tf.float32)
            logits_size = tf.maximum(tf.shape(logits)[1:3], least_logits_size)
            logits = _mirror_if(flip, _resize(logits, logits_size))
            return _resize(logits, size)[0]

        self._network = model
        self._logits_of = logits_of
        self._pad_size = pad_size
        self.num_classes = model.output_shape[-1]

    def probabilities(
        self, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> tf.Tensor:
        """Class probabilities of one image.

        The image is resized to each scale, logits are resized back to the image's size, and their
        softmax is averaged (code: DeepLab's multi-scale evaluation, which brings the logits of
        scales below 1 to the size that they have at scale 1 first).

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.
          scales: factors of the image's size.
          flip: average with the left-right flipped image too, at every scale.

        Returns:
          float32 [H, W, K]; sums to 1 over K.

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel or is larger than
            `pad_size`, or the scales are not one or more positive numbers.
        """
        passes = self._passes(image, scales, flip)
        total = tf.nn.softmax(next(passes))
        count = 1
        for logits in passes:
            total += tf.nn.softmax(logits)
            count += 1
        return total / count

    def label_map(
        self, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> tf.Tensor:
        """The most probable class of each pixel; arguments as in `probabilities`.

        Returns:
          int32 [H, W].
        """
        if len(scales) == 1 and not flip:
            # Softmax rounds nearly equal logits to equal probabilities; one pass need not suffer it
            # and gives what model.predict(image[None]).argmax(-1) gives.
            scores = next(self._passes(image, scales, flip))
        else:
            scores = self.probabilities(image, scales=scales, flip=flip)
        return tf.argmax(scores, axis=-1, output_type=tf.int32)

    def _passes(self, image: Any, scales: Sequence[float], flip: bool):
        image = checked_image(image, scales)
        height, width = image.shape[:2]
        if self._pad_size is not None:
            image = _padded(image, self._pad_size)
        least_logits_size = (1, 1)
        if min(scales) < 1:  # asked for only where it is needed: it takes a hundredth of a second
            least_logits_size = self._network.compute_output_shape((1, *image.shape))[1:3]
        for scale in scales:
            size = [scaled_side(side, scale) for side in image.shape[:2]]
            for flipped in (False, True) if flip else (False,):
                logits = self._logits_of(image[None], size, least_logits_size, flipped)
                yield logits[:height, :width]


AnyPredictor = Predictor | SlidingWindowPredictor


def make_predictor(model: keras.Model, eval: EvalConfig) -> AnyPredictor:
    """What predicts label maps by the protocol that `eval` names.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      eval: its protocol, pad_size, base_size and crop_size are read; scales and flip are given at
        each image.
    """
    if eval.protocol == "sliding_window":
        return SlidingWindowPredictor(model, base_size=eval.base_size, crop_size=eval.crop_size)
    return Predictor(model, pad_size=eval.pad_size)


def at_trained_sizes(model: keras.Model, crop_size: int) -> keras.Model:
    """A model whose images are resized to a size that suits it, and its logits back.

    Where feature maps of several strides are resized corner on corner and joined, as in FastFCN,
    how they lie over each other depends on the remainder of the image's sides by 32. Images go up
    to the next size that has the remainder of the crops in training.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      crop_size: side of the crops in training, pixels.

    Returns:
      A keras.Model of the same inputs and outputs, with the same weights.
    """
    image = keras.Input((None, None, model.input_shape[-1]))
    logits = model(ResizeToRemainder(crop_size, name="to_trained_size")(image))
    logits = ResizeLike(name="from_trained_size", dtype="float32")([logits, image])
    return keras.Model(image, logits, name=f"{model.name}_at_trained_sizes")


def predict_probabilities(
    model: keras.Model, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> tf.Tensor:
    """`Predictor(model).probabilities(image, ...)`; for several images keep a Predictor."""
    return Predictor(model).probabilities(image, scales=scales, flip=flip)


def predict_label_map(
    model: keras.Model, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
) -> tf.Tensor:
    """`Predictor(model).label_map(image, ...)`; for several images keep a Predictor."""
    return Predictor(model).label_map(image, scales=scales, flip=flip)


def _without_last_resize(model: keras.Model) -> keras.Model:
    """The model up to the logits as the network computes them; another's model as it is."""
    resizes = [layer for layer in model.layers if layer.name == "logits_resize"]
    return keras.Model(model.input, resizes[0].input[0]) if resizes else model


def _padded(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    missing = [new - old for new, old in zip(size, image.shape[:2], strict=True)]
    if min(missing) < 0:
        raise ValueError(
            f"images must be at most pad_size, {size[0]}x{size[1]} pixels; got"
            f" {image.shape[0]}x{image.shape[1]}. Choose a larger one, a multiple of the output"
            " stride plus 1, or none."
        )
    grey = 127.5  # code: what the network's normalization makes 0 of
    paddings = [[0, missing[0]], [0, missing[1]], [0, 0]]
    return tf.pad(image, paddings, constant_values=grey)


def _resize(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    # code: bilinear with align_corners, for images and logits; the identity at the same size
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)


def _mirror_if(flip: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.cond(flip, lambda: tf.reverse(x, axis=[2]), lambda: x)
