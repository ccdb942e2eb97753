"""Feature pyramid network (Lin et al. 2017), JPU's second rival in FastFCN Tab. 1."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.options import option
from jpu_tf.upsamplers.base import Upsampler

if TYPE_CHECKING:
    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FPN(Upsampler):
    """Feature pyramid: sums conv5, conv4 and conv3 from the top down.

    FastFCN's paper and code give the name and a citation. From the cited paper come 1x1 laterals of
    256 channels without activation, sums, and a 3x3 convolution on the merged map. The rest is
    ours: only the level at stride 8 is built, the one that the head reads; maps are resized
    bilinearly with aligned corners as everywhere in this network; convolutions have batch
    normalization instead of biases; the last one is activated.
    """

    kind: ClassVar[str] = "fpn"
    prefixes: ClassVar[tuple[str, ...]] = ("fpn_",)

    channels: int = option(256, "filters of the upsampler's convolutions", minimum=1)  # cited

    def build(self, features: Features, *, norm: NormConfig) -> keras.KerasTensor:
        """Arguments and result as in `Upsampler.build`; C is `channels`."""
        from deeplab_tf.layers import ResizeLike
        from jpu_tf.layers import conv_bn, conv_bn_relu

        x = conv_bn(features.conv5, self.channels, 1, norm=norm, name="fpn_conv5")
        for level in ("conv4", "conv3"):
            name = f"fpn_{level}"
            lateral = conv_bn(getattr(features, level), self.channels, 1, norm=norm, name=name)
            x = ResizeLike(name=f"{name}_resize")([x, lateral])
            x = keras.layers.Add(name=f"{name}_add")([x, lateral])
        return conv_bn_relu(x, self.channels, 3, norm=norm, name="fpn_smooth")
