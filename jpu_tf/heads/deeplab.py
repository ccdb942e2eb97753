"""ASPP and decoder of DeepLabv3+ on upsampled features.

FastFCN Sec. 2.1 calls the two complementary: JPU replaces the dilated backbone before ASPP, the
decoder continues to stride 4. There is no released network of this kind (ours).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.options import option
from jpu_tf.heads.base import Head

if TYPE_CHECKING:
    import keras

    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLab(Head):
    """ASPP and decoder of DeepLabv3+ (its Fig. 2), with separable convolutions."""

    kind: ClassVar[str] = "deeplab"

    channels: int = option(256, "filters of the head's convolutions", minimum=1)  # code
    atrous_rates: tuple[int, ...] = option(
        (12, 24, 36),  # cited: DeepLabv3 Sec. 3.3, for output stride 8
        "rates of ASPP's 3x3 branches",
        minimum=1,
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
        """Arguments and result as in `Head.build`; the logits are [N, H/4, W/4, num_classes]."""
        from deeplab_tf.aspp import aspp
        from deeplab_tf.decoder import deeplab_decoder
        from jpu_tf.layers import classifier

        x = aspp(
            x,
            channels=self.channels,
            atrous_rates=self.atrous_rates,
            separable=True,
            dropout=self.dropout,
            norm=norm,
            name="head_aspp",
        )
        x = deeplab_decoder(
            x,
            features.low_level_features["conv2"],
            convs=((3, self.channels), (3, self.channels)),
            separable=True,
            norm=norm,
            name="head_decoder",
        )
        return {"logits": classifier(x, num_classes, dropout=0.0, name="head_logits")}
