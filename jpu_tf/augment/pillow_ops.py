"""Pillow's image operations in TensorFlow, with results that are equal in every bit.

FastFCN's training data went through Pillow. In a graph the same operations run on all cores, and
only for the pixels that a crop keeps.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from deeplab_tf.data.augment.resize import Window, select
from deeplab_tf.recipe.lazy import tf

_RESIZE_BITS = 22  # cited: Pillow's Resample.c, fixed-point weights of 8-bit images
_BLUR_BITS = 24  # cited: Pillow's BoxBlur.c
_BLUR_PASSES = 3  # cited: Pillow's BoxBlur.c; its Gaussian is this many boxes
MAX_BLUR_RADIUS = 1.4  # ours: pixels; `_box` is three pixels wide, which blurs no further


def to_bytes(image: tf.Tensor) -> tf.Tensor:
    """The image as uint8; fractions are rounded."""
    return image if image.dtype == tf.uint8 else tf.cast(tf.round(image), tf.uint8)


def resize(
    image: tf.Tensor, label: tf.Tensor, size: tf.Tensor, window: Window | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes the image bilinearly and the label by nearest neighbor.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      size: int32 [2], the new (H, W).
      window: the part of the result to compute. None: all of it.

    Returns:
      (image uint8, label int32) of the new size, or of the window's.
    """
    resized = resize_bilinear(to_bytes(image), size, window)
    return resized, resize_nearest(label, size, window)


def resize_bilinear(image: tf.Tensor, size: tf.Tensor, window: Window | None = None) -> tf.Tensor:
    """`Image.resize(..., BILINEAR)`: columns first, then rows, rounded after each.

    Where an image shrinks, the triangle of the weights is as wide as the new pixels. Recent
    versions of Pillow resize the rows first where an image shrinks that is more than twice as high
    as wide; results then differ by 1.

    Args:
      image: uint8 [H, W, C].
      size: int32 [2], the new (H, W).
      window: the part of the result to compute. None: all of it.

    Returns:
      uint8 [h, w, C] of the new size, or of the window's.
    """
    corner, shape = window or (tf.zeros([2], tf.int32), size)
    rows = _taps(tf.shape(image)[0], size[0], corner[0], shape[0])
    columns = _taps(tf.shape(image)[1], size[1], corner[1], shape[1])
    first, last = rows[0][0], rows[0][-1] + tf.shape(rows[1])[1]
    part = tf.transpose(image[first:last], [1, 0, 2])  # only the rows that are needed
    part = tf.transpose(_weighted(part, columns), [1, 0, 2])
    return _weighted(part, (rows[0] - first, rows[1]))


def _taps(size: tf.Tensor, new_size: tf.Tensor, start: tf.Tensor, count: tf.Tensor):
    """First source pixel, int32 [count], and fixed-point weights, int32 [count, taps]."""
    scale = tf.cast(size, tf.float64) / tf.cast(new_size, tf.float64)
    support = tf.maximum(scale, 1)
    center = (tf.cast(start + tf.range(count), tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(tf.floor(center - support + 0.5), tf.int32), 0)
    end = tf.minimum(tf.cast(tf.floor(center + support + 0.5), tf.int32), size)
    pixel = first[:, None] + tf.range(tf.reduce_max(end - first))
    distance = tf.abs(tf.cast(pixel, tf.float64) - center[:, None] + 0.5) * (1 / support)
    weights = tf.where(pixel < end[:, None], tf.maximum(1 - distance, 0), 0)
    weights *= 1 / tf.reduce_sum(weights, axis=1, keepdims=True)
    return first, tf.cast(weights * 2**_RESIZE_BITS + 0.5, tf.int32)


def _weighted(pixels: tf.Tensor, taps: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """The weighted sums along the first axis of uint8 [n, m, C]."""
    first, weights = taps
    size, shape = tf.shape(pixels)[0], tf.shape(pixels)
    flat = tf.reshape(tf.cast(pixels, tf.int32), [size, shape[1] * shape[2]])

    def add(tap, total):
        # A pixel with fewer taps than the others has zeros as its last weights.
        taken = tf.gather(flat, tf.minimum(first + tap, size - 1))
        return tap + 1, total + taken * weights[:, tap, None]

    total = tf.fill([tf.shape(first)[0], shape[1] * shape[2]], 2 ** (_RESIZE_BITS - 1))
    _, total = tf.while_loop(
        lambda tap, _: tap < tf.shape(weights)[1],
        add,
        (tf.constant(0), total),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
    )
    rounded = tf.cast(tf.bitwise.right_shift(total, _RESIZE_BITS), tf.uint8)
    result = tf.reshape(rounded, [tf.shape(first)[0], shape[1], shape[2]])
    return tf.ensure_shape(result, [None, None, pixels.shape[2]])


def resize_nearest(label: tf.Tensor, size: tf.Tensor, window: Window | None = None) -> tf.Tensor:
    """`Image.resize(..., NEAREST)`.

    Args:
      label: [H, W] of any type.
      size: int32 [2], the new (H, W).
      window: the part of the result to compute. None: all of it.

    Returns:
      [h, w] of the same type, of the new size or of the window's.
    """
    corner, shape = window or (tf.zeros([2], tf.int32), size)

    def places(axis):
        step = tf.cast(tf.shape(label)[axis], tf.float64) / tf.cast(size[axis], tf.float64)
        # Pillow adds step after step, so its rounding errors add up.
        steps = tf.concat([step[None] * 0.5, tf.fill([size[axis] - 1], step)], 0)
        places = tf.cast(tf.cumsum(steps), tf.int32)
        return places[corner[axis] : corner[axis] + shape[axis]]

    return select(label, places(0), places(1))


def gaussian_blur(image: tf.Tensor, radius: tf.Tensor) -> tf.Tensor:
    """`ImageFilter.GaussianBlur(radius)`: three box blurs along each axis.

    The fractional radius of the boxes is that of Gwosdek et al. 2011, Sec. 2.

    Args:
      image: uint8 [H, W, C].
      radius: float32 scalar, 0..MAX_BLUR_RADIUS pixels.

    Returns:
      uint8 [H, W, C].
    """
    # In float64: a graph's optimizer turns a float32 division by 3 into a product with 1/3, which
    # is rounded differently.
    variance = tf.cast(tf.cast(radius * radius, tf.float64) / _BLUR_PASSES, tf.float32)
    box_radius = -3 * variance / (6 * (variance - 1))  # below 1: no whole pixel
    center = tf.cast(tf.constant(2.0**_BLUR_BITS) / (box_radius * 2 + 1), tf.int32)
    side = (2**_BLUR_BITS - center) // 2
    pixels = tf.cast(image, tf.int32)
    for axis in (1, 0):
        for _ in range(_BLUR_PASSES):
            pixels = _box(pixels, axis, center, side)
    return tf.cast(pixels, tf.uint8)


def _box(pixels: tf.Tensor, axis: int, center: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    before, after = (
        (tf.concat([pixels[:1], pixels[:-1]], 0), tf.concat([pixels[1:], pixels[-1:]], 0))
        if axis == 0
        else (
            tf.concat([pixels[:, :1], pixels[:, :-1]], 1),
            tf.concat([pixels[:, 1:], pixels[:, -1:]], 1),
        )
    )
    total = pixels * center + ((before + after) * side + 2 ** (_BLUR_BITS - 1))
    # The sum uses all 32 bits, and the sign is the highest of them.
    unsigned = tf.bitcast(total, tf.uint32)
    return tf.bitcast(
        tf.bitwise.right_shift(unsigned, tf.constant(_BLUR_BITS, tf.uint32)), tf.int32
    )


def rotate(
    image: tf.Tensor, label: tf.Tensor, degrees: tf.Tensor, *, color: int, added: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """`Image.rotate(degrees)`, by Pillow itself: counterclockwise around the center.

    Args:
      image: uint8 [H, W, 3]; resampled bilinearly.
      label: int32 [H, W]; resampled by nearest neighbor.
      degrees: float32 scalar.
      color: gray value of the new corners, 0..255.
      added: their label.

    Returns:
      (image, label) of the same size.
    """

    def rotate_arrays(image, label, degrees):
        rotated = Image.fromarray(image).rotate(
            float(degrees), Image.Resampling.BILINEAR, fillcolor=(color,) * 3
        )
        rotated_label = Image.fromarray(label).rotate(float(degrees), fillcolor=added)
        return np.asarray(rotated), np.asarray(rotated_label)

    rotated, rotated_label = tf.numpy_function(
        rotate_arrays, [image, label, degrees], [tf.uint8, tf.int32], stateful=False
    )
    return tf.ensure_shape(rotated, image.shape), tf.ensure_shape(rotated_label, label.shape)
