"""Boundary IoU: the IoU of the parts of label and prediction near their own contours.

Cheng et al. 2021, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation":
a pixel of a class is near the class's contour if a pixel of something else is at most d pixels
away. Contours of the prediction count as those of the label do, so that a prediction that is too
large loses as much as one that is too small. As in the authors' code, "away" is the chessboard
distance, and outside the image there is something else: the pixels along its border are near a
contour.

Void (ours; the paper's labels have none) is not counted. It is something else for the label, and
for the prediction too: a prediction that is right wherever there is a label scores 1, and what it
says in void does not matter.

A pixel of any class is near its contour if the square of side 2d+1 around it is not of one class,
so that one pass finds the contours of all classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deeplab_tf.evaluation.metrics import Counts
from deeplab_tf.evaluation.trimap import dilated_along

_SHARE = 0.02  # paper: d as a share of the image's diagonal


def boundary_width(height: int, width: int) -> int:
    """The distance d in pixels for an image of this size: 2 % of its diagonal, at least 1."""
    return max(1, round(_SHARE * math.hypot(height, width)))


def boundary_counts(label: Any, label_map: Any, num_classes: int, ignore_label: int) -> Counts:
    """Counts the pixels near contours in one image.

    Args:
      label: int [H, W], array or tensor: 0..K-1 or ignore_label.
      label_map: int [H, W], predictions 0..K-1.
      num_classes: K, background counted, void not.
      ignore_label: label value of void.

    Returns:
      int64 [K]. `metrics.iou` of them, summed over images, is the boundary IoU of each class.
    """
    label, label_map = (np.asarray(values).astype(np.int32) for values in (label, label_map))
    is_void = label == ignore_label
    predicted = np.where(is_void, np.int32(ignore_label), label_map)
    reach = boundary_width(*label.shape)
    of_label = near_contour(label, reach) & ~is_void
    of_prediction = near_contour(predicted, reach) & ~is_void
    both = of_label & of_prediction & (label == predicted)

    def count(values: np.ndarray) -> np.ndarray:
        return np.bincount(values, minlength=num_classes)

    return Counts(count(label[both]), count(label[of_label]), count(predicted[of_prediction]))


def near_contour(classes: np.ndarray, reach: int) -> np.ndarray:
    """Which pixels are near the contour of their own class.

    Args:
      classes: int32 [H, W].
      reach: d, pixels, at least 1.

    Returns:
      bool [H, W]: a pixel of another class, or one outside the image, is at most d rows and d
      columns away.
    """
    height, width = classes.shape
    outside = np.pad(classes, 1, constant_values=classes.min() - 1)
    near = np.zeros(classes.shape, bool)
    for row in range(3):
        for column in range(3):
            near |= classes != outside[row : row + height, column : column + width]
    # Where the square of side 2d+1 is not of one class, two neighbors in it differ, and one of
    # them is in the square of side 2d-1.
    for axis in (0, 1):
        near = dilated_along(near, reach - 1, axis)
    return near
