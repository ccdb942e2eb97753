"""Joint Pyramid Upsampling (FastFCN Sec. 3.3.3, Fig. 4)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.options import option
from jpu_tf.upsamplers.base import Upsampler

if TYPE_CHECKING:
    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig

_RATES = (1, 2, 4, 8)  # paper: Sec. 3.3.3


@dataclasses.dataclass(frozen=True, kw_only=True)
class JPU(Upsampler):
    """Joint Pyramid Upsampling: conv5 guided by conv3 and conv4.

    Over several replicas all statistics are synchronized; the released code does not synchronize
    those between the halves of the separable convolutions (ours: one rule for the whole network).

    The released networks have no `final_conv`: there it is the head's first convolution. Here it
    has a 3x3 kernel and `channels` filters like the blocks of Fig. 4(a) (ours: the paper gives
    neither).
    """

    kind: ClassVar[str] = "jpu"
    head_kernel_size: ClassVar[int] = 1
    prefixes: ClassVar[tuple[str, ...]] = ("jpu_",)

    channels: int = option(512, "filters of the upsampler's convolutions", minimum=1)  # code
    final_conv: bool = option(
        False, "end in a convolution block (Fig. 4c), which the released networks do not have"
    )

    def build(self, features: Features, *, norm: NormConfig) -> keras.KerasTensor:
        """Arguments and result as in `Upsampler.build`.

        C is 4 * `channels`, or `channels` with `final_conv`.
        """
        from deeplab_tf.layers import ResizeLike
        from jpu_tf.layers import conv_bn_relu, separable_conv

        conv5 = conv_bn_relu(features.conv5, self.channels, 3, norm=norm, name="jpu_conv5")
        conv4 = conv_bn_relu(features.conv4, self.channels, 3, norm=norm, name="jpu_conv4")
        conv3 = conv_bn_relu(features.conv3, self.channels, 3, norm=norm, name="jpu_conv3")
        conv5 = ResizeLike(name="jpu_conv5_resize")([conv5, conv3])
        conv4 = ResizeLike(name="jpu_conv4_resize")([conv4, conv3])
        x = keras.layers.Concatenate(name="jpu_concat")([conv5, conv4, conv3])  # code: the order
        branches = [
            separable_conv(x, self.channels, rate=rate, norm=norm, name=f"jpu_branch{i}")
            for i, rate in enumerate(_RATES, start=1)
        ]
        x = keras.layers.Concatenate(name="jpu_branches")(branches)
        if self.final_conv:
            x = conv_bn_relu(x, self.channels, 3, norm=norm, name="jpu_final_conv")
        return x
