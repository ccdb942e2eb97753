"""The backbones by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import keras

from deeplab_tf.backbones import mobilenet_v2, resnet, resnet_deep_stem, xception
from deeplab_tf.backbones.features import Features
from deeplab_tf.layers import NormConfig
from deeplab_tf.recipe.options import lookup

__all__ = ["BACKBONES", "Backbone", "Features", "build_backbone"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """A variant of a family."""

    build: Callable[..., Features]  # (image, *, output_stride, norm[, multi_grid])
    norm: NormConfig  # the family's batch normalization
    multi_grid: tuple[int, int, int] | None = None  # the family's; None: it has none


def _rows(family) -> dict[str, Backbone]:
    return {
        name: Backbone(
            build=functools.partial(family.build, spec),
            norm=family.NORM,
            multi_grid=getattr(family, "MULTI_GRID", None),
        )
        for name, spec in family.SPECS.items()
    }


BACKBONES: dict[str, Backbone] = {
    **_rows(mobilenet_v2),
    **_rows(resnet),
    **_rows(resnet_deep_stem),
    **_rows(xception),
}


def build_backbone(
    name: str,
    image: keras.KerasTensor,
    *,
    output_stride: int,
    multi_grid: tuple[int, int, int] | None = None,
    momentum: float | None = None,
    statistics: str = "synchronized",
) -> Features:
    """Builds a backbone on `image`. Its weights do not depend on the output stride.

    Args:
      name: a key of BACKBONES.
      image: [N, H, W, 3] RGB 0..255; the backbone normalizes it itself.
      output_stride: 8, 16 or 32, input pixels per pixel of conv5.
      multi_grid: factors of the rates at the end of the backbone; None: the released code's.
      momentum: of the moving statistics; None: the released code's for this family.
      statistics: what training normalizes with; see normalization.BatchNorm.

    Returns:
      The feature maps.

    Raises:
      ValueError: the name is unknown, the output stride is none of 8, 16, 32, or the family has no
        multi-grid.
    """
    backbone = lookup(BACKBONES, name, "backbone")
    norm = dataclasses.replace(
        backbone.norm,
        momentum=backbone.norm.momentum if momentum is None else momentum,
        statistics=statistics,
    )
    options = {}
    if backbone.multi_grid is not None:
        options["multi_grid"] = backbone.multi_grid if multi_grid is None else multi_grid
    elif multi_grid is not None:
        raise ValueError(f"backbone {name} has no multi-grid; leave it out. Got {multi_grid}.")
    return backbone.build(image, output_stride=output_stride, norm=norm, **options)
