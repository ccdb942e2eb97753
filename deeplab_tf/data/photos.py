"""A user's photos: finding and reading them, and names for their predictions."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from deeplab_tf.data.picture_files import open_picture

# Files beside the predictions.
LEGEND = "legend.png"
PAGE = "index.html"
RECORD = "predictions.jsonl"
LOCK = "lock"

# Kind of a prediction -> how the name of its file ends.
ENDINGS = {"overlay": "_overlay.png", "index": ".png", "probabilities": "_probabilities.npz"}
VIDEO_ENDINGS = {"overlay": "_overlay.mp4"}
# In a folder.
_EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif")
_VIDEO_EXTENSIONS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")


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
    check_link(path)
    try:
        with open_picture(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.load()
        if picture.mode.startswith(("I", "F")):
            # Pillow gives 16 bits of PGM, and older versions those of PNG, in the mode of 32.
            has_16_bits = picture.mode.startswith("I;16") or opened.format in ("PNG", "PPM")
            picture = Image.fromarray(_to_8_bits(np.asarray(picture), has_16_bits=has_16_bits))
        if picture.mode == "P":
            picture = picture.convert("RGBA")  # directly to RGB, Pillow warns of transparency
        return np.array(picture.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"cannot read {printable(path)}: {error}") from error


def is_video(path: str) -> bool:
    """Whether the name of a file is that of a video."""
    return path.lower().endswith(_VIDEO_EXTENSIONS)


def endings_of(name: str) -> Mapping[str, str]:
    """Kind of a prediction -> how the name of its file ends, for an image or a video."""
    return VIDEO_ENDINGS if is_video(name) else ENDINGS


def printable(path: str) -> str:
    """A path in one line: in Python's form if it has line breaks or bytes that are not text."""
    return path if path.isprintable() else ascii(path)


def check_link(path: str) -> None:
    """Checks that a path is not a link to nothing.

    Raises:
      ValueError: it is.
    """
    if os.path.islink(path) and not os.path.lexists(target := os.path.realpath(path)):
        raise ValueError(
            f"cannot read {printable(path)}: it is a link to {printable(target)}, which is not"
            " there"
        )


def _to_8_bits(values: np.ndarray, *, has_16_bits: bool) -> np.ndarray:
    if values.dtype.kind == "f":
        raise ValueError(
            "gray values must be integers; they are floats. Save it with 8 or 16 bits."
        )
    if has_16_bits:
        return np.rint(values / 257).astype(np.uint8)  # 65535 / 257 = 255
    # The file does not say which value is white.
    if values.min() < 0 or values.max() > 255:
        raise ValueError(
            f"gray values of 32 bits must be 0..255; got {values.min()}..{values.max()}. Save it"
            " with 8 or 16 bits."
        )
    return values.astype(np.uint8)


class Found(NamedTuple):
    """What items name; see `search`.

    Attributes:
      names: path -> name.
      left_out: paths of files in folders that do not have the name of a photo.
    """

    names: dict[str, str]
    left_out: list[str]


def find_photos(items: Sequence[str]) -> list[str]:
    """The files that the items name, each once; see `named_photos`."""
    return list(named_photos(items))


def named_photos(items: Sequence[str]) -> dict[str, str]:
    """The files that the items name, each once, with a name for each; see `search`."""
    return search(items).names


def search(items: Sequence[str]) -> Found:
    """The files that the items name, each once, with a name for each.

    Args:
      items: files, folders, patterns such as photos/*.jpg, or several of these with commas. "**" in
        a pattern stands for folders at any depth; it does not follow links, and leaves out folders
        that hold predictions. A folder, and a pattern that ends in "**", stand for the photos.

    Returns:
      The name of a file is its own, of a pattern with "**" together with the folders below the
      place of "**". Left out are no hidden files, and none that predictions have.

    Raises:
      FileNotFoundError: an item names no file.
    """
    names: dict[str, str] = {}
    seen: set[str] = set()  # a file may be named in two ways
    left_out: list[str] = []
    for item in items:
        whole = _found(item)  # a comma may also be part of a name
        for part in [item] if whole.names else item.split(","):
            found = whole if whole.names else _found(part)
            if not found.names:
                raise FileNotFoundError(
                    f"no images at {part!r}; it must be a file, a folder with"
                    f" {', '.join(_EXTENSIONS)} in it, or a pattern such as 'photos/*.jpg'."
                )
            left_out += found.left_out
            for path, name in found.names.items():
                if os.path.abspath(path) not in seen:
                    seen.add(os.path.abspath(path))
                    names[path] = name
    others = {os.path.abspath(path): path for path in left_out}
    return Found(names, [path for place, path in others.items() if place not in seen])


def _found(item: str) -> Found:
    """What one item names, in the order of the paths."""
    if os.path.isdir(item):
        found = {os.path.join(item, name): name for name in os.listdir(item)}
    elif os.path.exists(item):
        return Found({item: os.path.basename(item)}, [])
    else:
        found = dict(_matching(item))
    names = {path: found[path] for path in sorted(found) if not os.path.isdir(path)}
    if not os.path.isdir(item) and os.path.basename(item.rstrip(os.sep)) != "**":
        return Found(names, [])
    photos = {path: name for path, name in names.items() if _is_photo(os.path.basename(path))}
    return Found(photos, [path for path in names if path not in photos and _is_missed(path)])


def _is_photo(name: str) -> bool:
    # A Mac leaves hidden files with the endings of pictures, such as ._photo.jpg.
    return name.lower().endswith(_EXTENSIONS) and not name.startswith(".")


def _is_missed(path: str) -> bool:
    """Whether a user may miss a file that is left out."""
    name = os.path.basename(path)
    own = name in (PAGE, RECORD, LOCK) or name.endswith(
        (*ENDINGS.values(), *VIDEO_ENDINGS.values())
    )
    return not own and not name.startswith(".")


def _matching(pattern: str) -> Iterator[tuple[str, str]]:
    """Path and name of what matches a pattern; hidden ones only where it names them, as in a shell.

    The name begins after the folder that the first "**" searches.
    """
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from ((path, os.path.basename(path)) for path in glob.iglob(pattern))
        return
    # Not by glob, which follows links: one that leads upward makes it nearly endless.
    place = parts.index("**")
    rest = os.path.join("", *parts[place + 1 :]) or "*"
    head = os.path.join(os.sep * (not parts[0]), *parts[:place])
    for top in glob.iglob(head) if head else [os.curdir]:
        for folder, subfolders, names in os.walk(top):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            if RECORD in names:  # or the next run would predict the overlays of this one
                subfolders.clear()
                continue
            folder = "" if folder == os.curdir else os.path.normpath(folder)
            for path, _ in _matching(os.path.join(glob.escape(folder), rest)):
                yield path, os.path.relpath(path, top)


def output_stems(names: Mapping[str, str], directory: str) -> dict[str, str]:
    """The beginning of the paths of the predictions of each image.

    Args:
      names: path -> name of an image, as from `named_photos`.
      directory: of the predictions.

    Returns:
      Path of an image -> that of its predictions without their endings.

    Raises:
      NotADirectoryError: the directory is a file.
      ValueError: a prediction would overwrite an image or another prediction, or a folder would
        have the name of a file.
    """
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise NotADirectoryError(f"--output must be a directory; {directory} is a file.")
    stems = {
        path: os.path.join(directory, os.path.splitext(name)[0]) for path, name in names.items()
    }
    written = {os.path.realpath(folder) for folder in {*map(os.path.dirname, stems.values())}}
    written.add(os.path.realpath(directory))
    for folder, inside in {os.path.dirname(path): path for path in names}.items():
        if os.path.realpath(folder) in written:
            raise ValueError(f"--output must not be the directory of {inside}; choose another one.")
    own = {LEGEND: "the legend", PAGE: "the page", RECORD: "the record", LOCK: "the lock"}
    writers = {os.path.join(directory, name): what for name, what in own.items()}
    for path, stem in stems.items():
        for ending in endings_of(path).values():
            if f"{stem}{ending}" in writers:
                raise ValueError(
                    f"{writers[f'{stem}{ending}']} and {path} would both be written to"
                    f" {stem}{ending}; predict them to different directories."
                )
            writers[f"{stem}{ending}"] = path
    for path, name in names.items():
        folder = os.path.dirname(name)
        while folder:
            place = os.path.join(directory, folder)
            if place in writers:
                raise ValueError(
                    f"{writers[place]} would be written to {place}, and the predictions of {path}"
                    " below it; predict them to different directories."
                )
            folder = os.path.dirname(folder)
    return stems
