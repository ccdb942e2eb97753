"""Scores of label maps against labels, as functions of the pixels that each class has.

A new metric is a function and a row in METRICS or CLASS_METRICS. It then appears in the printed
table, in evaluation.json and in metrics.csv; that of a row of METRICS in the training curve too.
A row of BENCHMARK_SCORES appears in the printed table and evaluation.json of its dataset alone.
BOUNDARY_METRICS are the scores of the pixels near contours, where those are counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from deeplab_tf.recipe.parts import Eval


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many pixels each class has, void not counted.

    All metrics follow from these three, which add up over images. Leading axes, if any, are those
    of several images or of several sets of images; a metric has one value for each.

    Attributes:
      intersection: int64 or float64 [..., K], pixels that are predicted as their label.
      label: [..., K], pixels with this label.
      predicted: [..., K], pixels predicted as this class.
    """

    intersection: np.ndarray
    label: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray) -> Self:
        """The counts [K] of a confusion matrix [K, K]; row: label, column: prediction."""
        return cls(np.diag(matrix).copy(), matrix.sum(axis=1), matrix.sum(axis=0))

    @classmethod
    def stack(cls, counts: Sequence[Counts]) -> Self:
        """[N, K] of N times [K]."""
        return cls(*map(np.stack, _columns(counts)))

    @classmethod
    def concatenated(cls, counts: Sequence[Counts]) -> Self:
        """[M + N, K] of [M, K] and [N, K]."""
        return cls(*map(np.concatenate, _columns(counts)))

    def sum(self) -> Counts:
        """[K] of [N, K]."""
        return Counts(*(values.sum(axis=0) for values in self._arrays))

    def weighted(self, weights: np.ndarray) -> Counts:
        """float64 [B, K]: B sums of [N, K], in which each image has its weight in [B, N]."""
        # float64 is exact here: no sum of pixels reaches 2^53. Products of integers have no BLAS.
        weights = weights.astype(np.float64)
        return Counts(*(weights @ values.astype(np.float64) for values in self._arrays))

    @property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.intersection, self.label, self.predicted


def _columns(counts: Sequence[Counts]) -> list[list[np.ndarray]]:
    """The intersections, the labels and the predictions of several counts."""
    return [list(arrays) for arrays in zip(*(one._arrays for one in counts), strict=True)]


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

    def update(self, label: Any, label_map: Any) -> np.ndarray:
        """Adds the pixels of one image or one batch.

        Args:
          label: int [H, W] or [N, H, W], array or tensor: 0..K-1 or ignore_label.
          label_map: int of the same shape, predictions 0..K-1.

        Returns:
          int64 [K, K], of these pixels alone.

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
        added = counts.reshape(self.matrix.shape)
        self.matrix += added
        return added

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


def iou(counts: Counts, options: Eval) -> np.ndarray:
    """Intersection over union of each class.

    Args:
      counts: [..., K].
      options: not used.

    Returns:
      float64 [..., K] in 0..1; NaN for a class that occurs in neither labels nor predictions.
    """
    union = counts.label + counts.predicted - counts.intersection
    return _ratio(counts.intersection, union)


def class_accuracy(counts: Counts, options: Eval) -> np.ndarray:
    """Share of the pixels of each class that are predicted as it, also called recall.

    Args:
      counts: [..., K].
      options: not used.

    Returns:
      float64 [..., K] in 0..1; NaN for a class that does not occur in the labels.
    """
    return _ratio(counts.intersection, counts.label)


def mean_iou(counts: Counts, options: Eval) -> np.ndarray:
    """Mean of `iou` over the classes.

    Args:
      counts: [..., K].
      options: which classes are left out, and whether absent ones are (code: DeepLab's) or count
        as 0 (code: FastFCN's).

    Returns:
      float64 [...] in 0..1; NaN if no class is left.
    """
    return _class_mean(iou(counts, options), options)


def mean_class_accuracy(counts: Counts, options: Eval) -> np.ndarray:
    """Mean of `class_accuracy` over the classes; see `mean_iou`.

    A class that is predicted somewhere and has no label pixel is absent here.
    """
    return _class_mean(class_accuracy(counts, options), options)


def pixel_accuracy(counts: Counts, options: Eval) -> np.ndarray:
    """Share of the counted pixels whose prediction is their label; NaN if there are none."""
    return _ratio(counts.intersection.sum(axis=-1), counts.label.sum(axis=-1))


def frequency_weighted_iou(counts: Counts, options: Eval) -> np.ndarray:
    """Mean of `iou` weighted by the label pixels of each class (cited: FCN, Long et al. 2015).

    Args:
      counts: [..., K].
      options: which classes are left out, of the sum and of the weights; an absent class weighs 0.

    Returns:
      float64 [...] in 0..1; NaN if no label pixel is left.
    """
    excluded = list(options.excluded_classes)
    values = np.nan_to_num(np.delete(iou(counts, options), excluded, axis=-1), nan=0.0)
    pixels = np.delete(counts.label, excluded, axis=-1)
    return _ratio((values * pixels).sum(axis=-1), pixels.sum(axis=-1))


def _class_mean(values: np.ndarray, options: Eval) -> np.ndarray:
    """float64 [...]: the mean of [..., K] over the classes that count."""
    values = np.delete(values, list(options.excluded_classes), axis=-1)
    known = ~np.isnan(values)
    if options.absent_classes == "zero":
        number = np.full(values.shape[:-1], values.shape[-1])
    else:
        number = known.sum(axis=-1)
    return _ratio(np.where(known, values, 0).sum(axis=-1), number)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64, NaN where `whole` is 0."""
    part, whole = np.asarray(part), np.asarray(whole)
    values = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=values, where=whole > 0)[()]


def final_score(counts: Counts, options: Eval) -> np.ndarray:
    """ADE20K's score, the mean of pixel accuracy and mean IoU (paper: FastFCN Sec. 4.2, Tab. 5)."""
    return (pixel_accuracy(counts, options) + mean_iou(counts, options)) / 2


def mean_iou_background_as_0(counts: Counts, options: Eval) -> np.ndarray:
    """`mean_iou` as if background were one more class, of which no pixel is predicted.

    It is the mean IoU of 59 classes x 59/60 (paper: FastFCN Tab. 3; cited: the issues of
    PyTorch-Encoding, whose code has no evaluation of 60 classes). Background's pixels are not
    counted: for scores in which they are, evaluate on `pascal_context60`.
    """
    num_classes = counts.label.shape[-1]
    return mean_iou(counts, options) * num_classes / (num_classes + 1)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A row of the tables below.

    Attributes:
      title: the metric's name in print.
      compute: (what was counted, here `Counts` [..., K], options) -> float64 [...] of fractions,
        or [..., K] of those of each class; NaN where there is no score.
    """

    title: str
    compute: Callable[[Any, Eval], Any]


METRICS: dict[str, Metric] = {
    "mean_iou": Metric("mean IoU", mean_iou),
    "pixel_accuracy": Metric("pixel accuracy", pixel_accuracy),
    "mean_class_accuracy": Metric("mean class accuracy", mean_class_accuracy),
    "frequency_weighted_iou": Metric("frequency-weighted IoU", frequency_weighted_iou),
}

# Metrics with one value per class.
CLASS_METRICS: dict[str, Metric] = {
    "iou": Metric("IoU", iou),
    "class_accuracy": Metric("accuracy", class_accuracy),
}

# Of the pixels near contours alone; see `scores.boundary`.
BOUNDARY_METRICS: dict[str, Metric] = {
    "mean_boundary_iou": Metric("mean boundary IoU", mean_iou),
}
BOUNDARY_CLASS_METRICS: dict[str, Metric] = {
    "boundary_iou": Metric("boundary IoU", iou),
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
