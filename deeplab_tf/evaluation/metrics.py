"""Scores of label maps against labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np


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

    def update(self, label: Any, label_map: Any, mask: Any = None) -> None:
        """Adds the pixels of one image or one batch.

        Args:
          label: int [H, W] or [N, H, W], array or tensor: 0..K-1 or ignore_label.
          label_map: int of the same shape, predictions 0..K-1.
          mask: bool of the same shape; pixels where it is false are not counted. None: all are.

        Raises:
          ValueError: shapes differ, or a value is out of range. Nothing is counted then.
        """
        label, label_map = _integers(label, "label"), _integers(label_map, "label_map")
        counted = np.ones(label.shape, bool) if mask is None else np.asarray(mask, bool)
        if not label.shape == label_map.shape == counted.shape:
            raise ValueError(
                "label, label_map and mask must have the same shape; got"
                f" {label.shape}, {label_map.shape} and {counted.shape}."
            )
        void = label == self.ignore_label
        self._check_range(label[~void], "label", f" or {self.ignore_label} (ignored)")
        counted &= ~void
        label, label_map = label[counted], label_map[counted]
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

    def merge(self, other: ConfusionMatrix) -> None:
        """Adds the counts of `other`.

        Raises:
          ValueError: it counts other classes.
        """
        if (self.num_classes, self.ignore_label) != (other.num_classes, other.ignore_label):
            raise ValueError(
                "confusion matrices must agree in num_classes and ignore_label to be merged; got"
                f" {self.num_classes}, {self.ignore_label} and"
                f" {other.num_classes}, {other.ignore_label}."
            )
        self.matrix += other.matrix

    def iou(self) -> np.ndarray:
        """Intersection over union of each class.

        Returns:
          float64 [K] in 0..1; NaN for a class that occurs in neither labels nor predictions.
        """
        intersection = np.diag(self.matrix)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - intersection
        occurs = union > 0
        iou = np.full(self.num_classes, np.nan)
        iou[occurs] = intersection[occurs] / union[occurs]
        return iou

    def mean_iou(
        self,
        excluded_classes: Sequence[int] = (),
        absent: Literal["exclude", "zero"] = "exclude",
    ) -> float:
        """Mean of `iou` over the classes.

        Args:
          excluded_classes: left out, whatever their IoU.
          absent: classes in neither labels nor predictions are left out (code: DeepLab's), or
            count as 0 (code: FastFCN's).

        Returns:
          0..1; NaN if no class is left.

        Raises:
          ValueError: an excluded class is not one of 0..K-1, or `absent` is unknown.
        """
        if absent not in ("exclude", "zero"):
            raise ValueError(f"absent must be 'exclude' or 'zero'; got {absent!r}.")
        self._check_range(np.asarray(excluded_classes, np.int64), "excluded_classes", "")
        iou = np.delete(self.iou(), list(excluded_classes))
        iou = np.nan_to_num(iou, nan=0.0) if absent == "zero" else iou[~np.isnan(iou)]
        return float(iou.mean()) if iou.size else float("nan")

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels whose prediction is their label; NaN if there are none."""
        total = self.matrix.sum()
        return float(np.trace(self.matrix) / total) if total else float("nan")


def _integers(values: Any, what: str) -> np.ndarray:
    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"{what} must be of an integer type; got {values.dtype}.")
    return values
