"""FastFCN's protocol of evaluation: images at a fixed size, seen through windows of a crop's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class SlidingWindowPredictor:
    """A model that sees square windows alone, behind one graph that serves every image size.

    Like `inference.Predictor` it is traced at the first image and reads the weights anew at each
    call.

    Attributes:
      num_classes: K, outputs of the model.
      base_size: the longer side of an image at scale 1, pixels.
      crop_size: side of the windows, pixels.
    """

    def __init__(self, model: keras.Model, *, base_size: int = 520, crop_size: int = 480):
        """Traces nothing yet.

        Args:
          model: image [N, S, S, 3] RGB 0..255 -> logits [N, S, S, K], for S the crop size.
          base_size: the longer side of an image at scale 1, pixels (code: 520).
          crop_size: side of the windows, pixels (paper: Sec. 4.1, of the training crops).
        """

        @tf.function(
            input_signature=[
                tf.TensorSpec([1, crop_size, crop_size, 3], tf.float32),
                tf.TensorSpec([], tf.bool),
            ]
        )
        def window_scores(window, flip):
            def logits_of(window):
                return tf.cast(model(window, training=False), tf.float64)

            def of_the_flipped():
                return tf.reverse(logits_of(tf.reverse(window, [2])), [2])

            logits = logits_of(window)
            return tf.exp(logits + tf.cond(flip, of_the_flipped, lambda: tf.zeros_like(logits)))[0]

        self._window_scores = window_scores
        self.num_classes = model.output_shape[-1]
        self.base_size = base_size
        self.crop_size = crop_size

    def scores(
        self, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> tf.Tensor:
        """How much speaks for each class, at each pixel of one image.

        At each scale: the exponentials of the windows' logits, averaged where windows overlap and
        resized to the image; summed over scales (code). They are not normalized, so a window or a
        scale that is surer counts for more.

        In float64, where the released code's float32 is infinite as soon as logits, or with `flip`
        sums of two, exceed 88.7; below that the two differ by rounding alone.

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.
          scales: factors of `base_size`.
          flip: add the logits of the left-right flipped window before the exponential (code).

        Returns:
          float64 [H, W, K], 0 or above.

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel, or the scales are not one
            or more positive numbers.
          FloatingPointError: scores are not finite, or at some pixel all are 0: the model's logits
            are NaN, or so large or small (700) that float64 does not hold their exponentials.
        """
        image = checked_image(image, scales)
        size = image.shape[:2]
        total = 0.0
        for scale in scales:
            total += resize_scores(self._scores_at(image, scale, flip), size)
        largest = tf.reduce_max(total, axis=-1)
        if not bool(tf.reduce_all((largest > 0) & (largest < math.inf))):
            raise FloatingPointError(
                "the exponentials of the model's logits must be finite and not all 0 at a pixel;"
                " its logits are NaN, or beyond 700 in size. Was it trained to its end?"
            )
        return total

    def label_map(
        self, image: Any, *, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> tf.Tensor:
        """The class with the largest score at each pixel; arguments and errors as in `scores`.

        Returns:
          int32 [H, W].
        """
        scores = self.scores(image, scales=scales, flip=flip)
        return tf.argmax(scores, axis=-1, output_type=tf.int32)

    def _scores_at(self, image: tf.Tensor, scale: float, flip: bool) -> tf.Tensor:
        """float64 [h, w, K] at the size that the image has at the scale."""
        height, width = size_at(image.shape[:2], math.ceil(self.base_size * scale))
        # Of the pixels, not of normalized ones (code): resizing is linear with weights that sum to
        # 1, so normalizing before or after is the same, and what is padded with 0 is black.
        image = tf.raw_ops.ResizeBilinear(
            images=image[None], size=[height, width], align_corners=True
        )
        tops, lefts = self.starts(height), self.starts(width)
        bottom, right = tops[-1] + self.crop_size, lefts[-1] + self.crop_size
        image = tf.pad(image, [[0, 0], [0, bottom - height], [0, right - width], [0, 0]])
        total = tf.zeros([height, width, self.num_classes], tf.float64)
        count = tf.zeros([height, width, 1], tf.float64)
        for top, left in itertools.product(tops, lefts):
            bottom, right = top + self.crop_size, left + self.crop_size
            scores = self._window_scores(image[:, top:bottom, left:right], flip)
            scores = scores[: height - top, : width - left]
            rest = [height - top - scores.shape[0], width - left - scores.shape[1]]
            place = [[top, rest[0]], [left, rest[1]], [0, 0]]
            total += tf.pad(scores, place)
            count += tf.pad(tf.ones_like(scores[..., :1]), place)
        return total / count

    def starts(self, side: int) -> list[int]:
        """Where the windows begin along a side of `side` pixels.

        Two thirds of the crop apart; the last one is not moved back but reaches over the end, where
        the image is padded (code).
        """
        stride = max(1, int(self.crop_size * 2 / 3))
        windows = max(0, math.ceil((side - self.crop_size) / stride)) + 1
        return [i * stride for i in range(windows)]


def checked_image(image: Any, scales: Sequence[float]) -> tf.Tensor:
    """The image as float32 [H, W, 3].

    Raises:
      ValueError: it is not [H, W, 3] with at least one pixel, or the scales are not one or more
        positive numbers.
    """
    image = tf.cast(image, tf.float32)
    if image.shape.rank != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"image must be [H, W, 3] with at least one pixel; got {tuple(image.shape)}."
        )
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must be one or more positive numbers; got {scales}.")
    return image


def size_at(size: Sequence[int], long_side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is brought to `long_side` pixels (code)."""
    height, width = size
    if height > width:
        return long_side, max(1, int(width * long_side / height + 0.5))
    return max(1, int(height * long_side / width + 0.5)), long_side


def resize_scores(scores: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Bilinear with corners on corners, in float64, which TensorFlow's own operation is not.

    Args:
      scores: float64 [h, w, K].
      size: (H, W).

    Returns:
      float64 [H, W, K].
    """
    for axis, new in enumerate(size):
        old = scores.shape[axis]
        position = tf.range(new, dtype=tf.float32) * ((old - 1) / max(new - 1, 1))
        low = tf.minimum(tf.cast(position, tf.int32), old - 1)
        shape = [-1, 1, 1] if axis == 0 else [-1, 1]
        share = tf.reshape(tf.cast(position - tf.cast(low, tf.float32), tf.float64), shape)
        below = tf.gather(scores, low, axis=axis)
        above = tf.gather(scores, tf.minimum(low + 1, old - 1), axis=axis)
        scores = below + share * (above - below)
    return scores
