"""ASPP and decoder of DeepLabv3+ on upsampled features.

FastFCN Sec. 2.1 calls the two complementary: JPU takes the place of the dilated backbone before
ASPP, the decoder goes on from there to stride 4. There is no released network of this kind (ours).
"""

from __future__ import annotations

import keras

from deeplab_tf.aspp import aspp
from deeplab_tf.backbones import Features
from deeplab_tf.decoder import deeplab_decoder
from jpu_tf.heads.options import HeadOptions
from jpu_tf.layers import classifier


def deeplab_head(
    x: keras.KerasTensor, features: Features, num_classes: int, options: HeadOptions
) -> dict[str, keras.KerasTensor]:
    """DeepLabv3+ (its Fig. 2) from the encoder's output on, with separable convolutions.

    Args:
      x: [N, h, w, C] at stride 8.
      features: of the backbone; the decoder reads the low-level ones.
      num_classes: background counted, void not.
      options: channels None is 256.

    Returns:
      {"logits": [N, H/4, W/4, num_classes] float32}.
    """
    norm, channels = options.norm, options.channels or 256
    x = aspp(
        x,
        channels=channels,
        atrous_rates=(12, 24, 36),  # paper: DeepLabv3+ Sec. 4.1, for output stride 8
        separable=True,
        dropout=options.dropout,
        norm=norm,
        name="head_aspp",
    )
    x = deeplab_decoder(
        x,
        features.low_level_features,
        convs=((3, channels), (3, channels)),
        separable=True,
        norm=norm,
        name="head_decoder",
    )
    return {"logits": classifier(x, num_classes, dropout=0.0, name="head_logits")}
