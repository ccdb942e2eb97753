"""Random changes of an image's colors."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option

_GRAY = (0.299, 0.587, 0.114)  # cited: ITU-R BT.601, the luma of red, green and blue


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomColor(Options):
    """Changes brightness, contrast, saturation and hue at random.

    Neither paper uses it. After random_crop it works on fewer pixels, padding included.
    """

    kind: ClassVar[str] = "random_color"

    # ours: objects keep the colors that they may have
    strength: float = option(
        0.25,
        "brightness, contrast and saturation are multiplied by 1 plus or minus at most this",
        minimum=0,
        maximum=1,
    )
    hue_share: float = option(
        0.25,
        "the hue changes by at most this times strength, in turns of the color circle",
        minimum=0,
        maximum=1,
    )

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the changed image and the label."""
        drawn = tf.random.stateless_uniform([4], seed, -self.strength, self.strength)
        image = change_color(
            image,
            brightness=1 + drawn[0],
            contrast=1 + drawn[1],
            saturation=1 + drawn[2],
            hue=self.hue_share * drawn[3],
        )
        return image, label


def change_color(
    image: tf.Tensor,
    *,
    brightness: tf.Tensor,
    contrast: tf.Tensor,
    saturation: tf.Tensor,
    hue: tf.Tensor,
) -> tf.Tensor:
    """Changes the colors of an image by one linear map.

    Args:
      image: uint8 or float32 [H, W, 3], 0..255.
      brightness: float32 factor of all values; 1 changes nothing.
      contrast: float32 factor of the distance to the image's mean gray; 1 changes nothing.
      saturation: float32 factor of the distance to each pixel's own gray; 1 changes nothing.
      hue: float32, turns of the color circle in YIQ; 0 changes nothing.

    Returns:
      float32 [H, W, 3], 0..255.
    """
    image = tf.cast(image, tf.float32)
    # cited: NTSC's YIQ, in which gray is one axis and hue is an angle around it.
    to_yiq = tf.constant([_GRAY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    angle = 2 * math.pi * hue
    along, across = saturation * tf.cos(angle), saturation * tf.sin(angle)
    zero = tf.zeros([])
    turn = tf.stack([[1.0, zero, zero], [zero, along, -across], [zero, across, along]])
    colors = brightness * contrast * (tf.linalg.inv(to_yiq) @ turn @ to_yiq)
    mean_gray = tf.tensordot(tf.reduce_mean(image, axis=[0, 1]), tf.constant(_GRAY), 1)
    shift = brightness * (1 - contrast) * mean_gray
    return tf.clip_by_value(tf.tensordot(image, tf.transpose(colors), 1) + shift, 0, 255)
