"""The blocks of FastFCN's upsamplers and heads, with the initial weights of its released code."""

from __future__ import annotations

import math

import keras

from deeplab_tf.layers import NormConfig, batch_norm, conv, depthwise_conv, relu
from deeplab_tf.layers.normalization import full_precision


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
    return batch_norm(x, norm, f"{name}_bn")


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
    """Dilated separable 3x3 convolution, normalized after each half, activated at the end alone.

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
        return batch_norm(x, norm, f"{name}_bn")
    return keras.layers.GroupNormalization(norm, epsilon=1e-5, name=f"{name}_gn")(x)  # code


def dense(
    x: keras.KerasTensor, units: int, *, activation: str | None = None, name: str
) -> keras.KerasTensor:
    """[N, C] -> [N, units], with bias; float32 in half precision too."""
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
      [N, h, w, num_classes], float32 in half precision too.
    """
    initializer = fan_in_uniform(x.shape[-1])
    x = keras.layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(x)
    return keras.layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=initializer,
        bias_initializer=initializer,
        dtype=full_precision(),
        name=name,
    )(x)
