"""What kind of file a label is, where its values alone do not tell."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from deeplab_tf.data.labels.colors import ColorClasses, color_codes, color_of
from deeplab_tf.data.labels.facts import Gathered, LabelFacts, label_facts, scattered
from deeplab_tf.data.picture_files import check_file, open_picture
from deeplab_tf.recipe.dataset_spec import Color

# Modes in which a pixel is an index; the colors of "P" do not matter there.
INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
_FEW = 256  # ours: colors of one label that was drawn
_MOST = 1024  # ours: colors of all labels, as many as are counted


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelFile:
    """What one label's file is."""

    format: str  # Pillow's name
    palette: tuple[Color, ...] | None = None  # of a PNG of indices that has one
    colors: LabelFacts | None = None  # of a PNG of colors, by `color_codes`; those without a class
    mask_in_alpha: bool = False  # of a PNG of colors: all have one color, alpha differs


def check_picture_file(path: str) -> None:
    """Checks a file before it is read: some never end.

    Raises:
      ValueError: it is not a regular file, is empty, or is larger than any picture.
      OSError: there is no such file.
    """
    try:
        check_file(path)
    except ValueError as error:
        raise ValueError(f"not a readable picture: {error}") from error


def look_at(path: str, classes: ColorClasses | None = None) -> LabelFile:
    """Opens a label; only a PNG of colors is decoded.

    Args:
      path: of the label.
      classes: the classes of colors; then these colors are left out, and the palette is too.

    Raises:
      ValueError: it is not a picture, or is damaged.
      OSError: it cannot be opened.
    """
    with open_picture(path) as picture:
        if picture.format != "PNG":
            return LabelFile(format=picture.format)
        if picture.mode in INDEX_MODES and classes is None:
            return LabelFile(format="PNG", palette=_palette(picture))
        colors = label_facts(color_codes(picture))
        alpha = picture.convert("RGBA").getextrema()[3]
    if classes is not None:
        unnamed = classes.colors[colors.values] == 0
        colors = dataclasses.replace(
            colors, values=colors.values[unnamed], pixels=colors.pixels[unnamed]
        )
    one_color = len(colors.values) == 1 and alpha[0] != alpha[1]
    return LabelFile(format="PNG", colors=colors, mask_in_alpha=one_color)


def _palette(picture: Image.Image) -> tuple[Color, ...] | None:
    if picture.mode != "P":
        return None
    return tuple(zip(*[iter(picture.getpalette() or ())] * 3, strict=True))


class GatheredFiles:
    """What the files of many labels are."""

    def __init__(self) -> None:
        """Starts without labels."""
        self.examples: dict[str, tuple[int, str]] = {}  # format, not PNG -> (number, first one)
        self.colors = Gathered()  # of labels with few colors
        self.many_colors = self.masks_in_alpha = 0  # labels
        self._runs = self._pixels = 0  # of those with many colors
        self.disagreement: tuple[int, Color, str, Color, str] | None = None
        self._palette: dict[int, tuple[Color, str]] = {}

    def add(self, path: str, file: LabelFile, values: np.ndarray | None) -> None:
        """Adds a label's file; `values` are its indices, if it could be read as a label."""
        if file.format != "PNG":
            number, first = self.examples.get(file.format, (0, path))
            self.examples[file.format] = number + 1, first
        elif file.mask_in_alpha:
            self.masks_in_alpha += 1
        elif file.colors is not None:
            self._add_colors(path, file.colors)
        elif file.palette and values is not None:
            for index in values.tolist():
                if index < len(file.palette):
                    color = file.palette[index]
                    other, other_path = self._palette.setdefault(index, (color, path))
                    if color != other and self.disagreement is None:
                        self.disagreement = (index, other, other_path, color, path)

    def _add_colors(self, path: str, colors: LabelFacts) -> None:
        if len(colors.values) <= _FEW and len(self.colors.seen) <= _MOST:
            self.colors.add(path, colors)
        else:
            self.many_colors += 1
            self._runs += colors.runs
            self._pixels += int(colors.pixels.sum())

    @property
    def photos(self) -> bool:
        """Whether labels with many colors look like photos rather than blurred drawings."""
        return scattered(self._runs, self._pixels)

    def frequent_colors(self) -> list[Color]:
        """The colors of labels with few of them, most frequent first."""
        seen = self.colors.seen
        return [color_of(code) for code in sorted(seen, key=lambda code: -seen[code].pixels)]
