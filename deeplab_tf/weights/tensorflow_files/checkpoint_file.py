"""The arrays in TensorFlow's checkpoints, whose sizes are known before their values are read.

Since TensorFlow 0.12 a table, the .index, says where in the .data files each array lies. Before,
one table had the values too.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping

import numpy as np

from deeplab_tf.weights.limits import array_bytes, check_claimed_bytes, check_names
from deeplab_tf.weights.tensorflow_files import protobuf, table_file
from deeplab_tf.weights.tensorflow_files.crc32c import masked_crc32c
from deeplab_tf.weights.tensorflow_files.tensor_proto import (
    FLOATS,
    ITEM_BYTES,
    Tensor,
    as_floats,
    shape,
)

_MAX_INDEX_BYTES = 4 << 20  # ours: Xception-65 with its optimizer has 0.1 MB
_STRING = 7  # cited: types.proto
_MAX_SHARDS = 1024  # ours: released checkpoints have one
_EMPTY = memoryview(b"")


@dataclasses.dataclass(frozen=True)
class Variable:
    """What a checkpoint says of one variable.

    Attributes:
      name: its name there.
      dtype: number of its type; FLOATS has those that can be read.
      shape: its sizes; those of what is not of floats can be anything.
      is_sliced: it is stored in parts.
      where: what its values are read from.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    is_sliced: bool
    where: _Extent | None = None


@dataclasses.dataclass(frozen=True)
class _Extent:
    """Where in which file the values of a variable lie, in bytes."""

    path: str
    start: int
    nbytes: int
    checksum: int


def variables(prefix: str) -> dict[str, Variable]:
    """What a checkpoint says of its variables, in its order. No values are read.

    Args:
      prefix: that the names of its files share; of a checkpoint in one file its path.

    Raises:
      OSError: a file of it is missing.
      ValueError: it is damaged.
    """
    one_file = not os.path.exists(prefix + ".index")
    with open(prefix if one_file else prefix + ".index", "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not one_file and size > _MAX_INDEX_BYTES:
            raise ValueError(f"its index must have at most {_MAX_INDEX_BYTES} bytes; got {size}")
        table = table_file.entries(file)
        found = list(_of_one_file(table) if one_file else _of_index(table, prefix))
    check_names(variable.name for variable in found)
    return {variable.name: variable for variable in found}


def _of_index(table: Iterator[tuple[bytes, memoryview]], prefix: str) -> Iterator[Variable]:
    # cited: tensor_bundle.proto. Types and sizes are those of TensorFlow's other messages.
    shards = 0
    for key, value in table:
        if not key:
            shards = protobuf.number(protobuf.only(value, 1, 0))
            if not 0 < shards <= _MAX_SHARDS or protobuf.only(value, 2, 0) != 0:
                raise ValueError(f"it must have 1 to {_MAX_SHARDS} data files and be little-endian")
            continue
        if key.startswith(b"\0"):  # cited: saved_tensor_slice_util.cc: a part of a variable
            continue
        name, at = key.decode(), {n: protobuf.only(value, n, 0) for n in (1, 3, 4, 5)}
        shard, start, nbytes = (protobuf.number(at[n]) for n in (3, 4, 5))
        if shard >= shards:
            raise ValueError(f"array {name[:100]} is in data file {shard}; there are {shards}")
        path = f"{prefix}.data-{shard:05d}-of-{shards:05d}"
        checksum = protobuf.fixed32(protobuf.only(value, 6, memoryview(bytes(4))))
        yield Variable(
            name=name,
            dtype=protobuf.number(at[1]),
            shape=shape(name, protobuf.content(protobuf.only(value, 2, _EMPTY))),
            is_sliced=any(True for _ in protobuf.messages(value, 7)),
            where=_Extent(path, start, nbytes, checksum),
        )
    if not shards:
        raise ValueError("its index has no header")


def _of_one_file(table: Iterator[tuple[bytes, memoryview]]) -> Iterator[Variable]:
    # cited: saved_tensor_slice.proto. The entry with the empty name describes all others.
    for key, value in table:
        if key:
            break
        for meta in protobuf.messages(value, 1, 1):
            name = protobuf.text(protobuf.only(meta, 1, _EMPTY))
            slices = [_is_part(part) for part in protobuf.messages(meta, 4)]
            yield Variable(
                name=name,
                dtype=protobuf.number(protobuf.only(meta, 3, 0)),
                shape=shape(name, protobuf.content(protobuf.only(meta, 2, _EMPTY))),
                is_sliced=slices != [False],
            )


def _is_part(tensor_slice: memoryview) -> bool:
    """Whether a slice (TensorSliceProto) has a start or a length, and so is not all of a tensor."""
    return any(len(extent) for extent in protobuf.messages(tensor_slice, 1))


def read_values(prefix: str, wanted: Mapping[str, Variable]) -> dict[str, np.ndarray]:
    """The values of variables, once their sizes have been checked.

    Args:
      prefix: as in `variables`.
      wanted: variables of floats that are not stored in parts.

    Returns:
      Array by name, in the order of `wanted`; bfloat16 becomes float32.

    Raises:
      OSError: a file of it is missing.
      ValueError: it is damaged, or claims more than it holds.
    """
    for variable in wanted.values():
        if variable.is_sliced or variable.dtype not in FLOATS:
            raise ValueError(
                f"array {variable.name[:100]} must be stored whole, as floats. Save it again from a"
                " model whose variables are not partitioned"
            )
    one_file = not os.path.exists(prefix + ".index")
    paths = {prefix} if one_file else {v.where.path for v in wanted.values()}
    claimed = sum(array_bytes(v.name, v.shape, ITEM_BYTES[v.dtype]) for v in wanted.values())
    check_claimed_bytes(claimed, sum(os.path.getsize(path) for path in paths))
    if one_file:
        return _values_of_one_file(prefix, wanted)
    return {name: _value_at(variable) for name, variable in wanted.items()}


def check_sizes(prefix: str) -> None:
    """Checks that the variables of a checkpoint, of whatever type, lie within its files.

    Args:
      prefix: as in `variables`, of a checkpoint with an index.

    Raises:
      OSError: a file of it is missing.
      ValueError: it is damaged, or claims more than it holds.
    """
    found = variables(prefix)
    for variable in found.values():
        _check_extent(variable)
    sizes = {v.where.path: os.path.getsize(v.where.path) for v in found.values()}
    check_claimed_bytes(sum(v.where.nbytes for v in found.values()), sum(sizes.values()))


def _check_extent(variable: Variable) -> None:
    where, size = variable.where, os.path.getsize(variable.where.path)
    known = variable.dtype in ITEM_BYTES and not variable.is_sliced
    wanted = array_bytes(variable.name, variable.shape, ITEM_BYTES[variable.dtype]) if known else 0
    fits = where.nbytes >= wanted if variable.dtype == _STRING else where.nbytes == wanted
    if not known or not fits or where.start + where.nbytes > size:
        raise ValueError(
            f"array {variable.name[:100]} must have the bytes of its shape {variable.shape} within"
            f" {os.path.basename(where.path)}, which has {size}; it has {where.nbytes} at byte"
            f" {where.start}. The file is cut short or damaged"
        )


def _value_at(variable: Variable) -> np.ndarray:
    _check_extent(variable)
    where = variable.where
    with open(where.path, "rb") as file:
        file.seek(where.start)
        content = file.read(where.nbytes)
    if masked_crc32c(content) != where.checksum:
        raise ValueError(
            f"the checksum of array {variable.name[:100]} is wrong; the file is damaged"
        )
    return as_floats(content, variable.dtype).reshape(variable.shape)


def _values_of_one_file(prefix: str, wanted: Mapping[str, Variable]) -> dict[str, np.ndarray]:
    found = {}
    with open(prefix, "rb") as file:
        for key, value in table_file.entries(file):
            # cited: saved_tensor_slice.proto (data = 2, of name = 1 and data = 3)
            for part in protobuf.messages(value, 2) if key else ():
                name = protobuf.text(protobuf.only(part, 1, _EMPTY))
                if name in wanted and name not in found:
                    values = protobuf.content(protobuf.only(part, 3, _EMPTY))
                    of = wanted[name]
                    tensor = Tensor(name, of.dtype, of.shape, values)
                    found[name] = tensor.read(repeat_last=False)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"array {missing[0][:100]} has no values")
    return {name: found[name] for name in wanted}
