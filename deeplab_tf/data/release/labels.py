"""Label files of official releases: from their numbers to classes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from deeplab_tf.data.decoding import exif_orientation, label_from_bytes
from deeplab_tf.data.picture_files import read_file
from deeplab_tf.data.release.mat_file import read_array
from deeplab_tf.recipe.dataset_spec import Color
from deeplab_tf.recipe.messages import shortened


def read_png(
    path: str, classes: Mapping[int, int], palette: Mapping[int, Color] | None = None
) -> np.ndarray:
    """Reads a PNG of numbers.

    Args:
      path: of the file.
      classes: number in the file -> class or ignore label.
      palette: number -> its color, where the release has palette pictures. A picture with other
        colors was saved again, and its numbers cannot be trusted. None: the release has gray
        pictures only.

    Returns:
      uint8 [H, W], classes.

    Raises:
      ValueError: it is not a PNG of numbers, or has a number that `classes` lacks.
    """
    try:
        encoded = read_file(path)
        numbers = label_from_bytes(encoded)
        if exif_orientation(encoded) != 1:
            raise ValueError("the label has an EXIF orientation: it was saved again")
        _check_palette(encoded, numbers, palette)
        return relabeled(numbers, classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_mat(path: str, names: Sequence[str], classes: Mapping[int, int]) -> np.ndarray:
    """Reads a label from a MATLAB file.

    Args:
      path: of the file.
      names: name of the variable, then those of the struct fields that lead to the array.
      classes: as for `read_png`.

    Returns:
      uint8 [H, W], classes.

    Raises:
      ValueError: the file is damaged, or the array is not as expected.
    """
    try:
        numbers = read_array(read_file(path), *names)
        if numbers.ndim != 2 or not np.array_equal(numbers, numbers.astype(np.int32)):
            raise ValueError(f"the label must be a matrix of whole numbers; got {numbers.shape}")
        return relabeled(numbers.astype(np.int32), classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_palette(
    encoded: bytes, numbers: np.ndarray, palette: Mapping[int, Color] | None
) -> None:
    with Image.open(io.BytesIO(encoded)) as picture:
        if picture.mode != "P":
            return
        channels = picture.getpalette()
    if palette is None:
        raise ValueError("the label must be a gray picture; it has a palette: it was saved again")
    for number in np.unique(numbers).tolist():
        color = tuple(channels[3 * number : 3 * number + 3])
        if number in palette and color != palette[number]:
            raise ValueError(
                f"the official palette shows {number} as {palette[number]}, this one as {color}:"
                " the picture was saved again, and its numbers are not those of the release"
            )


def relabeled(numbers: np.ndarray, classes: Mapping[int, int]) -> np.ndarray:
    """Replaces each number by its class.

    Args:
      numbers: int [H, W].
      classes: number -> class, 0..255.

    Returns:
      uint8 [H, W].

    Raises:
      ValueError: there is a number that `classes` lacks.
    """
    present = np.unique(numbers).tolist()
    unknown = [number for number in present if number not in classes]
    if unknown:
        raise ValueError(f"label values must be among {_ranges(classes)}; got {shortened(unknown)}")
    # The table begins at the smallest number, which may be negative.
    table = np.zeros(present[-1] - present[0] + 1, np.uint8)
    for number in present:
        table[number - present[0]] = classes[number]
    return table[numbers - present[0]]


def _ranges(numbers: Mapping[int, int]) -> str:
    """1, 2, 3, 7 -> '1..3, 7'."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}..{b}" if a < b else str(a) for a, b in runs)
