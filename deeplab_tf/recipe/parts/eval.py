"""The part of a recipe that says what is scored."""

from __future__ import annotations

import dataclasses
from typing import Literal

from deeplab_tf.recipe.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(Options):
    """What is scored, and which classes count."""

    split: str = option("val", "split to evaluate", may_change=True)
    best_metric: str = option("mean_iou", "score that decides which weights are the best")
    excluded_classes: tuple[int, ...] = option(
        (), "classes left out of the mean IoU", minimum=0, may_change=True
    )
    absent_classes: Literal["exclude", "zero"] = option(
        "exclude",
        "classes in neither labels nor predictions: left out (DeepLab's code), or 0 (FastFCN's)",
        may_change=True,
    )
    trimap_widths: tuple[int, ...] = option(
        (),
        "widths of bands around void that are scored too, pixels, e.g. 1,2,5,10,20,40",
        minimum=1,
        maximum=1000,  # ours: Fig. 4 of the paper ends at 40
        may_change=True,
    )
    boundary_iou: bool = option(
        False, "score the pixels near the contours of each class too", may_change=True
    )
