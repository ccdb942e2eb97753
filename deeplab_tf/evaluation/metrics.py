"""Scores of label maps against labels, as functions of a confusion matrix.

A new metric is a function and a row in METRICS or CLASS_METRICS. It then appears in the printed
table, in evaluation.json and in metrics.csv; that of a row of METRICS in the training curve too.
A row of BENCHMARK_SCORES appears in the printed table and evaluation.json of its dataset alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deeplab_tf.recipe.parts import Eval


class ConfusionMatrix:
    """Counts of (label, prediction) pairs over any number of images.

    Attributes:
      matrix: int64 [K, K]; row: label, column: prediction.
      num_classes: K, background counted, void not.
      ignore_label: label value of the pixels that are not counted.
    """

    def __init__(self, num_classes: int, ignore_label: int):
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1; got {num_classes}.")
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, label: Any, label_map: Any) -> None:
        """Adds the pixels of one image or one batch.

        Args:
          label: int [H, W] or [N, H, W], array or tensor: 0..K-1 or ignore_label.
          label_map: int of the same shape, predictions 0..K-1.

        Raises:
          ValueError: shapes differ, or a value is out of range. Nothing is counted then.
        """
        label, label_map = _integers(label, "label"), _integers(label_map, "label_map")
        if label.shape != label_map.shape:
            raise ValueError(
                "label and label_map must have the same shape; got"
                f" {label.shape} and {label_map.shape}."
            )
        counted = label != self.ignore_label
        label, label_map = label[counted], label_map[counted]
        self._check_range(label, "label", f" or {self.ignore_label} (ignored)")
        self._check_range(label_map, "label_map", "")
        pairs = label.astype(np.int64) * self.num_classes + label_map.astype(np.int64)
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.matrix.shape)

    def _check_range(self, values: np.ndarray, what: str, also: str) -> None:
        wrong = values[(values < 0) | (values >= self.num_classes)]
        if wrong.size:
            raise ValueError(
                f"{what} values must be 0..{self.num_classes - 1}{also};"
                f" got {', '.join(map(str, np.unique(wrong)[:10]))} in {wrong.size} pixels."
            )


def _integers(values: Any, what: str) -> np.ndarray:
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{what} must be of an integer type; got {values.dtype}.")
    return values


def check_options(
    options: Eval, num_classes: int, metrics: Mapping[str, Metric] | None = None
) -> None:
    """Checks that the metrics can be computed with these options.

    Args:
      options: of the metrics.
      num_classes: K, background counted, void not.
      metrics: the metrics that are computed; None: `METRICS`.

    Raises:
      ValueError: an excluded class is not one of 0..K-1, all classes are excluded, the best metric
        is not one of `metrics`, or the widths of the trimap do not ascend.
    """
    known = METRICS if metrics is None else metrics
    if options.best_metric not in known:
        raise ValueError(
            f"eval.best_metric must be one of {', '.join(known)}; got {options.best_metric!r}."
        )
    excluded = set(options.excluded_classes)
    unknown = sorted(excluded - set(range(num_classes)))
    if unknown:
        raise ValueError(
            f"eval.excluded_classes must be among the classes 0..{num_classes - 1};"
            f" got {', '.join(map(str, unknown))}."
        )
    if len(excluded) == num_classes:
        raise ValueError(f"eval.excluded_classes must leave a class; got all {num_classes}.")
    widths = options.trimap_widths
    if list(widths) != sorted(set(widths)):
        raise ValueError(
            f"eval.trimap_widths must be different and ascending; got {','.join(map(str, widths))}."
        )


def iou(matrix: np.ndarray, options: Eval) -> np.ndarray:
    """Intersection over union of each class.

    Args:
      matrix: int64 [K, K]; row: label, column: prediction.
      options: not used.

    Returns:
      float64 [K] in 0..1; NaN for a class that occurs in neither labels nor predictions.
    """
    intersection = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - intersection
    occurs = union > 0
    values = np.full(len(matrix), np.nan)
    values[occurs] = intersection[occurs] / union[occurs]
    return values


def mean_iou(matrix: np.ndarray, options: Eval) -> float:
    """Mean of `iou` over the classes.

    Args:
      matrix: int64 [K, K]; row: label, column: prediction.
      options: which classes are left out, and whether absent ones are (code: DeepLab's) or count
        as 0 (code: FastFCN's).

    Returns:
      0..1; NaN if no class is left.
    """
    values = np.delete(iou(matrix, options), list(options.excluded_classes))
    if options.absent_classes == "zero":
        values = np.nan_to_num(values, nan=0.0)
    else:
        values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def pixel_accuracy(matrix: np.ndarray, options: Eval) -> float:
    """Share of the counted pixels whose prediction is their label; NaN if there are none."""
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total else float("nan")


def final_score(matrix: np.ndarray, options: Eval) -> float:
    """ADE20K's score, the mean of pixel accuracy and mean IoU (paper: FastFCN Sec. 4.2, Tab. 5)."""
    return (pixel_accuracy(matrix, options) + mean_iou(matrix, options)) / 2


def mean_iou_background_as_0(matrix: np.ndarray, options: Eval) -> float:
    """`mean_iou` as if background were one more class, of which no pixel is predicted.

    It is the mean IoU of 59 classes x 59/60 (paper: FastFCN Tab. 3; cited: the issues of
    PyTorch-Encoding, whose code has no evaluation of 60 classes). Background's pixels are not
    counted: for scores in which they are, evaluate on `pascal_context60`.
    """
    return mean_iou(matrix, options) * len(matrix) / (len(matrix) + 1)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row of the tables below.

    Attributes:
      title: the metric's name in print.
      compute: (confusion matrix [K, K], options) -> a fraction, or float64 [K] of fractions; NaN
        where there is no score.
    """

    title: str
    compute: Callable[[np.ndarray, Eval], Any]


METRICS: dict[str, Metric] = {
    "mean_iou": Metric("mean IoU", mean_iou),
    "pixel_accuracy": Metric("pixel accuracy", pixel_accuracy),
}

# Metrics with one value per class.
CLASS_METRICS: dict[str, Metric] = {
    "iou": Metric("IoU", iou),
}

# Scores that a dataset's benchmark or its papers have beside METRICS, by the name of the dataset.
# Only there: elsewhere no published score is comparable.
BENCHMARK_SCORES: dict[str, dict[str, Metric]] = {
    "ade20k": {"final_score": Metric("final score", final_score)},
    "pascal_context": {
        "mean_iou_background_as_0": Metric(
            "mean IoU of 60 classes, background as 0", mean_iou_background_as_0
        ),
    },
}
