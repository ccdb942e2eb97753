"""Joint Pyramid Upsampling (FastFCN Sec. 3.3.3, Fig. 4)."""

from __future__ import annotations

import keras

from deeplab_tf.backbones import Features
from deeplab_tf.layers import NormConfig, ResizeLike
from jpu_tf.layers import conv_bn_relu, separable_conv


def joint_pyramid_upsampling(
    features: Features,
    *,
    channels: int = 512,
    rates: tuple[int, ...] = (1, 2, 4, 8),
    final_conv: bool = False,
    norm: NormConfig,
    name: str = "jpu",
) -> keras.KerasTensor:
    """Upsamples conv5 to the size of conv3, guided by conv3 and conv4.

    Over several replicas all statistics are synchronized; the released code leaves those between
    the halves of the separable convolutions to each (ours: one rule for the whole network).

    Args:
      features: of the backbone at output stride 32; conv3, conv4 and conv5 are read.
      channels: filters of every convolution (code: 512).
      rates: of the separable convolutions, in pixels of conv3 (paper: Sec. 3.3.3).
      final_conv: the convolution block at the end of Fig. 4(c). The released networks have none:
        there it is the head's first convolution. Where it is, it has a 3x3 kernel and `channels`
        filters like the blocks of Fig. 4(a) (ours: the paper gives neither).
      norm: constants of batch normalization.
      name: prefix of the layers.

    Returns:
      [N, H/8, W/8, channels * len(rates)], with `final_conv` [N, H/8, W/8, channels].
    """
    conv5 = conv_bn_relu(features.conv5, channels, 3, norm=norm, name=f"{name}_conv5")
    conv4 = conv_bn_relu(features.conv4, channels, 3, norm=norm, name=f"{name}_conv4")
    conv3 = conv_bn_relu(features.conv3, channels, 3, norm=norm, name=f"{name}_conv3")
    conv5 = ResizeLike(name=f"{name}_conv5_resize")([conv5, conv3])
    conv4 = ResizeLike(name=f"{name}_conv4_resize")([conv4, conv3])
    x = keras.layers.Concatenate(name=f"{name}_concat")([conv5, conv4, conv3])  # code: the order
    branches = [
        separable_conv(x, channels, rate=rate, norm=norm, name=f"{name}_branch{i}")
        for i, rate in enumerate(rates, start=1)
    ]
    x = keras.layers.Concatenate(name=f"{name}_branches")(branches)
    if final_conv:
        x = conv_bn_relu(x, channels, 3, norm=norm, name=f"{name}_final_conv")
    return x
