"""Feature pyramid network (Lin et al. 2017), JPU's second rival in FastFCN Tab. 1."""

from __future__ import annotations

import keras

from deeplab_tf.backbones import Features
from deeplab_tf.layers import NormConfig, ResizeLike
from jpu_tf.layers import conv_bn, conv_bn_relu


def feature_pyramid(
    features: Features, *, channels: int = 256, norm: NormConfig, name: str = "fpn"
) -> keras.KerasTensor:
    """Adds conv5, conv4 and conv3 from the top down and smooths the sum at the size of conv3.

    FastFCN has the name and a citation, in the paper as in the code. What the citation decides is
    taken from it (cited: 1x1 laterals of 256 channels without activation, sums, a 3x3 convolution
    on the merged map); the rest is ours: only the level at stride 8 is made, since the head reads
    that one alone; maps are resized bilinearly with aligned corners as everywhere in this network;
    convolutions have batch normalization instead of biases; the last one is activated.

    Args:
      features: of the backbone at output stride 32; conv3, conv4 and conv5 are read.
      channels: of every convolution.
      norm: constants of batch normalization.
      name: prefix of the layers.

    Returns:
      [N, H/8, W/8, channels].
    """
    x = conv_bn(features.conv5, channels, 1, norm=norm, name=f"{name}_conv5")
    for level in ("conv4", "conv3"):
        own = f"{name}_{level}"
        lateral = conv_bn(getattr(features, level), channels, 1, norm=norm, name=own)
        x = ResizeLike(name=f"{own}_resize")([x, lateral])
        x = keras.layers.Add(name=f"{own}_add")([x, lateral])
    return conv_bn_relu(x, channels, 3, norm=norm, name=f"{name}_smooth")
