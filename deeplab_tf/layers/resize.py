"""The resize in the networks: bilinear, to any size, the same on every backend of Keras."""

from __future__ import annotations

import keras
from keras import ops

from deeplab_tf.recipe.lazy import tf


def scaled_side(side: int, scale: float) -> int:
    """Height or width of an image at a scale, pixels."""
    # code: scale_dimension. With align_corners=True it is the gaps between pixels that scale.
    return max(1, int((side - 1) * scale + 1))


@keras.saving.register_keras_serializable(package="deeplab_tf")
class ResizeLike(keras.layers.Layer):
    """Resizes one tensor to the height and width of another, bilinearly.

    Sizes are read when the layer is called, so one graph takes images of every size.

    Args:
      align_corners: True: the centers of the corner pixels of input and output coincide (code:
        both papers' released code). False: their outer corners do.
      **layer_options: see keras.layers.Layer.
    """

    def __init__(self, align_corners: bool = True, **layer_options):
        super().__init__(**layer_options)
        self.align_corners = align_corners

    def call(self, inputs):
        """([N, h, w, C], [N, H, W, *]) -> [N, H, W, C] in the first's dtype."""
        x, like = inputs
        height, width = ops.shape(like)[1:3]
        return resize_bilinear(x, height, width, align_corners=self.align_corners)

    def compute_output_shape(self, input_shapes):
        """The first input's shape with the second's height and width."""
        (batch, _, _, channels), (_, height, width, _) = input_shapes
        return batch, height, width, channels

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "align_corners": self.align_corners}


def resize_bilinear(x, height, width, *, align_corners: bool):
    """Resizes [N, h, w, C] to [N, height, width, C] in the same dtype; sides may be tensors."""
    # Half precision is too coarse for sampling positions.
    dtype, precise = x.dtype, keras.backend.result_type(x.dtype, "float32")
    x = ops.cast(x, precise)
    # TensorFlow's kernel returns float32 for float64 too.
    if keras.backend.backend() == "tensorflow" and precise == "float32":
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
    """[new_size, size]: row i holds the weights of the input's samples in output i."""
    source, target = ops.arange(size, dtype=dtype), ops.arange(new_size, dtype=dtype)
    size, new_size = ops.cast(size, dtype), ops.cast(new_size, dtype)
    if align_corners:
        position = target * ((size - 1) / ops.maximum(new_size - 1, 1))
    else:
        position = ops.clip((target + 0.5) * (size / new_size) - 0.5, 0.0, size - 1)
    distance = ops.abs(position[:, None] - source[None, :])
    return ops.maximum(1.0 - distance, 0.0)
