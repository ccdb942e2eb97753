"""Arrays by name in an .npz file."""

from __future__ import annotations

import struct
import tokenize
import warnings
import zipfile
import zlib
from typing import BinaryIO

import numpy as np

from deeplab_tf.weights.limits import array_bytes, check_names, check_zip

# cited: NumPy's format. Version 3 differs from 2 in names of fields, which weights do not have.
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_KINDS = "fiubcV"  # of values that fill their bytes; "V": what NumPy has no name for, as bfloat16


def read_npz(path: str) -> dict[str, np.ndarray]:
    """Reads the arrays of an .npz file. Nothing is unpickled. Arrays are read-only.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not an .npz file of plain arrays, is damaged, or claims more than it holds.
    """
    with open(path, "rb") as file:
        try:
            entries = check_zip(file)
            check_names(entry.filename.removesuffix(".npy") for entry in entries)
            with zipfile.ZipFile(file) as archive:
                arrays = {}
                for entry in entries:
                    name = entry.filename.removesuffix(".npy")
                    with archive.open(entry) as content:
                        arrays[name] = _read_array(content, name, entry.file_size)
                return arrays
        except (
            zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, OSError,
            ValueError,
        ) as error:  # fmt: skip
            reason = " ".join(str(error)[:300].split()).rstrip(".") or type(error).__name__
            raise ValueError(f"{path} is not a readable .npz file of arrays: {reason}.") from error


def _read_array(content: BinaryIO, name: str, nbytes: int) -> np.ndarray:
    """The array in an archive's entry of so many bytes, which its header must account for."""
    version = np.lib.format.read_magic(content)
    if version not in _HEADERS:
        raise ValueError(f"array {name} has the format version {version}, which is not known")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on headers of Python 2; what is read is checked below
            shape, fortran_order, dtype = _HEADERS[version](content)
    except (MemoryError, RecursionError, SyntaxError, TypeError, tokenize.TokenError) as error:
        # Of Python's parser, on text of at most 10,000 characters.
        raise ValueError(f"the header of array {name} is damaged") from error
    if dtype.kind not in _KINDS or dtype.hasobject or dtype.fields or dtype.shape:
        raise ValueError(f"array {name} must hold plain numbers; got {dtype}")
    claimed, there = array_bytes(name, shape, dtype.itemsize), nbytes - content.tell()
    if claimed != there:
        raise ValueError(
            f"array {name} must have the {claimed} bytes of its shape {shape}; got {there}"
        )
    # Read to the end, which checks the CRC-32.
    values = np.frombuffer(content.read(), dtype)
    return values.reshape(shape, order="F" if fortran_order else "C")
