"""Random blurs, as Pillow's Gaussian."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option
from jpu_tf.augment import pillow_ops


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomBlur(Options):
    """Blurs the image, with some probability, by a Gaussian of random radius."""

    kind: ClassVar[str] = "random_blur"

    # code: FastFCN's
    probability: float = option(0.5, "probability of a blur", minimum=0, maximum=1)
    radius: float = option(
        1.0, "largest radius, pixels", minimum=0, maximum=pillow_ops.MAX_BLUR_RADIUS
    )

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the image, uint8, blurred or not, and the label."""
        drawn = tf.random.stateless_uniform([2], seed)
        image = pillow_ops.to_bytes(image)
        blurred = tf.cond(
            drawn[0] < self.probability,
            lambda: pillow_ops.gaussian_blur(image, drawn[1] * self.radius),
            lambda: image,
        )
        return blurred, label
