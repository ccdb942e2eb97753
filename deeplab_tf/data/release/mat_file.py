"""Arrays of MATLAB files, as two releases have them for labels; no more of the format.

The layout is that of MathWorks' "MAT-File Format", level 5. cited: the releases of SBD
(Hariharan et al. 2011) and PASCAL-Context (Mottaghi et al. 2014) use it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_STRUCT = 2
_NUMERIC = range(6, 16)  # classes double, single, int8 ... uint64
_MOST_BYTES = 1 << 28  # ours: more than any label needs; a small file can unpack to anything

_Element = tuple[int, bytes]


def read_array(data: bytes, *path: str) -> np.ndarray:
    """Reads one numeric array.

    Args:
      data: bytes of the file.
      *path: name of the variable, then the names of fields of 1x1 structs.

    Returns:
      The array; MATLAB may store doubles that are small integers as integers.

    Raises:
      ValueError: the data is not such a file, is damaged, or has no such array.
    """
    if data[:10] == b"MATLAB 7.3":
        raise ValueError("a MATLAB file of version 7.3, which is HDF5; save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("not a MATLAB file of level 5")
    try:
        for kind, content in _elements(data, _HEADER_BYTES, order):
            if kind == _COMPRESSED:
                ((kind, content),) = _elements(_unpacked(content), 0, order)
            if kind == _MATRIX:
                name, value = _matrix(content, order, path[1:])
                if name == path[0]:
                    return value()
    except (struct.error, zlib.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged MATLAB file: {error}") from error
    raise ValueError(f"a MATLAB file without the variable {path[0]}")


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(content, _MOST_BYTES)
    if not unpacker.eof:
        raise ValueError("a damaged MATLAB file: a compressed variable is incomplete or too long")
    return unpacked


def _elements(data: bytes, start: int, order: str) -> Iterator[_Element]:
    """(type, content) of each element from `start` to the end."""
    while start < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, start)
        if kind >> 16:  # the short form: size, type and content in eight bytes
            kind, size = kind & 0xFFFF, kind >> 16
            content, start = data[start + 4 : start + 4 + size], start + 8
        else:
            content, start = data[start + 8 : start + 8 + size], start + 8 + size
            if kind != _COMPRESSED:  # all others are padded
                start += -size % 8
        if len(content) < size:
            raise ValueError("a damaged MATLAB file: it ends too early")
        yield kind, content


def _matrix(content: bytes, order: str, path: tuple[str, ...]):
    """Name of a variable or field, and a function that reads what `path` leads to in it."""
    elements = list(_elements(content, 0, order))
    (_, flags), (_, shape), (_, name) = elements[:3]
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    dimensions = np.frombuffer(shape, f"{order}i4")

    def value() -> np.ndarray:
        if path:
            return _field(kind, dimensions, elements[3:], order, path)
        if kind not in _NUMERIC or len(elements) < 4 or elements[3][0] not in _DTYPES:
            raise ValueError(f"a MATLAB file with an array of class {kind}; it must be numeric")
        numbers = np.frombuffer(elements[3][1], order + _DTYPES[elements[3][0]])
        if numbers.size != dimensions.prod():
            raise ValueError(
                f"a damaged MATLAB file: {numbers.size} values for the shape {dimensions.tolist()}"
            )
        return numbers.reshape(dimensions, order="F")

    return name.decode(), value


def _field(
    kind: int, dimensions: np.ndarray, elements: list[_Element], order: str, path: tuple[str, ...]
) -> np.ndarray:
    if kind != _STRUCT or dimensions.prod() != 1:
        raise ValueError(f"a MATLAB file without the field {path[0]}: there is no 1x1 struct")
    (_, length), (_, names), *values = elements
    step = struct.unpack_from(f"{order}i", length)[0]
    if step < 1:
        raise ValueError(f"a damaged MATLAB file: field names are {step} bytes long")
    fields = [names[i : i + step].split(b"\0")[0].decode() for i in range(0, len(names), step)]
    if path[0] not in fields:
        raise ValueError(f"a MATLAB file without the field {path[0]}; it has {', '.join(fields)}")
    return _matrix(values[fields.index(path[0])][1], order, path[1:])[1]()
