"""A user's photos: finding and reading them, and names for their predictions."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from deeplab_tf.data.picture_files import open_picture

LEGEND = "legend.png"  # file beside the predictions
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")  # in a folder


def read_photo(path: str) -> np.ndarray:
    """Reads a picture of any kind, as a viewer shows it.

    The camera's orientation is applied, 16 bits are scaled to 8, transparency is dropped.

    Args:
      path: a file that Pillow can read.

    Returns:
      uint8 [H, W, 3] RGB.

    Raises:
      ValueError: it is not a picture, or is damaged; the message names the file.
    """
    try:
        with open_picture(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
        if picture.mode.startswith(("I", "F")):
            picture = Image.fromarray(_from_16_bits(np.asarray(picture)))
        if picture.mode == "P":
            picture = picture.convert("RGBA")  # directly to RGB, Pillow warns of transparency
        return np.array(picture.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"cannot read {printable(path)}: {error}") from error


def printable(path: str) -> str:
    """A path in one line: in Python's form if it has line breaks or bytes that are no text."""
    return path if path.isprintable() else ascii(path)


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("gray values must be 0..65535; they are not. Save it with 8 or 16 bits.")
    return np.rint(values / 257).astype(np.uint8)  # 65535 / 257 = 255


def find_photos(items: Sequence[str]) -> list[str]:
    """The files that the items name, each once.

    Args:
      items: files, folders, patterns such as photos/*.jpg, or several of these with commas. "**" in
        a pattern stands for folders at any depth; it does not follow links.

    Raises:
      FileNotFoundError: an item names no file.
    """
    paths: list[str] = []
    for item in items:
        whole = _found(item)  # a comma may also be part of a name
        for part in [item] if whole else item.split(","):
            found = whole or _found(part)
            if not found:
                raise FileNotFoundError(
                    f"no images at {part!r}; it must be a file, a folder with"
                    f" {', '.join(_EXTENSIONS)} in it, or a pattern such as 'photos/*.jpg'."
                )
            paths += found
    return list(dict.fromkeys(paths))


def _found(item: str) -> list[str]:
    if os.path.isdir(item):
        found = [os.path.join(item, name) for name in os.listdir(item) if _is_photo(name)]
    elif os.path.exists(item):
        return [item]
    else:
        found = list(_matching(item))
    return sorted({path for path in found if not os.path.isdir(path)})


def _is_photo(name: str) -> bool:
    # A Mac leaves hidden files with the endings of pictures, such as ._photo.jpg.
    return name.lower().endswith(_EXTENSIONS) and not name.startswith(".")


def _matching(pattern: str) -> Iterator[str]:
    """The paths that match a pattern; hidden ones only where it names them, as in a shell."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    # Not by glob, which follows links: those that lead upwards make it as good as endless.
    place = parts.index("**")
    rest = os.path.join("", *parts[place + 1 :]) or "*"
    head = os.path.join(os.sep * (not parts[0]), *parts[:place])
    for top in glob.iglob(head) if head else [os.curdir]:
        for folder, subfolders, _ in os.walk(top):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            folder = "" if folder == os.curdir else os.path.normpath(folder)
            yield from _matching(os.path.join(glob.escape(folder), rest))


def output_stems(paths: Sequence[str], directory: str) -> dict[str, str]:
    """Image -> the beginning of the paths of its predictions.

    Raises:
      NotADirectoryError: the directory is a file.
      ValueError: a prediction would overwrite an image or another prediction.
    """
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise NotADirectoryError(f"--output must be a directory; {directory} is a file.")
    outputs = {}
    writers = {os.path.join(directory, LEGEND): "the legend"}
    for folder, inside in {os.path.dirname(path): path for path in paths}.items():
        if os.path.realpath(folder) == os.path.realpath(directory):
            raise ValueError(f"--output must not be the directory of {inside}; choose another one.")
    for path in paths:
        stem = os.path.join(directory, os.path.splitext(os.path.basename(path))[0])
        for written in (f"{stem}.png", f"{stem}_overlay.png"):
            if written in writers:
                raise ValueError(
                    f"{writers[written]} and {path} would both be written to {written};"
                    " predict them to different directories."
                )
            writers[written] = path
        outputs[path] = stem
    return outputs
