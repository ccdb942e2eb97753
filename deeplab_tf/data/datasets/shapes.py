"""The embedded dataset: drawings of textured shapes that cover one another.

It needs no download and has any number of examples. Scale and boundaries matter: objects are ten to
a hundred pixels large, and some are lines a few pixels wide. Every number here is ours, chosen by
eye; a small network learns the classes in minutes.
"""

from __future__ import annotations

import colorsys
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw

from deeplab_tf.data.datasets.without_release import WithoutRelease
from deeplab_tf.data.picture_files import png_file
from deeplab_tf.data.sources import RecordSource
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset
from deeplab_tf.recipe.options import option

CLASS_NAMES = ("background", "ellipse", "polygon", "star", "stroke")
PALETTE = ((60, 60, 60), (230, 80, 60), (70, 170, 80), (240, 200, 50), (80, 120, 230))
_IGNORE_LABEL = 255
_SPLIT_SEEDS = {"train": 0, "val": 1}
_SIDES = (112, 160)  # shortest and longest side, pixels
_SHARPNESS = 3  # objects are drawn this many times larger, then shrunk, for smooth edges
# Hue and saturation around which each class takes its two colors; neighbors overlap.
_COLORS = {1: (0.97, 0.75), 2: (0.33, 0.6), 3: (0.13, 0.75), 4: (0.62, 0.65)}


def draw(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws example `index` of a split; it is a function of these two alone.

    Returns:
      (image uint8 [H, W, 3] RGB, label uint8 [H, W] with 255 along boundaries).
    """
    rng = np.random.default_rng([_SPLIT_SEEDS[split], index])
    height, width = (int(side) for side in rng.integers(*_SIDES, 2, endpoint=True))
    image = draw_texture(rng, height, width, rng.uniform(0, 1), rng.uniform(0.0, 0.35))
    label = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(4, 9)):
        class_index = int(rng.integers(1, len(CLASS_NAMES)))
        image, cover = add_object(rng, image, class_index)
        label[cover > 0.5] = class_index
    image += rng.normal(0, 6, image.shape)  # a camera's noise
    return np.clip(image, 0, 255).astype(np.uint8), _with_void(label)


def _with_void(label: np.ndarray) -> np.ndarray:
    """Marks the pixels left of and above a change of class: a band of one to two pixels."""
    void = np.zeros(label.shape, bool)
    void[:-1] |= label[:-1] != label[1:]
    void[:, :-1] |= label[:, :-1] != label[:, 1:]
    return np.where(void, np.uint8(_IGNORE_LABEL), label)


def add_object(
    rng: np.random.Generator,
    image: np.ndarray,
    class_index: int,
    *,
    place: tuple[float, float] = (0, 1),
    octaves: tuple[float, float] = (0, 3),
    hue_spread: float = 0.09,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one object over an image.

    Args:
      rng: source of place, size, outline, colors and texture.
      image: float32 [H, W, 3], 0..255.
      class_index: into CLASS_NAMES, 1 or more.
      place: range of the center, as a share of width and height.
      octaves: range of the binary logarithm of the radius over 6 pixels.
      hue_spread: largest distance to the hue of the class.

    Returns:
      (the image with the object, the share of each pixel that it covers, float32 [H, W]).
    """
    height, width = image.shape[:2]
    cover = _mask(rng, class_index, height, width, place, octaves)
    hue, saturation = _COLORS[class_index]
    hue += rng.uniform(-hue_spread, hue_spread)
    texture = draw_texture(rng, height, width, hue, saturation * rng.uniform(0.5, 1.3))
    return image + cover[:, :, None] * (texture - image), cover


def _mask(
    rng: np.random.Generator,
    class_index: int,
    height: int,
    width: int,
    place: tuple[float, float],
    octaves: tuple[float, float],
) -> np.ndarray:
    """Share of each pixel that one object covers; float32 [H, W]."""
    canvas = Image.new("L", (width * _SHARPNESS, height * _SHARPNESS))
    pen = ImageDraw.Draw(canvas)
    center = rng.uniform(*place, 2) * canvas.size
    # Sizes are uniform in octaves: there are as many small objects as large ones.
    radius = _SHARPNESS * 6 * 2 ** rng.uniform(*octaves)
    angle = rng.uniform(0, 2 * math.pi)
    if class_index == 1:
        angles = np.linspace(0, 2 * math.pi, 60, endpoint=False)
        flatness = rng.uniform(0.45, 1.0)
        offsets = np.stack([np.cos(angles), flatness * np.sin(angles)], 1) * radius
    elif class_index == 2:
        angles = np.arange(corners := rng.integers(3, 6)) * 2 * math.pi / corners
        offsets = np.stack([np.cos(angles), np.sin(angles)], 1) * radius
    elif class_index == 3:
        tips = rng.integers(4, 7)
        angles = np.arange(2 * tips) * math.pi / tips
        reach = np.where(np.arange(2 * tips) % 2, rng.uniform(0.35, 0.5), 1.0) * radius
        offsets = np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None]
    else:
        length = max(radius * 2, 25.0 * _SHARPNESS)
        along = np.linspace(-length, length, 20)
        bend = rng.uniform(-0.4, 0.4) * length * np.cos(along / length * rng.uniform(1, 3))
        offsets = np.stack([along, bend], 1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = [tuple(point) for point in center + offsets @ turn]
    if class_index == 4:
        pen.line(points, 255, width=int(_SHARPNESS * rng.uniform(3, 6)), joint="curve")
    else:
        pen.polygon(points, 255)
    return np.asarray(canvas.reduce(_SHARPNESS), np.float32) / 255


def draw_texture(
    rng: np.random.Generator, height: int, width: int, hue: float, saturation: float
) -> np.ndarray:
    """Two shades of a color in stripes, checks, dots or clouds; float32 [H, W, 3]."""
    bright, dark = rng.uniform(0.65, 1.0), rng.uniform(0.35, 0.65)
    shades = [
        np.array(colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), value)) * 255
        for value in (bright, dark)
    ]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(4, 14)
    u = (x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period
    v = (y * math.cos(angle) - x * math.sin(angle)) * 2 * math.pi / period
    kind = rng.integers(4)
    if kind == 0:
        wave = np.sin(u)
    elif kind == 1:
        wave = np.sign(np.sin(u) * np.sin(v))
    elif kind == 2:
        wave = np.where(np.cos(u) + np.cos(v) > 1, 1.0, -0.7)
    else:
        coarse = rng.normal(0, 1, (height // 8 + 2, width // 8 + 2)).astype(np.float32)
        clouds = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        wave = np.clip(np.asarray(clouds), -1, 1)
    share = (0.5 + 0.5 * wave)[:, :, None]
    return (share * shades[0] + (1 - share) * shades[1]).astype(np.float32)


def open_drawn(
    name: str,
    draw: Callable[[str, int], tuple[np.ndarray, np.ndarray]],
    num_examples: int,
    data_dir: str | None,
    *,
    class_names: tuple[str, ...],
    palette: tuple[Color, ...],
    ignore_label: int,
) -> OpenDataset:
    """Opens a dataset of drawings; draws them first if they were not drawn in this number before.

    Args:
      name: of the dataset.
      draw: (split, index) -> (image uint8 [H, W, 3] RGB, label uint8 [H, W]).
      num_examples: of 'train'; 'val' gets a quarter of that.
      data_dir: where it is kept; None: TFDS' default place.
      class_names: in label order.
      palette: one color per class.
      ignore_label: label value of void.

    Returns:
      The dataset, with the splits 'train' and 'val'.

    Raises:
      ValueError: its files are damaged.
      OSError: they cannot be written.
    """
    from deeplab_tf.data.records import RecordBuilder

    def examples(split: str, number: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for index in range(number):
            image, label = draw(split, index)
            key = f"{split}-{index:05}"
            yield key, {"image": png_file(image), "label": png_file(label), "name": key}

    numbers = {"train": num_examples, "val": num_examples // 4}
    builder = RecordBuilder(
        name,
        f"train{num_examples}",
        data_dir,
        examples={split: examples(split, number) for split, number in numbers.items()},
        in_order=False,
        image_format="png",
    ).write()
    spec = DatasetSpec(
        name=name,
        class_names=class_names,
        ignore_label=ignore_label,
        palette=palette,
        splits=numbers,
    )
    return OpenDataset(
        spec=spec, sources={split: RecordSource(builder, split) for split in numbers}
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shapes(WithoutRelease):
    """Drawn shapes: no download, any number of examples."""

    kind: ClassVar[str] = "shapes"

    # ours
    num_examples: int = option(
        600, "images drawn for 'train'; 'val' gets a quarter of that", minimum=4
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
        return open_drawn(
            "shapes",
            draw,
            self.num_examples,
            data_dir,
            class_names=CLASS_NAMES,
            palette=PALETTE,
            ignore_label=_IGNORE_LABEL,
        )
