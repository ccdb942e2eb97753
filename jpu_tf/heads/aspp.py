"""The DeepLabv3 head as FastFCN's released code has it."""

from __future__ import annotations

import keras

from deeplab_tf.backbones import Features
from deeplab_tf.layers import ResizeLike
from jpu_tf.heads.options import HeadOptions
from jpu_tf.layers import classifier, conv_bn_relu

_RATES = (12, 24, 36)  # code: at output stride 8, with JPU as with dilation


def aspp_head(
    x: keras.KerasTensor, features: Features, num_classes: int, options: HeadOptions
) -> dict[str, keras.KerasTensor]:
    """Atrous spatial pyramid pooling, one 3x3 convolution, then the classifier.

    Unlike `deeplab_tf.aspp` the image-pooling branch comes last, dropout takes whole channels, and
    the projection has one of its own.

    Args:
      x: [N, h, w, C].
      features: of the backbone; not read.
      num_classes: background counted, void not.
      options: channels None is 256.

    Returns:
      {"logits": [N, h, w, num_classes] float32}.
    """
    norm, channels = options.norm, options.channels or 256
    branches = [conv_bn_relu(x, channels, 1, norm=norm, name="head_aspp_conv0")]
    for i, rate in enumerate(_RATES, start=1):
        name = f"head_aspp_conv{i}"
        branches.append(conv_bn_relu(x, channels, 3, rate=rate, norm=norm, name=name))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="head_aspp_image_mean")(x)
    pooled = conv_bn_relu(pooled, channels, 1, norm=norm, name="head_aspp_image_pooling")
    branches.append(ResizeLike(name="head_aspp_image_resize")([pooled, x]))
    x = keras.layers.Concatenate(name="head_aspp_concat")(branches)
    x = conv_bn_relu(x, channels, 1, norm=norm, name="head_aspp_projection")
    x = keras.layers.SpatialDropout2D(options.aspp_dropout, name="head_aspp_dropout")(x)
    x = conv_bn_relu(x, channels, 3, norm=norm, name="head_conv")
    return {"logits": classifier(x, num_classes, dropout=options.dropout, name="head_logits")}
