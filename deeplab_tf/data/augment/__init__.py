"""The augmentations by name, and what a list of names does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from deeplab_tf.recipe.options import DataConfig, lookup
from jpu_tf.augment import pillow_transforms
from deeplab_tf.data.augment import geometry as transforms

_Pair = tuple[tf.Tensor, tf.Tensor]

# name -> (image, label, seed, data=, ignore_label=) -> (image, label)
AUGMENTATIONS: dict[str, Callable[..., _Pair]] = {
    "center_crop": pillow_transforms.center_crop,
    "random_blur": pillow_transforms.random_blur,
    "random_color": transforms.random_color,
    "random_crop": transforms.random_crop,
    "random_flip": transforms.random_flip,
    "random_rotation": pillow_transforms.random_rotation,
    "random_scale": transforms.random_scale,
    "random_short_side": pillow_transforms.random_short_side,
    "resize_to_range": transforms.resize_to_range,
}

# Neighbours of which one function makes the same in less time; it takes both seeds.
_PAIRS: dict[tuple[str, str], Callable[..., _Pair]] = {
    ("random_scale", "random_crop"): transforms.scale_and_crop,
    ("random_short_side", "random_crop"): pillow_transforms.short_side_and_crop,
}


def augmenter(data: DataConfig, ignore_label: int) -> Callable[..., _Pair]:
    """The function (image, label, seed) -> (image, label) of data.augmentations in turn.

    Args:
      data: the names, and what each of them needs.
      ignore_label: label value of void.

    Returns:
      The function, of uint8 [H, W, 3], int32 [H, W] and int64 [2], to float32 and int32.
      Augmentation i draws from the seed with i folded in.

    Raises:
      ValueError: a name is unknown.
    """
    steps = _steps(data.augmentations)

    def augment(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> _Pair:
        for function, places in steps:
            own = tuple(tf.random.experimental.stateless_fold_in(seed, i) for i in places)
            given = own if len(own) > 1 else own[0]
            image, label = function(image, label, given, data=data, ignore_label=ignore_label)
        return tf.cast(image, tf.float32), label

    return augment


def _steps(names: Sequence[str]) -> list[tuple[Callable[..., _Pair], tuple[int, ...]]]:
    """Functions, each with the places in the list that it stands for."""
    functions = [lookup(AUGMENTATIONS, name, "augmentation") for name in names]
    steps, i = [], 0
    while i < len(names):
        pair = _PAIRS.get(tuple(names[i : i + 2]))
        places = (i, i + 1) if pair else (i,)
        steps.append((pair or functions[i], places))
        i += len(places)
    return steps
