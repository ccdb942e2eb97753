"""FastFCN's augmentations, done as Pillow does them; pure functions of image, label and seed.

Its protocol is random_flip, random_short_side, random_crop, random_blur, with black padding
(data.pad_color=0); for Cityscapes random_rotation stands before random_crop. Its padding is the
label file's value 0. That becomes void for PASCAL Context, ADE20K and Cityscapes, as here by
default, but is the background of PASCAL VOC: data.pad_label=0 there (code).
"""

from __future__ import annotations

import tensorflow as tf

from deeplab_tf.recipe.options import DataConfig
from jpu_tf.augment import pillow_ops
from deeplab_tf.data.augment.geometry import crop_part, void

_Pair = tuple[tf.Tensor, tf.Tensor]

_BLURRED = 0.5  # code: share of the crops that are blurred
_MOST_BLUR = 1.0  # code: largest radius, pixels
_MOST_DEGREES = 10.0  # code: of a rotation, either way; Cityscapes alone


def size_of_short_side(size: tf.Tensor, short_side: tf.Tensor) -> tf.Tensor:
    """The size whose shorter side is `short_side`; the longer one is truncated (code).

    Args:
      size: int32 [2], (H, W).
      short_side: int32 scalar, pixels.

    Returns:
      int32 [2].
    """
    return size * short_side // tf.reduce_min(size)


def resize(
    image: tf.Tensor,
    label: tf.Tensor,
    size: tf.Tensor,
    window: pillow_ops.Window | None = None,
) -> _Pair:
    """Resizes both, or computes a window of that: the image bilinear, the label nearest.

    Args:
      image: uint8 [H, W, 3], or float32, which is rounded.
      label: int32 [H, W].
      size: int32 [2], (H, W).
      window: see `pillow_ops`.

    Returns:
      (image, label), the image in bytes.
    """
    resized = pillow_ops.resize_bilinear(_to_bytes(image), size, window)
    return resized, pillow_ops.resize_nearest(label, size, window)


def _to_bytes(image: tf.Tensor) -> tf.Tensor:
    return image if image.dtype == tf.uint8 else tf.cast(tf.round(image), tf.uint8)


def random_short_side(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Resizes so that the shorter side is a drawn integer.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      seed: int32 [2]; the draw is a function of it.
      data: the integer is in scale_range times base_size.
      ignore_label: not used here.

    Returns:
      (image, label) of the new size, the image in bytes.
    """
    del ignore_label
    return resize(image, label, _drawn_size(tf.shape(label), seed, data))


def _drawn_size(size: tf.Tensor, seed: tf.Tensor, data: DataConfig) -> tf.Tensor:
    low, high = (int(factor * data.base_size) for factor in data.scale_range)
    drawn = tf.random.stateless_uniform([], seed, low, high + 1, tf.int32)
    return size_of_short_side(size, drawn)


def short_side_and_crop(
    image: tf.Tensor,
    label: tf.Tensor,
    seeds: tuple[tf.Tensor, tf.Tensor],
    *,
    data: DataConfig,
    ignore_label: int,
) -> _Pair:
    """`random_short_side` and `random_crop` in one: only what is kept is computed.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      seeds: of the one and of the other.
      data: as for both.
      ignore_label: likewise.

    Returns:
      (image, label) that the two in turn would have made.
    """
    size = _drawn_size(tf.shape(label), seeds[0], data)
    return crop_part(
        lambda window: resize(image, label, size, window), size, seeds[1], data, ignore_label
    )


def center_crop(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """The middle of the image whose shorter side was made data.crop_size; nothing is drawn.

    What FastFCN's code chooses its best checkpoint by.
    """
    del seed, ignore_label
    size = size_of_short_side(tf.shape(label), tf.constant(data.crop_size))
    # Half a pixel goes to the even side, as Python rounds (code).
    corner = tf.cast(tf.round(tf.cast(size - data.crop_size, tf.float64) / 2), tf.int32)
    shape = [data.crop_size, data.crop_size]
    image, label = resize(image, label, size, (corner, tf.constant(shape)))
    return tf.ensure_shape(image, [*shape, 3]), tf.ensure_shape(label, shape)


def random_rotation(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Turns both about the middle by up to 10 degrees either way; sizes stay.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      seed: int32 [2]; the draw is a function of it.
      data: gives pad_color and pad_label of the corners that come in.
      ignore_label: of these, unless data.pad_label is set.

    Returns:
      (image, label), the image in bytes.
    """
    degrees = tf.random.stateless_uniform([], seed, -_MOST_DEGREES, _MOST_DEGREES)
    return pillow_ops.rotate(
        _to_bytes(image),
        label,
        degrees,
        color=int(data.pad_color),
        void=void(data, ignore_label),
    )


def random_blur(
    image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor, *, data: DataConfig, ignore_label: int
) -> _Pair:
    """Blurs one image of two by a Gaussian of a drawn radius below a pixel.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W], stays as it is.
      seed: int32 [2]; the draws are a function of it.
      data: not used here.
      ignore_label: likewise.

    Returns:
      (image, label), the image in bytes.
    """
    del data, ignore_label
    drawn = tf.random.stateless_uniform([2], seed)
    image = _to_bytes(image)
    blurred = tf.cond(
        drawn[0] < _BLURRED,
        lambda: pillow_ops.gaussian_blur(image, drawn[1] * _MOST_BLUR),
        lambda: image,
    )
    return blurred, label
