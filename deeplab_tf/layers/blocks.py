"""The building blocks of every network: functions on Keras tensors.

`name` becomes the prefix of the layers' names. Files of weights refer to layers by these names, so
they must not change.
"""

from __future__ import annotations

import dataclasses

import keras

from deeplab_tf.layers.atrous import AtrousConv2D, AtrousDepthwiseConv2D
from deeplab_tf.layers.names import BATCH_NORM_SUFFIX
from deeplab_tf.layers.normalization import BatchNorm
from deeplab_tf.layers.precision import full_precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormConfig:
    """Constants of batch normalization; momentum is the share of the old moving average."""

    momentum: float
    epsilon: float
    statistics: str = "synchronized"  # in training; see normalization.BatchNorm


def truncated_normal(stddev: float) -> keras.initializers.Initializer:
    """A normal distribution cut off at two standard deviations."""
    return keras.initializers.TruncatedNormal(stddev=stddev)


def per_channel(rgb: tuple[float, float, float], channels: int) -> list[float]:
    """Constants of RGB, such as a mean, for images with any number of channels (ours).

    Channels after RGB get the mean of the three constants; so does every channel of images with
    fewer than three.
    """
    mean = sum(rgb) / 3
    return [*rgb, *[mean] * (channels - 3)] if channels >= 3 else [mean] * channels


def rescale(
    image: keras.KerasTensor, scale: float | list[float], *, offset: float | list[float] = 0.0
) -> keras.KerasTensor:
    """Normalizes images [N, H, W, C], RGB 0..255, for the backbone: image * scale + offset.

    In float32 under half precision too: bfloat16 has no values between the integers 128 to 255.
    """
    return keras.layers.Rescaling(
        scale, offset=offset, dtype=full_precision(), name="backbone_rescale"
    )(image)


def batch_norm(x: keras.KerasTensor, norm: NormConfig, name: str) -> keras.KerasTensor:
    """Batch normalization of [N, h, w, C]; `name` is the layer's."""
    return BatchNorm(
        momentum=norm.momentum,
        epsilon=norm.epsilon,
        statistics=norm.statistics,
        name=name,
    )(x)


def relu(x: keras.KerasTensor, name: str, max_value: float | None = None) -> keras.KerasTensor:
    """max(x, 0), or ReLU6 with max_value=6."""
    return keras.layers.ReLU(max_value=max_value, name=name)(x)


def conv(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    rate: int = 1,
    symmetric: bool = False,
    initializer: keras.initializers.Initializer | str = "glorot_uniform",
    name: str,
) -> keras.KerasTensor:
    """Convolution without bias and with zero padding.

    Args:
      x: [N, h, w, C].
      filters: output channels.
      kernel_size: side of the kernel, pixels.
      stride: output pixels are this many input pixels apart.
      rate: distance between taps in pixels of `x`; 1 is an ordinary convolution.
      symmetric: with a stride, pad as much on the left as on the right; TensorFlow's SAME pads
        less on the left of even sizes.
      initializer: of the kernel.
      name: of the layer.

    Returns:
      [N, ceil(h / stride), ceil(w / stride), filters].
    """
    x, padding = _padded(x, kernel_size, stride, symmetric, name)
    layer = AtrousConv2D if rate > 1 else keras.layers.Conv2D
    return layer(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        kernel_initializer=initializer,
        name=name,
    )(x)


def depthwise_conv(
    x: keras.KerasTensor,
    *,
    stride: int = 1,
    rate: int = 1,
    symmetric: bool = False,
    initializer: keras.initializers.Initializer | str = "glorot_uniform",
    name: str,
) -> keras.KerasTensor:
    """3x3 depthwise convolution without bias; arguments and shapes as in `conv`."""
    x, padding = _padded(x, 3, stride, symmetric, name)
    layer = AtrousDepthwiseConv2D if rate > 1 else keras.layers.DepthwiseConv2D
    return layer(
        3,
        strides=stride,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        depthwise_initializer=initializer,
        name=name,
    )(x)


def _padded(x, kernel_size, stride, symmetric, name):
    """(the input of the convolution, the convolution's own padding)."""
    if not symmetric or stride == 1 or kernel_size == 1:
        return x, "same"
    return keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x), "valid"


def conv_bn_relu(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    rate: int = 1,
    norm: NormConfig,
    name: str,
) -> keras.KerasTensor:
    """Convolution, batch normalization, ReLU: `name`, `name`_bn, `name`_relu.

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
    x = conv(x, filters, kernel_size, rate=rate, name=name)
    return relu(batch_norm(x, norm, f"{name}{BATCH_NORM_SUFFIX}"), f"{name}_relu")


def separable_conv_bn_relu(
    x: keras.KerasTensor, filters: int, *, rate: int = 1, norm: NormConfig, name: str
) -> keras.KerasTensor:
    """Atrous separable 3x3 convolution (Sec. 3.1), with normalization and ReLU after each half.

    The ReLU between the halves is the heads' form (code); Xception's has none there.

    Args:
      x: [N, h, w, C].
      filters: output channels.
      rate: distance between taps of the depthwise half, pixels of `x`.
      norm: constants of the normalizations.
      name: prefix of the layers, followed by _depthwise and _pointwise.

    Returns:
      [N, h, w, filters].
    """
    # code: standard deviations of the released head
    own = f"{name}_depthwise"
    x = depthwise_conv(x, rate=rate, initializer=truncated_normal(0.33), name=own)
    x = relu(batch_norm(x, norm, f"{own}{BATCH_NORM_SUFFIX}"), f"{own}_relu")
    own = f"{name}_pointwise"
    x = conv(x, filters, 1, initializer=truncated_normal(0.06), name=own)
    return relu(batch_norm(x, norm, f"{own}{BATCH_NORM_SUFFIX}"), f"{own}_relu")


def classifier(x: keras.KerasTensor, num_classes: int, *, name: str) -> keras.KerasTensor:
    """1x1 convolution with bias to class scores; float32 in half precision too.

    Args:
      x: [N, h, w, C].
      num_classes: background counted, void not.
      name: of the layer.

    Returns:
      [N, h, w, num_classes] float32.
    """
    return keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=truncated_normal(0.01),  # code
        dtype=full_precision(),
        name=name,
    )(x)
