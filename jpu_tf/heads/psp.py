"""The PSPNet head (Zhao et al. 2017) as FastFCN's released code has it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.options import option
from jpu_tf.heads.base import Head

if TYPE_CHECKING:
    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig

_BINS = (1, 2, 3, 6)  # cited: Zhao et al. 2017, Sec. 3.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSP(Head):
    """Pyramid pooling, then a 3x3 convolution (PSPNet)."""

    kind: ClassVar[str] = "psp"

    channels: int = option(512, "filters of the head's convolutions", minimum=1)  # code

    def build(
        self,
        x: keras.KerasTensor,
        features: Features,
        num_classes: int,
        *,
        norm: NormConfig,
        first_kernel_size: int,
    ) -> dict[str, keras.KerasTensor]:
        """Arguments and result as in `Head.build`; a level of the pyramid has C / 4 channels."""
        from deeplab_tf.layers import ResizeLike
        from jpu_tf.layers import AdaptiveAveragePooling, classifier, conv_bn_relu

        level_channels = max(x.shape[-1] // 4, 1)  # code
        levels = [x]
        for bins in _BINS:
            name = f"head_pool{bins}"
            level = AdaptiveAveragePooling(bins, name=f"{name}_average")(x)
            level = conv_bn_relu(level, level_channels, 1, norm=norm, name=name)
            levels.append(ResizeLike(name=f"{name}_resize")([level, x]))
        x = keras.layers.Concatenate(name="head_concat")(levels)
        x = conv_bn_relu(x, self.channels, 3, norm=norm, name="head_conv")
        return {"logits": classifier(x, num_classes, dropout=self.dropout, name="head_logits")}
