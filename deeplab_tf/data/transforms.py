"""Augmentations: pure functions of image, label and seed.

Labels are only ever resized with nearest neighbours. The deterministic part of each
augmentation is a function of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from deeplab_tf.config import DataConfig

_Pair = tuple[tf.Tensor, tf.Tensor]

MEAN_PIXEL = 127.5  # code: what images are padded with; 0 once the network has normalized it


def scale_by(image: tf.Tensor, label: tf.Tensor, scale: tf.Tensor) -> _Pair:
    """Resizes both to int(side * scale), corners on corners (code).

    Args:
      image: float32 [H, W, 3].
      label: int32 [H, W].
      scale: float32 scalar.

    Returns:
      (image, label) of the new size.
    """
    sides = tf.cast(tf.shape(label), tf.float32)
    return _resize(image, label, tf.maximum(tf.cast(sides * scale, tf.int32), 1))


def size_in_range(
    size: tf.Tensor, *, min_side: int, max_side: int | None, factor: int | None
) -> tf.Tensor:
    """The size nearest in shape whose sides are in a range (code: DeepLab's ADE20K protocol).

    Args:
      size: int32 [2], (H, W).
      min_side: the shorter side becomes this, pixels ...
      max_side: ... unless the longer side would then exceed this, pixels; it becomes this
        instead. None: no bound.
      factor: both sides are rounded up to a multiple of this plus 1, and max_side first down to
        one. None: no rounding.

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


def _resize(image: tf.Tensor, label: tf.Tensor, size: tf.Tensor) -> _Pair:
    image = tf.raw_ops.ResizeBilinear(images=image[None], size=size, align_corners=True)[0]
    label = tf.raw_ops.ResizeNearestNeighbor(
        images=label[None, :, :, None], size=size, align_corners=True
    )
    return image, label[0, :, :, 0]


def pad_to(image: tf.Tensor, label: tf.Tensor, size: int, ignore_label: int) -> _Pair:
    """Pads sides below `size` up to it, at the bottom and on the right (code)."""
    missing = tf.maximum(size - tf.shape(label), 0)
    paddings = [[0, missing[0]], [0, missing[1]]]
    image = tf.pad(image, [*paddings, [0, 0]], constant_values=MEAN_PIXEL)
    label = tf.pad(label, paddings, constant_values=ignore_label)
    return image, label


def crop_at(image: tf.Tensor, label: tf.Tensor, corner: tf.Tensor, size: int) -> _Pair:
    """The square of `size` pixels whose top left pixel is `corner`, (row, column)."""
    image = tf.slice(image, tf.concat([corner, [0]], 0), [size, size, 3])
    return image, tf.slice(label, corner, [size, size])


def flip_left_right(image: tf.Tensor, label: tf.Tensor) -> _Pair:
    """Mirrors both."""
    return tf.reverse(image, [1]), tf.reverse(label, [1])


def resize_to_range(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Resizes to the `size_in_range` of data.resize_min_side, _max_side and _factor."""
    del seed, ignore_label
    size = size_in_range(
        tf.shape(label),
        min_side=data.resize_min_side,
        max_side=data.resize_max_side,
        factor=data.resize_factor,
    )
    return _resize(image, label, size)


def random_scale(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Scales by a factor drawn from data.scale_range; see `scale_by`.

    Args:
      image: float32 [H, W, 3].
      label: int32 [H, W].
      seed: int32 [2]; the draw is a function of it.
      data: gives scale_range and scale_step.
      ignore_label: not used here.

    Returns:
      (image, label) of the new size.
    """
    del ignore_label
    low, high = data.scale_range
    if data.scale_step == 0:
        scale = tf.random.stateless_uniform([], seed, low, high)
    else:
        steps = int((high - low) / data.scale_step + 1e-6)
        drawn = tf.random.stateless_uniform([], seed, 0, steps + 1, tf.int32)
        scale = low + tf.cast(drawn, tf.float32) * data.scale_step
    return scale_by(image, label, scale)


def random_crop(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Pads up to data.crop_size, then cuts a square of that size from anywhere."""
    image, label = pad_to(image, label, data.crop_size, ignore_label)
    corners = tf.cast(tf.shape(label) - data.crop_size + 1, tf.uint32)
    drawn = tf.random.stateless_uniform([2], seed, None, None, tf.uint32) % corners
    return crop_at(image, label, tf.cast(drawn, tf.int32), data.crop_size)


def random_flip(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Mirrors left and right in one case of two."""
    del data, ignore_label
    return tf.cond(
        tf.random.stateless_uniform([], seed) < 0.5,
        lambda: flip_left_right(image, label),
        lambda: (image, label),
    )


AUGMENTATIONS: dict[str, Callable[..., _Pair]] = {
    "resize_to_range": resize_to_range,
    "random_scale": random_scale,
    "random_crop": random_crop,
    "random_flip": random_flip,
}
