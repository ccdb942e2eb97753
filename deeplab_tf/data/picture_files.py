"""Opening and writing files of pictures; those to open may be damaged or hostile."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# What Pillow raises for damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error, zlib.error)

_MOST_BYTES_PER_PIXEL = 8  # ours: 16 bits of four channels, without compression
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_file(path: str) -> None:
    """Checks, without opening it, that a path is a file which may hold a picture or a label.

    A pipe may never be written to, a device may never end, and a sparse file of any size takes no
    room on a disk.

    Raises:
      ValueError: it is not a regular file, is empty, or is larger than any picture; the message
        does not name it.
      OSError: there is no such file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise ValueError(f"it is {kind}, not a regular file")
    if not found.st_size:  # as are the files of /proc, some of which never end
        raise ValueError("it is empty")
    most = Image.MAX_IMAGE_PIXELS and Image.MAX_IMAGE_PIXELS * _MOST_BYTES_PER_PIXEL
    if most and found.st_size > most:
        raise ValueError(f"it has {found.st_size} bytes; no picture needs more than {most}")


def read_file(path: str) -> bytes:
    """The bytes of a file after `check_file`, whose errors it raises too."""
    check_file(path)
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def open_picture(
    file: str | BinaryIO, formats: Sequence[str] | None = None
) -> Iterator[Image.Image]:
    """Opens a picture with Pillow; an error about it in the block becomes a ValueError too.

    Args:
      file: its path, or the open file.
      formats: Pillow's names of the formats that are allowed; None: all.

    Raises:
      ValueError: the file is not a picture in these formats, is damaged, or claims too many pixels.
    """
    try:
        if isinstance(file, str):
            check_file(file)
        with Image.open(file, formats=formats) as picture:
            _check_size(picture)
            if picture.format == "EPS":  # Pillow would run it, and it need not end
                raise ValueError("it is a program in PostScript; convert it to a picture")
            yield picture
    except UnidentifiedImageError as error:
        wanted = f" in {' or '.join(formats)} format" if formats else " that can be read"
        raise ValueError(f"not a picture{wanted}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"a picture may have {Image.MAX_IMAGE_PIXELS} pixels at most; this one has more, or is"
            " damaged. Make it smaller or cut it into pieces."
        ) from error
    except DAMAGED as error:
        raise ValueError(f"not a readable picture: {error}") from error


def _check_size(picture: Image.Image) -> None:
    # A small file can claim any size. Up to twice its limit, Pillow only warns before it fills the
    # memory. No network here could take such a picture as a whole either.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and picture.width * picture.height > limit:
        raise Image.DecompressionBombError(f"{picture.width}x{picture.height} pixels")


def png_file(pixels: np.ndarray) -> io.BytesIO:
    """An open PNG file of uint8 [H, W] or [H, W, 3] pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file
