"""No upsampling: FastFCN's baseline, a dilated backbone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from jpu_tf.upsamplers.base import Upsampler

if TYPE_CHECKING:
    import keras

    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoUpsampling(Upsampler):
    """The backbone's output as it is; by default dilated to stride 8."""

    kind: ClassVar[str] = "none"
    output_strides: ClassVar[tuple[int, ...]] = (8, 16, 32)

    def build(self, features: Features, *, norm: NormConfig) -> keras.KerasTensor:
        """Returns conv5 [N, H/s, W/s, C] at the output stride s."""
        return features.conv5
