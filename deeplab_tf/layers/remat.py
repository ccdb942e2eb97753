"""Rematerialization: training with less memory for activations, at the cost of time.

The backward pass reads the outputs of the backbone's layers. They take most of the memory of a
training step. Here the backbone's layers are divided into segments. The forward pass keeps only
what is between the segments, and the backward pass computes the inside of one segment after
another again (Chen et al. 2016, "Training deep nets with sublinear memory cost").
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from deeplab_tf.layers.names import BACKBONE_PREFIX
from deeplab_tf.recipe.lazy import tf

_SIDE = 512  # ours: of the image for which sizes are compared, pixels


def rematerialized(model: keras.Model) -> Callable[[tf.Tensor], Any]:
    """Makes the function that a training step calls in place of `model(image, training=True)`.

    Outputs, gradients of the trainable variables and updates of the moving statistics are those
    of the model. Call it where the model would be called: in `strategy.run`, under a gradient tape.

    Args:
      model: functional, of one image, with a backbone; see layers/names.py.

    Returns:
      image [N, H, W, C] -> what the model returns.

    Raises:
      ValueError: the model has no backbone, or a layer of it has a random state, such as dropout,
        which would drop other values when it is computed again.
    """
    segments = backbone_segments(model)
    made = {id(tensor) for segment in segments for tensor in segment.outputs}
    features = _read(_other_operations(model), of=made | {id(model.input)})
    head = keras.Model(features, model.output)

    def call(image: tf.Tensor) -> Any:
        known = {id(model.input): image}
        for segment in segments:
            outputs = _run(segment, [known[id(tensor)] for tensor in segment.inputs])
            known.update(zip(map(id, segment.outputs), outputs, strict=True))
        return head([known[id(tensor)] for tensor in features], training=True)

    return call


@dataclasses.dataclass(frozen=True)
class Segment:
    """Consecutive layers of a backbone, as a model of their own with the same weights."""

    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    model: keras.Model
    differentiable: list[bool]  # of each input: whether a gradient flows back through it


def _run(segment: Segment, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The outputs of a segment, of which the backward pass keeps only the inputs."""
    model = segment.model
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    # Read here: a function with a custom gradient must not read the variables of a strategy.
    values = [tf.convert_to_tensor(variable.value) for variable in variables]

    def compute(inputs, values):
        """(outputs, new values of the variables that change, by variable)."""
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)) as scope:
            before = [scope.get_current_value(variable) for variable in variables]
            outputs = keras.tree.flatten(model(inputs, training=True))
            after = [scope.get_current_value(variable) for variable in variables]
        rows = zip(variables, before, after, strict=True)
        return outputs, [(variable, new) for variable, old, new in rows if new is not old]

    updated = []

    @tf.custom_gradient
    def forward(*tensors):
        own, values = list(tensors[: len(inputs)]), list(tensors[len(inputs) :])
        # Nothing is recorded behind a stopped gradient, so that tapes keep nothing alive.
        outputs, updates = compute(*tf.nest.map_structure(tf.stop_gradient, (own, values)))
        updated.extend(variable for variable, _ in updates)

        def backward(*upstream):
            upstream = upstream[: len(outputs)]  # the rest are those of the updates
            # Inputs that are there only after the upstream gradient: otherwise this would be
            # merged with the forward pass, or run beside it.
            with tf.control_dependencies(upstream):
                again = [tf.identity(tensor) for tensor in own]
            trainable = values[: len(model.trainable_variables)]
            flows = [*segment.differentiable, *[True] * len(trainable)]
            sources = [t for t, flow in zip([*again, *trainable], flows, strict=True) if flow]
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(sources)
                outputs_again, _ = compute(again, values)
            found = iter(tape.gradient(outputs_again, sources, output_gradients=upstream))
            gradients = [next(found) if flow else None for flow in flows]
            return [*gradients, *[None] * (len(tensors) - len(gradients))]

        return (outputs, [value for _, value in updates]), backward

    outputs, news = forward(*inputs, *values)
    for variable, new in zip(updated, news, strict=True):
        variable.assign(new)
    return outputs


def reason_against(model: keras.Model) -> str | None:
    """Why a model cannot be rematerialized; None: it can."""
    layers = _backbone(model)
    if not layers:
        return (
            "train.remat computes a backbone's layers again; this network has no layer whose name"
            f" begins with {BACKBONE_PREFIX}. Leave train.remat out."
        )
    for layer in layers:
        if len(layer.variables) > len(layer.weights):  # random states are no weights
            return (
                "train.remat computes a backbone's layers again, which must give the same values;"
                f" layer {layer.name} has a random state. Leave train.remat or the layer out."
            )
    return None


def backbone_segments(model: keras.Model) -> list[Segment]:
    """Divides the backbone's layers where little has to be kept.

    Raises:
      ValueError: there is a `reason_against` it.
    """
    reason = reason_against(model)
    if reason is not None:
        raise ValueError(reason)
    layers = _backbone(model)
    sizes = _sizes(model, layers)
    of_head = {id(tensor) for tensor in _read(_other_operations(model), of=sizes.keys())}

    # Positions where the layers so far and the rest share one tensor, or only what is kept anyway.
    cuts, kept = [], []
    for i in range(len(layers)):
        made = {id(layer.output) for layer in layers[:i]}
        alive = {id(tensor) for tensor in _read(layers[i:], of=made)} - of_head
        if len(alive) <= 1:
            cuts.append(i)
            kept.append(sum(sizes[tensor] for tensor in alive))
    pieces = [layers[a:b] for a, b in zip(cuts, [*cuts[1:], len(layers)], strict=True)]
    inside = [sum(sizes[id(layer.output)] for layer in piece) for piece in pieces]

    segments = []
    for start, end in _cheapest_groups(inside, kept):
        group = [layer for piece in pieces[start:end] for layer in piece]
        made = {id(layer.output) for layer in group}
        inputs = _read(group, of=sizes.keys() - made)
        others = [op for op in model.operations if op not in group]
        outputs = _read(others, of=made)
        segments.append(
            Segment(
                inputs,
                outputs,
                keras.Model(inputs, outputs),
                [tensor is not model.input for tensor in inputs],
            )
        )
    return segments


def _cheapest_groups(inside: Sequence[int], kept: Sequence[int]) -> list[tuple[int, int]]:
    """Groups consecutive pieces: the least memory for what is kept and for the largest group.

    Args:
      inside: of each piece, the size of its activations.
      kept: of each piece, the size of what it reads from the one before.

    Returns:
      (start, end) of each group.
    """
    plans = []
    for parts in range(1, len(inside) + 1):
        limit = max(sum(inside) / parts, *inside, 0)
        # Of the first n pieces in groups up to the limit: (what is kept, the groups).
        best: list[tuple[float, list[tuple[int, int]]]] = [(0, [])]
        for end in range(1, len(inside) + 1):
            choices = []
            for start in reversed(range(end)):
                if sum(inside[start:end]) > limit:
                    break
                total, groups = best[start]
                choices.append((total + kept[start], [*groups, (start, end)]))
            best.append(min(choices))
        total, groups = best[-1]
        plans.append((total + max(sum(inside[a:b]) for a, b in groups), groups))
    return min(plans)[1]


def _sizes(model: keras.Model, layers: Sequence[keras.layers.Layer]) -> dict[int, int]:
    """Number of elements of the image and of the outputs of layers, by the id of the tensor."""
    shapes = {id(model.input): (1, _SIDE, _SIDE, model.input.shape[-1])}
    for layer in layers:
        shape = keras.tree.map_structure(lambda tensor: shapes[id(tensor)], layer.input)
        shapes[id(layer.output)] = layer.compute_output_shape(shape)
    return {tensor: math.prod(shape) for tensor, shape in shapes.items()}


def _read(operations: Sequence[Any], *, of: Any) -> list[keras.KerasTensor]:
    """The tensors that operations read, each once, among those of some ids."""
    tensors = [t for op in operations for t in keras.tree.flatten(op.input)]
    return list({id(tensor): tensor for tensor in tensors if id(tensor) in of}.values())


def _backbone(model: keras.Model) -> list[Any]:
    """The operations of the backbone."""
    return [op for op in model.operations if op.name.startswith(BACKBONE_PREFIX)]


def _other_operations(model: keras.Model) -> list[Any]:
    """The operations outside the backbone."""
    return [op for op in model.operations if not op.name.startswith(BACKBONE_PREFIX)]
