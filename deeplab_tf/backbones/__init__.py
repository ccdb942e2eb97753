"""The backbones by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras

from deeplab_tf.backbones import mobilenet_v2
from deeplab_tf.backbones.features import Features
from deeplab_tf.config import lookup
from deeplab_tf.layers import NormConfig

__all__ = ["BACKBONES", "Features", "build_backbone"]

# name -> (builder, the family's batch normalization)
BACKBONES: dict[str, tuple[Callable[..., Features], NormConfig]] = {
    **{
        name: (functools.partial(mobilenet_v2.build, spec), mobilenet_v2.NORM)
        for name, spec in mobilenet_v2.SPECS.items()
    },
}


def build_backbone(
    name: str,
    image: keras.KerasTensor,
    *,
    output_stride: int,
    momentum: float | None = None,
    use_batch_statistics: bool = True,
) -> Features:
    """Builds a backbone on `image`. Its weights do not depend on the output stride.

    Args:
      name: a key of BACKBONES.
      image: [N, H, W, 3] RGB 0..255; the backbone normalizes it itself.
      output_stride: 8, 16 or 32, input pixels per pixel of conv5.
      momentum: of the moving statistics; None: the released code's for this family.
      use_batch_statistics: see normalization.BatchNorm.

    Returns:
      The feature maps.

    Raises:
      ValueError: the name is unknown, or the output stride is none of 8, 16, 32.
    """
    build, norm = lookup(BACKBONES, name, "backbone")
    norm = dataclasses.replace(
        norm,
        momentum=norm.momentum if momentum is None else momentum,
        use_batch_statistics=use_batch_statistics,
    )
    return build(image, output_stride=output_stride, norm=norm)
