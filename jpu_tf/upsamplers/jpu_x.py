"""JPU_X, the later variant of Joint Pyramid Upsampling in FastFCN's code; not in the paper."""

from __future__ import annotations

import keras

from deeplab_tf.backbones import Features
from deeplab_tf.layers import NormConfig, ResizeLike
from jpu_tf.layers import conv_bn_relu, separable_conv

_GROUPS = 32  # code


def joint_pyramid_upsampling_x(
    features: Features, *, channels: int = 512, norm: NormConfig, name: str = "jpu"
) -> keras.KerasTensor:
    """Upsamples conv4 guided by conv3, then conv5 guided by the result.

    Args:
      features: of the backbone at output stride 32; conv3, conv4 and conv5 are read.
      channels: filters of the second unit, twice the first one's (code: 512); a multiple of 64.
      norm: constants of batch normalization; the separable convolutions have group normalization.
      name: prefix of the layers.

    Returns:
      [N, H/8, W/8, 4 * channels].

    Raises:
      ValueError: the channels are no multiple of 64.
    """
    if channels % (2 * _GROUPS):
        raise ValueError(
            f"JPU_X normalizes in {_GROUPS} groups, so its channels must be a multiple of"
            f" {2 * _GROUPS}; got {channels}."
        )
    x = _unit(features.conv4, features.conv3, channels // 2, (1, 2, 4), norm, f"{name}_unit1")
    return _unit(features.conv5, x, channels, (2, 4, 8), norm, f"{name}_unit2")


def _unit(low, high, channels, rates, norm, name):
    """Joins a low and a high resolution: [N, h, w, .], [N, H, W, .] -> [N, H, W, 4 * channels]."""
    low = conv_bn_relu(low, channels, 3, norm=norm, name=f"{name}_low")
    high = conv_bn_relu(high, channels, 3, norm=norm, name=f"{name}_high")
    low = ResizeLike(name=f"{name}_resize")([low, high])
    x = keras.layers.Concatenate(name=f"{name}_concat")([low, high])
    branches = [
        separable_conv(x, channels, rate=rate, norm=_GROUPS, name=f"{name}_branch{i}")
        for i, rate in enumerate(rates, start=1)
    ]
    return keras.layers.Concatenate(name=f"{name}_branches")([low, *branches])
