"""Limits on what a file claims to hold, checked before anything of that size is read.

One rule holds for every format. The values of a file take at most `MAX_EXPANSION` times its size in
memory, or `ALWAYS_ALLOWED_BYTES` if that is more. Formats that store each value as it is reach
their file's size. Compression, constants that repeat a value and tensors that share values reach
more.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Iterable, Sequence
from typing import BinaryIO

# ours: weights of 8 bits that were stored as floats compress to a third, pruned ones to a tenth
MAX_EXPANSION = 16
ALWAYS_ALLOWED_BYTES = 1 << 20  # ours: a small file may hold zeros alone
_MAX_DIRECTORY_BYTES = 1 << 20  # ours: ResNet-101 with its optimizer has 66 kB
MAX_RANK = 8  # ours: weights have at most 5 dimensions
_COMPRESSION = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others unpack without a limit


def check_claimed_bytes(claimed: int, file_bytes: int, what: str = "its arrays") -> None:
    """Checks that a file does not claim much more than it can hold.

    Args:
      claimed: size of the arrays in bytes, as the file states it.
      file_bytes: size of the file.
      what: claims them, for the message.

    Raises:
      ValueError: the file claims too much.
    """
    limit = max(MAX_EXPANSION * file_bytes, ALWAYS_ALLOWED_BYTES)
    if claimed > limit:
        raise ValueError(
            f"{what} must have at most {limit} bytes for a file of {file_bytes}; they claim"
            f" {claimed if claimed < 1 << 63 else 'more than any memory'}"
        )


def array_bytes(name: str, shape: Sequence[int], itemsize: int) -> int:
    """Size of an array in bytes, from what a file states of it.

    Args:
      name: of the array, for messages.
      shape: its sizes, as they are stated.
      itemsize: bytes per value.

    Raises:
      ValueError: there are too many dimensions, or a size is not positive.
    """
    if len(shape) > MAX_RANK or not all(size > 0 for size in shape):
        raise ValueError(
            f"array {name[:100]} must have at most {MAX_RANK} dimensions with sizes from 1; got"
            f" {len(shape)}: {', '.join(map(str, shape[:MAX_RANK]))[:100]}"
        )
    return math.prod(shape) * itemsize


def check_zip(file: BinaryIO) -> list[zipfile.ZipInfo]:
    """Checks that a zip archive does not unpack to far more than its size; returns its directory.

    Raises:
      ValueError: it does, it is damaged, two entries have one name, or its compression has no
        limit.
    """
    entries = zip_entries(file)
    for entry in entries:
        if entry.compress_type not in _COMPRESSION or entry.flag_bits & 1:
            raise ValueError(
                f"{entry.filename[:100]} in its archive must be stored or deflated, and not"
                " encrypted"
            )
    check_names(entry.filename for entry in entries)
    claimed = sum(entry.file_size for entry in entries)
    check_claimed_bytes(claimed, os.fstat(file.fileno()).st_size)
    return entries


def check_names(names: Iterable[str]) -> None:
    """Checks that the parts of a file have different names.

    Raises:
      ValueError: two have the same.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the names in it must differ; {name[:100]} occurs twice")
        seen.add(name)


def zip_entries(file: BinaryIO) -> list[zipfile.ZipInfo]:
    """The directory of a zip archive.

    Raises:
      ValueError: the archive is damaged, or its directory is too large.
    """
    try:
        with zipfile.ZipFile(_DirectoryReader(file)) as archive:
            _check_count(file, len(archive.infolist()))
            return archive.infolist()
    except (
        zipfile.BadZipFile, NotImplementedError, OSError, UnicodeError, struct.error
    ) as error:  # fmt: skip
        raise ValueError(
            f"its archive is cut short or damaged ({error}): get the file again"
        ) from error


def _check_count(file: BinaryIO, count: int) -> None:
    """Checks that the directory has all entries: a wrong length in it makes some a comment."""
    # cited: APPNOTE.TXT 4.3.16, without a comment at the end
    file.seek(-22, os.SEEK_END)
    magic, expected, comment = struct.unpack("<4s6xH8xH", file.read(22))
    if magic != b"PK\5\6" or comment or expected not in (count, 0xFFFF):  # 0xFFFF: see elsewhere
        raise zipfile.BadZipFile(f"its directory must have {expected} entries; got {count}")


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
