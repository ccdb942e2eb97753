"""LevelDB's table format, in which TensorFlow keeps the names and sizes of a checkpoint's arrays.

Whatever the bytes are, they are read or refused here: TensorFlow's own reader ends the process on
some of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from deeplab_tf.weights.tensorflow_files.crc32c import masked_crc32c
from deeplab_tf.weights.tensorflow_files.protobuf import varint

# cited: LevelDB's table format, for all of these.
TABLE_END = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # after a block: its compression, and its checksum
_MAX_KEY_BYTES = 4096  # ours: names of weights have a tenth of it


def entries(file: BinaryIO) -> Iterator[tuple[bytes, memoryview]]:
    """The entries of a table in its order, read block by block.

    Yields:
      (key, value).

    Raises:
      ValueError: the table is cut short or damaged.
    """
    size = os.fstat(file.fileno()).st_size
    if size < _FOOTER_BYTES:
        raise ValueError(f"a table must have {_FOOTER_BYTES} bytes or more; got {size}")
    file.seek(size - _FOOTER_BYTES)
    footer = memoryview(file.read(_FOOTER_BYTES))
    if footer[-len(TABLE_END) :] != TABLE_END:
        raise ValueError("its end is not that of a table; it is cut short or damaged")
    _, position = _handle(footer, 0)
    index, _ = _handle(footer, position)
    end, last = 0, None
    for _, value in _entries_of_block(_block(file, *index)):
        (start, length), _ = _handle(value, 0)
        if start < end:  # each could be as large as the file
            raise ValueError("its blocks overlap")
        end = start + length
        for key, content in _entries_of_block(_block(file, start, length)):
            if last is not None and key <= last:
                raise ValueError("its keys are not in order")
            last = key
            yield key, content


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    """((start, length) of a block, the position after both)."""
    start, position = varint(data, position)
    length, position = varint(data, position)
    return (start, length), position


def _block(file: BinaryIO, start: int, length: int) -> memoryview:
    """A block's content, after a check of its checksum."""
    size = os.fstat(file.fileno()).st_size
    if start + length + _TRAILER_BYTES > size:
        raise ValueError("a block must lie within the file; it is cut short or damaged")
    file.seek(start)
    data = memoryview(file.read(length + _TRAILER_BYTES))
    content, compression = data[:length], data[length]
    (expected,) = struct.unpack("<I", data[length + 1 :])
    if masked_crc32c(data[: length + 1]) != expected:
        raise ValueError(f"the checksum of the block at byte {start} is wrong; it is damaged")
    if compression:
        raise ValueError("its blocks must not be compressed, as TensorFlow writes them")
    return content


def _entries_of_block(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    if len(block) < 4:
        raise ValueError("a block has no end")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError("the end of a block is damaged")
    key, position = b"", 0
    while position < end:
        shared, position = varint(block, position)
        own, position = varint(block, position)
        length, position = varint(block, position)
        after = position + own + length
        if shared > len(key) or shared + own > _MAX_KEY_BYTES or after > end:
            raise ValueError("an entry of a block is damaged")
        key = key[:shared] + bytes(block[position : position + own])
        yield key, block[position + own : after]
        position = after
