"""FastFCN's augmentations, which compute what Pillow computes.

Its training applies random_flip, random_short_side, random_crop with pad_color=0, and random_blur;
for Cityscapes random_rotation comes before random_crop. It pads label files with the value 0. That
value becomes the ignore_label for PASCAL Context, ADE20K and Cityscapes, as added pixels do here by
default. For PASCAL VOC it is the background: set pad_label=0 there (code).
"""

from __future__ import annotations

from deeplab_tf.recipe.options import Options
from jpu_tf.augment.blur import RandomBlur
from jpu_tf.augment.resize import CenterCrop, RandomShortSide
from jpu_tf.augment.rotation import RandomRotation

__all__ = ["AUGMENTATIONS", "CenterCrop", "RandomBlur", "RandomRotation", "RandomShortSide"]

AUGMENTATIONS: dict[str, type[Options]] = {
    "random_short_side": RandomShortSide,
    "random_rotation": RandomRotation,
    "random_blur": RandomBlur,
    "center_crop": CenterCrop,
}
