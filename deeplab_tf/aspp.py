"""Atrous spatial pyramid pooling (DeepLabv3+ Sec. 3.1, Fig. 2: the encoder's end)."""

from __future__ import annotations

import keras

from deeplab_tf.layers import (
    Dropout,
    NormConfig,
    ResizeLike,
    conv_bn_relu,
    separable_conv_bn_relu,
)


def aspp(
    features: keras.KerasTensor,
    *,
    channels: int = 256,
    atrous_rates: tuple[int, ...] = (6, 12, 18),
    image_pooling: bool = True,
    separable: bool = False,
    dropout: float = 0.1,
    norm: NormConfig,
    name: str = "aspp",
) -> keras.KerasTensor:
    """Probes one feature map at several fields of view.

    An image-pooling branch, a 1x1 branch and one 3x3 branch per rate are concatenated in this
    order (code) and projected. Dropout is not in the paper (code: 0.1).

    Args:
      features: [N, h, w, C], the backbone's conv5.
      channels: filters of each branch and of the projection.
      atrous_rates: distance between taps, in pixels of `features`. (6, 12, 18) is for output
        stride 16 (paper: Fig. 2; cited: DeepLabv3 Sec. 3.3); use twice that for 8. () leaves the
        3x3 branches out, as the released MobileNetV2 checkpoints do.
      image_pooling: whether to have the image-pooling branch.
      separable: 3x3 branches as atrous separable convolutions.
      dropout: share of features dropped in training.
      norm: constants of batch normalization.
      name: prefix of the layers.

    Returns:
      [N, h, w, channels].

    Raises:
      ValueError: a rate is below 1.
    """
    if min(atrous_rates, default=1) < 1:
        raise ValueError(f"atrous_rates must be at least 1; got {atrous_rates}.")
    branches = []
    if image_pooling:
        pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_image_mean")(
            features
        )
        pooled = conv_bn_relu(pooled, channels, 1, norm=norm, name=f"{name}_image_pooling")
        branches.append(ResizeLike(name=f"{name}_image_resize")([pooled, features]))
    branches.append(conv_bn_relu(features, channels, 1, norm=norm, name=f"{name}_conv0"))
    for i, rate in enumerate(atrous_rates, start=1):
        if separable:
            branch = separable_conv_bn_relu(
                features, channels, rate=rate, norm=norm, name=f"{name}_conv{i}"
            )
        else:
            branch = conv_bn_relu(
                features, channels, 3, rate=rate, norm=norm, name=f"{name}_conv{i}"
            )
        branches.append(branch)
    x = branches[0]
    if len(branches) > 1:
        x = keras.layers.Concatenate(name=f"{name}_concat")(branches)
        x = conv_bn_relu(x, channels, 1, norm=norm, name=f"{name}_projection")
    return Dropout(dropout, name=f"{name}_dropout")(x)
