"""Limits on what a file claims to hold, checked before anything of that size is read."""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

_MAX_DIRECTORY_BYTES = 1 << 20  # ours: ResNet-101 with its optimizer has 66 kB
# ours: trained weights compress to no less than half; a small file may hold zeros
_MAX_EXPANSION = 16
_ALWAYS_ALLOWED_BYTES = 64 << 20


def check_claimed_bytes(claimed: int, file_bytes: int) -> None:
    """Checks that a file does not claim much more than it can hold.

    Args:
      claimed: size of the arrays in bytes, as the file states it.
      file_bytes: size of the file.

    Raises:
      ValueError: the file claims too much.
    """
    limit = max(_MAX_EXPANSION * file_bytes, _ALWAYS_ALLOWED_BYTES)
    if claimed > limit:
        raise ValueError(
            f"its arrays must have at most {limit} bytes for a file of {file_bytes}; they claim"
            f" {claimed}"
        )


def check_zip(file: BinaryIO) -> None:
    """Checks that a zip archive does not claim to unpack to far more than its size.

    Raises:
      ValueError: it does, or it is damaged.
    """
    claimed = sum(entry.file_size for entry in zip_entries(file))
    check_claimed_bytes(claimed, os.fstat(file.fileno()).st_size)


def zip_entries(file: BinaryIO) -> list[zipfile.ZipInfo]:
    """The directory of a zip archive.

    Raises:
      ValueError: the archive is damaged, or its directory is too large.
    """
    try:
        with zipfile.ZipFile(_DirectoryReader(file)) as archive:
            return archive.infolist()
    except (
        zipfile.BadZipFile, NotImplementedError, OSError, UnicodeError, struct.error
    ) as error:  # fmt: skip
        raise ValueError(
            f"its archive is cut short or damaged ({error}): get the file again"
        ) from error


class _DirectoryReader:
    """A file that refuses reads larger than any plausible zip directory."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, nbytes: int = -1) -> bytes:
        if nbytes > _MAX_DIRECTORY_BYTES:
            raise ValueError(
                f"its archive's directory must have at most {_MAX_DIRECTORY_BYTES} bytes; got"
                f" {nbytes}"
            )
        return self._read(nbytes if nbytes >= 0 else _MAX_DIRECTORY_BYTES)
