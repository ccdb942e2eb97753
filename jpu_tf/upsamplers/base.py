"""What all upsamplers share."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.options import Options

if TYPE_CHECKING:
    import keras

    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Upsampler(Options):
    """Makes the head's feature map (FastFCN Tab. 1, column Upsampling).

    Attributes:
      output_strides: those of the backbone that it is made for, the default first.
      head_kernel_size: of the encoding head's first convolution.
      prefixes: with which the names of its layers with weights begin.
    """

    kind: ClassVar[str]
    output_strides: ClassVar[tuple[int, ...]] = (32,)
    # code: 1 after JPU, 3 without; ours: bilinear and fpn are not JPU
    head_kernel_size: ClassVar[int] = 3
    prefixes: ClassVar[tuple[str, ...]] = ()

    def build(self, features: Features, *, norm: NormConfig) -> keras.KerasTensor:
        """Builds the layers.

        Args:
          features: of the backbone.
          norm: constants of batch normalization.

        Returns:
          [N, H/8, W/8, C].
        """
        raise NotImplementedError
