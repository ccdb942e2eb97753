"""The nodes of TensorFlow's graphs (GraphDef), read without TensorFlow and without running any."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from deeplab_tf.weights.tensorflow_files import protobuf
from deeplab_tf.weights.tensorflow_files.tensor_proto import ITEM_BYTES, shape

_MAX_NODES = 200_000  # ours: Xception-65's graph has 6,000
_EMPTY = memoryview(b"")


@dataclasses.dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
      function: of the graph's library that it is in; None: it is in the graph itself.
      name: its name.
      op: its operation.
      message: its NodeDef.
    """

    function: str | None
    name: str
    op: str
    message: memoryview

    def attributes(self) -> dict[str, memoryview]:
        """Its attributes (AttrValue) by name.

        Raises:
          ValueError: the node is damaged.
        """
        # cited: node_def.proto (attr = 5, a map of key = 1 and value = 2)
        found = {}
        for entry in protobuf.messages(self.message, 5):
            key = protobuf.text(protobuf.only(entry, 1, _EMPTY))
            if key in found:
                raise ValueError(f"node {self.name[:100]} has the attribute {key[:100]} twice")
            found[key] = protobuf.content(protobuf.only(entry, 2, _EMPTY))
        return found

    def constant(self) -> memoryview:
        """The TensorProto of a constant, its attribute 'value'.

        Raises:
          ValueError: there is none.
        """
        found = protobuf.only(self.attributes().get("value", _EMPTY), 8, None)  # attr_value.proto
        if found is None:
            raise ValueError(f"the constant {self.name[:100]} must have a value")
        return protobuf.content(found)

    def calls(self) -> Iterator[str]:
        """Names of the functions that its attributes name.

        Raises:
          ValueError: the node is damaged.
        """
        # cited: attr_value.proto (func = 10, list = 1 with func = 9, each with name = 1)
        for value in self.attributes().values():
            for path in ((10, 1), (1, 9, 1)):
                yield from map(protobuf.text, protobuf.messages(value, *path))


def nodes(graph: memoryview) -> Iterator[Node]:
    """The nodes of a GraphDef, then those of the functions in its library.

    Raises:
      ValueError: the graph is damaged, or has far more nodes than a network.
    """
    count = 0
    for function, body, field in _bodies(graph):
        for node in protobuf.messages(body, field):
            count += 1
            if count > _MAX_NODES:
                raise ValueError(f"its graph must have at most {_MAX_NODES} nodes")
            name, op = (protobuf.text(protobuf.only(node, n, _EMPTY)) for n in (1, 2))
            yield Node(function, name, op, node)


def _bodies(graph: memoryview) -> Iterator[tuple[str | None, memoryview, int]]:
    """(function, message, number of its field with nodes) of the graph and of its functions."""
    # cited: graph.proto (node = 1, library = 2), function.proto (function = 1 with node_def = 3 and
    # signature = 1) and op_def.proto (name = 1)
    yield None, graph, 1
    for function in protobuf.messages(graph, 2, 1):
        signature = protobuf.content(protobuf.only(function, 1, _EMPTY))
        yield protobuf.text(protobuf.only(signature, 1, _EMPTY)), function, 3


def constant_bytes(node: Node) -> int:
    """Bytes that the value of a constant has in memory, as its type and its shape state.

    Raises:
      ValueError: the type is not known, or a size is negative.
    """
    value = node.constant()
    dtype = protobuf.number(protobuf.only(value, 1, 0))
    sizes = shape(node.name, protobuf.content(protobuf.only(value, 2, _EMPTY)))
    if dtype not in ITEM_BYTES or min(sizes, default=0) < 0:
        raise ValueError(
            f"the constant {node.name[:100]} must have a known type and no negative size; got type"
            f" {dtype} and sizes {', '.join(map(str, sizes))}"
        )
    return math.prod(max(size, 1) for size in sizes) * ITEM_BYTES[dtype]
