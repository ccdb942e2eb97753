"""Whether an export predicts what the model predicts."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from deeplab_tf.data.datasets.shapes import draw
from deeplab_tf.recipe.lazy import keras, tf

if TYPE_CHECKING:
    Predict = Callable[[np.ndarray], Mapping[str, Any]]

T = TypeVar("T")

# ours: the rounding of two graphs of one network; a wrong weight changes probabilities by far more
_TOLERANCE = 1e-3
MOST_COMPARED = 16  # ours: images; each takes up to a second
_LONGEST = 513  # ours: side of a compared photo, pixels, which fits every memory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """What an export is compared on.

    Attributes:
      images: of the kind that the model is for, uint8 [H, W, 3] RGB each; none: drawn shapes.
      print_fn: prints the agreement.
    """

    images: Sequence[np.ndarray] = ()
    print_fn: Callable[[str], None] | None = None

    @property
    def compared(self) -> list[np.ndarray]:
        """The images that are compared, spread over all: neighbors in a folder resemble each other.

        Uint8 [H, W, 3] each; none: drawn shapes.
        """
        return spread(self.images, MOST_COMPARED)

    @property
    def measured(self) -> list[np.ndarray]:
        """The images on which int8 ranges are measured, uint8 [H, W, 3] each; none: drawn shapes.

        Those that are not compared, if they are as many, else all.
        """
        compared = {id(image) for image in self.compared}
        others = [image for image in self.images if id(image) not in compared]
        return others if len(others) >= MOST_COMPARED else list(self.images)

    @property
    def text(self) -> str:
        """What is compared, in words."""
        if not self.images:
            return "on drawn shapes, no photos"
        number = len(self.compared)
        return "on 1 image" if number == 1 else f"on {number} images"

    def batches(self) -> list[np.ndarray]:
        """Uint8 [N, H, W, 3] of several N, H and W: none may be frozen into an export."""
        drawn = draw("val", 0)[0]
        # Sides of several remainders: how feature maps of several strides align depends on them.
        batches = [np.stack([drawn[:65, :97], drawn[-65:, -97:]]), drawn[None, :64, :100]]
        for image in self.compared:
            scale = min(1, _LONGEST / max(image.shape[:2]))
            height, width = (max(1, round(side * scale)) for side in image.shape[:2])
            batches.append(resized(image, height, width)[None])
        return batches


def batches_of_size(images: Sequence[np.ndarray], height: int, width: int) -> Iterator[np.ndarray]:
    """Images, or drawn ones, as uint8 [1, height, width, 3], one at a time in memory."""
    images = images or [draw("val", i)[0] for i in range(MOST_COMPARED)]
    return (resized(image, height, width)[None] for image in images)


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of a sequence, evenly spaced."""
    number = min(most, len(items))
    return [items[i * len(items) // number] for i in range(number)]


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a picture bilinearly: uint8 [H, W, 3] -> [height, width, 3]."""
    if image.shape[:2] == (height, width):
        return image
    size = (width, height)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def check_agreement(
    model: keras.Model,
    predict: Predict,
    batches: Iterable[np.ndarray],
    *,
    what: str,
    least: float = 1.0,
    check: Check | None = None,
    advice: str = "Please report this with the versions of TensorFlow and Keras.",
) -> str:
    """Compares the predictions of an export with the model's.

    A pixel agrees if the export chooses the model's class, or one that is less probable by at most
    0.001: a tie, but for rounding.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      predict: uint8 [N, H, W, 3] -> {"label_map": [N, H, W]} of the export, perhaps with
        "probabilities" [N, H, W, K].
      batches: uint8 [N, H, W, 3] each.
      what: the export's name in messages.
      least: share of the pixels that must agree. 1: the probabilities, too, must be the model's.
      check: where the batches are from; it prints the agreement. None: not told.
      advice: what to do about an export that is refused.

    Returns:
      On what, the agreement and the largest difference, in words.

    Raises:
      RuntimeError: an export that must be exact is not.
      ValueError: fewer than `least` agree, or the model's own logits are not finite.
    """
    agreeing, pixels, shortfall, difference = 0, 0, 0.0, 0.0
    for images in batches:
        with _float32_as_such():
            logits = model(images.astype(np.float32), training=False)
            outputs = predict(images)
        expected = keras.ops.softmax(keras.ops.cast(logits, "float32"))
        expected = keras.ops.convert_to_numpy(expected)
        if not np.isfinite(expected).all():
            raise ValueError(
                "the model must give finite logits; some are not, as after a training that"
                " diverged. Nothing was kept. Choose another --checkpoint, or train it again."
            )
        label_map = np.asarray(outputs["label_map"])
        if label_map.shape != expected.shape[:-1]:
            raise RuntimeError(
                f"{what} must give label maps of the images' size, {expected.shape[:-1]}; got"
                f" {label_map.shape}. Nothing was kept. {advice}"
            )
        if label_map.min() < 0 or label_map.max() >= expected.shape[-1]:
            raise RuntimeError(
                f"{what} must give label maps of 0..{expected.shape[-1] - 1}; got"
                f" {label_map.min()}..{label_map.max()}. Nothing was kept. {advice}"
            )
        chosen = np.take_along_axis(expected, label_map[..., None].astype(int), axis=-1)[..., 0]
        lacking = expected.max(axis=-1) - chosen
        agreeing += np.count_nonzero(lacking <= _TOLERANCE)  # not where a NaN is
        pixels += lacking.size
        shortfall = np.maximum(shortfall, lacking.max())
        if "probabilities" in outputs:
            gaps = np.abs(np.asarray(outputs["probabilities"]) - expected)
            difference = np.maximum(difference, gaps.max())
    share = agreeing / pixels
    # Rounded down: 100 % is all of them.
    found = (
        f"{math.floor(1e6 * share) / 1e4:g} % of the pixels agree but for ties; a chosen class is"
        f" up to {shortfall:.2g} less probable than the model's"
    )
    if check is not None:
        found = f"{check.text}, {found}"
    if "probabilities" in outputs:
        found += f"; probabilities differ by up to {difference:.2g}"
    # Written so that a NaN fails too.
    if not (share >= least and (least < 1 or difference <= _TOLERANCE)):
        wanted = "" if least == 1 else f" in {100 * least:g} % of the pixels"
        refusal = RuntimeError if least == 1 else ValueError
        raise refusal(
            f"{what} must give the model's predictions{wanted}; {found}. Nothing was kept. {advice}"
        )
    if check is not None and check.print_fn is not None:
        check.print_fn(f"{what}: {found}")
    return found


@contextlib.contextmanager
def _float32_as_such() -> Iterator[None]:
    """Without TensorFloat-32, whose 10 bits on a GPU make two graphs of one network differ."""
    config = tf.config.experimental
    enabled = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(enabled)
