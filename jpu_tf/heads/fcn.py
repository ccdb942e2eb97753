"""The plain head (Long et al. 2015), and the auxiliary head, which is one."""

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
class FCN(Head):
    """One 3x3 convolution, then the classifier."""

    kind: ClassVar[str] = "fcn"

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
        """Arguments and result as in `Head.build`."""
        options = {"channels": self.channels, "dropout": self.dropout}
        return {"logits": fcn_logits(x, num_classes, **options, norm=norm, name="head")}


def fcn_logits(
    x: keras.KerasTensor,
    num_classes: int,
    *,
    channels: int,
    dropout: float,
    norm: NormConfig,
    name: str,
) -> keras.KerasTensor:
    """The logits of a plain head whose layers are called `name`_conv, ..., `name`_logits.

    Args:
      x: [N, h, w, C].
      num_classes: background counted, void not.
      channels: filters of the convolution.
      dropout: share of the channels dropped before the classifier.
      norm: constants of batch normalization.
      name: prefix of the layers.

    Returns:
      [N, h, w, num_classes] float32.
    """
    from jpu_tf.layers import classifier, conv_bn_relu

    x = conv_bn_relu(x, channels, 3, norm=norm, name=f"{name}_conv")
    return classifier(x, num_classes, dropout=dropout, name=f"{name}_logits")
