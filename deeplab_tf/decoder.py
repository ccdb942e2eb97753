"""The decoder of DeepLabv3+ (Sec. 3.1, Fig. 2)."""

from __future__ import annotations

import keras

from deeplab_tf.layers import NormConfig, ResizeLike, conv_bn_relu, separable_conv_bn_relu


def deeplab_decoder(
    features: keras.KerasTensor,
    low_level_features: keras.KerasTensor,
    *,
    low_level_channels: int = 48,
    convs: tuple[tuple[int, int], ...] = ((3, 256), (3, 256)),
    separable: bool = False,
    norm: NormConfig,
    name: str = "decoder",
) -> keras.KerasTensor:
    """Recovers boundaries with a low-level feature map of the backbone.

    Args:
      features: [N, h, w, C], the encoder's output.
      low_level_features: [N, H/4, W/4, C'].
      low_level_channels: to which a 1x1 convolution reduces them (paper: 48, Tab. 1).
      convs: (kernel size, filters) of the convolutions after the concatenation (paper: two
        3x3 of 256, Tab. 2).
      separable: 3x3 convolutions as separable ones.
      norm: constants of batch normalization.
      name: prefix of the layers.

    Returns:
      [N, H/4, W/4, filters of the last convolution].
    """
    low_level = conv_bn_relu(
        low_level_features, low_level_channels, 1, norm=norm, name=f"{name}_low_level"
    )
    features = ResizeLike(name=f"{name}_resize")([features, low_level])
    x = keras.layers.Concatenate(name=f"{name}_concat")([features, low_level])
    for i, (kernel_size, filters) in enumerate(convs):
        if separable and kernel_size == 3:
            x = separable_conv_bn_relu(x, filters, norm=norm, name=f"{name}_conv{i}")
        else:
            x = conv_bn_relu(x, filters, kernel_size, norm=norm, name=f"{name}_conv{i}")
    return x
