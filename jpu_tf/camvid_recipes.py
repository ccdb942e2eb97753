"""Recipes of FastFCN for CamVid on a laptop: the best network, and others by their upsampling.

The others show what Tab. 1 and 2 show, by short trainings; see deeplab_tf/camvid_recipes.py.
"""

from __future__ import annotations

from deeplab_tf.camvid_recipes import (
    BACKBONE,
    BATCH_NORM_MOMENTUM,
    CHANNELS,
    START,
    full_size,
    half_size,
)
from deeplab_tf.recipe.parts import Recipe
from jpu_tf.heads import DeepLab, Encoding, Head
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import JPU, Bilinear, NoUpsampling, Upsampler

_ENCODING = Encoding(channels=CHANNELS)
_JPU = JPU(channels=CHANNELS)


def _fastfcn(head: Head, upsampler: Upsampler) -> FastFCNConfig:
    return FastFCNConfig(
        backbone=BACKBONE,
        upsampler=upsampler,
        head=head,
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
    )


RECIPES: dict[str, Recipe] = {
    "camvid_best": full_size(_fastfcn(_ENCODING, _JPU), scales=(1.0, 1.5, 2.0)),
    "camvid_half_encoding_none": half_size(_fastfcn(_ENCODING, NoUpsampling())),
    "camvid_half_encoding_bilinear": half_size(_fastfcn(_ENCODING, Bilinear())),
    "camvid_half_encoding_jpu": half_size(_fastfcn(_ENCODING, _JPU)),
    # The rates of camvid_half_decoder, for features of twice its size.
    "camvid_half_deeplab_jpu": half_size(
        _fastfcn(DeepLab(channels=CHANNELS, atrous_rates=(4, 8, 12)), _JPU)
    ),
}

# Recipe -> the released network whose weights it starts from.
STARTS: dict[str, str] = dict.fromkeys(RECIPES, START)
