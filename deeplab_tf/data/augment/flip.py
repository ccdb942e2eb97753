"""Random flips."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomFlip(Options):
    """Flips the image left to right with a probability of 1/2."""

    kind: ClassVar[str] = "random_flip"

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns image and label, both flipped or both unchanged."""
        return tf.cond(
            tf.random.stateless_uniform([], seed) < 0.5,  # code: both references
            lambda: flip_left_right(image, label),
            lambda: (image, label),
        )


def flip_left_right(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Flips both left to right."""
    return tf.reverse(image, [1]), tf.reverse(label, [1])
