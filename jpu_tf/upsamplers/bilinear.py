"""Plain bilinear upsampling, JPU's first rival in FastFCN Tab. 1."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from jpu_tf.upsamplers.base import Upsampler

if TYPE_CHECKING:
    import keras

    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bilinear(Upsampler):
    """Bilinear resize of conv5 to the size of conv3, four times its own.

    Paper: Sec. 4.2. The released code has no such network; corners are aligned as in all its
    resizes (ours).
    """

    kind: ClassVar[str] = "bilinear"

    def build(self, features: Features, *, norm: NormConfig) -> keras.KerasTensor:
        """Arguments and result as in `Upsampler.build`."""
        from deeplab_tf.layers import ResizeLike

        return ResizeLike(name="bilinear")([features.conv5, features.conv3])
