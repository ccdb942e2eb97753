"""Weights in frozen graphs of TensorFlow 1. Only constants are read; nothing is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import numpy as np

from deeplab_tf.weights.limits import check_claimed_bytes, check_names
from deeplab_tf.weights.tensorflow_files import protobuf
from deeplab_tf.weights.tensorflow_files.graph_def import nodes
from deeplab_tf.weights.tensorflow_files.graph_ops import PURE_OPS
from deeplab_tf.weights.tensorflow_files.tensor_proto import Tensor, tensor

# Last part of the name of a weight in TF-Slim. Other constants of a frozen graph are not weights.
_WEIGHTS = (
    "weights", "depthwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"
)  # fmt: skip
_MAX_BYTES = 1 << 31  # cited: protobuf's limit on a message, 2 GiB


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
    try:
        length, start = protobuf.varint(memoryview(data), position + 1)
    except ValueError:
        return None
    return start, start + length


def read_frozen_graph(path: str) -> dict[str, np.ndarray]:
    """The weights in a frozen graph (.pb): its constants with the name of a TF-Slim variable.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a frozen graph, is damaged, claims more than it holds, or has an
        operation that a segmentation network does not need.
    """
    with open(path, "rb") as file:
        # Reading takes as much memory as it is allowed, however short the file is.
        content = file.read(min(os.fstat(file.fileno()).st_size, _MAX_BYTES))
    try:
        tensors = list(_weights(memoryview(content)))
        check_names(found.name for found in tensors)
        # A constant whose last values are equal is stored without them.
        check_claimed_bytes(sum(found.nbytes for found in tensors), len(content))
        arrays = {found.name: found.read() for found in tensors}
    except ValueError as error:
        raise ValueError(f"{path} is not a readable frozen graph: {error}.") from error
    if not arrays:
        raise ValueError(
            f"{path} holds a graph without weights: it must be a frozen graph, whose variables are"
            " constants."
        )
    return arrays


def _weights(graph: memoryview) -> Iterator[Tensor]:
    """The constants that are weights, after a look at every operation."""
    for node in nodes(graph):
        if node.op not in PURE_OPS:
            raise ValueError(
                f"node {node.name[:100]} has the operation {node.op[:100]}, which no segmentation"
                " network needs for inference. Take the graph that DeepLab's export_model.py wrote"
            )
        is_weight = node.op == "Const" and node.name.rpartition("/")[2] in _WEIGHTS
        if is_weight and node.function is None:
            yield tensor(node.name, node.constant())
