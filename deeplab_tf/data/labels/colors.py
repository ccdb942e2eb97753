"""Labels drawn in colors: the file that says which color is which class."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
from PIL import Image

from deeplab_tf.data.labels.facts import label_facts
from deeplab_tf.recipe.dataset_spec import Color, distinct_palette
from deeplab_tf.recipe.files import numbered_lines
from deeplab_tf.recipe.messages import shortened

_LINE = re.compile(r"(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\S.*)", re.ASCII)
_VOID = "void"  # ours: the name, in any case, of colors without a class
_MOST_COLORS = 10  # ours: of one label in a message
# Pillow's modes whose colors are 8 bits per channel.
_MODES = ("1", "L", "P", "RGB", "LA", "PA", "RGBA")


@dataclasses.dataclass(frozen=True, eq=False)
class ColorClasses:
    """The classes that a file of colors names."""

    names: tuple[str, ...]
    palette: tuple[Color, ...]  # one color per class: its first one
    colors: np.ndarray  # uint16 [2^24], 1 + row in `values` of each color, 0 where it has no class
    values: np.ndarray  # int32 [classes + 1], label values; void is last

    def label(self, picture: Image.Image) -> np.ndarray:
        """The label that a picture shows.

        Args:
          picture: gray, with a palette or in colors; its colors count, as a viewer shows them.

        Returns:
          int32 [H, W].

        Raises:
          ValueError: a pixel is transparent, or has a color that the file does not name.
        """
        codes = color_codes(picture, opaque=True)
        # A table of all colors takes one look-up per pixel, whatever the number of classes. Most
        # of its pages are never touched and take no memory.
        rows = self.colors[codes]
        if not rows.all():
            facts = label_facts(codes[rows == 0][None])
            order = np.argsort(-facts.pixels)
            found = [
                f"{_text(facts.values[i])} ({facts.pixels[i]} pixels)" for i in order[:_MOST_COLORS]
            ]
            found += [f"and {len(order) - _MOST_COLORS} more"] * (len(order) > _MOST_COLORS)
            raise ValueError(
                "each color of a label must be in --dataset.colors_file; these are not:"
                f" {', '.join(found)}"
            )
        return self.values[rows.astype(np.int32) - 1]


def read_colors_file(path: str, ignore_label: int) -> ColorClasses:
    """Reads a file with one line "R G B name" per color.

    The classes are in the order of their first lines. Colors with the same name are one class, and
    those named void have none.

    Args:
      path: of the file.
      ignore_label: label value of void.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line has another form, a color occurs twice, or there are fewer than two
        classes.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}; --dataset.colors_file must name one.")
    names: dict[str, Color] = {}
    first_line: dict[Color, int] = {}
    named: list[tuple[Color, str]] = []
    for number, line in numbered_lines(path):
        match = _LINE.fullmatch(line)
        color = tuple(map(int, match.groups()[:3])) if match else ()
        if not match or max(color) > 255:
            raise ValueError(
                f"{path}, line {number}: a line of --dataset.colors_file must be 'R G B name' with"
                f" colors of 0..255, such as '128 64 128 road'; got {line!r}."
            )
        if color in first_line:
            raise ValueError(
                f"{path}, lines {first_line[color]} and {number}: each color must occur once;"
                f" {' '.join(map(str, color))} occurs twice."
            )
        first_line[color] = number
        named.append((color, match[4]))
        if match[4].lower() != _VOID:
            names.setdefault(match[4], color)
    if len(names) < 2:
        raise ValueError(
            f"{path} must name two or more different classes, one line 'R G B name' per color;"
            f" got {shortened(names)}."
        )
    rows = {name: row for row, name in enumerate(names)}
    table = np.zeros(1 << 24, np.uint16)
    for (red, green, blue), name in named:
        row = len(names) if name.lower() == _VOID else rows[name]
        table[red << 16 | green << 8 | blue] = row + 1
    return ColorClasses(
        names=tuple(names),
        palette=_palette(tuple(names.values())),
        colors=table,
        values=np.array([*range(len(names)), ignore_label], np.int32),
    )


def color_codes(picture: Image.Image, *, opaque: bool = False) -> np.ndarray:
    """The color of each pixel as one number; int32 [H, W], red in the highest of three bytes.

    Args:
      picture: with 8 bits per channel at most.
      opaque: refuse transparent pixels; otherwise their colors count.

    Raises:
      ValueError: the picture has more bits, or transparent pixels.
    """
    if picture.mode not in _MODES:
        raise ValueError(
            "a label in colors must have 8 bits per channel, gray, with a palette or RGB; it has"
            f" mode {picture.mode}"
        )
    pixels = np.asarray(picture.convert("RGBA"), np.int32)
    transparent = int(np.count_nonzero(pixels[:, :, 3] != 255)) if opaque else 0
    if transparent:
        raise ValueError(
            f"a label in colors must be opaque; {transparent} of its pixels are transparent. Save"
            " it without an alpha channel"
        )
    return pixels[:, :, 0] << 16 | pixels[:, :, 1] << 8 | pixels[:, :, 2]


def color_of(code: int) -> Color:
    """The color of a number from `color_codes`."""
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def _text(code: int) -> str:
    return " ".join(map(str, color_of(code)))


def _palette(colors: tuple[Color, ...]) -> tuple[Color, ...]:
    # Gray levels such as 0, 1, 2 are numbers rather than colors to draw with.
    gray = all(len(set(color)) == 1 for color in colors)
    return distinct_palette(len(colors)) if gray else colors
