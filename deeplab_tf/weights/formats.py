"""The formats of files of weights, each recognized by what is in the file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from deeplab_tf.recipe.messages import shortened
from deeplab_tf.weights import keras_file, npz_file
from deeplab_tf.weights.limits import zip_entries
from deeplab_tf.weights.tensorflow_files import frozen_graph, tensorflow_file
from deeplab_tf.weights.torch_files import torch_file

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A format of files that hold arrays by name.

    Attributes:
      title: what it is, for messages.
      holds: whether a path holds it.
      read: reads the arrays by their names in the file.
      open_network: opens the network, where the file has more than its weights.
    """

    title: str
    holds: Callable[[str], bool]
    read: Callable[[str], dict[str, np.ndarray]]
    open_network: Callable[[str], keras.Model] | None = None


def _in_zip(pattern: str) -> Callable[[str], bool]:
    """Whether a path is a zip archive with an entry of this name."""
    return lambda path: any(re.fullmatch(pattern, name) for name in _zip_names(path))


FORMATS: dict[str, Format] = {
    "npz": Format(title=".npz", holds=_in_zip(r".*\.npy"), read=npz_file.read_npz),
    "torch": Format(
        title="PyTorch (.pth, .pth.tar)",
        holds=lambda path: (
            _in_zip(r"[^/]+/data\.pkl")(path) or torch_file.begins_legacy(_head(path))
        ),
        read=torch_file.read_torch_file,
    ),
    "keras": Format(
        title="Keras (.keras)",
        holds=_in_zip(r"config\.json"),
        read=keras_file.read_keras,
        open_network=keras_file.open_network,
    ),
    "frozen_graph": Format(
        title="frozen graph (.pb)",
        holds=lambda path: frozen_graph.is_graph(_head(path)),
        read=frozen_graph.read_frozen_graph,
    ),
    "checkpoint": Format(
        title="TensorFlow checkpoint (prefix, .index file or directory)",
        holds=lambda path: tensorflow_file.checkpoint_prefix(path) is not None,
        read=tensorflow_file.read_checkpoint,
    ),
}

_MOST_NAMES = 8  # ours: listed in a message

# cited: the formats' magic numbers. Position and bytes -> what the file is, and what to do.
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1f\x8b", "a compressed archive; unpack it with `tar xzf` and give a file in it"),
    (257, b"ustar", "a tar archive; unpack it with `tar xf` and give a file in it"),
    (0, b"\x89HDF", "an HDF5 file; save the network with model.save('<name>.keras')"),
    (4, b"TFL3", "a TensorFlow Lite model; take the checkpoint that it was made from"),
    (0, b"\x08\x01\x12", "a SavedModel, which needs no network to be built; see predict.py"),
    (0, b"\x93NUMPY", "a single array; save arrays by name with numpy.savez"),
    (0, b"\x80", "a pickle, which could run code; save with torch.save or numpy.savez"),
    (0, b"<", "a web page or XML, perhaps of a failed download"),
)


def find_format(path: str) -> str:
    """The format of a file of weights, a key of FORMATS. Its name does not matter.

    Args:
      path: a file; of a checkpoint also its prefix or its directory.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is empty, damaged, or of no known format.
    """
    if os.path.isfile(path) and not os.path.getsize(path):
        raise ValueError(f"{path} is empty; get it again.")
    for name, known in FORMATS.items():
        if known.holds(path):
            return name
    raise _unknown(path)


def read_arrays(path: str) -> tuple[str, dict[str, np.ndarray]]:
    """Reads a file of weights. Nothing in it is executed, and sizes are checked before values.

    Args:
      path: as in `find_format`.

    Returns:
      (its format, a key of FORMATS; array of floats by the file's own name). Scalars of other
      types, which count steps or batches, are left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is empty, damaged, of no known format, claims much more than it holds, or its
        arrays are not of finite floats.
    """
    name = find_format(path)
    arrays = FORMATS[name].read(path)
    arrays = {n: a for n, a in arrays.items() if a.ndim or _is_float(a)}
    if not arrays:
        raise ValueError(f"{path} ({FORMATS[name].title}) holds no arrays.")
    check_floats(path, arrays)
    return name, arrays


def check_floats(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Checks that arrays can be weights: floats that are finite in float32, at least one each.

    Args:
      path: of their file, for the message.
      arrays: by name.

    Raises:
      ValueError: an array cannot; the message names it.
    """
    others = [f"{n} ({a.dtype})" for n, a in arrays.items() if not _is_float(a)]
    if others:
        raise ValueError(
            f"{path} must hold floats, as weights are; {len(others)} of {len(arrays)} arrays are"
            f" not: {shortened(others, most=_MOST_NAMES)}. Convert quantized weights to float32."
        )
    empty = [f"{n} {a.shape}" for n, a in arrays.items() if not a.size]
    if empty:
        raise ValueError(
            f"{path} must hold arrays with values; {len(empty)} of {len(arrays)} have none:"
            f" {shortened(empty, most=_MOST_NAMES)}."
        )
    bad = [n for n, a in arrays.items() if not _is_finite(a)]
    if bad:
        raise ValueError(
            f"{path} must hold finite values; {len(bad)} of {len(arrays)} arrays have NaN, infinity"
            f" or more than float32 holds, the first {bad[0]}. The network diverged or the file is"
            " damaged."
        )


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.name in ("float16", "bfloat16", "float32", "float64")


def _is_finite(array: np.ndarray) -> bool:
    # The least and the greatest value, which are NaN if one is, need no memory.
    limit = np.finfo(np.float32).max
    return bool(-limit <= array.min() and array.max() <= limit)


def _head(path: str) -> bytes:
    """The first bytes of a file; nothing of whatever else a path may be."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read(512)  # ours: one block of a tar archive; all magic numbers are in it


def _zip_names(path: str) -> list[str]:
    if not _head(path).startswith(b"PK"):
        return []
    with open(path, "rb") as file:
        try:
            return [entry.filename for entry in zip_entries(file)]
        except ValueError as error:
            raise ValueError(f"{path} is not a readable file of weights: {error}.") from error


def _unknown(path: str) -> Exception:
    known = f"Known formats: {', '.join(known.title for known in FORMATS.values())}."
    if os.path.isdir(path):
        return _unknown_directory(path, known)
    directory, name = os.path.split(path)
    names = sorted(os.listdir(directory or ".")) if os.path.isdir(directory or ".") else []
    prefix = tensorflow_file.PART.sub("", name)
    if any(other.startswith(f"{prefix}.data-") for other in names):
        return FileNotFoundError(
            f"the checkpoint {os.path.join(directory, prefix)} is not complete: there is no file"
            f" {prefix}.index beside its {prefix}.data-... Copy it too."
        )
    if not os.path.exists(path):
        there = [other.removesuffix(".index") for other in names if other.endswith(".index")]
        hint = f" There: the checkpoints {', '.join(there[:5])}." if there else ""
        return FileNotFoundError(
            f"there is no file {path}, and no checkpoint of that name (no {path}.index).{hint}"
        )
    if not os.path.isfile(path):
        return ValueError(f"{path} must be a regular file; it is a pipe, socket or device. {known}")
    head = _head(path)
    for position, magic, what in _OTHERS:
        if head[position:].startswith(magic):
            return ValueError(f"{path} must be a file of weights; it is {what}. {known}")
    return ValueError(f"{path} is not a file of weights: it begins with {head[:16]!r}. {known}")


def _unknown_directory(path: str, known: str) -> Exception:
    names = os.listdir(path)
    if "recipe.json" in names:
        return ValueError(
            f"{path} is the workdir of a training run; open it with deeplab_tf.load_model."
        )
    if "saved_model.pb" in names:
        return ValueError(f"{path} is a SavedModel, which needs no network to be built. {known}")
    count = sum(name.endswith(".index") for name in names)
    return FileNotFoundError(
        f"{path} must hold one checkpoint, or a file 'checkpoint' that names one of them; it has"
        f" {count} .index files. Give the checkpoint's prefix instead."
    )
