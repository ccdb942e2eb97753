"""Memory that a network's tensors take at least, from the shapes of its layers' outputs.

Nothing is computed or allocated, so images of any size can be asked about. What is not known, such
as a layer that is called twice, counts as nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from deeplab_tf.layers.remat import backbone_segments
from deeplab_tf.recipe.lazy import tf

# By the names of their classes, some of which are not public. Others read their inputs.
_BACKWARD_READS_SIZES = {
    "Add",
    "Concatenate",
    "Dropout",
    "ExpandDims",
    "GlobalAveragePooling2D",
    "Mean",
    "Rescaling",
    "Reshape",
    "SpatialDropout2D",
    "Transpose",
    "ZeroPadding2D",
}
_BACKWARD_READS_OUTPUT = {"Activation", "MaxPooling2D", "ReLU", "Relu"}
_OVERWRITES_INPUT = {"Activation", "Add", "BatchNorm", "BatchNormalization", "ReLU", "Reshape"}


def forward_bytes(model: keras.Model, height: int, width: int) -> int:
    """Memory that predicting one image takes at least.

    It is that of the weights, and of the tensors of the layer that has the largest ones. Two
    networks took 1.8 and 2.4 times as much beside the weights (ours, on a CPU).

    Args:
      model: functional, image [N, H, W, C] -> one or several outputs.
      height: of the image that the network gets, which is scaled and padded, pixels.
      width: the same.

    Returns:
      Bytes.
    """
    known = tensors_at(model, height, width)
    needs = [0]
    for operation in _operations(model):
        tensors = _tensors_of(operation.input)
        if type(operation).__name__ not in _OVERWRITES_INPUT:
            tensors += _tensors_of(operation.output)
        needs.append(_bytes_of_all(known, tensors))
    return sum(map(bytes_of, model.weights)) + max(needs)


def kept_bytes(model: keras.Model, height: int, width: int, *, remat: bool = False) -> int:
    """Activations of one image that a training step keeps for the backward pass, at least.

    Args:
      model: functional, image [N, H, W, C] -> outputs that have a loss.
      height: of the image, pixels.
      width: the same.
      remat: whether the backbone is computed again; see layers/remat.py.

    Returns:
      Bytes.
    """
    known = tensors_at(model, height, width)
    outputs = _bytes_of_all(known, _tensors_of(model.output)) if known else 0  # for the losses
    operations = _operations(model)
    if not remat:
        return outputs + _bytes_of_all(known, _read_backward(operations))
    segments = backbone_segments(model)
    of_segment = [set(map(id, segment.model.operations)) for segment in segments]
    again = set().union(*of_segment)
    # The backward pass comes from the head, of which nothing is left when a segment begins.
    between: list[keras.KerasTensor] = []
    needs = []
    for segment, own in zip(segments, of_segment, strict=True):
        between += segment.inputs
        inside = _read_backward(op for op in operations if id(op) in own)
        needs.append(_bytes_of_all(known, [*between, *inside]))
    head = _read_backward(op for op in operations if id(op) not in again)
    return max(outputs + _bytes_of_all(known, [*between, *head]), *needs)


def bytes_of(tensor: Any) -> int:
    """The size of a tensor or variable whose shape is known."""
    return math.prod(tensor.shape) * tf.as_dtype(tensor.dtype).size


def _read_backward(operations: Iterable[Any]) -> list[keras.KerasTensor]:
    """What the gradients of operations read, besides weights and the upstream gradient."""
    tensors = []
    for operation in operations:
        kind = type(operation).__name__
        if kind not in _BACKWARD_READS_SIZES | _BACKWARD_READS_OUTPUT or kind == "MaxPooling2D":
            tensors += _tensors_of(operation.input)
        if kind in _BACKWARD_READS_OUTPUT:
            tensors += _tensors_of(operation.output)
    return tensors


def _bytes_of_all(
    known: Mapping[int, keras.KerasTensor], tensors: Sequence[keras.KerasTensor]
) -> int:
    """The size of tensors of a model at the size of `known`, each counted once."""
    own = {id(tensor) for tensor in tensors} & known.keys()
    return sum(bytes_of(known[tensor]) for tensor in own)


def tensors_at(model: keras.Model, height: int, width: int) -> dict[int, keras.KerasTensor]:
    """Tensors of a model, by id -> as they are for one image of a size; without the unknown."""
    operations = _operations(model)
    if not operations or not isinstance(model.input, keras.KerasTensor):
        return {}
    image = keras.KerasTensor((1, height, width, model.input.shape[-1]), model.input.dtype)
    known = {id(model.input): image}
    for operation in operations:
        inputs, outputs = _tensors_of(operation.input), _tensors_of(operation.output)
        if known.keys() >= set(map(id, inputs)) and not known.keys() & set(map(id, outputs)):
            # Not public: the arguments of the call, some of which are no tensors, as in x / 255.
            call = operation._inbound_nodes[0].arguments
            args, kwargs = keras.tree.map_structure(
                lambda value: known.get(id(value), value), (call.args, call.kwargs)
            )
            made = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))
            known.update(zip(map(id, outputs), made, strict=True))
    return {tensor: spec for tensor, spec in known.items() if None not in spec.shape}


def _operations(model: keras.Model) -> list[Any]:
    """A functional model's; else none."""
    return getattr(model, "operations", [])


def _tensors_of(structure: Any) -> list[keras.KerasTensor]:
    return keras.tree.flatten(structure)
