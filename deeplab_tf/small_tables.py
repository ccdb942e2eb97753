"""Tables of our own: what the papers' tables show, in the time of a laptop.

On drawn shapes, and on the photos of CamVid at half their size. scripts/reproduce.py runs these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from deeplab_tf import camvid_recipes
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.tables import COSTS, Row, Table

_SHAPES = ("eval OS", "Decoder", "MS", "Flip")
_CAMVID = ("eval OS", "MS", "Flip")
_CAMVID_HALF = ("Decoder", "Separable", "Image-Level", *_CAMVID)


def _row(
    recipe: str,
    columns: tuple[str, ...],
    output_stride: int,
    marks: Iterable[str],
    scales: tuple[float, ...],
    *,
    has: Iterable[str] = (),
) -> Row:
    """A row: a recipe, and how its network is evaluated.

    Args:
      recipe: name.
      columns: of the table; 'eval OS' is one.
      output_stride: of the evaluation.
      marks: columns that are ticked, and in the row's name.
      scales: of the evaluation.
      has: more columns that are ticked.
    """
    ticked = {*marks, *has}
    return Row(
        name="_".join([f"eval{output_stride}", *marks]).lower(),
        cells=tuple(
            str(output_stride) if column == "eval OS" else "x" if column in ticked else ""
            for column in columns
        ),
        recipe=recipe,
        predict={"output_stride": output_stride, "scales": scales, "flip": "Flip" in ticked},
    )


def _shapes(output_stride: int, *marks: str) -> Row:
    """A row of the table 'shapes'; `marks` are its columns that are ticked."""
    recipe = "quickstart_shapes" if "Decoder" in marks else "quickstart_shapes_no_decoder"
    scales = (0.75, 1.0, 1.25) if "MS" in marks else (1.0,)
    return _row(recipe, _SHAPES, output_stride, marks, scales)


def camvid_table(
    title: str, name: str, recipes: Mapping[str, Recipe], *, output_strides: tuple[int, ...]
) -> Table:
    """A network for CamVid at its full size, evaluated in several ways.

    Args:
      title: of the table.
      name: of the recipe, whose own scales are those of MS.
      recipes: by name.
      output_strides: of the backbone in evaluations at one scale; at several scales, the first.
    """
    scales = recipes[name].predict.scales
    ways = [(stride, ()) for stride in output_strides]
    ways += [(output_strides[0], marks) for marks in (("MS",), ("MS", "Flip"))]
    return Table(
        title=title,
        columns=_CAMVID,
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        cost_size=(360, 480),
        cost_classes=11,
        rows=tuple(
            _row(name, _CAMVID, stride, marks, scales if marks else (1.0,))
            for stride, marks in ways
        ),
    )


def _half(network: str, output_stride: int, *marks: str) -> Row:
    """A row of the table 'camvid_half'.

    Args:
      network: end of the name of its recipe; what it lacks, or 'decoder' for all.
      output_stride: of the evaluation.
      *marks: 'MS' and 'Flip' where they are ticked.
    """
    lacks = {"no_decoder": "Decoder", "not_separable": "Separable", "no_pooling": "Image-Level"}
    has = {"Decoder", "Separable", "Image-Level"} - {lacks.get(network)}
    scales = (0.375, 0.5, 0.625) if "MS" in marks else (0.5,)  # 0.75, 1 and 1.25, at half the size
    recipe = f"camvid_half_{network}"
    row = _row(recipe, _CAMVID_HALF, output_stride, marks, scales, has=has)
    return dataclasses.replace(row, name=f"{network}_{row.name}")


TABLES: dict[str, Table] = {
    "shapes": Table(
        title="Ours: what Tab. 3 of DeepLabv3+ shows, on drawn shapes",
        columns=_SHAPES,
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        cost_size=(128, 128),
        cost_classes=5,
        rows=(
            _shapes(16),
            _shapes(8),
            _shapes(16, "Decoder"),
            _shapes(8, "Decoder"),
            _shapes(8, "Decoder", "MS"),
            _shapes(8, "Decoder", "MS", "Flip"),
        ),
    ),
    "shapes_figure4": Table(
        title="Ours: what Fig. 4 of DeepLabv3+ shows, on drawn shapes",
        columns=("Upsampling",),
        measures=(),
        result="trimap",
        rows=(
            Row(name="bu", cells=("w/ BU",), recipe="quickstart_shapes_no_decoder"),
            Row(name="decoder", cells=("w/ Decoder",), recipe="quickstart_shapes"),
        ),
    ),
    "camvid_deeplabv3plus": camvid_table(
        "Ours: DeepLabv3+ for CamVid, trained as the best network is",
        "camvid_deeplabv3plus",
        camvid_recipes.RECIPES,
        output_strides=(16, 8),
    ),
    "camvid_half": Table(
        title="Ours: what Tab. 3 and 5 of DeepLabv3+ show, on photos of CamVid at half their size",
        columns=_CAMVID_HALF,
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        cost_size=(360, 480),
        cost_classes=11,
        rows=(
            _half("no_decoder", 16),
            _half("no_decoder", 8),
            _half("decoder", 16),
            _half("decoder", 8),
            _half("decoder", 8, "MS"),
            _half("decoder", 8, "MS", "Flip"),
            _half("not_separable", 16),
            _half("no_pooling", 16),
        ),
    ),
    "camvid_half_figure4": Table(
        title="Ours: what Fig. 4 of DeepLabv3+ shows, on photos of CamVid at half their size",
        columns=("Upsampling",),
        measures=(),
        result="trimap",
        rows=(
            Row(name="bu", cells=("w/ BU",), recipe="camvid_half_no_decoder"),
            Row(name="decoder", cells=("w/ Decoder",), recipe="camvid_half_decoder"),
        ),
    ),
}
