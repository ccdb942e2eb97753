"""Reads mutated files of weights, in a process of its own; see test_weight_files.py.

python tests/fuzz/mutants.py <kind> <directory of the original> <number> <first seed>
"""

from __future__ import annotations

import gc
import io
import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable

import numpy as np

MEMORY = 1 << 30  # bytes that reading may take on top of what the modules take
SECONDS = 60  # for one file; SIGALRM ends the process


# Mutations of bytes.


def _bits(data: bytearray, random: np.random.Generator) -> None:
    for position in random.integers(0, len(data), random.integers(1, 9)):
        data[position] ^= 1 << int(random.integers(8))


def _truncation(data: bytearray, random: np.random.Generator) -> None:
    del data[int(random.integers(len(data))) :]


def _run(data: bytearray, random: np.random.Generator) -> None:
    start, length = int(random.integers(len(data))), int(random.integers(1, 65))
    fill = [b"\0" * length, b"\xff" * length, random.bytes(length)][int(random.integers(3))]
    data[start : start + length] = fill


def _length(data: bytearray, random: np.random.Generator) -> None:
    """A number where one may be: of 1, 2, 4 or 8 bytes, small or huge, or a long varint."""
    start = int(random.integers(len(data)))
    numbers = [2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 1 << 20]
    width = int(random.choice([1, 2, 4, 8]))
    value = numbers[int(random.integers(len(numbers)))] & (1 << 8 * width) - 1
    varint = b"\xff" * int(random.integers(1, 10)) + b"\x01"
    data[start : start + width] = (
        varint if random.random() < 0.2 else value.to_bytes(width, "little")
    )


def _splice(data: bytearray, random: np.random.Generator) -> None:
    start, goal = (int(n) for n in random.integers(0, len(data), 2))
    piece = data[start : start + int(random.integers(1, 513))]
    data[goal : goal + (0 if random.random() < 0.5 else len(piece))] = piece


MUTATIONS = (_bits, _truncation, _run, _length, _splice)


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        if changed:
            MUTATIONS[int(random.integers(len(MUTATIONS)))](changed, random)
    return bytes(changed)


def mutated_bit(data: bytes, random: np.random.Generator) -> bytes:
    """One bit differs, so that a message often stays one and means something else."""
    changed = bytearray(data)
    changed[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    return bytes(changed)


# Mutations that checksums do not notice: a part is changed, and its checksum made again.


def mutated_zip(data: bytes, random: np.random.Generator) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = int(random.integers(len(entries)))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for i, (info, content) in enumerate(entries):
            if i == chosen:
                # Where the structure is: most of a file is values.
                head = 512 if random.random() < 0.7 else len(content)
                content = mutated(content[:head], random) + content[head:]
            archive.writestr(info, content, info.compress_type)
    return written.getvalue()


def mutated_table(data: bytes, random: np.random.Generator) -> bytes:
    """A table whose first block is changed, with the checksum of its new content."""
    from deeplab_tf.weights.tensorflow_files.crc32c import masked_crc32c
    from deeplab_tf.weights.tensorflow_files.protobuf import varint

    footer = memoryview(data)[-48:]
    _, position = varint(footer, 0)
    _, position = varint(footer, position)
    start, position = varint(footer, position)
    size, _ = varint(footer, position)
    index = memoryview(data)[start : start + size]
    # An entry: shared and own length of its key, length of its value, own part, value.
    _, position = varint(index, 0)
    own, position = varint(index, position)
    _, position = varint(index, position)
    block, position = varint(index, position + own)
    length, _ = varint(index, position)
    content = mutated(data[block : block + length], random)
    content = content[:length].ljust(length, b"\0")  # the handles stay right
    checksum = struct.pack("<I", masked_crc32c(content + b"\0"))
    return data[:block] + content + b"\0" + checksum + data[block + length + 5 :]


# Kinds of files: which file is mutated, how, and how the result is read.


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    from deeplab_tf.weights import read_arrays

    return read_arrays(str(path))[1]


def _saved_model(path: pathlib.Path) -> dict[str, np.ndarray]:
    from deeplab_tf.export.saved_model import SavedModel

    loaded = SavedModel(str(path))
    outputs = loaded.predict(np.zeros((1, 9, 7, 3), np.uint8))
    return {name: output.numpy() for name, output in outputs.items()}


Mutate = Callable[[bytes, np.random.Generator], bytes]
Read = Callable[[pathlib.Path], dict[str, np.ndarray]]
# kind -> (changed file, what is opened, how it is changed, how it is read, whether checksums show
# every change of a value).
KINDS: dict[str, tuple[str, str, Mutate, Read, bool]] = {
    "npz": ("a.npz", "a.npz", mutated, _arrays, True),
    "npz, checksums right": ("a.npz", "a.npz", mutated_zip, _arrays, False),
    "npz, compressed": ("b.npz", "b.npz", mutated, _arrays, True),
    "frozen graph": ("a.pb", "a.pb", mutated, _arrays, False),
    "pth": ("a.pth", "a.pth", mutated, _arrays, True),
    "pth, checksums right": ("a.pth", "a.pth", mutated_zip, _arrays, False),
    "pth, before 1.6": ("old.pth", "old.pth", mutated, _arrays, False),
    "checkpoint's index": ("model.ckpt.index", "model.ckpt", mutated, _arrays, True),
    "checkpoint's index, checksums right": (
        "model.ckpt.index", "model.ckpt", mutated_table, _arrays, False,
    ),
    "checkpoint's data": (
        "model.ckpt.data-00000-of-00001", "model.ckpt", mutated, _arrays, True,
    ),
    "checkpoint in one file": ("one.ckpt", "one.ckpt", mutated, _arrays, True),
    "checkpoint in one file, checksums right": (
        "one.ckpt", "one.ckpt", mutated_table, _arrays, False,
    ),
    "keras": ("a.keras", "a.keras", mutated, _arrays, True),
    "keras, checksums right": ("a.keras", "a.keras", mutated_zip, _arrays, False),
    "SavedModel": ("model/saved_model.pb", "model", mutated, _saved_model, True),
    "SavedModel, no checksums": (
        "foreign/saved_model.pb", "foreign", mutated, _saved_model, False,
    ),
    "SavedModel, one bit, no checksums": (
        "foreign/saved_model.pb", "foreign", mutated_bit, _saved_model, False,
    ),
    "SavedModel's variables, no checksums": (
        "foreign/variables/variables.index", "foreign", mutated_table, _saved_model, False,
    ),
}  # fmt: skip


def same(found: dict[str, np.ndarray], original: dict[str, np.ndarray]) -> bool:
    return found.keys() == original.keys() and all(
        np.array_equal(array, original[name]) for name, array in found.items()
    )


def main(kind: str, directory: str, number: int, first: int) -> None:
    """Prints what became of each file, as JSON."""
    changed, opened, mutate, read, is_checked = KINDS[kind]
    ended = {"read": 0, "refused": 0, "wrong": []}
    with tempfile.TemporaryDirectory() as copies:
        copy = pathlib.Path(copies)
        shutil.copytree(directory, copy, dirs_exist_ok=True)
        original = read(copy / opened)
        data = (copy / changed).read_bytes()
        (pages,) = pathlib.Path("/proc/self/statm").read_text().split()[:1]
        limit = int(pages) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for seed in range(first, first + number):
            print(f"seed {seed}", file=sys.stderr, flush=True)
            (copy / changed).write_bytes(mutate(data, np.random.default_rng(seed)))
            signal.alarm(SECONDS)
            try:
                found = read(copy / opened)
            except (ValueError, FileNotFoundError) as error:
                ended["refused"] += 1
                if not str(error) or "\n" in str(error) or len(str(error)) > 2000:
                    ended["wrong"].append(f"seed {seed}: not one clear line: {str(error)[:500]!r}")
            except Exception as error:
                ended["wrong"].append(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}")
            else:
                ended["read"] += 1
                if is_checked and not same(found, original):
                    ended["wrong"].append(f"seed {seed}: other values were read")
                del found
            signal.alarm(0)
            if "tensorflow" in sys.modules:
                gc.collect()  # graphs are in cycles
        ended["grown"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    print(json.dumps(ended))


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
