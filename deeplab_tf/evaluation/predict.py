"""What the kinds of prediction share: scales, flip, output stride, and the check of an image."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledPredict(Options):
    """Base of the kinds that predict an image at several scales, mirrored or not."""

    scales: tuple[float, ...] = option(
        (1.0,), "image scales whose predictions are combined", above=0, may_change=True
    )
    flip: bool = option(
        False, "combine with the predictions of the mirrored image", may_change=True
    )
    output_stride: Literal[8, 16, 32] | None = option(
        None,
        "output stride to run the network at; none: the model's, which training uses",
        may_change=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            raise ValueError("scales must be one or more numbers; got ().")


def checked_image(image: Any) -> tf.Tensor:
    """An image as a tensor.

    Args:
      image: [H, W, 3] RGB 0..255, any numeric type.

    Returns:
      float32 [H, W, 3].

    Raises:
      ValueError: the image has another shape, no pixel, or floats in 0..1.
    """
    from deeplab_tf.layers.segmentation_model import check_values

    image = tf.convert_to_tensor(image)
    if image.shape.rank != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"image must be [H, W, 3] with at least one pixel; got {tuple(image.shape)}."
        )
    check_values(image)
    return tf.cast(image, tf.float32)
