"""The building blocks that every network here is made of."""

from deeplab_tf.layers.blocks import (
    NormConfig,
    batch_norm,
    classifier,
    conv,
    conv_bn_relu,
    depthwise_conv,
    per_channel,
    relu,
    separable_conv_bn_relu,
    truncated_normal,
)
from deeplab_tf.layers.normalization import BatchNorm, full_precision
from deeplab_tf.layers.resize import ResizeLike

__all__ = [
    "BatchNorm",
    "NormConfig",
    "ResizeLike",
    "batch_norm",
    "classifier",
    "conv",
    "conv_bn_relu",
    "depthwise_conv",
    "full_precision",
    "per_channel",
    "relu",
    "separable_conv_bn_relu",
    "truncated_normal",
]
