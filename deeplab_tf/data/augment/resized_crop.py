"""The random crop of image classification: any size and shape, resized to one."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from deeplab_tf.data.augment.crop import crop_at
from deeplab_tf.data.augment.resize import check_range, resize
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option

# ours: parts drawn before the fallback, which one photo of 2:1 in five hundred then needs
_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomResizedCrop(Options):
    """Resizes a random part of the image to a square, as for ImageNet.

    Cited: Szegedy et al. 2015, Sec. 6. Of several parts drawn, the first one that fits into the
    image is taken. If none fits, which long and narrow images cause, it is the largest one in the
    middle whose aspect ratio is allowed.
    """

    kind: ClassVar[str] = "random_resized_crop"

    # paper: DeepLabv3+ Sec. 4.3
    size: int = option(299, "side of the square, pixels", minimum=1)
    # cited: Szegedy et al. 2015, Sec. 6, for these and the aspect ratio
    low: float = option(0.08, "smallest share of the image's area", above=0, maximum=1)
    high: float = option(1.0, "largest share of the image's area", above=0, maximum=1)
    aspect: float = option(
        4 / 3, "largest width / height of the part, and 1 over the smallest", minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.low, self.high)

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the resized parts of image and label."""
        corner, shape = self.part(tf.shape(label), seed)
        image, label = crop_at(image, label, corner, shape)
        square = [self.size, self.size]
        image, label = resize(image, label, tf.constant(square))
        return tf.ensure_shape(image, [*square, 3]), tf.ensure_shape(label, square)

    def part(self, size: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws the part to keep.

        Args:
          size: int32 [2], (H, W) of the image.
          seed: int [2]; the part is a function of it.

        Returns:
          int32 [2] each: (row, column) of the part's top left pixel, (rows, columns).
        """
        draws = tf.random.stateless_uniform([4, _ATTEMPTS], seed)
        sides = tf.cast(size, tf.float32)
        area = (self.low + (self.high - self.low) * draws[0]) * sides[0] * sides[1]
        # The logarithm is uniform, so that wide and tall parts are equally likely.
        ratio = tf.exp(math.log(self.aspect) * (2 * draws[1] - 1))
        rounded = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], axis=1)))
        shapes = tf.maximum(tf.cast(rounded, tf.int32), 1)  # [_ATTEMPTS, 2]
        fits = tf.reduce_all(shapes <= size, axis=1)
        first = tf.argmax(fits)
        shape = tf.where(fits[first], shapes[first], self._largest(size))
        free = tf.cast(size - shape + 1, tf.float32)
        place = tf.where(fits[first], draws[2:, first], 0.5)
        # A draw close to 1 may round up to the first position that is too far.
        corner = tf.minimum(tf.cast(place * free, tf.int32), size - shape)
        return corner, shape

    def _largest(self, size: tf.Tensor) -> tf.Tensor:
        """(H, W) with the longer side cut to the largest aspect ratio; int32 [2]."""
        longest = tf.cast(tf.cast(tf.reduce_min(size), tf.float32) * self.aspect, tf.int32)
        return tf.minimum(size, longest)
