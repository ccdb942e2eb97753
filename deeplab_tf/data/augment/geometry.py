"""Augmentations: pure functions of image, label and seed.

An image stays in bytes, if it comes so, until something makes fractions of them: moving bytes
takes a quarter of the time.

Labels are only ever resized with nearest neighbours. The deterministic part of each
augmentation is a function of its own. DeepLab's protocol is random_scale, random_crop,
random_flip; FastFCN's is in `pillow_transforms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from deeplab_tf.recipe.options import DataConfig
from jpu_tf.augment.pillow_ops import Window, select

_Pair = tuple[tf.Tensor, tf.Tensor]

_GREY = (0.299, 0.587, 0.114)  # cited: ITU-R BT.601, the luma of red, green and blue
_HUE_SHARE = 0.25  # ours: turns of the hue at a jitter of 1; more makes other things of things


def scale_by(image: tf.Tensor, label: tf.Tensor, scale: tf.Tensor) -> _Pair:
    """Resizes both to int(side * scale), corners on corners (code).

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      scale: float32 scalar.

    Returns:
      (image, label) of the new size.
    """
    return _resize(image, label, _scaled_size(tf.shape(label), scale))


def _scaled_size(size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(tf.cast(size, tf.float32) * scale, tf.int32), 1)


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


def _resize(
    image: tf.Tensor, label: tf.Tensor, size: tf.Tensor, window: Window | None = None
) -> _Pair:
    corner, shape = window or (tf.zeros([2], tf.int32), size)
    image = tf.cast(image, tf.float32)
    image = tf.raw_ops.ResizeBilinear(images=image[None], size=size, align_corners=True)
    image = tf.slice(image[0], [*tf.unstack(corner), 0], [*tf.unstack(shape), 3])

    def places(axis):  # as ResizeNearestNeighbor has them, which takes five times as long
        old, new = tf.shape(label)[axis], size[axis]
        step = tf.cast(old - 1, tf.float32) / tf.cast(tf.maximum(new - 1, 1), tf.float32)
        exact = tf.cast(corner[axis] + tf.range(shape[axis]), tf.float32) * step
        return tf.minimum(tf.cast(tf.floor(exact + 0.5), tf.int32), old - 1)

    return image, select(label, places(0), places(1))


def pad_to(image: tf.Tensor, label: tf.Tensor, size: int, color: float, void: int) -> _Pair:
    """Pads sides below `size` up to it, at the bottom and on the right (code: both references).

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      size: pixels.
      color: grey of the new pixels of the image.
      void: value of those of the label.

    Returns:
      (image, label), no side below `size`.
    """
    if color != int(color):  # no byte
        image = tf.cast(image, tf.float32)
    missing = tf.maximum(size - tf.shape(label), 0)
    paddings = [[0, missing[0]], [0, missing[1]]]
    return tf.cond(
        tf.reduce_any(missing > 0),
        lambda: (
            tf.pad(image, [*paddings, [0, 0]], constant_values=tf.cast(color, image.dtype)),
            tf.pad(label, paddings, constant_values=void),
        ),
        lambda: (image, label),
    )


def crop_at(image: tf.Tensor, label: tf.Tensor, corner: tf.Tensor, shape: tf.Tensor) -> _Pair:
    """The part of `shape`, (rows, columns), whose top left pixel is `corner`, (row, column)."""
    image = tf.slice(image, tf.concat([corner, [0]], 0), tf.concat([shape, [3]], 0))
    return image, tf.slice(label, corner, shape)


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
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      seed: int32 [2]; the draw is a function of it.
      data: gives scale_range and scale_step.
      ignore_label: not used here.

    Returns:
      (image, label) of the new size.
    """
    del ignore_label
    return scale_by(image, label, _drawn_scale(seed, data))


def _drawn_scale(seed: tf.Tensor, data: DataConfig) -> tf.Tensor:
    low, high = data.scale_range
    if data.scale_step == 0:
        return tf.random.stateless_uniform([], seed, low, high)
    steps = int((high - low) / data.scale_step + 1e-6)
    drawn = tf.random.stateless_uniform([], seed, 0, steps + 1, tf.int32)
    return low + tf.cast(drawn, tf.float32) * data.scale_step


def scale_and_crop(
    image: tf.Tensor,
    label: tf.Tensor,
    seeds: tuple[tf.Tensor, tf.Tensor],
    *,
    data: DataConfig,
    ignore_label: int,
) -> _Pair:
    """`random_scale` and `random_crop` in one: of the label only what is kept is computed.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      seeds: of the one and of the other.
      data: as for both.
      ignore_label: likewise.

    Returns:
      (image, label) that the two in turn would have made.
    """
    size = _scaled_size(tf.shape(label), _drawn_scale(seeds[0], data))
    return crop_part(
        lambda window: _resize(image, label, size, window), size, seeds[1], data, ignore_label
    )


def random_crop(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Cuts a square of data.crop_size from anywhere, out of an image padded up to that.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      seed: int32 [2]; the draw is a function of it.
      data: gives crop_size, and pad_color and pad_label of what is padded.
      ignore_label: of what is padded, unless data.pad_label is set.

    Returns:
      (image, label), both square.
    """
    return crop_part(
        lambda window: crop_at(image, label, *window), tf.shape(label), seed, data, ignore_label
    )


def crop_part(
    part: Callable[[Window], _Pair],
    size: tf.Tensor,
    seed: tf.Tensor,
    data: DataConfig,
    ignore_label: int,
) -> _Pair:
    """The random crop of an image of which a part can be made alone.

    Args:
      part: window -> (image, label) of it.
      size: int32 [2], (H, W) of the whole.
      seed: int32 [2]; where the crop begins is a function of it.
      data: as for `random_crop`.
      ignore_label: likewise.

    Returns:
      (image, label), both square.
    """
    places = tf.cast(tf.maximum(size - data.crop_size, 0) + 1, tf.uint32)
    corner = tf.random.stateless_uniform([2], seed, None, None, tf.uint32) % places
    image, label = part((tf.cast(corner, tf.int32), tf.minimum(size, data.crop_size)))
    image, label = pad_to(image, label, data.crop_size, data.pad_color, void(data, ignore_label))
    square = [data.crop_size, data.crop_size]
    return tf.ensure_shape(image, [*square, 3]), tf.ensure_shape(label, square)


def void(data: DataConfig, ignore_label: int) -> int:
    """The label of pixels that no photo has."""
    return ignore_label if data.pad_label is None else data.pad_label


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


def change_color(
    image: tf.Tensor,
    *,
    brightness: tf.Tensor,
    contrast: tf.Tensor,
    saturation: tf.Tensor,
    hue: tf.Tensor,
) -> tf.Tensor:
    """Changes the light of a photo; one linear map of its colours.

    Args:
      image: uint8 or float32 [H, W, 3], 0..255.
      brightness: float32 factor of all; 1 changes nothing.
      contrast: float32 factor of the distance to the photo's mean grey; likewise.
      saturation: float32 factor of the distance to each pixel's own grey; likewise.
      hue: float32, turns of the colour circle in YIQ; 0 changes nothing.

    Returns:
      float32 [H, W, 3], 0..255.
    """
    image = tf.cast(image, tf.float32)
    # cited: NTSC's YIQ, in which grey is one axis and hue an angle about it.
    to_yiq = tf.constant([_GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    angle = 2 * math.pi * hue
    along, across = saturation * tf.cos(angle), saturation * tf.sin(angle)
    zero = tf.zeros([])
    turn = tf.stack([[1.0, zero, zero], [zero, along, -across], [zero, across, along]])
    colors = brightness * contrast * (tf.linalg.inv(to_yiq) @ turn @ to_yiq)
    mean_grey = tf.tensordot(tf.reduce_mean(image, axis=[0, 1]), tf.constant(_GREY), 1)
    shift = brightness * (1 - contrast) * mean_grey
    return tf.clip_by_value(tf.tensordot(image, tf.transpose(colors), 1) + shift, 0, 255)


def random_color(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Changes brightness, contrast and saturation by factors of 1 +- data.color_jitter, and hue.

    In neither paper. After random_crop it works on fewer pixels, those padded included.
    """
    del ignore_label
    drawn = tf.random.stateless_uniform([4], seed, -data.color_jitter, data.color_jitter)
    image = change_color(
        image,
        brightness=1 + drawn[0],
        contrast=1 + drawn[1],
        saturation=1 + drawn[2],
        hue=_HUE_SHARE * drawn[3],
    )
    return image, label
