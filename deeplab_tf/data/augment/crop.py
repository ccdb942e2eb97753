"""Random crops, and the padding of images that are smaller than the crop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from deeplab_tf.data.augment.resize import Window
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option

# ours: the label of pixels that augmentations add; no dataset has it, whatever its ignore_label
ADDED_LABEL = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomCrop(Options):
    """Crops a rectangle at a random position; pads images that are smaller."""

    kind: ClassVar[str] = "random_crop"

    # paper: DeepLabv3+ Sec. 4
    size: int = option(513, "side of the square, or height of the rectangle, pixels", minimum=1)
    width: int | None = option(None, "width, pixels; none: size, a square", minimum=1)
    # code: DeepLab's mean pixel
    pad_color: float = option(127.5, "gray value of the padding, 0..255", minimum=0, maximum=255)
    pad_rgb: tuple[float, float, float] | None = option(
        None, "red, green and blue of the padding, 0..255; none: pad_color", minimum=0, maximum=255
    )
    pad_label: int | None = option(None, "class of the padding; none: ignored", minimum=0)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the crop, pixels."""
        return self.size, self.size if self.width is None else self.width

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the crops of image and label."""
        return self.crop(lambda window: crop_at(image, label, *window), tf.shape(label), seed)

    def crop(
        self,
        part: Callable[[Window], tuple[tf.Tensor, tf.Tensor]],
        size: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Crops an image that need not be computed as a whole.

        Args:
          part: window -> (image, label) of it.
          size: int32 [2], (H, W) of the whole image.
          seed: int [2]; the position is a function of it.

        Returns:
          (image [h, w, 3], label [h, w]), where [h, w] is `shape`.
        """
        positions = tf.cast(tf.maximum(size - self.shape, 0) + 1, tf.uint32)
        corner = tf.random.stateless_uniform([2], seed, None, None, tf.uint32) % positions
        image, label = part((tf.cast(corner, tf.int32), tf.minimum(size, self.shape)))
        color = self.pad_color if self.pad_rgb is None else self.pad_rgb
        image, label = pad_to(
            image, label, self.shape, color=color, added=added_label(self.pad_label)
        )
        return tf.ensure_shape(image, [*self.shape, 3]), tf.ensure_shape(label, self.shape)


def added_label(pad_label: int | None) -> int:
    """The label of added pixels, given the option `pad_label` of an augmentation."""
    return ADDED_LABEL if pad_label is None else pad_label


def crop_at(
    image: tf.Tensor, label: tf.Tensor, corner: tf.Tensor, shape: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cuts a part out of image and label.

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      corner: int32 [2], (row, column) of the part's top left pixel.
      shape: int32 [2], (rows, columns) of the part.

    Returns:
      (image [rows, columns, 3], label [rows, columns]).
    """
    image = tf.slice(image, tf.concat([corner, [0]], 0), tf.concat([shape, [3]], 0))
    return image, tf.slice(label, corner, shape)


def pad_to(
    image: tf.Tensor,
    label: tf.Tensor,
    shape: tuple[int, int],
    *,
    color: float | tuple[float, float, float],
    added: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads sides below those of `shape`, at the bottom and on the right (code: both references).

    Args:
      image: uint8 or float32 [H, W, 3].
      label: int32 [H, W].
      shape: (height, width), pixels.
      color: of the added pixels: gray value, or red, green and blue; 0..255.
      added: their label.

    Returns:
      (image, label), at least as high and as wide as `shape`.
    """
    if not np.array_equal(color, np.uint8(color)):
        image = tf.cast(image, tf.float32)
    missing = tf.maximum(shape - tf.shape(label), 0)
    paddings = [[0, missing[0]], [0, missing[1]]]
    return tf.cond(
        tf.reduce_any(missing > 0),
        lambda: (
            _pad_image(image, paddings, color),
            tf.pad(label, paddings, constant_values=added),
        ),
        lambda: (image, label),
    )


def _pad_image(
    image: tf.Tensor, paddings: list[list], color: float | tuple[float, float, float]
) -> tf.Tensor:
    if isinstance(color, tuple):
        channels = zip(tf.unstack(image, axis=-1), color, strict=True)
        return tf.stack([_pad(channel, paddings, value) for channel, value in channels], axis=-1)
    return _pad(image, [*paddings, [0, 0]], color)


def _pad(values: tf.Tensor, paddings: list[list], constant: float) -> tf.Tensor:
    return tf.pad(values, paddings, constant_values=tf.cast(constant, values.dtype))
