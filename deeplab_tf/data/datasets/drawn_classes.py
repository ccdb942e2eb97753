"""The embedded dataset for classification: drawings of one shape, which is the image's class.

Objects look as in `shapes`, so a network that has learned these classes has a start in those. Every
number here is ours, chosen by eye.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from deeplab_tf.data.datasets import shapes
from deeplab_tf.data.datasets.image_classes import IGNORE_LABEL
from deeplab_tf.data.datasets.without_release import WithoutRelease
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.options import option

CLASS_NAMES = shapes.CLASS_NAMES[1:]  # without the background
_SPLIT_SEEDS = {"train": 2, "val": 3}  # not those of `shapes`
_SIDES = (64, 96)  # shortest and longest side, pixels
_PLACE = (0.35, 0.65)  # of the center, as a share of width and height
_OCTAVES = (1.0, 2.0)  # radii of 12 to 24 pixels
_HUE_SPREAD = 0.13  # classes overlap more than in `shapes`: color alone tells five of six images


def draw(split: str, index: int) -> tuple[np.ndarray, int]:
    """Draws example `index` of a split; it is a function of these two alone.

    Returns:
      (image uint8 [H, W, 3] RGB, class).
    """
    rng = np.random.default_rng([_SPLIT_SEEDS[split], index])
    height, width = (int(side) for side in rng.integers(*_SIDES, 2, endpoint=True))
    class_index = int(rng.integers(len(CLASS_NAMES)))
    ground = shapes.draw_texture(rng, height, width, rng.uniform(0, 1), rng.uniform(0.0, 0.35))
    image, _ = shapes.add_object(
        rng, ground, class_index + 1, place=_PLACE, octaves=_OCTAVES, hue_spread=_HUE_SPREAD
    )
    image += rng.normal(0, 6, image.shape)  # a camera's noise
    return np.clip(image, 0, 255).astype(np.uint8), class_index


def _draw_label(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with a label that has the class at every pixel, uint8 [H, W]."""
    image, class_index = draw(split, index)
    return image, np.full(image.shape[:2], class_index, np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnClasses(WithoutRelease):
    """Drawn shapes, one per image: for classification, no download."""

    kind: ClassVar[str] = "drawn_classes"

    # ours
    num_examples: int = option(
        2000, "images drawn for 'train'; 'val' gets a quarter of that", minimum=4
    )

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Opens the dataset; draws it first if it was not drawn in this size before.

        Args:
          data_dir: where it is kept; None: TFDS' default place.

        Returns:
          The dataset, with the splits 'train' and 'val'.

        Raises:
          ValueError: its files are damaged.
          OSError: they cannot be written.
        """
        return shapes.open_drawn(
            "drawn_classes",
            _draw_label,
            self.num_examples,
            data_dir,
            class_names=CLASS_NAMES,
            palette=shapes.PALETTE[1:],
            ignore_label=IGNORE_LABEL,
        )
