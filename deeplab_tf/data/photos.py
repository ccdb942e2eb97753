"""A user's photos: finding and reading them, and names for their predictions."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

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
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # directly to RGB, Pillow warns of transparency
    return np.array(picture.convert("RGB"))


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError("gray values must be 0..65535; they are not. Save it with 8 or 16 bits.")
    return np.rint(values / 257).astype(np.uint8)  # 65535 / 257 = 255


def find_photos(items: Sequence[str]) -> list[str]:
    """The files that the items name, each once.

    Args:
      items: files, folders, patterns such as photos/*.jpg, or several of these with commas.

    Raises:
      FileNotFoundError: an item names no file.
    """
    paths = []
    for item in items:
        # A comma may also be part of a file's name.
        for part in [item] if os.path.exists(item) else item.split(","):
            if os.path.isdir(part):
                paths_in = [os.path.join(part, name) for name in sorted(os.listdir(part))]
                found = [path for path in paths_in if _is_photo(path)]
            elif os.path.exists(part):
                found = [part]
            else:
                found = sorted(filter(os.path.isfile, glob.glob(part, recursive=True)))
            if not found:
                raise FileNotFoundError(
                    f"no images at {part!r}; it must be a file, a folder with"
                    f" {', '.join(_EXTENSIONS)} in it, or a pattern such as 'photos/*.jpg'."
                )
            paths += found
    return list(dict.fromkeys(paths))


def _is_photo(path: str) -> bool:
    # A Mac leaves hidden files with the endings of pictures, such as ._photo.jpg.
    hidden = os.path.basename(path).startswith(".")
    return path.lower().endswith(_EXTENSIONS) and not hidden and not os.path.isdir(path)


def output_stems(paths: Sequence[str], directory: str) -> dict[str, str]:
    """Image -> the beginning of the paths of its predictions.

    Raises:
      ValueError: a prediction would overwrite an image or another prediction.
    """
    outputs = {}
    writers = {os.path.join(directory, LEGEND): "the legend"}
    for path in paths:
        if os.path.realpath(os.path.dirname(path)) == os.path.realpath(directory):
            raise ValueError(f"--output must not be the directory of {path}; choose another one.")
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
