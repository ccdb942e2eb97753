"""Scores near the boundaries of objects: the trimap (paper: DeepLabv3+ Sec. 4.4, Fig. 4).

Labels such as those of PASCAL VOC are void along the boundaries of objects. The band of width n
is this void dilated by n pixels, without the void itself, which is never scored. An image without
void has an empty band.

The paper names no structuring element. Ours is a square of side 2n+1: the band of width n is all
pixels with void at most n rows and n columns away. It is the dilation along columns followed by
the one along rows, and the band of a larger width continues from that of a smaller one, so that
all widths together take about 2 log2(n) passes over the label for each axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_tf.evaluation.metrics import ConfusionMatrix, Counts


class Trimap:
    """Counts of the pixels near void in each image, for each width of the band."""

    def __init__(self, num_classes: int, ignore_label: int, widths: Sequence[int]):
        """Counts nothing yet.

        Args:
          num_classes: K, background counted, void not.
          ignore_label: label value of void.
          widths: of the bands, pixels, ascending.
        """
        self._num_classes = num_classes
        self._ignore_label = ignore_label
        self._widths = tuple(widths)
        self._images: list[list[Counts]] = []  # [K] of each band, of each image

    def update(self, label: Any, label_map: Any) -> None:
        """Adds the pixels of one image.

        Args:
          label: int [H, W], array or tensor: 0..K-1 or ignore_label.
          label_map: int [H, W], predictions 0..K-1.

        Raises:
          ValueError: a value is out of range. Nothing is counted then.
        """
        label, label_map = np.asarray(label), np.asarray(label_map)
        smallest = smallest_band(label == self._ignore_label, self._widths)
        confusion = ConfusionMatrix(self._num_classes, self._ignore_label)
        bands = []
        for i in range(len(self._widths)):
            # Each pixel is counted once, for the smallest width whose band contains it.
            is_here = smallest == i
            confusion.update(label[is_here], label_map[is_here])
            bands.append(Counts.of(confusion.matrix))
        self._images.append(bands)

    @property
    def counts(self) -> dict[int, Counts]:
        """Width -> int64 [N, K] of the pixels in its band, of each of N images, at least one."""
        return {
            width: Counts.stack([bands[i] for bands in self._images])
            for i, width in enumerate(self._widths)
        }


def smallest_band(void: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Which is the smallest of several bands that contains a pixel.

    Args:
      void: bool [H, W].
      widths: of the bands, pixels, ascending.

    Returns:
      int16 [H, W]: index in `widths`; `len(widths)` of pixels in no band; 0 of void itself.
    """
    smallest = np.zeros(void.shape, np.int16)
    dilated, reach = void, 0
    for width in widths:
        for axis in (0, 1):
            dilated = dilated_along(dilated, width - reach, axis)
        reach = width
        smallest += ~dilated
    return smallest


def dilated_along(mask: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Whether a pixel has one of `mask` at most `reach` pixels before or after it along an axis."""
    done = 0
    while done < reach:
        # At most one more than is done: the union has no gap, at the borders of the image neither.
        shift = min(done + 1, reach - done)
        wider = mask.copy()
        # Views of [H, W] or [W, H], so that the first axis is the one of the shift.
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(wider, axis, 0)
        target[:-shift] |= source[shift:]
        target[shift:] |= source[:-shift]
        mask, done = wider, done + shift
    return mask
