"""The tables of FastFCN, row by row as printed, with what each row needs, and three of our own.

Rows that quote other papers' networks are left out, except one of EncNet, which has a recipe.
scripts/reproduce.py runs these.
"""

from __future__ import annotations

from collections.abc import Mapping

from deeplab_tf import camvid_recipes as deeplab_camvid
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.small_tables import camvid_table
from deeplab_tf.tables import COSTS, Row, Table
from jpu_tf import camvid_recipes
from jpu_tf.model import FastFCNConfig

_HEADS = {"Encoding": "encoding", "ASPP": "aspp", "PSP": "psp", "DeepLab": "deeplab"}
_UPSAMPLERS = {"None": "none", "Bilinear": "bilinear", "FPN": "fpn", "JPU (ours)": "jpu"}
_COMPOSED = "the released code has neither bilinear nor FPN; these are ours"


def _note(upsampling: str) -> str:
    return _COMPOSED if upsampling in ("Bilinear", "FPN") else ""


def _ablation(
    head: str, output_stride: int, upsampling: str, pixel_accuracy: float, mean_iou: float
) -> Row:
    """A row of Table 1; the arguments are its columns."""
    network = f"{_HEADS[head]}_{_UPSAMPLERS[upsampling]}"
    return Row(
        name=network,
        cells=(head, str(output_stride), upsampling),
        recipe=f"fastfcn_resnet50_pascal_context_{network}",
        figures={"pixel_accuracy": pixel_accuracy, "mean_iou": mean_iou},
        note=_note(upsampling),
    )


def _half(head: str, output_stride: int, upsampling: str) -> Row:
    """A row of our own; the arguments are its columns."""
    network = f"{_HEADS[head]}_{_UPSAMPLERS[upsampling]}"
    return Row(
        name=network,
        cells=(head, str(output_stride), upsampling),
        recipe=f"camvid_half_{network}",
    )


def _speeds(backbone: str, head: str, **fps: float) -> tuple[Row, ...]:
    """A group of rows of Table 2; the first, without upsampler, is what the others compare to."""
    titles = {name: title for title, name in _UPSAMPLERS.items()}
    return tuple(
        Row(
            name=f"{backbone}_{_HEADS[head]}_{upsampler}",
            cells=(backbone.replace("resnet", "ResNet-"), head, titles[upsampler]),
            model=FastFCNConfig(
                backbone=f"{backbone}_deep_stem", head=_HEADS[head], upsampler=upsampler
            ),
            figures={"speed": speed, "speed_ratio": speed / fps["none"]},
            note=_note(titles[upsampler]),
        )
        for upsampler, speed in fps.items()
    )


def _half_speeds(system: str, recipes: Mapping[str, Recipe]) -> tuple[Row, ...]:
    """A group of rows of our own, of the networks at half size; others compare to the first."""
    start = "camvid_half_"
    return tuple(
        Row(
            name=name.removeprefix(start),
            cells=("MobileNetV2", system, name.removeprefix(start)),
            model=recipe.model,
        )
        for name, recipe in recipes.items()
        if name.startswith(start)
    )


TABLES: dict[str, Table] = {
    "fastfcn1": Table(
        title="FastFCN Tab. 1: heads and upsampling with ResNet-50, PASCAL-Context val, 59 classes",
        columns=("Head", "OS", "Upsampling"),
        measures=("pixel_accuracy", "mean_iou"),
        rows=(
            _ablation("Encoding", 8, "None", 78.39, 49.91),
            _ablation("Encoding", 32, "Bilinear", 76.10, 46.47),
            _ablation("Encoding", 32, "FPN", 78.16, 49.59),
            _ablation("Encoding", 32, "JPU (ours)", 78.98, 51.05),
            _ablation("ASPP", 8, "None", 78.27, 49.19),
            _ablation("ASPP", 32, "JPU (ours)", 78.79, 50.07),
            _ablation("PSP", 8, "None", 78.60, 50.58),
            _ablation("PSP", 32, "JPU (ours)", 78.91, 50.89),
        ),
    ),
    "fastfcn2": Table(
        title="FastFCN Tab. 2: images per second of one 512x512 image, on a Titan Xp in the paper",
        columns=("Backbone", "Head", "Upsampling"),
        measures=(
            "parameters",
            "multiply_adds",
            "speed",
            "mean_speed",
            "speed_ratio",
            "cost_ratio",
        ),
        result="none",
        cost="speed",
        cost_size=(512, 512),  # paper: Tab. 2
        cost_classes=59,  # code: PASCAL-Context without its background
        rows=(
            *_speeds("resnet50", "Encoding", none=18.77, bilinear=45.67, fpn=37.87, jpu=37.56),
            *_speeds("resnet50", "ASPP", none=15.99, jpu=20.67),
            *_speeds("resnet50", "PSP", none=18.08, jpu=28.48),
            *_speeds("resnet101", "Encoding", none=10.51, bilinear=35.20, fpn=32.40, jpu=32.02),
            *_speeds("resnet101", "ASPP", none=10.46, jpu=18.08),
            *_speeds("resnet101", "PSP", none=11.36, jpu=23.87),
        ),
    ),
    "fastfcn3": Table(
        title="FastFCN Tab. 3: PASCAL-Context val, several scales; 60 classes, and 59 in Sec. 4.3",
        columns=("Method", "Backbone"),
        measures=("mean_iou_60", "mean_iou"),
        rows=(
            Row(
                name="resnet101_none",
                cells=("EncNet", "ResNet-101"),
                recipe="fastfcn_resnet101_pascal_context_encoding_none_ms",
                figures={"mean_iou_60": 51.7, "mean_iou": 52.60},
                note="52.60 is a row of the released README without a script",
            ),
            Row(
                name="resnet50_jpu",
                cells=("EncNet+JPU (ours)", "ResNet-50"),
                recipe="fastfcn_resnet50_pascal_context_encoding_jpu_ms",
                figures={"mean_iou_60": 51.22, "mean_iou": 52.10},
            ),
            Row(
                name="resnet101_jpu",
                cells=("EncNet+JPU (ours)", "ResNet-101"),
                recipe="fastfcn_resnet101_pascal_context_encoding_jpu_ms",
                figures={"mean_iou_60": 53.1, "mean_iou": 54.03},
            ),
        ),
    ),
    "fastfcn4": Table(
        title="FastFCN Tab. 4: ADE20K val, several scales",
        columns=("Method", "Backbone"),
        measures=("pixel_accuracy", "mean_iou"),
        rows=(
            Row(
                name="resnet50",
                cells=("Ours", "ResNet-50"),
                recipe="fastfcn_resnet50_ade20k_encoding_jpu_ms",
                figures={"pixel_accuracy": 80.39, "mean_iou": 42.75},
            ),
            Row(
                name="resnet101",
                cells=("Ours", "ResNet-101"),
                recipe="fastfcn_resnet101_ade20k_encoding_jpu_ms",
                figures={"pixel_accuracy": 80.99, "mean_iou": 44.34},
            ),
        ),
    ),
    "fastfcn5": Table(
        title="FastFCN Tab. 5: ADE20K test, scored by the test server",
        columns=("Team", "Single Model"),
        measures=("final_score",),
        result="server_files",
        rows=(
            Row(
                name="resnet101",
                cells=("Ours", "ResNet-101"),
                recipe="fastfcn_resnet101_ade20k_encoding_jpu_ms_test",
                figures={"final_score": 55.84},
            ),
        ),
    ),
    "fastfcn_figures": Table(
        title="FastFCN Fig. 6 to 12: pictures of predictions, PASCAL-Context and ADE20K val",
        columns=("Dataset", "Network"),
        measures=(),
        result="pictures",
        rows=(
            *(
                Row(
                    name=f"pascal_context_{upsampler}",
                    cells=("PASCAL-Context", title),
                    recipe=f"fastfcn_resnet50_pascal_context_encoding_{upsampler}",
                )
                for title, upsampler in _UPSAMPLERS.items()
            ),
            Row(
                name="pascal_context_best",
                cells=("PASCAL-Context", "ResNet-101"),
                recipe="fastfcn_resnet101_pascal_context_encoding_jpu_ms",
            ),
            Row(
                name="ade20k_best",
                cells=("ADE20K", "ResNet-101"),
                recipe="fastfcn_resnet101_ade20k_encoding_jpu_ms",
            ),
        ),
    ),
    "camvid": camvid_table(
        "Ours: the best network for CamVid that a laptop trains",
        "camvid_best",
        camvid_recipes.RECIPES,
        output_strides=(32,),
    ),
    "camvid_half_upsampling": Table(
        title="Ours: what Tab. 1 of FastFCN shows, on photos of CamVid at half their size",
        columns=("Head", "OS", "Upsampling"),
        measures=("mean_iou", *COSTS),
        cost="multiply_adds",
        cost_size=(360, 480),
        cost_classes=11,
        rows=(
            _half("Encoding", 8, "None"),
            _half("Encoding", 32, "Bilinear"),
            _half("Encoding", 32, "JPU (ours)"),
            _half("DeepLab", 32, "JPU (ours)"),
        ),
    ),
    "camvid_half_speed": Table(
        title="Ours: what Tab. 2 of FastFCN shows, images per second of one 180x240 image",
        columns=("Backbone", "System", "Network"),
        measures=("parameters", "multiply_adds", "speed", "speed_ratio", "cost_ratio"),
        result="none",
        cost="speed",
        cost_size=(180, 240),  # half of CamVid's 360x480
        cost_classes=11,
        rows=(
            *_half_speeds("DeepLabv3+", deeplab_camvid.RECIPES),
            *_half_speeds("FastFCN", camvid_recipes.RECIPES),
        ),
    ),
}
