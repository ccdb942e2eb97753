"""Recipes of FastFCN for CamVid on a laptop: networks that differ by their upsampling.

What Tab. 1 and 2 show, by short trainings on a laptop; see deeplab_tf/camvid_recipes.py.
"""

from __future__ import annotations

from deeplab_tf.camvid_recipes import (
    BACKBONE,
    BATCH_NORM_MOMENTUM,
    HALF_CHANNELS,
    START,
    half_size,
)
from deeplab_tf.recipe.parts import Recipe
from jpu_tf.heads import DeepLab, Encoding, Head
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import JPU, Bilinear, NoUpsampling, Upsampler

_ENCODING = Encoding(channels=HALF_CHANNELS)
_JPU = JPU(channels=HALF_CHANNELS)


def _half(head: Head, upsampler: Upsampler) -> Recipe:
    model = FastFCNConfig(
        backbone=BACKBONE,
        upsampler=upsampler,
        head=head,
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
    )
    return half_size(model)


RECIPES: dict[str, Recipe] = {
    "camvid_half_encoding_none": _half(_ENCODING, NoUpsampling()),
    "camvid_half_encoding_bilinear": _half(_ENCODING, Bilinear()),
    "camvid_half_encoding_jpu": _half(_ENCODING, _JPU),
    # The rates of camvid_half_decoder, for features of twice its size.
    "camvid_half_deeplab_jpu": _half(
        DeepLab(channels=HALF_CHANNELS, atrous_rates=(4, 8, 12)), _JPU
    ),
}

# Recipe -> the released network whose weights it starts from.
STARTS: dict[str, str] = dict.fromkeys(RECIPES, START)
