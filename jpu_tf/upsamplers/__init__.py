"""The ways to a feature map for the head, by name (FastFCN Tab. 1, column Upsampling)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras

from deeplab_tf.backbones import Features
from deeplab_tf.layers import NormConfig
from jpu_tf.upsamplers.bilinear import bilinear_upsampling
from jpu_tf.upsamplers.fpn import feature_pyramid
from jpu_tf.upsamplers.jpu import joint_pyramid_upsampling
from jpu_tf.upsamplers.jpu_x import joint_pyramid_upsampling_x

__all__ = ["UPSAMPLERS", "Upsampler"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upsampler:
    """One of them, and what the encoding head does behind it."""

    build: Callable[..., keras.KerasTensor]  # (Features, *, channels, norm) -> [N, h, w, C]
    channels: int  # default of `channels`
    head_kernel_size: int  # of the encoding head's first convolution


def _none(features: Features, *, channels: int, norm: NormConfig) -> keras.KerasTensor:
    """Conv5 itself; it has no channels to choose and nothing to normalize."""
    return features.conv5


def _bilinear(features: Features, *, channels: int, norm: NormConfig) -> keras.KerasTensor:
    return bilinear_upsampling(features)


# code: the kernel size is 1 behind JPU and 3 without; ours: bilinear and fpn are not JPU
UPSAMPLERS: dict[str, Upsampler] = {
    "none": Upsampler(build=_none, channels=0, head_kernel_size=3),
    "bilinear": Upsampler(build=_bilinear, channels=0, head_kernel_size=3),
    "fpn": Upsampler(build=feature_pyramid, channels=256, head_kernel_size=3),
    "jpu": Upsampler(build=joint_pyramid_upsampling, channels=512, head_kernel_size=1),
    "jpu_x": Upsampler(build=joint_pyramid_upsampling_x, channels=512, head_kernel_size=1),
}
