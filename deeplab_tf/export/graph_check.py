"""What a SavedModel would run and hold, found out without TensorFlow and without loading it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from deeplab_tf.recipe.messages import shortened
from deeplab_tf.weights.limits import check_claimed_bytes
from deeplab_tf.weights.tensorflow_files import protobuf
from deeplab_tf.weights.tensorflow_files.checkpoint_file import check_sizes
from deeplab_tf.weights.tensorflow_files.graph_def import Node, constant_bytes, nodes
from deeplab_tf.weights.tensorflow_files.graph_ops import PURE_OPS, SAVER_OPS, VARIABLE_OPS

_MAX_BYTES = 256 << 20  # ours: Xception-65's graph has 12 MB; its weights are in other files
_EMPTY = memoryview(b"")


def check_saved_model(directory: str, *, allow_any_op: bool = False) -> None:
    """Checks the graph of a SavedModel, and the sizes of its constants and variables.

    Args:
      directory: of the SavedModel.
      allow_any_op: accept every operation.

    Raises:
      ValueError: a file of it is missing or damaged, claims more than it holds, or an operation may
        do more than compute; the message names it.
    """
    try:
        meta_graph, size = _meta_graph(os.path.join(directory, "saved_model.pb"))
        graph = protobuf.content(protobuf.only(meta_graph, 2, _EMPTY))  # cited: meta_graph.proto
        found = list(nodes(graph))
        constants = sum(constant_bytes(node) for node in found if node.op == "Const")
        check_claimed_bytes(constants, size, "its constants")
        check_sizes(os.path.join(directory, "variables", "variables"))
        foreign = _foreign_operations(found, _savers(meta_graph, graph, found))
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} is not a readable SavedModel: {error}.") from error
    if foreign and not allow_any_op:
        raise ValueError(
            f"{directory} has operations that may do more than predict:"
            f" {shortened(foreign, most=12)}. It was not loaded. --allow_any_op runs them, if you"
            " trust its source."
        )


def _meta_graph(path: str) -> tuple[memoryview, int]:
    """The one graph of a SavedModel with all that belongs to it, and the size of its file."""
    size = os.path.getsize(path)
    if size > _MAX_BYTES:
        raise ValueError(f"saved_model.pb must have at most {_MAX_BYTES} bytes; got {size}")
    with open(path, "rb") as file:
        content = memoryview(file.read(size))
    found = list(protobuf.messages(content, 2))  # cited: saved_model.proto
    if len(found) != 1:
        raise ValueError(f"it must have one graph; got {len(found)}")
    return found[0], size


def _foreign_operations(found: Iterable[Node], savers: set[str]) -> list[str]:
    """Names of operations that neither compute nor belong to the functions of the saver."""
    foreign = set()
    for node in found:
        saves = node.op in SAVER_OPS and node.function in savers
        if not saves and node.op not in PURE_OPS | VARIABLE_OPS:
            foreign.add(node.op[:100])
    return sorted(foreign)


def _savers(meta_graph: memoryview, graph: memoryview, found: Iterable[Node]) -> set[str]:
    """The functions that save and restore, if nothing else calls them.

    Loading a SavedModel of TensorFlow 2, which has an object graph, calls none of them: it reads
    the variables by itself. Loading one of TensorFlow 1 runs them.
    """
    if protobuf.only(meta_graph, 7, None) is None:  # cited: meta_graph.proto (object_graph_def)
        return set()
    # cited: meta_graph.proto (saver_def = 3), saver.proto (save_tensor_name = 2,
    # restore_op_name = 3)
    saver = protobuf.content(protobuf.only(meta_graph, 3, _EMPTY))
    own = {protobuf.text(protobuf.only(saver, field, _EMPTY)).partition(":")[0] for field in (2, 3)}
    savers, others = set(), set(_offered_functions(meta_graph, graph))
    for node in found:
        is_savers = node.function is None and node.name in own
        (savers if is_savers else others).update(node.calls())
    return savers - others


def _offered_functions(meta_graph: memoryview, graph: memoryview) -> Iterable[str]:
    """Names of functions that a user of the SavedModel can call, and of gradients."""
    # cited: meta_graph.proto (object_graph_def = 7), saved_object_graph.proto (concrete_functions =
    # 2, a map by name; nodes = 1 with bare_concrete_function = 8 or function = 6), graph.proto
    # (library = 2 with gradient = 2)
    paths = ((7, 2, 1), (7, 1, 6, 1), (7, 1, 8, 1))
    for path in paths:
        yield from map(protobuf.text, protobuf.messages(meta_graph, *path))
    for field in (1, 2):
        yield from map(protobuf.text, protobuf.messages(graph, 2, 2, field))
