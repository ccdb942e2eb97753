"""TensorFlow's tensors in protocol buffers, whose sizes are known before their values are made."""

from __future__ import annotations

import dataclasses

import numpy as np

from deeplab_tf.weights.limits import MAX_RANK, array_bytes
from deeplab_tf.weights.tensorflow_files import protobuf

# cited: types.proto. The types of weights; bfloat16 is the upper half of a float32.
BFLOAT16 = 14
FLOATS = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2"), BFLOAT16: np.dtype("<u2")}
# Bytes of a value of any type that graphs and checkpoints of networks have; of text at least one.
ITEM_BYTES = {
    1: 4, 2: 8, 3: 4, 4: 1, 5: 2, 6: 1, 7: 1, 8: 8, 9: 8, 10: 1, 11: 1, 12: 1, 13: 4, BFLOAT16: 2,
    17: 2, 18: 16, 19: 2, 22: 4, 23: 8,
}  # fmt: skip
_DTYPE, _SHAPE, _CONTENT = 1, 2, 4  # cited: tensor.proto
_HALVES = 13
_VALUES = {1: 5, 2: 6, 19: _HALVES, BFLOAT16: _HALVES}  # type -> field of its values


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of floats, not read yet.

    Attributes:
      name: for messages.
      dtype: its type, a key of FLOATS.
      shape: its sizes, each at least 1.
      message: the TensorProto with its values.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    message: memoryview

    @property
    def nbytes(self) -> int:
        """Bytes of its values, as they are stored."""
        return array_bytes(self.name, self.shape, FLOATS[self.dtype].itemsize)

    def read(self, *, repeat_last: bool = True) -> np.ndarray:
        """The values; bfloat16 becomes float32.

        Args:
          repeat_last: whether the last value stands for all that are left, as in constants.

        Raises:
          ValueError: there are too few values, or too many.
        """
        size = self.nbytes // FLOATS[self.dtype].itemsize
        content = protobuf.content(protobuf.only(self.message, _CONTENT, memoryview(b"")))
        values = as_floats(content, self.dtype) if content else _listed(self.message, self.dtype)
        fill = repeat_last and not content
        if values.size > size or (values.size < size and not (fill and values.size)):
            raise ValueError(
                f"array {self.name[:100]} must have {size} values for its shape {self.shape};"
                f" got {values.size}"
            )
        if values.size < size:
            values = np.concatenate([values, np.full(size - values.size, values[-1])])
        return values.reshape(self.shape)


def tensor(name: str, message: memoryview) -> Tensor:
    """The tensor of floats in a TensorProto.

    Raises:
      ValueError: it is damaged or of another type.
    """
    dtype = protobuf.number(protobuf.only(message, _DTYPE, 0))
    if dtype not in FLOATS:
        raise ValueError(
            f"array {name[:100]} must hold floats, as weights do; got TensorFlow's type {dtype}"
        )
    found = shape(name, protobuf.content(protobuf.only(message, _SHAPE, memoryview(b""))))
    return Tensor(name, dtype, found, message)


def shape(name: str, message: memoryview) -> tuple[int, ...]:
    """The sizes in a TensorShapeProto, which may be 0, negative or absurd.

    Raises:
      ValueError: there are more of them than weights have, or the rank is unknown.
    """
    sizes = []
    for field, value in protobuf.fields(message):
        if field == 3 and value:
            raise ValueError(f"the rank of array {name[:100]} is not known")
        if field == 2:
            sizes.append(protobuf.signed(protobuf.only(protobuf.content(value), 1, 0)))
        if len(sizes) > MAX_RANK:
            raise ValueError(f"array {name[:100]} must have at most {MAX_RANK} dimensions")
    return tuple(sizes)


def as_floats(content: bytes | memoryview, dtype: int) -> np.ndarray:
    """Values that lie one after the other; bfloat16 becomes float32. The result is read-only.

    Raises:
      ValueError: their bytes are not whole values.
    """
    return _from_bits(np.frombuffer(content, FLOATS[dtype]), dtype)


def _from_bits(values: np.ndarray, dtype: int) -> np.ndarray:
    if dtype == BFLOAT16:
        values = (values.astype("<u4") << 16).view("<f4")
    values.flags.writeable = False
    return values


def _listed(message: memoryview, dtype: int) -> np.ndarray:
    """The values in the field of their type, one by one or packed."""
    content = bytearray()
    for field, value in protobuf.fields(message):
        if field == _VALUES[dtype]:
            content += _halves(value) if field == _HALVES else protobuf.content(value)
    return as_floats(bytes(content), dtype)


def _halves(value: protobuf.Value) -> bytearray:
    """Values of 16 bits, of which each is a number."""
    content, position = bytearray(), 0
    if isinstance(value, int):
        return content + _sixteen_bits(value)
    while position < len(value):
        found, position = protobuf.varint(value, position)
        content += _sixteen_bits(found)
    return content


def _sixteen_bits(found: int) -> bytes:
    if found >> 16:
        raise ValueError("a value in it must have 16 bits")
    return found.to_bytes(2, "little")
