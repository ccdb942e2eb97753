"""The resizes in the networks: bilinear, sizes dynamic, the same on every backend of Keras."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ResizeLike(keras.layers.Layer):
    """Bilinear resize of one tensor to the height and width of another.

    The only resize in the networks. Sizes stay dynamic, so one graph takes every image size.

    Attributes:
      align_corners: True puts the corner samples of input and output on one another (code: both
        papers' released code); False samples at pixel centres.
    """

    def __init__(self, align_corners: bool = True, **layer_options):
        super().__init__(**layer_options)
        self.align_corners = align_corners

    def call(self, inputs):
        """([N, h, w, C], [N, H, W, *]) -> [N, H, W, C] in the first's dtype."""
        x, like = inputs
        height, width = ops.shape(like)[1:3]
        return _resize(x, height, width, self.align_corners)

    def compute_output_shape(self, input_shapes):
        """The first input's shape with the second's height and width."""
        (batch, _, _, channels), (_, height, width, _) = input_shapes
        return batch, height, width, channels

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "align_corners": self.align_corners}


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ResizeToRemainder(keras.layers.Layer):
    """Bilinear resize up to the next size whose sides leave a remainder; corners on corners.

    Args:
      remainder: of height and width divided by `divisor`.
      divisor: pixels.
    """

    def __init__(self, remainder: int, divisor: int = 32, **layer_options):
        super().__init__(**layer_options)
        self.remainder, self.divisor = remainder % divisor, divisor

    def call(self, inputs):
        """[N, h, w, C] -> [N, H, W, C] in the input's dtype."""
        height, width = map(self._next, ops.shape(inputs)[1:3])
        return _resize(inputs, height, width, align_corners=True)

    def _next(self, side):
        return side + (self.remainder - side) % self.divisor

    def compute_output_shape(self, input_shape):
        """Unknown sides stay so."""
        batch, height, width, channels = input_shape
        height, width = (None if side is None else self._next(side) for side in (height, width))
        return batch, height, width, channels

    def get_config(self):
        """The constructor's arguments."""
        own = {"remainder": self.remainder, "divisor": self.divisor}
        return {**super().get_config(), **own}


def _resize(x, height, width, align_corners: bool):
    # Sampling positions lose their place in half precision.
    dtype, precise = x.dtype, keras.backend.result_type(x.dtype, "float32")
    x = ops.cast(x, precise)
    # TensorFlow's own gives float32 even of float64.
    if keras.backend.backend() == "tensorflow" and precise == "float32":
        import tensorflow as tf

        resized = tf.raw_ops.ResizeBilinear(
            images=x,
            size=tf.stack([height, width]),
            align_corners=align_corners,
            half_pixel_centers=not align_corners,
        )
        sides = [side if isinstance(side, int) else None for side in (height, width)]
        resized.set_shape([x.shape[0], *sides, x.shape[3]])
    else:
        old_height, old_width = ops.shape(x)[1:3]
        rows = _interpolation_matrix(old_height, height, align_corners, precise)
        columns = _interpolation_matrix(old_width, width, align_corners, precise)
        resized = ops.einsum("Hh,nhwc->nHwc", rows, x)
        resized = ops.einsum("Ww,nHwc->nHWc", columns, resized)
    return ops.cast(resized, dtype)


def _interpolation_matrix(size, new_size, align_corners: bool, dtype):
    """[new_size, size]: row i holds the weights of the input samples in output i."""
    source, target = ops.arange(size, dtype=dtype), ops.arange(new_size, dtype=dtype)
    size, new_size = ops.cast(size, dtype), ops.cast(new_size, dtype)
    if align_corners:
        position = target * ((size - 1) / ops.maximum(new_size - 1, 1))
    else:
        position = ops.clip((target + 0.5) * (size / new_size) - 0.5, 0.0, size - 1)
    distance = ops.abs(position[:, None] - source[None, :])
    return ops.maximum(1.0 - distance, 0.0)
