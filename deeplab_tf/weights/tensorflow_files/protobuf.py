"""Protocol buffers, taken apart field by field without a copy and without running anything.

Google's library makes an object of every field before anything can be checked: a GraphDef of empty
nodes takes 56 times its size (ours, measured).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# cited: Protocol Buffers, Encoding.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}

Value = int | memoryview  # a varint, or the bytes of anything else


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message in its order.

    Yields:
      (its number; its value: of a varint the number from 0 to 2**64 - 1, else the bytes).

    Raises:
      ValueError: the message is damaged.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = varint(message, position)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, position = varint(message, position)
        elif kind in _FIXED_BYTES:
            length = _FIXED_BYTES[kind]
        else:
            raise ValueError(f"a message of it has a field of the unknown kind {kind}")
        if length > len(message) - position:
            raise ValueError("a message of it is cut short")
        yield tag >> 3, message[position : position + length]
        position += length


def varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number from 0 to 2**64 - 1 of variable length, and the position after it.

    Raises:
      ValueError: it is cut short, or too long.
    """
    number = 0
    for i, byte in enumerate(data[position : position + 10]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, position + i + 1
    raise ValueError("a number in it is cut short or has more than 64 bits")


def messages(message: memoryview, *path: int) -> Iterator[memoryview]:
    """All messages that a path of field numbers leads to.

    Raises:
      ValueError: a message is damaged, or a field is a number.
    """
    if not path:
        yield message
        return
    for number, value in fields(message):
        if number == path[0]:
            yield from messages(content(value), *path[1:])


def only(message: memoryview, number: int, default: Value) -> Value:
    """The value of a field that occurs once, or `default`.

    Raises:
      ValueError: it occurs several times, or the message is damaged.
    """
    found = [value for field, value in fields(message) if field == number]
    if len(found) > 1:
        raise ValueError(f"a message of it has field {number} several times")
    return found[0] if found else default


def content(value: Value) -> memoryview:
    """The value as bytes.

    Raises:
      ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a message of it has a number where text or a message must be")
    return value


def number(value: Value) -> int:
    """The value as a number from 0 to 2**64 - 1.

    Raises:
      ValueError: it is text or a message.
    """
    if isinstance(value, int):
        return value
    raise ValueError("a message of it has text or a message where a number must be")


def signed(value: Value) -> int:
    """The value as a number of 64 bits with a sign."""
    unsigned = number(value)
    return unsigned - (1 << 64 if unsigned >> 63 else 0)


def fixed32(value: Value) -> int:
    """The value of a field of four bytes, without a sign.

    Raises:
      ValueError: it has another number of bytes.
    """
    if len(content(value)) != 4:
        raise ValueError("a message of it has a number of another size than 4 bytes")
    return struct.unpack("<I", value)[0]


def text(value: Value) -> str:
    """The value as UTF-8 text.

    Raises:
      ValueError: it is a number, or not UTF-8.
    """
    return bytes(content(value)).decode()
