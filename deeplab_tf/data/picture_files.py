"""Opening and writing files of pictures; those to open may be damaged or hostile."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

# What Pillow raises for damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error, zlib.error)


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
        with Image.open(file, formats=formats) as picture:
            _check_size(picture)
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
