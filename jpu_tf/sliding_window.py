"""FastFCN's prediction: images resized to a fixed size, through windows of a training crop's."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.evaluation.predict import (
    LARGEST_SIDE,
    ScaledPredict,
    check_classes_of_pixels,
    check_network_size,
    checked_image,
    checked_images,
    one_by_one,
)
from deeplab_tf.inference import copy_weights, inference_model
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.options import option

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlidingWindow(ScaledPredict):
    """Windows of a resized image; exponentials of logits are summed (FastFCN)."""

    kind: ClassVar[str] = "sliding_window"

    # code
    long_side: int = option(
        520,
        "length of the image's longer side at scale 1, pixels",
        minimum=1,
        maximum=LARGEST_SIDE,
        may_change=True,
    )
    # paper: Sec. 4.1, of the training crops
    window_size: int = option(
        480, "side of the windows, pixels", minimum=1, maximum=LARGEST_SIDE, may_change=True
    )

    def predictor(self, model: keras.Model) -> SlidingWindowPredictor:
        """A predictor with the model's weights as they are now."""
        return SlidingWindowPredictor(model, self)

    def export_model(self, model: keras.Model) -> keras.Model:
        """A model without windows that runs the network at sizes like theirs."""
        return at_trained_sizes(model, self.window_size)


def at_trained_sizes(model: keras.Model, crop_size: int) -> keras.Model:
    """A model that resizes images to a size that suits it, and the logits back.

    FastFCN resizes feature maps of several strides with `align_corners=True` and joins them. How
    they lie over each other depends on the remainder of the image's sides by 32. The model resizes
    images up to the next size with the remainder of the training crops.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      crop_size: side of the training crops, pixels.

    Returns:
      A keras.Model of the same inputs and outputs, with the same weights.
    """
    from deeplab_tf.layers import ResizeLike, SegmentationModel, full_precision
    from jpu_tf.layers import ResizeToRemainder

    image = keras.Input((None, None, model.input_shape[-1]))
    logits = model(ResizeToRemainder(crop_size, name="to_trained_size")(image))
    logits = ResizeLike(name="from_trained_size", dtype=full_precision())([logits, image])
    resizing = SegmentationModel(image, logits, name=f"{model.name}_at_trained_sizes")
    resizing.dataset_spec = getattr(model, "dataset_spec", None)
    return resizing


class SlidingWindowPredictor:
    """A model that sees square windows only, behind one graph for images of every size.

    Keep it as long as there are images to predict: the model is traced once, at the first image.
    It has the weights as they were when it was made, until `update` reads them again.

    Attributes:
      num_classes: K, outputs of the model.
    """

    def __init__(self, model: keras.Model, options: SlidingWindow):
        """Traces nothing yet.

        Args:
          model: image [N, S, S, 3] RGB 0..255 -> logits [N, S, S, K], for S the window size.
          options: sizes, scales and flip.

        Raises:
          ValueError: the model gives one class to the whole image.
        """
        check_classes_of_pixels(model)
        self._trained = model
        self._network = network = inference_model(model)

        @tf.function(
            input_signature=[
                tf.TensorSpec([1, options.window_size, options.window_size, 3], tf.float32),
                tf.TensorSpec([], tf.bool),
            ],
            autograph=False,
        )
        def window_scores(window, flip):
            def logits_of(window):
                return tf.cast(network(window, training=False), tf.float64)

            def of_the_flipped():
                return tf.reverse(logits_of(tf.reverse(window, [2])), [2])

            logits = logits_of(window)
            return tf.exp(logits + tf.cond(flip, of_the_flipped, lambda: tf.zeros_like(logits)))[0]

        self._window_scores = window_scores
        self._options = options
        self.num_classes = model.output_shape[-1]

    def update(self) -> None:
        """Reads the model's weights again, after they were trained on."""
        copy_weights(self._trained, self._network)

    def scores(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """A score of each class at each pixel of one image.

        At each scale: the exponentials of the windows' logits, averaged where windows overlap and
        resized to the image; summed over scales (code). With `flip` the logits of the left-right
        flipped window are added before the exponential (code). The scores are not normalized: a
        window or a scale with larger logits counts for more.

        They are float64. The released code's float32 is infinite where logits, or with `flip` sums
        of two, exceed 88.7; below that the two differ by rounding alone.

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.

        Returns:
          float64 [H, W, K], 0 or above.

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel, has floats in 0..1, or has
            a side above 65535 at one of the scales.
          FloatingPointError: scores are not finite, or all are 0 at a pixel: the model's logits
            are NaN, or so large or small (700) that float64 does not hold their exponentials.
        """
        image = checked_image(image)
        size = image.shape[:2]
        total = 0.0
        for scale in self._options.scales:
            total += resize_scores(self._scores_at(image, scale), size)
        largest = tf.reduce_max(total, axis=-1)
        if not bool(tf.reduce_all((largest > 0) & (largest < math.inf))):
            raise FloatingPointError(
                "the exponentials of the model's logits must be finite and not all 0 at a pixel;"
                " its logits are NaN, or beyond 700 in size. Train the model to the end, or load"
                " another checkpoint."
            )
        return total

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The class with the largest score at each pixel; arguments and errors as in `scores`.

        Returns:
          int32 [H, W].
        """
        return tf.argmax(self.scores(image), axis=-1, output_type=tf.int32)

    def predict(
        self, images: np.ndarray | tf.Tensor, *, probabilities: bool = False
    ) -> dict[str, tf.Tensor]:
        """Predictions of a batch, one image after the other.

        Args:
          images: [N, H, W, 3] RGB 0..255, any numeric type.
          probabilities: whether to return the scores too, divided by their sum over the classes.

        Returns:
          "label_map", int32 [N, H, W], and "probabilities", float32 [N, H, W, K].

        Raises:
          ValueError: see `scores`.
          FloatingPointError: see `scores`.
        """

        def of_image(image):
            scores = self.scores(image)
            outputs = {"label_map": tf.argmax(scores, axis=-1, output_type=tf.int32)}
            if probabilities:
                shares = scores / tf.reduce_sum(scores, -1, keepdims=True)
                outputs["probabilities"] = tf.cast(shares, tf.float32)
            return outputs

        return one_by_one(of_image, checked_images(images))

    def _scores_at(self, image: tf.Tensor, scale: float) -> tf.Tensor:
        """float64 [h, w, K] at the image's size at the scale."""
        options, side = self._options, self._options.window_size
        height, width = size_at(image.shape[:2], math.ceil(options.long_side * scale))
        check_network_size((height, width), "predict.long_side or predict.scales")
        # The code resizes and pads normalized images. Pixels give the same: resizing is linear
        # with weights that sum to 1, and the padding is black.
        image = tf.raw_ops.ResizeBilinear(
            images=image[None], size=[height, width], align_corners=True
        )
        tops, lefts = window_starts(height, side), window_starts(width, side)
        bottom, right = tops[-1] + side, lefts[-1] + side
        image = tf.pad(image, [[0, 0], [0, bottom - height], [0, right - width], [0, 0]])
        total = tf.zeros([height, width, self.num_classes], tf.float64)
        count = tf.zeros([height, width, 1], tf.float64)
        for top, left in itertools.product(tops, lefts):
            window = image[:, top : top + side, left : left + side]
            scores = self._window_scores(window, options.flip)[: height - top, : width - left]
            rest = [height - top - scores.shape[0], width - left - scores.shape[1]]
            place = [[top, rest[0]], [left, rest[1]], [0, 0]]
            total += tf.pad(scores, place)
            count += tf.pad(tf.ones_like(scores[..., :1]), place)
        return total / count


def window_starts(side: int, window_size: int) -> list[int]:
    """Where windows begin along a side of an image.

    They are two thirds of a window apart. The last one is not shifted back: it reaches beyond the
    image, which is padded (code).

    Args:
      side: of the image, pixels.
      window_size: side of the windows, pixels.
    """
    stride = max(1, int(window_size * 2 / 3))
    windows = max(0, math.ceil((side - window_size) / stride)) + 1
    return [i * stride for i in range(windows)]


def size_at(size: Sequence[int], long_side: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is resized to `long_side` pixels (code)."""
    height, width = size
    if height > width:
        return long_side, max(1, int(width * long_side / height + 0.5))
    return max(1, int(height * long_side / width + 0.5)), long_side


def resize_scores(scores: tf.Tensor, size: Sequence[int]) -> tf.Tensor:
    """Resizes bilinearly with `align_corners=True`, in float64; TensorFlow's kernel has float32.

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
