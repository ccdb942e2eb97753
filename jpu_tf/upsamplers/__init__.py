"""The upsamplers by name (FastFCN Tab. 1, column Upsampling)."""

from __future__ import annotations

from jpu_tf.upsamplers.base import Upsampler
from jpu_tf.upsamplers.bilinear import Bilinear
from jpu_tf.upsamplers.fpn import FPN
from jpu_tf.upsamplers.jpu import JPU
from jpu_tf.upsamplers.jpu_x import JPUX
from jpu_tf.upsamplers.none import NoUpsampling

__all__ = ["FPN", "JPU", "JPUX", "UPSAMPLERS", "Bilinear", "NoUpsampling", "Upsampler"]

UPSAMPLERS: dict[str, type[Upsampler]] = {
    "none": NoUpsampling,
    "bilinear": Bilinear,
    "fpn": FPN,
    "jpu": JPU,
    "jpu_x": JPUX,
}
