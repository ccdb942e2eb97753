"""The DeepLabv3 head as FastFCN's released code has it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.options import option
from jpu_tf.heads.base import Head

if TYPE_CHECKING:
    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ASPP(Head):
    """Atrous spatial pyramid pooling, then a 3x3 convolution (DeepLabv3).

    Unlike in `deeplab_tf.aspp` the image-pooling branch comes last, dropout drops whole channels,
    and the projection has a dropout of its own.
    """

    kind: ClassVar[str] = "aspp"

    channels: int = option(256, "filters of the head's convolutions", minimum=1)  # code
    atrous_rates: tuple[int, ...] = option(
        (12, 24, 36),  # code: at output stride 8, with JPU as with dilation
        "rates of ASPP's 3x3 branches",
        minimum=1,
    )
    aspp_dropout: float = option(
        0.5, "share of the channels dropped after ASPP's projection (code)", minimum=0, below=1
    )

    def build(
        self,
        x: keras.KerasTensor,
        features: Features,
        num_classes: int,
        *,
        norm: NormConfig,
        first_kernel_size: int,
    ) -> dict[str, keras.KerasTensor]:
        """Arguments and result as in `Head.build`."""
        from deeplab_tf.layers import ResizeLike, SpatialDropout2D
        from jpu_tf.layers import classifier, conv_bn_relu

        branches = [conv_bn_relu(x, self.channels, 1, norm=norm, name="head_aspp_conv0")]
        for i, rate in enumerate(self.atrous_rates, start=1):
            name = f"head_aspp_conv{i}"
            branches.append(conv_bn_relu(x, self.channels, 3, rate=rate, norm=norm, name=name))
        pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="head_aspp_image_mean")(x)
        pooled = conv_bn_relu(pooled, self.channels, 1, norm=norm, name="head_aspp_image_pooling")
        branches.append(ResizeLike(name="head_aspp_image_resize")([pooled, x]))
        x = keras.layers.Concatenate(name="head_aspp_concat")(branches)
        x = conv_bn_relu(x, self.channels, 1, norm=norm, name="head_aspp_projection")
        x = SpatialDropout2D(self.aspp_dropout, name="head_aspp_dropout")(x)
        x = conv_bn_relu(x, self.channels, 3, norm=norm, name="head_conv")
        return {"logits": classifier(x, num_classes, dropout=self.dropout, name="head_logits")}
