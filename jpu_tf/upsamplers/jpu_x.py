"""JPU_X, the later variant of Joint Pyramid Upsampling in FastFCN's code; not in the paper."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.options import option
from jpu_tf.upsamplers.base import Upsampler

if TYPE_CHECKING:
    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig

_GROUPS = 32  # code


@dataclasses.dataclass(frozen=True, kw_only=True)
class JPUX(Upsampler):
    """JPU_X of the released code: conv4 guided by conv3, then conv5 by both.

    The separable convolutions have group normalization. `channels` are the filters of the second
    unit, twice those of the first.
    """

    kind: ClassVar[str] = "jpu_x"
    head_kernel_size: ClassVar[int] = 1
    prefixes: ClassVar[tuple[str, ...]] = ("jpu_",)

    channels: int = option(512, "filters of the upsampler's convolutions", minimum=1)  # code

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels % (2 * _GROUPS):
            raise ValueError(
                f"channels must be a multiple of {2 * _GROUPS}, since half of them are normalized"
                f" in {_GROUPS} groups; got {self.channels}."
            )

    def build(self, features: Features, *, norm: NormConfig) -> keras.KerasTensor:
        """Arguments and result as in `Upsampler.build`; C is 4 * `channels`."""
        half = self.channels // 2  # code, with the rates below
        x = _unit(features.conv4, features.conv3, half, (1, 2, 4), norm, "jpu_unit1")
        return _unit(features.conv5, x, self.channels, (2, 4, 8), norm, "jpu_unit2")


def _unit(low, high, channels, rates, norm, name):
    """Joins a low and a high resolution: [N, h, w, .], [N, H, W, .] -> [N, H, W, 4 * channels]."""
    from deeplab_tf.layers import ResizeLike
    from jpu_tf.layers import conv_bn_relu, separable_conv

    low = conv_bn_relu(low, channels, 3, norm=norm, name=f"{name}_low")
    high = conv_bn_relu(high, channels, 3, norm=norm, name=f"{name}_high")
    low = ResizeLike(name=f"{name}_resize")([low, high])
    x = keras.layers.Concatenate(name=f"{name}_concat")([low, high])
    branches = [
        separable_conv(x, channels, rate=rate, norm=_GROUPS, name=f"{name}_branch{i}")
        for i, rate in enumerate(rates, start=1)
    ]
    return keras.layers.Concatenate(name=f"{name}_branches")([low, *branches])
