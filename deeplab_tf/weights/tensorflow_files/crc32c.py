"""CRC-32C (Castagnoli), which TensorFlow's checkpoints store for every array and index block.

A checksum is linear in its bits. NumPy sums many rows of bytes at once, and the sums are joined in
pairs.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # cited: RFC 3720, Sec. B.4, bits reversed
_SHORT, _LONG = 64, 1024  # ours: bytes summed one after the other; few for short data


def _table() -> np.ndarray:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(_POLYNOMIAL), values >> 1)
    return values.astype(np.uint32)


def _after_four(states: np.ndarray) -> np.ndarray:
    for _ in range(4):
        states = _TABLE[states & 0xFF] ^ (states >> 8)
    return states


_TABLE = _table()
_STEPS = _TABLE.tolist()
_LOW = _after_four(np.arange(1 << 16, dtype=np.uint32))  # of the lower half of four bytes
_HIGH = _after_four(np.arange(1 << 16, dtype=np.uint32) << np.uint32(16))


def masked_crc32c(*parts: bytes | memoryview) -> int:
    """The checksum of the parts as one, rotated and shifted as TensorFlow and LevelDB store it."""
    state = 0xFFFFFFFF
    for part in parts:
        state = _continued(state, memoryview(part))
    crc = state ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF  # cited: LevelDB's log format


def _continued(state: int, data: memoryview) -> int:
    """The state after more bytes."""
    length = _LONG if len(data) > 1 << 16 else _SHORT
    whole = len(data) // length * length
    if whole:
        rows = np.frombuffer(data[:whole], "<u4").reshape(-1, length // 4)
        sums = np.zeros(len(rows), np.uint32)
        for column in rows.T:
            sums ^= column
            sums = _LOW[sums & 0xFFFF] ^ _HIGH[sums >> 16]
        # The state so far acts as if it stood in front.
        state = int(_after_zeros(np.array([state], np.uint32), whole)[0]) ^ _joined(sums, length)
    for byte in data[whole:]:
        state = _STEPS[(state ^ byte) & 0xFF] ^ state >> 8
    return state


def _joined(sums: np.ndarray, length: int) -> int:
    """The sum of all rows of `length` bytes, from the sum of each."""
    while len(sums) > 1:
        if len(sums) % 2:
            sums = np.concatenate([np.zeros(1, np.uint32), sums])  # zeros in front change nothing
        sums = _after_zeros(sums[::2], length) ^ sums[1::2]
        length *= 2
    return int(sums[0])


def _after_zeros(states: np.ndarray, count: int) -> np.ndarray:
    """Each state after `count` zero bytes."""
    power = 0
    while count:
        if count & 1:
            changed = np.zeros_like(states)
            for bit, column in enumerate(_zeros(power)):
                changed ^= np.where(states >> np.uint32(bit) & 1, np.uint32(column), np.uint32(0))
            states = changed
        count >>= 1
        power += 1
    return states


@functools.cache
def _zeros(power: int) -> tuple[int, ...]:
    """What 2**power zero bytes make of each single bit."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if power == 0:
        return tuple((_TABLE[bits & 0xFF] ^ (bits >> 8)).tolist())
    half = 1 << (power - 1)
    return tuple(_after_zeros(_after_zeros(bits, half), half).tolist())
