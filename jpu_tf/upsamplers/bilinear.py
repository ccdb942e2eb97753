"""Plain bilinear upsampling, JPU's first rival in FastFCN Tab. 1."""

from __future__ import annotations

import keras

from deeplab_tf.backbones import Features
from deeplab_tf.layers import ResizeLike


def bilinear_upsampling(features: Features, *, name: str = "bilinear") -> keras.KerasTensor:
    """Resizes conv5 to the size of conv3, four times its own (paper: Sec. 4.2).

    The released code has no such network; corners are aligned as in all its resizes (ours).

    Args:
      features: of the backbone at output stride 32; conv3 and conv5 are read.
      name: of the layer.

    Returns:
      [N, H/8, W/8, channels of conv5].
    """
    return ResizeLike(name=name)([features.conv5, features.conv3])
