"""The tables of the papers that say what networks cost, row by row as printed."""

from __future__ import annotations

import dataclasses

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.parts import ModelConfig
from deeplab_tf.released import VOC_SCALES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A way to train and evaluate a network."""

    train_output_stride: int
    marks: tuple[str, ...]  # the columns that are ticked
    model: ModelConfig  # at the output stride of evaluation
    scales: tuple[float, ...]
    flip: bool
    mean_iou: float  # percent, paper
    multiply_adds: float  # billions, paper
    note: str = ""  # why ours differs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper."""

    title: str
    columns: tuple[str, ...]  # those with ticks
    rows: tuple[Row, ...]
    image_size: tuple[int, int] = (513, 513)  # paper: Sec. 4
    num_classes: int = 21  # paper: Sec. 4


def _deeplab(
    backbone: str,
    train_output_stride: int,
    output_stride: int,
    marks: str,
    mean_iou: float,
    multiply_adds: float,
    note: str = "",
) -> Row:
    """A row of DeepLabv3+; the arguments after the first are its columns, left to right."""
    ticked = tuple(marks.split())
    return Row(
        train_output_stride=train_output_stride,
        marks=ticked,
        model=DeepLabV3PlusConfig(
            backbone=backbone,
            output_stride=output_stride,
            decoder="Decoder" in ticked,
            separable="SC" in ticked,
        ),
        scales=VOC_SCALES if "MS" in ticked else (1.0,),
        flip="Flip" in ticked,
        mean_iou=mean_iou,
        multiply_adds=multiply_adds,
        note=note,
    )


_101_28 = (
    "the paper's 101.28 contradicts its own multi-scale row 898.69, in which this scale is 102.78;"
    " without multi-grid it would be 101.40"
)

TABLES: dict[str, Table] = {
    # paper: Tab. 3. The stem of three 3x3 convolutions and multi-grid (1, 2, 4) are code.
    "deeplab3": Table(
        title="DeepLabv3+ Tab. 3: ResNet-101, PASCAL VOC 2012",
        columns=("Decoder", "MS", "Flip"),
        rows=(
            _deeplab("resnet101", 16, 16, "", 77.21, 81.02),
            _deeplab("resnet101", 16, 8, "", 78.51, 276.18),
            _deeplab("resnet101", 16, 8, "MS", 79.45, 2435.37),
            _deeplab("resnet101", 16, 8, "MS Flip", 79.77, 4870.59),
            _deeplab("resnet101", 16, 16, "Decoder", 78.85, 101.28, _101_28),
            _deeplab("resnet101", 16, 16, "Decoder MS", 80.09, 898.69),
            _deeplab("resnet101", 16, 16, "Decoder MS Flip", 80.22, 1797.23),
            _deeplab("resnet101", 16, 8, "Decoder", 79.35, 297.92),
            _deeplab("resnet101", 16, 8, "Decoder MS", 80.43, 2623.61),
            _deeplab("resnet101", 16, 8, "Decoder MS Flip", 80.57, 5247.07),
            _deeplab("resnet101", 32, 32, "", 75.43, 52.43),
            _deeplab("resnet101", 32, 32, "Decoder", 77.37, 74.20),
            _deeplab("resnet101", 32, 16, "Decoder", 77.80, 101.28, _101_28),
            _deeplab("resnet101", 32, 8, "Decoder", 77.92, 297.92),
        ),
    ),
    # paper: Tab. 5
    "deeplab5": Table(
        title="DeepLabv3+ Tab. 5: Xception-65, PASCAL VOC 2012",
        columns=("Decoder", "MS", "Flip", "SC", "COCO", "JFT"),
        rows=(
            _deeplab("xception65", 16, 16, "", 79.17, 68.00),
            _deeplab("xception65", 16, 16, "MS", 80.57, 601.74),
            _deeplab("xception65", 16, 16, "MS Flip", 80.79, 1203.34),
            _deeplab("xception65", 16, 8, "", 79.64, 240.85),
            _deeplab("xception65", 16, 8, "MS", 81.15, 2149.91),
            _deeplab("xception65", 16, 8, "MS Flip", 81.34, 4299.68),
            _deeplab("xception65", 16, 16, "Decoder", 79.93, 89.76),
            _deeplab("xception65", 16, 16, "Decoder MS", 81.38, 790.12),
            _deeplab("xception65", 16, 16, "Decoder MS Flip", 81.44, 1580.10),
            _deeplab("xception65", 16, 8, "Decoder", 80.22, 262.59),
            _deeplab("xception65", 16, 8, "Decoder MS", 81.60, 2338.15),
            _deeplab("xception65", 16, 8, "Decoder MS Flip", 81.63, 4676.16),
            _deeplab("xception65", 16, 16, "Decoder SC", 79.79, 54.17),
            _deeplab("xception65", 16, 16, "Decoder MS Flip SC", 81.21, 928.81),
            _deeplab("xception65", 16, 8, "Decoder SC", 80.02, 177.10),
            _deeplab("xception65", 16, 8, "Decoder MS Flip SC", 81.39, 3055.35),
            _deeplab("xception65", 16, 16, "Decoder SC COCO", 82.20, 54.17),
            _deeplab("xception65", 16, 16, "Decoder MS Flip SC COCO", 83.34, 928.81),
            _deeplab("xception65", 16, 8, "Decoder SC COCO", 82.45, 177.10),
            _deeplab("xception65", 16, 8, "Decoder MS Flip SC COCO", 83.58, 3055.35),
            _deeplab("xception65", 16, 16, "Decoder SC COCO JFT", 83.03, 54.17),
            _deeplab("xception65", 16, 16, "Decoder MS Flip SC COCO JFT", 84.22, 928.81),
            _deeplab("xception65", 16, 8, "Decoder SC COCO JFT", 83.39, 177.10),
            _deeplab("xception65", 16, 8, "Decoder MS Flip SC COCO JFT", 84.56, 3055.35),
        ),
    ),
}


def table_text(table: Table) -> str:
    """Counts every row of a table, both ways; imports TensorFlow.

    Returns:
      The lines to print: the rows with the paper's figures beside ours, then what differs.
    """
    counts = _counts(table)
    heads = ("train", "eval", *table.columns, "mIoU", "true", "paper's way", "paper", "difference")
    rows, notes, close = [heads], [], 0
    for row, (true, profiled) in zip(table.rows, counts, strict=True):
        difference = 100 * (profiled / row.multiply_adds - 1)
        rows.append(
            (
                str(row.train_output_stride),
                str(row.model.output_stride),
                *("x" if column in row.marks else "" for column in table.columns),
                f"{row.mean_iou:.2f}",
                f"{true:.2f}",
                f"{profiled:.2f}",
                f"{row.multiply_adds:.2f}",
                f"{difference:+.3f} %" + "*" * bool(row.note),
            )
        )
        close += abs(difference) <= 0.1
        if row.note and row.note not in notes:
            notes.append(row.note)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    height, width = table.image_size
    lines = [
        f"{table.title}; {height}x{width} pixels, {table.num_classes} classes.",
        "Output strides in training and evaluation, the paper's mean IoU in %, and multiply-adds in"
        " billions:",
        "the true count, the paper's way of counting, the paper's figure, and how far the last two"
        " are apart.",
        "",
        # A star stands to the right of its column.
        *(
            "  ".join(
                cell.rjust(w + cell.endswith("*")) for cell, w in zip(row, widths, strict=True)
            )
            for row in rows
        ),
        "",
        f"{close} of {len(table.rows)} rows are within 0.1 % of the paper's figure.",
        *(f"* {note}." for note in notes),
    ]
    return "\n".join(lines)


def _counts(table: Table) -> list[tuple[float, float]]:
    """Billions of multiply-adds of each row: the true count, the paper's way."""
    import keras

    from deeplab_tf.layers.multiply_adds import multiply_adds

    found = {}
    for config in dict.fromkeys(row.model for row in table.rows):
        # Counting needs shapes alone, and making the weights takes most of the time.
        with keras.StatelessScope(initialize_variables=False):
            model = config.build(table.num_classes)
        for row in table.rows:
            if row.model == config:
                found[row] = tuple(
                    multiply_adds(
                        model, table.image_size, scales=row.scales, flip=row.flip, counting=counting
                    )
                    / 1e9
                    for counting in ("true", "paper")
                )
    return [found[row] for row in table.rows]
