"""Augmentations that make the shorter side a given length, resizing as Pillow does."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.data.augment.resize import Resizing, Window, check_range
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option
from jpu_tf.augment import pillow_ops


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomShortSide(Resizing):
    """Resizes the image so that its shorter side has a random length."""

    kind: ClassVar[str] = "random_short_side"

    # code: FastFCN's
    short_side: int = option(520, "length of the shorter side at a factor of 1, pixels", minimum=1)
    # paper: FastFCN Sec. 4.1
    low: float = option(0.5, "smallest factor of short_side", above=0)
    high: float = option(2.0, "largest factor of short_side", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.low, self.high)
        if int(self.low * self.short_side) < 1:
            raise ValueError(
                "low times short_side must be at least 1 pixel;"
                f" got {self.low} and {self.short_side}."
            )

    def new_size(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The size whose shorter side is a random integer; see `Resizing.new_size`."""
        low, high = (int(factor * self.short_side) for factor in (self.low, self.high))
        drawn = tf.random.stateless_uniform([], seed, low, high + 1, tf.int32)
        return size_of_short_side(size, drawn)

    def resize(
        self, image: tf.Tensor, label: tf.Tensor, size: tf.Tensor, window: Window | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Resizes both as Pillow does; see `pillow_ops.resize`."""
        return pillow_ops.resize(image, label, size, window)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CenterCrop(Options):
    """Resizes the shorter side to the crop's size and crops the center.

    FastFCN's code chooses its best checkpoint by such crops. Nothing is random.
    """

    kind: ClassVar[str] = "center_crop"

    # paper: FastFCN Sec. 4.1
    size: int = option(480, "side of the square, pixels", minimum=1)

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the crops of image and label; the image is uint8."""
        size = size_of_short_side(tf.shape(label), tf.constant(self.size))
        # Half a pixel is rounded to even, as Python rounds (code).
        corner = tf.cast(tf.round(tf.cast(size - self.size, tf.float64) / 2), tf.int32)
        square = [self.size, self.size]
        image, label = pillow_ops.resize(image, label, size, (corner, tf.constant(square)))
        return tf.ensure_shape(image, [*square, 3]), tf.ensure_shape(label, square)


def size_of_short_side(size: tf.Tensor, short_side: tf.Tensor) -> tf.Tensor:
    """The size whose shorter side is `short_side`; the longer side is truncated (code).

    Args:
      size: int32 [2], (H, W).
      short_side: int32 scalar, pixels.

    Returns:
      int32 [2].
    """
    return size * short_side // tf.reduce_min(size)
