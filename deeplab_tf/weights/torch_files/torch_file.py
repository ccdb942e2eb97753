"""Weights of PyTorch's files, read without PyTorch.

`torch.save` has written two formats: a zip archive since PyTorch 1.6, pickles followed by values
before. Either way a pickle says where each tensor's values lie, and only those asked for are read.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from deeplab_tf.weights.limits import check_claimed_bytes, check_names, zip_entries
from deeplab_tf.weights.torch_files.torch_pickle import (
    MAX_PICKLE_BYTES,
    SAVE_PLAINLY,
    PickleMachine,
    Storage,
    Tensor,
    kind_of,
    short,
)

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # code: torch/serialization.py
_LEGACY_VERSION = 1001  # code: the same
_LITTLE_ENDIAN = "its values must be little-endian, as all but old machines write them"


def read_torch_file(path: str) -> dict[str, np.ndarray]:
    """Reads the state dict of a file that `torch.save` wrote, in either of its formats.

    The state dict is the file's object, or its entry 'state_dict' or 'model'. The rest (epoch,
    optimizer, best score) is not read.

    Args:
      path: the file; its ending (.pth, .pt, .pth.tar) does not matter.

    Returns:
      Array by name, in the file's order and with PyTorch's shapes. Arrays are read-only, and those
      of tensors that share memory share it. bfloat16 becomes float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not such a file, is damaged, or holds more than tensors, containers, text
        and numbers.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}.")
    if not os.path.isfile(path):
        raise ValueError(f"{path} must be a file.")
    try:
        with open(path, "rb") as file:
            is_zip = file.peek(4).startswith(b"PK")
            content, extents = (_open_zip if is_zip else _open_legacy)(file)
            return _read_tensors(file, _state_dict(content), extents)
    except ValueError as error:
        reason = " ".join(str(error)[:500].split()).rstrip(".")
        raise ValueError(f"{path} is not a readable PyTorch file of weights: {reason}.") from error


def _state_dict(content: Any) -> Mapping[str, Tensor]:
    found = content
    if isinstance(content, dict):
        inner = (content.get(key) for key in ("state_dict", "model"))
        found = next((value for value in inner if isinstance(value, dict)), content)
    if not isinstance(found, dict) or not found:
        empty = "an empty " if isinstance(found, dict) else ""
        raise ValueError(f"it must hold tensors by name; got {empty}{kind_of(found)}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"entry {short(name)} must be a tensor with a name; got {kind_of(value)}."
                f" {SAVE_PLAINLY}"
            )
    return found


@dataclasses.dataclass(frozen=True)
class _Extent:
    """Where in the file something lies, in bytes."""

    start: int
    nbytes: int
    crc32: int | None = None

    def read(self, file: BinaryIO, what: str) -> bytes:
        size = _size(file)
        if not 0 <= self.start <= size - self.nbytes:
            raise ValueError(
                f"{what} must lie within the file, which has {size} bytes; it ends at"
                f" {short(self.start + self.nbytes)}. It is cut short or damaged: get it again"
            )
        file.seek(self.start)
        data = file.read(self.nbytes)
        if self.crc32 is not None and zlib.crc32(data) != self.crc32:
            raise ValueError(
                f"{what} must have the CRC-32 {self.crc32:08x}; got {zlib.crc32(data):08x}. The"
                " file is damaged: get it again"
            )
        return data


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _read_tensors(
    file: BinaryIO, tensors: Mapping[str, Tensor], extents: Mapping[str, _Extent]
) -> dict[str, np.ndarray]:
    # Tensors may share a storage, or repeat its values (stride 0). NumPy cannot have large sizes
    # beside an empty one either.
    claimed = sum(
        math.prod(max(n, 1) for n in tensor.shape) * tensor.storage.type.stored.itemsize
        for tensor in tensors.values()
    )
    check_claimed_bytes(claimed, _size(file), "its tensors")
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage.key not in storages:
            storages[storage.key] = _read_storage(file, storage, extents)
        values = storages[storage.key]
        if not all(tensor.shape):
            arrays[name] = np.zeros(tensor.shape, values.dtype)
            arrays[name].flags.writeable = False
            continue
        # The stride of a single element may be any number, also one too large for NumPy.
        steps = [s if n > 1 else 0 for n, s in zip(tensor.shape, tensor.strides, strict=True)]
        arrays[name] = np.ndarray(
            tensor.shape,
            values.dtype,
            values,
            offset=tensor.offset * values.itemsize,
            strides=[s * values.itemsize for s in steps],
        )
    return arrays


def _read_storage(file: BinaryIO, storage: Storage, extents: Mapping[str, _Extent]) -> np.ndarray:
    what = f"storage {short(storage.key)}"
    if storage.key not in extents:
        raise ValueError(f"{what} must be in the file, and is not. Get the file again")
    extent = extents[storage.key]
    if extent.nbytes != storage.nbytes:
        raise ValueError(
            f"{what} must have {short(storage.nbytes)} bytes; got {extent.nbytes}. The file is"
            " damaged: get it again"
        )
    values = np.frombuffer(extent.read(file, what), storage.type.stored)
    if storage.type.bfloat16:
        halves = np.zeros((storage.size, 2), "<u2")  # the lower half first
        halves[:, 1] = values
        values = halves.reshape(-1).view("<f4")
    elif storage.type.stored.kind == "b":
        values = values.view("u1") != 0  # NumPy's bool is undefined for bytes above 1
    values.flags.writeable = False
    return values


def _open_zip(file: BinaryIO) -> tuple[Any, dict[str, _Extent]]:
    entries = _entries(file)
    pickles = [name for name in entries if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise ValueError(f"its archive must hold one pickle, <name>/data.pkl; got {len(pickles)}")
    folder = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{folder}byteorder")  # absent before PyTorch 2.1
    if order and (
        order.file_size > 10 or _extent(file, order).read(file, "byteorder") != b"little"
    ):
        raise ValueError(_LITTLE_ENDIAN)
    if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
        raise ValueError(
            f"its pickle must have at most {MAX_PICKLE_BYTES} bytes; got"
            f" {entries[pickles[0]].file_size}. {SAVE_PLAINLY}"
        )
    machine = PickleMachine()
    content = machine.run(io.BytesIO(_extent(file, entries[pickles[0]]).read(file, "its pickle")))
    parts = {key: entries.get(f"{folder}data/{key}") for key in machine.storages}
    return content, {key: _extent(file, part) for key, part in parts.items() if part}


def _entries(file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    entries = zip_entries(file)
    for entry in entries:
        if entry.compress_type or entry.flag_bits & 1 or entry.file_size != entry.compress_size:
            raise ValueError(
                f"{short(entry.filename)} in its archive must be stored as it is, neither"
                " compressed nor encrypted. Take the file that PyTorch wrote"
            )
    check_names(entry.filename for entry in entries)
    total = sum(entry.file_size for entry in entries)
    if total > _size(file):  # they overlap, and each could be as large as the file
        raise ValueError(f"the parts of its archive must fit into it; they have {total} bytes")
    return {entry.filename: entry for entry in entries}


def _extent(file: BinaryIO, entry: zipfile.ZipInfo) -> _Extent:
    """The content of an archive's entry, which follows a header of its own."""
    what = f"the header of {short(entry.filename)}"
    magic, *lengths = struct.unpack(  # cited: APPNOTE.TXT 4.3.7, with two lengths at the end
        "<4s22xHH", _Extent(entry.header_offset, 30).read(file, what)
    )
    if magic != b"PK\3\4":
        raise ValueError(f"{what} must begin with PK\\3\\4; got {magic}. Get the file again")
    # PyTorch writes 0 if it computes no checksum.
    return _Extent(entry.header_offset + 30 + sum(lengths), entry.file_size, entry.CRC or None)


def begins_legacy(head: bytes) -> bool:
    """Whether a file begins as the format before PyTorch 1.6 does, with a pickled magic number.

    Args:
      head: the first bytes of the file.
    """
    return head[:1] == b"\x80" and _LEGACY_MAGIC.to_bytes(10, "little") in head[:32]


def _open_legacy(file: BinaryIO) -> tuple[Any, dict[str, _Extent]]:
    """Five pickles (magic number, version, system, content, keys), then the storages."""
    head, machine = io.BytesIO(file.read(MAX_PICKLE_BYTES)), PickleMachine()
    if head.getvalue()[:1] != b"\x80" or machine.run(head) != _LEGACY_MAGIC:
        raise ValueError("it must begin as a zip archive or with the magic number of torch.save")
    version, system, content, keys = (machine.run(head) for _ in range(4))
    if version != _LEGACY_VERSION:
        raise ValueError(f"its version must be {_LEGACY_VERSION}; got {short(version)}")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError(_LITTLE_ENDIAN)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError(f"its storages must be listed by name; got {short(keys)}")
    if len(keys) != len(machine.storages) or set(keys) != machine.storages.keys():
        raise ValueError("its list of storages must name those of its tensors, each once")
    extents, position = {}, head.tell()
    for key in keys:
        storage, what = machine.storages[key], f"the size of storage {short(key)}"
        (size,) = struct.unpack("<q", _Extent(position, 8).read(file, what))
        if size != storage.size:
            raise ValueError(
                f"{what} must be {short(storage.size)}; got {size}. Get the file again"
            )
        extents[key] = _Extent(position + 8, storage.nbytes)
        position += 8 + storage.nbytes
    if position > _size(file):
        raise ValueError(f"it must have {position} bytes; got {_size(file)}. Get it again")
    return content, extents
