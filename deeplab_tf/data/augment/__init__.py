"""Augmentations: pure functions of an image, its label and a seed.

A uint8 image stays uint8 until an augmentation makes fractions: moving bytes takes a quarter of the
time. Labels are only ever resized by nearest neighbor.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

from deeplab_tf.data.augment.color import RandomColor
from deeplab_tf.data.augment.crop import ADDED_LABEL, RandomCrop
from deeplab_tf.data.augment.flip import RandomFlip
from deeplab_tf.data.augment.resize import RandomScale, ResizeToRange, Resizing
from deeplab_tf.data.augment.resized_crop import RandomResizedCrop
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options
from deeplab_tf.recipe.parts import Augmentation

__all__ = [
    "ADDED_LABEL",
    "AUGMENTATIONS",
    "RandomColor",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomScale",
    "ResizeToRange",
    "compose",
]

AUGMENTATIONS: dict[str, type[Options]] = {
    "random_scale": RandomScale,
    "random_crop": RandomCrop,
    "random_resized_crop": RandomResizedCrop,
    "random_flip": RandomFlip,
    "random_color": RandomColor,
    "resize_to_range": ResizeToRange,
}


def compose(
    augment: Sequence[Augmentation],
) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Joins augmentations into one function.

    A resizing that a crop follows is told which window the crop keeps, and need not compute the
    rest: RandomScale and ResizeToRange skip it for the label, Pillow's for the image too.

    Args:
      augment: the augmentations, in the order in which they apply.

    Returns:
      A function (image, label, seed) -> (image, label) of an image uint8 or float32 [H, W, 3] in
      RGB 0..255, a label int32 [H, W] and a seed int [2]. It returns float32 and int32.
      Augmentation i draws from the seed with i folded in. Pixels that the augmentations add have
      the label `ADDED_LABEL`, unless an option gives them a class.
    """
    crop_follows = [
        isinstance(augmentation, Resizing) and isinstance(following, RandomCrop)
        for augmentation, following in itertools.pairwise([*augment, None])
    ]

    def augmented(image, label, seed):
        for i, augmentation in enumerate(augment):
            own_seed = tf.random.experimental.stateless_fold_in(seed, i)
            if crop_follows[i]:
                size = augmentation.new_size(tf.shape(label), own_seed)
                part = functools.partial(augmentation.resize, image, label, size)
            elif i > 0 and crop_follows[i - 1]:
                image, label = augmentation.crop(part, size, own_seed)
            else:
                image, label = augmentation(image, label, own_seed)
        return tf.cast(image, tf.float32), label

    return augmented
