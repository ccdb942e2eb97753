"""Random rotations, by Pillow."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.data.augment.crop import added_label
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option
from jpu_tf.augment import pillow_ops


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomRotation(Options):
    """Rotates the image around its center by a random angle; keeps its size."""

    kind: ClassVar[str] = "random_rotation"

    # code: FastFCN's, for Cityscapes
    degrees: float = option(
        10.0, "largest angle in either direction, degrees", minimum=0, maximum=180
    )
    # code: FastFCN's
    pad_color: int = option(0, "gray value of the new corners, 0..255", minimum=0, maximum=255)
    pad_label: int | None = option(None, "class of the new corners; none: ignored", minimum=0)

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the rotated image, uint8, and label."""
        return pillow_ops.rotate(
            pillow_ops.to_bytes(image),
            label,
            tf.random.stateless_uniform([], seed, -self.degrees, self.degrees),
            color=self.pad_color,
            added=added_label(self.pad_label),
        )
