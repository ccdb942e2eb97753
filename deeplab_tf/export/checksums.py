"""Checksums of the files of an export: engines run a damaged file, or crash on it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from deeplab_tf.recipe.files import read_lines, write_text

NAME = "sha256.txt"  # in the format of `sha256sum`


def write_sums(directory: str, names: Iterable[str], place: str = "") -> None:
    """Writes sha256.txt.

    Args:
      directory: of the export.
      names: of files in it, with / between folders.
      place: folder in the directory that gets the list.

    Raises:
      OSError: a file cannot be read, or the list cannot be written.
    """
    lines = [f"{_sha256(os.path.join(directory, name))}  {name}\n" for name in names]
    write_text(os.path.join(directory, place, NAME), "".join(lines))


def read_sums(directory: str, place: str = "") -> dict[str, str] | None:
    """Name of a file -> its checksum; None: there is no list, as of earlier versions.

    Raises:
      OSError: the list cannot be read.
      ValueError: it is no text.
    """
    path = os.path.join(directory, place, NAME)
    if not os.path.isfile(path):
        return None
    return dict(line.split("  ", 1)[::-1] for line in read_lines(path) if "  " in line)


def check_sum(path: str, expected: str | None) -> None:
    """Compares a file with its checksum.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is another file.
    """
    if expected != _sha256(path):
        raise ValueError(
            f"{path} is not the file that export.py wrote: it must have the SHA-256 that {NAME}"
            " lists. Export the model again."
        )


def parts_of(path: str) -> Iterator[bytes]:
    """The names and the bytes of a file, or of all files in a directory, for a checksum.

    Raises:
      OSError: a file cannot be read.
    """
    files = [path]
    if os.path.isdir(path):
        files = sorted(os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
    for file in files:
        yield os.path.relpath(file, path).encode(errors="surrogateescape")
        with open(file, "rb") as opened:
            while part := opened.read(2**24):
                yield part


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
