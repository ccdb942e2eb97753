"""The building blocks of every network."""

from deeplab_tf.layers.blocks import (
    NormConfig,
    batch_norm,
    classifier,
    conv,
    conv_bn_relu,
    depthwise_conv,
    per_channel,
    relu,
    rescale,
    separable_conv_bn_relu,
    truncated_normal,
)
from deeplab_tf.layers.dropout import Dropout, SpatialDropout2D
from deeplab_tf.layers.normalization import BatchNorm
from deeplab_tf.layers.precision import full_precision, layers_compute_in
from deeplab_tf.layers.resize import ResizeLike
from deeplab_tf.layers.segmentation_model import SegmentationModel

__all__ = [
    "BatchNorm",
    "Dropout",
    "NormConfig",
    "ResizeLike",
    "SegmentationModel",
    "SpatialDropout2D",
    "batch_norm",
    "classifier",
    "conv",
    "conv_bn_relu",
    "depthwise_conv",
    "full_precision",
    "layers_compute_in",
    "per_channel",
    "relu",
    "rescale",
    "separable_conv_bn_relu",
    "truncated_normal",
]
