"""Layers of FastFCN, and blocks of layers with the initial weights of its released code."""

from __future__ import annotations

import math

import keras
from keras import ops

from deeplab_tf.layers import (
    NormConfig,
    SpatialDropout2D,
    batch_norm,
    conv,
    depthwise_conv,
    full_precision,
    relu,
)
from deeplab_tf.layers.names import BATCH_NORM_SUFFIX
from deeplab_tf.layers.resize import resize_bilinear


def fan_in_uniform(fan_in: int) -> keras.initializers.Initializer:
    """Uniform within 1 / sqrt(fan_in) of 0 (code: its framework's default everywhere here)."""
    return keras.initializers.RandomUniform(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def conv_bn(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    rate: int = 1,
    norm: NormConfig,
    name: str,
) -> keras.KerasTensor:
    """Convolution without bias and batch normalization: `name`, `name`_bn.

    Args:
      x: [N, h, w, C].
      filters: output channels.
      kernel_size: side of the kernel, pixels.
      rate: distance between taps in pixels of `x`.
      norm: constants of the normalization.
      name: prefix of the layers.

    Returns:
      [N, h, w, filters].
    """
    initializer = fan_in_uniform(kernel_size**2 * x.shape[-1])
    x = conv(x, filters, kernel_size, rate=rate, initializer=initializer, name=name)
    return batch_norm(x, norm, f"{name}{BATCH_NORM_SUFFIX}")


def conv_bn_relu(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    rate: int = 1,
    norm: NormConfig,
    name: str,
) -> keras.KerasTensor:
    """`conv_bn` and ReLU: `name`, `name`_bn, `name`_relu."""
    x = conv_bn(x, filters, kernel_size, rate=rate, norm=norm, name=name)
    return relu(x, f"{name}_relu")


def separable_conv(
    x: keras.KerasTensor, filters: int, *, rate: int, norm: NormConfig | int, name: str
) -> keras.KerasTensor:
    """Dilated separable 3x3 convolution, normalized after each half, activated only at the end.

    Args:
      x: [N, h, w, C].
      filters: output channels.
      rate: distance between taps of the depthwise half, pixels of `x`.
      norm: constants of batch normalization, or the number of groups of group normalization.
      name: prefix of the layers, followed by _depthwise and _pointwise.

    Returns:
      [N, h, w, filters].
    """
    initializer, own = fan_in_uniform(3**2), f"{name}_depthwise"
    x = _normalized(depthwise_conv(x, rate=rate, initializer=initializer, name=own), norm, own)
    initializer, own = fan_in_uniform(x.shape[-1]), f"{name}_pointwise"
    x = _normalized(conv(x, filters, 1, initializer=initializer, name=own), norm, own)
    return relu(x, f"{own}_relu")


def _normalized(x, norm, name):
    if isinstance(norm, NormConfig):
        return batch_norm(x, norm, f"{name}{BATCH_NORM_SUFFIX}")
    return keras.layers.GroupNormalization(norm, epsilon=1e-5, name=f"{name}_gn")(x)  # code


def dense(
    x: keras.KerasTensor, units: int, *, activation: str | None = None, name: str
) -> keras.KerasTensor:
    """[N, C] -> [N, units] with bias; float32 under half precision too."""
    initializer = fan_in_uniform(x.shape[-1])
    return keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer=initializer,
        bias_initializer=initializer,
        dtype=full_precision(),
        name=name,
    )(x)


def classifier(
    x: keras.KerasTensor, num_classes: int, *, dropout: float, name: str
) -> keras.KerasTensor:
    """Drops whole channels in training, then a 1x1 convolution with bias to class scores.

    Args:
      x: [N, h, w, C].
      num_classes: background counted, void not.
      dropout: share of the channels dropped.
      name: of the convolution.

    Returns:
      [N, h, w, num_classes]; float32 under half precision too.
    """
    initializer = fan_in_uniform(x.shape[-1])
    x = SpatialDropout2D(dropout, name=f"{name}_dropout")(x)
    return keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=initializer,
        bias_initializer=initializer,
        dtype=full_precision(),
        name=name,
    )(x)


@keras.saving.register_keras_serializable(package="jpu_tf")
class Encoding(keras.layers.Layer):
    """Describes a set of vectors by their residuals from learned codewords.

    Vector x_i belongs to codeword c_k by the share a_ik = softmax over k of s_k * |x_i - c_k|^2;
    e_k is the sum over i of a_ik * (x_i - c_k) (cited: Zhang et al. 2018, Sec. 3.1).

    Distances are computed as |x|^2 - 2 x.c + |c|^2 and sums as (sum of a_ik * x_i) - (sum of
    a_ik) * c_k. So memory is linear in the number of vectors: there is no tensor of the size
    vectors x codewords x channels. Both vectors and codewords are measured from the mean codeword,
    which keeps the cancellation in these differences small. The largest error of E relative to its
    largest value (512 channels, against float64) is 4e-7, that of the direct form, whether
    features are near 0 or 100 away from it. It is 4e-5 (direct: 7e-8) in the worst case, vectors
    that are 100 times nearer to a codeword than codewords are to one another. The layer computes in
    float32 under every policy: in half precision squares and sums over all pixels would overflow.

    Attributes:
      num_codewords: K.
    """

    def __init__(self, num_codewords: int = 32, **layer_options):  # code: 32
        super().__init__(**{"dtype": full_precision(), **layer_options})
        self.num_codewords = num_codewords

    def build(self, input_shape):
        """Creates codewords [K, D] and scale [K]."""
        channels = input_shape[-1]
        bound = 1 / math.sqrt(self.num_codewords * channels)  # code
        self.codewords = self.add_weight(
            shape=(self.num_codewords, channels),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            name="codewords",
        )
        # Below 0: near codewords get the larger share (code).
        self.scale = self.add_weight(
            shape=(self.num_codewords,),
            initializer=keras.initializers.RandomUniform(-1.0, 0.0),
            name="scale",
        )

    def call(self, inputs):
        """[N, h, w, D] -> [N, K, D] float32."""
        shape = ops.shape(inputs)
        x = ops.reshape(
            ops.cast(inputs, self.compute_dtype), (shape[0], shape[1] * shape[2], shape[3])
        )
        codewords = ops.convert_to_tensor(self.codewords)
        center = ops.mean(codewords, axis=0)
        x, codewords = x - center, codewords - center
        distances = (
            ops.sum(ops.square(x), axis=-1, keepdims=True)
            - 2.0 * ops.matmul(x, ops.transpose(codewords))
            + ops.sum(ops.square(codewords), axis=-1)
        )
        shares = ops.softmax(ops.convert_to_tensor(self.scale) * distances, axis=-1)  # [N, hw, K]
        sums = ops.matmul(ops.transpose(shares, (0, 2, 1)), x)
        return sums - ops.sum(shares, axis=1)[:, :, None] * codewords

    def compute_output_shape(self, input_shape):
        """[N, K, D]."""
        return input_shape[0], self.num_codewords, input_shape[-1]

    def multiply_adds(self, input_shape):
        """Products of the distances and of the sums, for [N, h, w, D]."""
        return 2 * math.prod(input_shape) * self.num_codewords

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_codewords": self.num_codewords}


@keras.saving.register_keras_serializable(package="jpu_tf")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Averages over a grid of bins, whatever the size of the map.

    Bin i of b covers pixels floor(i * n / b) to ceil((i + 1) * n / b) of n. Neighbors overlap where
    b does not divide n (code).

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
        """0: pooling is not counted."""
        return 0

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "bins": self.bins}


@keras.saving.register_keras_serializable(package="jpu_tf")
class ResizeToRemainder(keras.layers.Layer):
    """Resizes up to the next size whose sides leave a remainder, with `align_corners=True`.

    Attributes:
      remainder: of height and width divided by `divisor`.
      divisor: pixels.
    """

    def __init__(self, remainder: int, divisor: int = 32, **layer_options):
        super().__init__(**layer_options)
        self.remainder, self.divisor = remainder % divisor, divisor

    def call(self, inputs):
        """[N, h, w, C] -> [N, H, W, C] in the input's dtype."""
        height, width = map(self._next, ops.shape(inputs)[1:3])
        return resize_bilinear(inputs, height, width, align_corners=True)

    def _next(self, side):
        # Not (remainder - side) % divisor: of negative numbers, ONNX files have another remainder.
        return side + (self.remainder + (self.divisor - 1) * side) % self.divisor

    def compute_output_shape(self, input_shape):
        """[N, H, W, C]; unknown sides remain unknown."""
        batch, height, width, channels = input_shape
        height, width = (None if side is None else self._next(side) for side in (height, width))
        return batch, height, width, channels

    def get_config(self):
        """The constructor's arguments."""
        own = {"remainder": self.remainder, "divisor": self.divisor}
        return {**super().get_config(), **own}
