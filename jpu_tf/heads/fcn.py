"""The plain head (Long et al. 2015), also the auxiliary one."""

from __future__ import annotations

import keras

from deeplab_tf.backbones import Features
from jpu_tf.heads.options import HeadOptions
from jpu_tf.layers import classifier, conv_bn_relu


def fcn_head(
    x: keras.KerasTensor,
    features: Features,
    num_classes: int,
    options: HeadOptions,
    *,
    name: str = "head",
) -> dict[str, keras.KerasTensor]:
    """One 3x3 convolution, then the classifier.

    Args:
      x: [N, h, w, C].
      features: of the backbone; not read.
      num_classes: background counted, void not.
      options: channels None is 512.
      name: prefix of the layers.

    Returns:
      {"logits": [N, h, w, num_classes] float32}.
    """
    x = conv_bn_relu(x, options.channels or 512, 3, norm=options.norm, name=f"{name}_conv")
    return {"logits": classifier(x, num_classes, dropout=options.dropout, name=f"{name}_logits")}
