"""The PSPNet head (Zhao et al. 2017) as FastFCN's released code has it."""

from __future__ import annotations

import keras
from keras import ops

from deeplab_tf.backbones import Features
from deeplab_tf.layers import ResizeLike
from jpu_tf.heads.options import HeadOptions
from jpu_tf.layers import classifier, conv_bn_relu

_BINS = (1, 2, 3, 6)  # cited: Zhao et al. 2017, Sec. 3.2


@keras.saving.register_keras_serializable(package="jpu_tf")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Averages over a grid of bins, whatever the size of the map.

    Bin i of b covers pixels floor(i * n / b) to ceil((i + 1) * n / b) of n, so that neighbours
    overlap where b does not divide n (code).

    Attributes:
      bins: rows and columns of the grid.
    """

    def __init__(self, bins: int, **layer_options):
        super().__init__(**layer_options)
        self.bins = bins

    def call(self, inputs):
        """[N, h, w, C] -> [N, bins, bins, C] in the input's dtype."""
        height, width = ops.shape(inputs)[1:3]
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        x = ops.einsum("bh,nhwc->nbwc", self._averages(height, x.dtype), x)
        x = ops.einsum("bw,nhwc->nhbc", self._averages(width, x.dtype), x)
        return ops.cast(x, inputs.dtype)

    def _averages(self, size, dtype):
        """[bins, size]: the weight of each pixel in the average of each bin."""
        bins, pixels = ops.arange(self.bins)[:, None], ops.arange(size)[None, :]
        start = bins * size // self.bins
        end = ((bins + 1) * size + self.bins - 1) // self.bins
        inside = ops.cast((pixels >= start) & (pixels < end), dtype)
        return inside / ops.sum(inside, axis=1, keepdims=True)

    def compute_output_shape(self, input_shape):
        """The input's shape with `bins` rows and columns."""
        return input_shape[0], self.bins, self.bins, input_shape[-1]

    def multiply_adds(self, input_shape):
        """None: pooling is not counted, however it is computed."""
        return 0

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "bins": self.bins}


def psp_head(
    x: keras.KerasTensor, features: Features, num_classes: int, options: HeadOptions
) -> dict[str, keras.KerasTensor]:
    """Pyramid pooling, one 3x3 convolution, then the classifier.

    Args:
      x: [N, h, w, C].
      features: of the backbone; not read.
      num_classes: background counted, void not.
      options: channels None is 512; a level of the pyramid has C / 4 (code).

    Returns:
      {"logits": [N, h, w, num_classes] float32}.
    """
    levels = [x]
    for bins in _BINS:
        name = f"head_pool{bins}"
        level = AdaptiveAveragePooling(bins, name=f"{name}_average")(x)
        level = conv_bn_relu(level, max(x.shape[-1] // 4, 1), 1, norm=options.norm, name=name)
        levels.append(ResizeLike(name=f"{name}_resize")([level, x]))
    x = keras.layers.Concatenate(name="head_concat")(levels)
    x = conv_bn_relu(x, options.channels or 512, 3, norm=options.norm, name="head_conv")
    return {"logits": classifier(x, num_classes, dropout=options.dropout, name="head_logits")}
