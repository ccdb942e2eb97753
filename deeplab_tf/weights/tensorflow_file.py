"""Variables in TensorFlow 1's files: checkpoints and frozen graphs."""

from __future__ import annotations

import math
import os
import re

import numpy as np

from deeplab_tf.recipe.lazy import tf
from deeplab_tf.weights.limits import check_claimed_bytes

PART = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")  # endings of a checkpoint's files
_TABLE_END = bytes.fromhex("57fb808b247547db")  # cited: LevelDB's table format, the magic number
_AVERAGE = "ExponentialMovingAverage"
# Last part of the name of a weight in TF-Slim. Other constants of a frozen graph are not weights.
_WEIGHTS = (
    "weights", "depthwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"
)  # fmt: skip
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def checkpoint_prefix(path: str) -> str | None:
    """The prefix that the files .index and .data-... of a checkpoint share.

    Args:
      path: the prefix, one of these files, or a directory with one checkpoint or with the file
        'checkpoint' that names the last one.

    Returns:
      The prefix; None: there is no checkpoint.
    """
    if not os.path.isdir(path):
        prefix = PART.sub("", path)
        if os.path.exists(prefix + ".index"):
            return prefix
        return path if _is_table(path) else None
    indices = [name for name in sorted(os.listdir(path)) if name.endswith(".index")]
    if len(indices) == 1:  # even if the file 'checkpoint' names one in another directory
        return os.path.join(path, indices[0].removesuffix(".index"))
    state = os.path.join(path, "checkpoint")
    if os.path.isfile(state):
        with open(state, encoding="utf-8", errors="replace") as file:
            named = re.search(r'^model_checkpoint_path: "(.*)"', file.read(1 << 20), re.MULTILINE)
        if named and f"{os.path.basename(named[1])}.index" in indices:
            return os.path.join(path, os.path.basename(named[1]))
    return None


def _is_table(path: str) -> bool:
    """Whether a file is a table, as checkpoints of TensorFlow 0.x are, which have no .index."""
    if not os.path.isfile(path) or os.path.getsize(path) < len(_TABLE_END):
        return False
    with open(path, "rb") as file:
        file.seek(-len(_TABLE_END), os.SEEK_END)
        return file.read() == _TABLE_END


def read_checkpoint(path: str) -> dict[str, np.ndarray]:
    """The variables of a checkpoint, or their moving averages if all that train have one.

    A few averages among plain values would be a network that nobody trained, so they are left out.
    Optimizer slots and scalars are left out too.

    Args:
      path: as in `checkpoint_prefix`.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: it is damaged, or not a checkpoint.
    """
    prefix = checkpoint_prefix(path)
    if prefix is None:
        raise FileNotFoundError(f"there is no checkpoint {path} (no file {path}.index).")
    try:
        reader = tf.train.load_checkpoint(prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        # A slot has its variable's name in front of its own.
        names = [
            name
            for name, shape in shapes.items()
            if shape and dtypes[name].name in _FLOATS and name.rpartition("/")[0] not in shapes
        ]
        averages = {name: f"{name}/{_AVERAGE}" for name in names}
        all_averaged = all(averages[name] in shapes for name in names if "/moving_" not in name)
        chosen = {
            name: average if all_averaged and average in shapes else name
            for name, average in averages.items()
        }
        claimed = sum(math.prod(shapes[n]) * dtypes[n].size for n in chosen.values())
        check_claimed_bytes(claimed, _data_bytes(prefix))
        return {name: reader.get_tensor(source) for name, source in chosen.items()}
    except (tf.errors.OpError, IndexError, MemoryError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise ValueError(f"{prefix} is not a readable checkpoint: {reason}") from error


def _data_bytes(prefix: str) -> int:
    if not os.path.exists(prefix + ".index"):
        return os.path.getsize(prefix)
    directory, name = os.path.split(prefix)
    return sum(
        entry.stat().st_size
        for entry in os.scandir(directory or ".")
        if entry.name.startswith(f"{name}.data-")
    )


def is_graph(head: bytes) -> bool:
    """Whether a file begins as a graph does: with a node that has a name and an operation.

    Args:
      head: the first bytes of the file.
    """
    # cited: graph.proto and node_def.proto
    node = _field(head, 0, tag=0x0A)
    name = node and _field(head, node[0], tag=0x0A)
    operation = name and _field(head, name[1], tag=0x12)
    if not operation:
        return False
    texts = head[name[0] : name[1]], head[operation[0] : operation[1]]
    return all(re.fullmatch(rb"[A-Za-z0-9_][\w./>-]*", text) for text in texts)


def _field(data: bytes, position: int, *, tag: int) -> tuple[int, int] | None:
    """(start, end) of the content of a length-delimited protobuf field; None: no such field."""
    if data[position : position + 1] != bytes([tag]):
        return None
    length = 0
    for i, byte in enumerate(data[position + 1 : position + 6]):
        length |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            start = position + 2 + i
            return start, start + length
    return None


def read_frozen_graph(path: str) -> dict[str, np.ndarray]:
    """The weights in a frozen graph (.pb): its constants with the name of a TF-Slim variable.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a frozen graph, or is damaged.
    """
    from google.protobuf.message import DecodeError

    with open(path, "rb") as file:
        content = file.read(1 << 31)  # cited: protobuf's limit on a message, 2 GiB
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(content)
        tensors = {
            node.name: node.attr["value"].tensor
            for node in graph.node
            if node.op == "Const" and node.name.rpartition("/")[2] in _WEIGHTS
        }
        # A constant whose values are all equal is stored as one of them.
        claimed = sum(
            math.prod(dim.size for dim in tensor.tensor_shape.dim) * tf.as_dtype(tensor.dtype).size
            for tensor in tensors.values()
        )
        check_claimed_bytes(claimed, len(content))
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in tensors.items()}
    except (DecodeError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a readable frozen graph: {error}") from error
    if not arrays:
        raise ValueError(
            f"{path} holds a graph without weights: it must be a frozen graph, whose variables are"
            " constants."
        )
    return arrays
