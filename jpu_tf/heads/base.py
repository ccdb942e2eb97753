"""What all heads share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from deeplab_tf.recipe.options import Options, option
from deeplab_tf.recipe.parts import LossFn

if TYPE_CHECKING:
    import keras

    from deeplab_tf.backbones import Features
    from deeplab_tf.layers import NormConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head(Options):
    """Classifies the upsampled features (FastFCN Tab. 1, column Head)."""

    kind: ClassVar[str]

    dropout: float = option(
        0.1,
        "share of the channels dropped before the classifiers (code); deeplab: after ASPP",
        minimum=0,
        below=1,
    )

    def check(self, output_stride: int) -> None:
        """Checks that the head fits a backbone of this output stride; most fit any.

        Raises:
          ValueError: it does not.
        """

    def build(
        self,
        x: keras.KerasTensor,
        features: Features,
        num_classes: int,
        *,
        norm: NormConfig,
        first_kernel_size: int,
    ) -> dict[str, keras.KerasTensor]:
        """Builds the layers, named head_*.

        Args:
          x: [N, h, w, C], the upsampled features.
          features: of the backbone.
          num_classes: background counted, void not.
          norm: constants of batch normalization.
          first_kernel_size: of the first convolution, where the head leaves it to the upsampler.

        Returns:
          {"logits": [N, h', w', num_classes] float32} and the outputs that `losses` names.
        """
        raise NotImplementedError

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Name of each further output -> (its loss, its weight); `pixel_loss` is the recipe's."""
        return {}
