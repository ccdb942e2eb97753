"""The tables and Figure 4 of DeepLabv3+, row by row as printed, with what each row needs.

Rows that quote other papers' networks are left out. scripts/reproduce.py runs these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from deeplab_tf.recipe.parts import ModelConfig
from deeplab_tf.released import CITYSCAPES_SCALES, VOC_SCALES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
      name: to choose the row by.
      cells: what the paper prints in the table's columns.
      figures: measure -> the paper's figure, as printed; see `Table.measures`.
      recipe: trains the network; None: the row has no score.
      model: the network where there is no recipe.
      predict: options of the recipe's `predict` that the row changes.
      released: name of a released checkpoint that gives the same figures.
      missing: why no command gives the score, or none.
      note: why ours differs, or what the paper leaves open.
    """

    name: str
    cells: tuple[str, ...]
    recipe: str | None = None
    model: ModelConfig | None = None
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    predict: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    released: str | None = None
    missing: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table or figure of a paper.

    Attributes:
      title: the paper, the number and what it shows.
      columns: headings of the rows' cells.
      measures: what is compared, in the order of print: keys of `MEASURES` in reproduce_report.py.
      rows: as printed.
      result: what a trained network is asked for: its score on the recipe's split, the files for
        a test server, the scores near void (Sec. 4.4), pictures, or nothing.
      cost: what is measured of the network alone.
      cost_size: height and width of the image that `cost` is for, pixels.
      cost_classes: outputs of the network that `cost` is for.
    """

    title: str
    columns: tuple[str, ...]
    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    result: Literal["none", "score", "server_files", "trimap", "pictures"] = "score"
    cost: Literal["none", "multiply_adds", "speed"] = "none"
    cost_size: tuple[int, int] = (513, 513)  # paper: DeepLabv3+ Sec. 4
    cost_classes: int = 21  # paper: DeepLabv3+ Sec. 4


_JFT = "JFT-300M is not public"
COSTS = ("multiply_adds", "true_multiply_adds")


def _ablation(cells: str, recipe: str, mean_iou: float) -> Row:
    """A row of Table 1 or 2; columns are separated by '|'."""
    return Row(
        name=recipe.removeprefix("os16").strip("_") or "two_convs",
        cells=tuple(cell.strip() for cell in cells.split("|")),
        recipe=f"deeplabv3plus_resnet101_voc2012_{recipe}",
        figures={"mean_iou": mean_iou},
    )


def _inference(
    backbone: str,
    train_output_stride: int,
    output_stride: int,
    marks: str,
    mean_iou: float,
    multiply_adds: float,
    note: str = "",
) -> Row:
    """A row of Table 3 or 5; the arguments after the first are its columns, left to right."""
    ticked = marks.split()
    columns = _TAB_3 if backbone == "resnet101" else _TAB_5
    stage = "coco_" if "COCO" in ticked else ""
    suffix = ""
    if backbone == "xception65" and "Decoder" in ticked and "SC" not in ticked:
        suffix = "_not_separable"
    return Row(
        name="_".join([f"train{train_output_stride}_eval{output_stride}", *ticked]).lower(),
        cells=(
            str(train_output_stride),
            str(output_stride),
            *("x" if column in ticked else "" for column in columns[2:]),
        ),
        recipe=(
            f"{'deeplabv3plus' if 'Decoder' in ticked else 'deeplabv3'}_{backbone}_{stage}voc2012"
            f"_os{train_output_stride}{suffix}"
        ),
        figures={"mean_iou": mean_iou, "multiply_adds": multiply_adds},
        predict={
            "output_stride": output_stride,
            "scales": VOC_SCALES if "MS" in ticked else (1.0,),
            "flip": "Flip" in ticked,
        },
        released="xception65_coco_voc_trainaug" if stage and "JFT" not in ticked else None,
        missing=_JFT if "JFT" in ticked else "",
        note=note,
    )


def _imagenet(model: str, recipe: str, top_1: float, top_5: float, note: str = "") -> Row:
    return Row(
        name=recipe.removeprefix("imagenet_"),
        cells=(model,),
        recipe=recipe,
        figures={"top_1_error": top_1, "top_5_error": top_5},
        note=note,
    )


def _cityscapes(name: str, cells: str, mean_iou: float, released: str | None = None) -> Row:
    backbone, *ticked = cells.split()
    version = "deeplabv3plus" if "Decoder" in ticked else "deeplabv3"
    pooling = "" if "Image-Level" in ticked else "_no_pooling"
    return Row(
        name=name,
        cells=(backbone, *("x" if column in ticked else "" for column in _TAB_7[1:])),
        recipe=f"{version}_{backbone.replace('X-', 'xception')}_cityscapes_os16{pooling}",
        figures={"mean_iou": mean_iou},
        released=released,
    )


def _curve(backbone: str, cell: str, recipe: str) -> Row:
    return Row(name=f"{backbone}_{cell.split()[-1].lower()}", cells=(backbone, cell), recipe=recipe)


_101_28 = (
    "the paper's 101.28 contradicts its own multi-scale row 898.69, in which this scale is 102.78;"
    " without multi-grid it would be 101.40"
)
_TAB_2 = ("Conv2", "Conv3", "3x3 Conv Structure")
_TAB_3 = ("train OS", "eval OS", "Decoder", "MS", "Flip")
_TAB_5 = (*_TAB_3, "SC", "COCO", "JFT")
_TAB_7 = ("Backbone", "Decoder", "ASPP", "Image-Level")

TABLES: dict[str, Table] = {
    "deeplab1": Table(
        title="DeepLabv3+ Tab. 1: channels of the reduced low-level features, VOC 2012 val",
        columns=("Channels",),
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        rows=(
            _ablation("8", "os16_conv_low_level_8", 77.61),
            _ablation("16", "os16_conv_low_level_16", 77.92),
            _ablation("32", "os16_conv_low_level_32", 78.16),
            _ablation("48", "os16_conv", 78.21),
            _ablation("64", "os16_conv_low_level_64", 77.94),
        ),
    ),
    "deeplab2": Table(
        title="DeepLabv3+ Tab. 2: structure of the decoder, VOC 2012 val",
        columns=_TAB_2,
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        rows=(
            _ablation("x | | [3x3, 256]", "os16_conv", 78.21),
            _ablation("x | | [3x3, 256] x 2", "os16", 78.85),
            _ablation("x | | [3x3, 256] x 3", "os16_three_convs", 78.02),
            _ablation("x | | [3x3, 128]", "os16_conv_128", 77.25),
            _ablation("x | | [1x1, 256]", "os16_conv_1x1", 78.07),
            _ablation("x | x | [3x3, 256]", "os16_conv3_conv2", 78.61),
        ),
    ),
    # The stem of three 3x3 convolutions and multi-grid (1, 2, 4) are code.
    "deeplab3": Table(
        title="DeepLabv3+ Tab. 3: inference with ResNet-101, VOC 2012 val",
        columns=_TAB_3,
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        rows=(
            _inference("resnet101", 16, 16, "", 77.21, 81.02),
            _inference("resnet101", 16, 8, "", 78.51, 276.18),
            _inference("resnet101", 16, 8, "MS", 79.45, 2435.37),
            _inference("resnet101", 16, 8, "MS Flip", 79.77, 4870.59),
            _inference("resnet101", 16, 16, "Decoder", 78.85, 101.28, _101_28),
            _inference("resnet101", 16, 16, "Decoder MS", 80.09, 898.69),
            _inference("resnet101", 16, 16, "Decoder MS Flip", 80.22, 1797.23),
            _inference("resnet101", 16, 8, "Decoder", 79.35, 297.92),
            _inference("resnet101", 16, 8, "Decoder MS", 80.43, 2623.61),
            _inference("resnet101", 16, 8, "Decoder MS Flip", 80.57, 5247.07),
            _inference("resnet101", 32, 32, "", 75.43, 52.43),
            _inference("resnet101", 32, 32, "Decoder", 77.37, 74.20),
            _inference("resnet101", 32, 16, "Decoder", 77.80, 101.28, _101_28),
            _inference("resnet101", 32, 8, "Decoder", 77.92, 297.92),
        ),
    ),
    "deeplab4": Table(
        title="DeepLabv3+ Tab. 4: errors on ImageNet's validation set",
        columns=("Model",),
        measures=("top_1_error", "top_5_error"),
        rows=(
            _imagenet("Reproduced ResNet-101", "imagenet_resnet101", 22.40, 6.02),
            _imagenet(
                "Modified Xception",
                "imagenet_xception65",
                20.19,
                5.17,
                "the released network, which lacks the ReLU after most depthwise convolutions",
            ),
            _imagenet("Modified Xception, Fig. 3", "imagenet_xception65_relu", 20.19, 5.17),
            _imagenet(
                "without normalization and ReLU after depthwise",
                "imagenet_xception65_plain",
                20.94,
                5.46,
                "not in the table: Sec. 4.3 says 0.75 and 0.29 more",
            ),
        ),
    ),
    "deeplab5": Table(
        title="DeepLabv3+ Tab. 5: inference with Xception-65, VOC 2012 val",
        columns=_TAB_5,
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        rows=(
            _inference("xception65", 16, 16, "", 79.17, 68.00),
            _inference("xception65", 16, 16, "MS", 80.57, 601.74),
            _inference("xception65", 16, 16, "MS Flip", 80.79, 1203.34),
            _inference("xception65", 16, 8, "", 79.64, 240.85),
            _inference("xception65", 16, 8, "MS", 81.15, 2149.91),
            _inference("xception65", 16, 8, "MS Flip", 81.34, 4299.68),
            _inference("xception65", 16, 16, "Decoder", 79.93, 89.76),
            _inference("xception65", 16, 16, "Decoder MS", 81.38, 790.12),
            _inference("xception65", 16, 16, "Decoder MS Flip", 81.44, 1580.10),
            _inference("xception65", 16, 8, "Decoder", 80.22, 262.59),
            _inference("xception65", 16, 8, "Decoder MS", 81.60, 2338.15),
            _inference("xception65", 16, 8, "Decoder MS Flip", 81.63, 4676.16),
            _inference("xception65", 16, 16, "Decoder SC", 79.79, 54.17),
            _inference("xception65", 16, 16, "Decoder MS Flip SC", 81.21, 928.81),
            _inference("xception65", 16, 8, "Decoder SC", 80.02, 177.10),
            _inference("xception65", 16, 8, "Decoder MS Flip SC", 81.39, 3055.35),
            _inference("xception65", 16, 16, "Decoder SC COCO", 82.20, 54.17),
            _inference("xception65", 16, 16, "Decoder MS Flip SC COCO", 83.34, 928.81),
            _inference("xception65", 16, 8, "Decoder SC COCO", 82.45, 177.10),
            _inference("xception65", 16, 8, "Decoder MS Flip SC COCO", 83.58, 3055.35),
            _inference("xception65", 16, 16, "Decoder SC COCO JFT", 83.03, 54.17),
            _inference("xception65", 16, 16, "Decoder MS Flip SC COCO JFT", 84.22, 928.81),
            _inference("xception65", 16, 8, "Decoder SC COCO JFT", 83.39, 177.10),
            _inference("xception65", 16, 8, "Decoder MS Flip SC COCO JFT", 84.56, 3055.35),
        ),
    ),
    "deeplab6": Table(
        title="DeepLabv3+ Tab. 6: VOC 2012 test, scored by the test server",
        columns=("Method",),
        measures=("mean_iou",),
        result="server_files",
        rows=(
            Row(
                name="xception",
                cells=("DeepLabv3+ (Xception)",),
                recipe="deeplabv3plus_xception65_coco_voc2012_os8_test",
                figures={"mean_iou": 87.8},
                released="xception65_coco_voc_trainval",
            ),
            Row(
                name="xception_jft",
                cells=("DeepLabv3+ (Xception-JFT)",),
                recipe="deeplabv3plus_xception65_coco_voc2012_os8_test",
                figures={"mean_iou": 89.0},
                missing=_JFT,
            ),
        ),
    ),
    # Of the version that was published at ECCV.
    "deeplab7a": Table(
        title="DeepLabv3+ Tab. 7 (a): Cityscapes val",
        columns=_TAB_7,
        measures=("mean_iou",),
        rows=(
            _cityscapes("x65_no_decoder", "X-65 ASPP Image-Level", 77.33),
            _cityscapes(
                "x65", "X-65 Decoder ASPP Image-Level", 78.79, "xception65_cityscapes_trainfine"
            ),
            _cityscapes("x65_no_pooling", "X-65 Decoder ASPP", 79.14),
            _cityscapes("x71_no_pooling", "X-71 Decoder ASPP", 79.55),
        ),
    ),
    "deeplab7b": Table(
        title="DeepLabv3+ Tab. 7 (b): Cityscapes test, scored by the test server",
        columns=("Method", "Coarse"),
        measures=("mean_iou",),
        result="server_files",
        rows=(
            Row(
                name="x71",
                cells=("DeepLabv3+", "x"),
                recipe="deeplabv3plus_xception71_cityscapes_os8_no_pooling_test",
                figures={"mean_iou": 82.1},
                # code: the model zoo's row on test
                predict={"scales": (*CITYSCAPES_SCALES, 1.5, 1.75, 2.0)},
                note="the paper says no more of this stage than that it has the coarse labels",
            ),
        ),
    ),
    "deeplab_figure4": Table(
        title="DeepLabv3+ Fig. 4: mean IoU within few pixels of void, VOC 2012 val",
        columns=("Backbone", "Upsampling"),
        measures=(),
        result="trimap",
        rows=(
            _curve("resnet101", "w/ BU", "deeplabv3_resnet101_voc2012_os16"),
            _curve("resnet101", "w/ Decoder", "deeplabv3plus_resnet101_voc2012_os16"),
            _curve("xception65", "w/ BU", "deeplabv3_xception65_voc2012_os16"),
            _curve(
                "xception65", "w/ Decoder", "deeplabv3plus_xception65_voc2012_os16_not_separable"
            ),
        ),
    ),
    "deeplab_figure6": Table(
        title="DeepLabv3+ Fig. 5 and 6: pictures of the best network's predictions, VOC 2012 val",
        columns=("Network",),
        measures=(),
        result="pictures",
        rows=(
            Row(
                name="best",
                cells=("best",),
                recipe="deeplabv3plus_xception65_coco_voc2012_os16_best",
                released="xception65_coco_voc_trainaug",
            ),
        ),
    ),
}
