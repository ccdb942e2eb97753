"""Augmentations that resize, and their base class.

DeepLab's way to resize is bilinear for images and nearest neighbor for labels, both with
`align_corners=True` (code).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option

# The first (row, column) and the (rows, columns) of a part of an image, int32 [2] each.
Window = tuple["tf.Tensor", "tf.Tensor"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resizing(Options):
    """Base of the augmentations that resize; before a crop, they are told which window it keeps."""

    def new_size(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The size to resize to.

        Args:
          size: int32 [2], (H, W) of the image.
          seed: int [2]; random sizes are a function of it.

        Returns:
          int32 [2], the new (H, W).
        """
        raise NotImplementedError

    def resize(
        self, image: tf.Tensor, label: tf.Tensor, size: tf.Tensor, window: Window | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Resizes both; see `resize`."""
        return resize(image, label, size, window)

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the resized image and label."""
        return self.resize(image, label, self.new_size(tf.shape(label), seed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomScale(Resizing):
    """Scales the image by a random factor."""

    kind: ClassVar[str] = "random_scale"

    # cited: DeepLabv3 Sec. 4.1
    low: float = option(0.5, "smallest factor", above=0)
    high: float = option(2.0, "largest factor", above=0)
    # code: DeepLab's
    step: float = option(
        0.25, "distance between two possible factors; 0: any factor in between", minimum=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.low, self.high)

    def new_size(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The sides times a random factor; see `Resizing.new_size`."""
        if self.step == 0:
            return scaled_size(size, tf.random.stateless_uniform([], seed, self.low, self.high))
        steps = int((self.high - self.low) / self.step + 1e-6)
        drawn = tf.random.stateless_uniform([], seed, 0, steps + 1, tf.int32)
        return scaled_size(size, self.low + tf.cast(drawn, tf.float32) * self.step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResizeToRange(Resizing):
    """Resizes the image until its sides are in a range; nothing is random."""

    kind: ClassVar[str] = "resize_to_range"

    # code: DeepLab's, for ADE20K
    min_side: int = option(513, "the shorter side, pixels", minimum=1)
    max_side: int | None = option(
        513,
        "limit of the longer side, pixels, even where min_side is then not reached; none: no limit",
        minimum=1,
    )
    factor: int | None = option(
        16, "both sides become multiples of this, plus 1; none: no rounding", minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_side is not None and self.max_side < self.min_side:
            raise ValueError(
                f"max_side must be none or at least min_side, {self.min_side}; got {self.max_side}."
            )

    def new_size(self, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The size in the range; see `Resizing.new_size`."""
        return size_in_range(
            size, min_side=self.min_side, max_side=self.max_side, factor=self.factor
        )


def check_range(low: float, high: float) -> None:
    """Raises ValueError if the option `low` is above the option `high`."""
    if low > high:
        raise ValueError(f"low must be at most high, {high}; got {low}.")


def scaled_size(size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """int(side * scale) of each side, at least 1 (code).

    Args:
      size: int32 [2], (H, W).
      scale: float32 scalar.

    Returns:
      int32 [2].
    """
    return tf.maximum(tf.cast(tf.cast(size, tf.float32) * scale, tf.int32), 1)


def size_in_range(
    size: tf.Tensor, *, min_side: int, max_side: int | None, factor: int | None
) -> tf.Tensor:
    """The size in a range that has nearly the same aspect ratio (code: DeepLab's, for ADE20K).

    Args:
      size: int32 [2], (H, W).
      min_side: the shorter side becomes this, pixels, unless the longer side would then exceed
        `max_side`.
      max_side: the longer side becomes this in that case, pixels. None: no limit.
      factor: both sides are rounded up to a multiple of this plus 1, and `max_side` is first
        rounded down to one. None: no rounding.

    Returns:
      int32 [2].
    """
    sides = tf.cast(size, tf.float32)

    def scaled(scale):
        return tf.cast(tf.floor(sides * scale), tf.int32)

    new = scaled(min_side / tf.reduce_min(sides))
    if max_side is not None:
        if factor is not None:
            max_side -= (max_side - 1) % factor
        longest = scaled(max_side / tf.reduce_max(sides))
        new = tf.where(tf.reduce_max(new) > max_side, longest, new)
    if factor is not None:
        new += (1 - new) % factor
    return tf.maximum(new, 1)


def resize(
    image: tf.Tensor, label: tf.Tensor, size: tf.Tensor, window: Window | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes the image bilinearly and the label by nearest neighbor, with `align_corners=True`.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      size: int32 [2], the new (H, W).
      window: the part of the result to return. None: all of it.

    Returns:
      (image float32, label int32) of the new size, or of the window's.
    """
    corner, shape = window or (tf.zeros([2], tf.int32), size)
    image = tf.cast(image, tf.float32)
    image = tf.raw_ops.ResizeBilinear(images=image[None], size=size, align_corners=True)
    image = tf.slice(image[0], [*tf.unstack(corner), 0], [*tf.unstack(shape), 3])

    def nearest(axis):  # equal to ResizeNearestNeighbor, which takes five times as long
        old, new = tf.shape(label)[axis], size[axis]
        step = tf.cast(old - 1, tf.float32) / tf.cast(tf.maximum(new - 1, 1), tf.float32)
        exact = tf.cast(corner[axis] + tf.range(shape[axis]), tf.float32) * step
        return tf.minimum(tf.cast(tf.floor(exact + 0.5), tf.int32), old - 1)

    return image, select(label, nearest(0), nearest(1))


def select(label: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """label[rows][:, columns] of [H, W] by int32 [h] and int32 [w]."""
    # Copying whole rows is fast and copying single values is not, so columns become rows.
    chosen = tf.gather(tf.transpose(label), columns)
    return tf.gather(tf.transpose(chosen), rows)
