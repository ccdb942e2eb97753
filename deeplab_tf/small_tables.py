"""Tables of our own: what the papers' tables show, in the time of a laptop.

On drawn shapes, and on the photos of CamVid at half their size. scripts/reproduce.py runs these.
"""

from __future__ import annotations

from deeplab_tf.camvid_recipes import SCALES as CAMVID_SCALES
from deeplab_tf.tables import COSTS, Row, Table

_SHAPES = ("eval OS", "Decoder", "MS", "Flip")
_CAMVID = ("Decoder", "Separable", "Image-Level", "eval OS", "MS", "Flip")
_HALF_SCALES = (0.375, 0.5, 0.625)  # of images of half the size: 0.75, 1 and 1.25


def _shapes(output_stride: int, *marks: str) -> Row:
    """A row of the table 'shapes'; `marks` are its columns that are ticked."""
    return Row(
        name="_".join([f"eval{output_stride}", *marks]).lower(),
        cells=(str(output_stride), *("x" if column in marks else "" for column in _SHAPES[1:])),
        recipe="quickstart_shapes" if "Decoder" in marks else "quickstart_shapes_no_decoder",
        predict={
            "output_stride": output_stride,
            "scales": (0.75, 1.0, 1.25) if "MS" in marks else (1.0,),
            "flip": "Flip" in marks,
        },
    )


def _half(network: str, output_stride: int, *marks: str) -> Row:
    """A row of the table 'camvid_half'.

    Args:
      network: end of the name of its recipe; what it lacks, or 'decoder' for all.
      output_stride: of the evaluation.
      *marks: 'MS' and 'Flip' where they are ticked.
    """
    lacks = {"no_decoder": "Decoder", "not_separable": "Separable", "no_pooling": "Image-Level"}
    ticked = {*_CAMVID[:3], *marks} - {lacks.get(network)}
    return Row(
        name="_".join([network, f"eval{output_stride}", *marks]).lower(),
        cells=tuple(
            str(output_stride) if column == "eval OS" else "x" if column in ticked else ""
            for column in _CAMVID
        ),
        recipe=f"camvid_half_{network}",
        predict={
            "output_stride": output_stride,
            "scales": _HALF_SCALES if "MS" in marks else (0.5,),
            "flip": "Flip" in marks,
        },
    )


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
    "camvid": Table(
        title="Ours: the best network for CamVid that a laptop trains",
        columns=_CAMVID[3:],
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        cost_size=(360, 480),
        cost_classes=11,
        rows=tuple(
            Row(
                name="_".join([f"eval{output_stride}", *marks]).lower(),
                cells=(str(output_stride), *("x" if m in marks else "" for m in ("MS", "Flip"))),
                recipe="camvid_best",
                predict={
                    "output_stride": output_stride,
                    "scales": CAMVID_SCALES if "MS" in marks else (1.0,),
                    "flip": "Flip" in marks,
                },
            )
            for output_stride, *marks in (
                (16,),
                (8,),
                (16, "MS"),
                (16, "MS", "Flip"),
                (8, "MS", "Flip"),
            )
        ),
    ),
    "camvid_half": Table(
        title="Ours: what Tab. 3 and 5 of DeepLabv3+ show, on photos of CamVid at half their size",
        columns=_CAMVID,
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
