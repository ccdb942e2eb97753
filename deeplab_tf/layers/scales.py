"""A network that sees each image at several scales, mirrored or not, as one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from deeplab_tf.layers.resize import resize_bilinear, scaled_side
from deeplab_tf.recipe.lazy import tf

_STRIDES = 32  # ours: the largest output stride; logits have a side for each remainder by it


class MeanOverScales(keras.layers.Layer):
    """Logits whose softmax is the mean of the network's probabilities over scales and flips.

    The image is resized to each scale, the logits are resized back to the image's size, and their
    softmax is averaged (code: DeepLab's multi-scale evaluation, which resizes the logits of scales
    below 1 to their size at scale 1 first). It is for exports: it runs on TensorFlow, in inference.

    Args:
      network: image [N, H, W, 3] RGB 0..255 -> logits [N, h, w, K].
      scales: of the image.
      flip: average over the mirrored image too.
      **layer_options: see keras.layers.Layer.
    """

    def __init__(
        self, network: keras.Model, scales: Sequence[float], flip: bool, **layer_options: Any
    ):
        super().__init__(**layer_options)
        self.network = network
        self.scales = tuple(scales)
        self.flip = flip
        self._stride = _stride_of(network) if min(scales) < 1 else 1
        self.built = True

    def call(self, image):
        """[N, H, W, 3] -> [N, H, W, K], the logarithm of the mean probabilities."""
        height, width = ops.shape(image)[1:3]
        total, count = 0.0, 0
        for scale in self.scales:
            scaled = [_scaled(side, scale) for side in (height, width)]
            for flip in (False, True) if self.flip else (False,):
                seen = resize_bilinear(image, *scaled, align_corners=True)
                logits = self.network(_mirrored(seen) if flip else seen, training=False)
                logits = ops.cast(logits, "float32")
                logits = _mirrored(logits) if flip else logits
                if scale < 1:
                    least = [(side - 1) // self._stride + 1 for side in (height, width)]
                    logits = resize_bilinear(logits, *least, align_corners=True)
                logits = resize_bilinear(logits, height, width, align_corners=True)
                total, count = total + ops.softmax(logits), count + 1
        # ours: the least probability, which float16 does not hold either
        return ops.log(ops.maximum(total / count, 1e-7))

    def compute_output_shape(self, input_shape):
        """The image's size with one channel per class."""
        return *input_shape[:3], self.network.output_shape[-1]


def _stride_of(network: keras.Model) -> int:
    """Pixels of the image per pixel of the logits.

    Raises:
      ValueError: sides of the logits are not (side - 1) // stride + 1.
    """
    size = 16 * _STRIDES + 1
    stride = (size - 1) // max(1, network.compute_output_shape((1, size, size, 3))[1] - 1)
    for side in range(size - _STRIDES, size):
        found = network.compute_output_shape((1, side, side, 3))[1]
        if found != (side - 1) // stride + 1:
            raise ValueError(
                "--predict.scales below 1 need a network whose logits have (side - 1) // stride + 1"
                f" pixels; of {side} pixels and stride {stride} it gives {found}. Leave them out."
            )
    return stride


def _scaled(side: Any, scale: float) -> Any:
    """`scaled_side` of a side that may be a tensor, rounded alike."""
    if isinstance(side, int):
        return scaled_side(side, scale)
    # float64, as Python's numbers are: float32 rounds some sides to the next number of pixels.
    scaled = tf.cast(side - 1, tf.float64) * tf.constant(scale, tf.float64) + 1.0
    return tf.maximum(1, tf.cast(scaled, tf.int32))


def _mirrored(x: Any) -> Any:
    return x[:, :, ::-1]
