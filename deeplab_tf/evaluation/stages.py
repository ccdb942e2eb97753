"""Divides a network into stages that can run in tiles and stages that see whole feature maps."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.layers import ResizeLike
from deeplab_tf.layers.names import BACKBONE_PREFIX

_SIDE = 2048  # ours: of the image for which strides are found; a multiple of every stride
_POINTWISE = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dropout,
    keras.layers.Multiply,
    keras.layers.ReLU,
    keras.layers.SpatialDropout2D,
)
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """Operations of a network that run together.

    Attributes:
      kind: "backbone" and "tiles" run in tiles, "whole" does not; "resize" is a single one.
      inputs: tensors that they read and others make; of a resize only what it resizes.
      outputs: tensors that they make and others read.
      stride: pixels of the image per pixel of the finest map; of the backbone 1.
      strides: its factors, by the id of each input and output that is a map.
      coarsest: the largest factor inside.
      reach: how far an output's pixel looks to each side of the inputs, pixels of the map.
    """

    kind: str
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    stride: int
    strides: Mapping[int, int]
    coarsest: int
    reach: int

    @functools.cached_property
    def model(self) -> keras.Model:
        """The operations, with the network's weights."""
        return keras.Model(self.inputs, self.outputs)

    @functools.cached_property
    def run(self) -> Callable[[list[Any]], list[tf.Tensor]]:
        """Inputs of batch size 1 -> outputs."""
        signature = [tf.TensorSpec((1, *t.shape[1:]), t.dtype) for t in self.inputs]
        # No function defined here: TensorFlow takes those of all stages for one that is traced
        # again and again, and warns.
        return tf.function(
            functools.partial(_outputs, self.model), input_signature=[signature], autograph=False
        )


def _outputs(model: keras.Model, inputs: list[tf.Tensor]) -> list[tf.Tensor]:
    return keras.tree.flatten(model(inputs, training=False))


def divided(network: keras.Model) -> list[Stage]:
    """Divides a network into stages, in the order in which they can run.

    Args:
      network: functional, image [N, H, W, C] of any size -> [N, h, w, K].

    Returns:
      The stages. The first one is the backbone.

    Raises:
      ValueError: the network has no backbone, takes images of one size only, or has feature maps
        that are not as large as strides make them.
    """
    if not any(op.name.startswith(BACKBONE_PREFIX) for op in getattr(network, "operations", [])):
        raise ValueError(
            "predict.tile runs a network's backbone in tiles; this network has no layer whose name"
            f" begins with {BACKBONE_PREFIX}. Leave --predict.tile out."
        )
    if not is_map(network.input):
        raise ValueError(
            "predict.tile needs a network for images of any size; this one takes"
            f" {network.input.shape[1]}x{network.input.shape[2]} pixels. Leave --predict.tile out,"
            " or build the network without a height and width."
        )
    strides = _strides(network)
    nodes = _nodes(network)
    readers: dict[int, list[_Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(id(tensor), []).append(node)
    _number(nodes, readers)
    groups: dict[tuple[int, str, int], list[_Node]] = {}
    for node in nodes:
        output = id(node.outputs[0])
        apart = {"tiles": strides.get(output), "resize": output}.get(node.kind, 1)
        groups.setdefault((node.number, node.kind, apart), []).append(node)
    stages = []
    for (_, kind, apart), group in sorted(groups.items(), key=lambda item: item[0][0]):
        made = {id(tensor): tensor for node in group for tensor in node.outputs}
        read = {id(tensor): tensor for node in group for tensor in node.inputs}
        inputs = [tensor for key, tensor in read.items() if key not in made]
        outputs = [
            tensor
            for key, tensor in made.items()
            if tensor is network.output or any(node not in group for node in readers.get(key, []))
        ]
        reaches: dict[int, int] = {}
        for node in group:
            reach = node.reach + max(reaches.get(id(tensor), 0) for tensor in node.inputs)
            reaches.update((id(tensor), reach) for tensor in node.outputs)
        stride = apart if kind == "tiles" else 1
        stages.append(
            Stage(
                kind=kind,
                inputs=inputs,
                outputs=outputs,
                stride=stride,
                strides={id(t): strides[id(t)] // stride for t in inputs + outputs if is_map(t)},
                coarsest=max(strides.get(key, 1) for key in made) // stride,
                reach=max(reaches.values()),
            )
        )
    _check_sizes(network, stages)
    return stages


@dataclasses.dataclass(eq=False)
class _Node:
    """An operation of a network.

    Attributes:
      kind: of the stage that it is part of.
      inputs: what it reads; of a map whose size alone counts, nothing.
      outputs: what it makes.
      reach: how far it looks to each side, pixels.
      number: of its stage, which reads from stages with smaller numbers.
    """

    kind: str
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    reach: int
    number: int = 0


def _nodes(network: keras.Model) -> list[_Node]:
    """The operations of a network in their order, without numbers."""
    kinds = {id(network.input): "backbone"}
    nodes = []
    for operation in network.operations:
        inputs, outputs = map(keras.tree.flatten, (operation.input, operation.output))
        if not inputs:
            continue  # the network's input
        reach = _reach(operation)
        maps = all(map(is_map, outputs))
        if operation.name.startswith(BACKBONE_PREFIX):
            kind = "backbone"
        elif maps and isinstance(operation, ResizeLike) and operation.align_corners:
            kind, inputs = "resize", inputs[:1]
        elif reach is None or not maps or not all(is_map(t) or _is_pixel(t) for t in inputs):
            kind = "whole"
        elif reach == 0 and all(kinds[id(tensor)] == "backbone" for tensor in inputs):
            # Such as the reduction of low-level features, which so need not exist as a whole.
            kind = "backbone"
        else:
            kind = "tiles"
        kinds.update((id(tensor), kind) for tensor in outputs)
        nodes.append(_Node(kind, inputs, outputs, reach or 0))
    return nodes


def _number(nodes: Sequence[_Node], readers: Mapping[int, Sequence[_Node]]) -> None:
    """Gives nodes that can run together the same number."""
    made_by = {id(tensor): node for node in nodes for tensor in node.outputs}
    for node in nodes:
        before = [made_by[id(tensor)] for tensor in node.inputs if id(tensor) in made_by]
        apart = [other.kind != node.kind or node.kind == "resize" for other in before]
        node.number = max((o.number + a for o, a in zip(before, apart, strict=True)), default=0)
    for node in reversed(nodes):  # late, so that fewer maps exist as a whole
        after = [other for tensor in node.outputs for other in readers.get(id(tensor), [])]
        if node.kind == "tiles" and after:
            node.number = min(other.number - (other.kind != "tiles") for other in after)


def _reach(operation: Any) -> int | None:
    """How far an operation looks to each side at stride 1; None: it strides, or is not known."""
    if isinstance(operation, _POINTWISE):
        return 0
    if not isinstance(operation, _CONVOLUTIONS) or set(operation.strides) != {1}:
        return None
    if operation.padding != "same" and set(operation.kernel_size) != {1}:
        return None
    rates = zip(operation.kernel_size, operation.dilation_rate, strict=True)
    return max(size // 2 * rate for size, rate in rates)


def _is_pixel(tensor: keras.KerasTensor) -> bool:
    """Whether a tensor is [N, 1, 1, C], for all pixels the same."""
    return len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) == (1, 1)


def is_map(tensor: Any) -> bool:
    """Whether a tensor is [N, h, w, C] of a size that depends on the image's."""
    return len(tensor.shape) == 4 and tensor.shape[1] is None and tensor.shape[2] is None


def _strides(network: keras.Model) -> dict[int, int]:
    """Pixels of the image per pixel of a map, by the id of the tensor; 0 of padded maps."""
    made = [t for op in network.operations for t in keras.tree.flatten(op.output)]
    maps = [tensor for tensor in made if is_map(tensor) and tensor is not network.input]
    image = (1, _SIDE, _SIDE, network.input.shape[-1])
    shapes = keras.Model(network.input, maps).compute_output_shape(image)
    strides = {id(t): _SIDE // shape[1] for t, shape in zip(maps, shapes, strict=True)}
    return {id(network.input): 1, **strides}


def _check_sizes(network: keras.Model, stages: Sequence[Stage]) -> None:
    """Checks that maps between stages are as large as strides with SAME padding make them."""
    maps = [
        (t, stage.stride * stage.strides[id(t)])
        for stage in stages
        for t in stage.outputs
        if is_map(t)
    ]
    for side in (_SIDE, _SIDE - 31):  # a multiple of every stride, and one more than a multiple
        image = (1, side, side, network.input.shape[-1])
        shapes = keras.Model(network.input, [t for t, _ in maps]).compute_output_shape(image)
        for (_, stride), shape in zip(maps, shapes, strict=True):
            if stride < 1 or shape[1] != math.ceil(side / stride):
                raise ValueError(
                    "predict.tile needs feature maps as large as the image divided by a stride and"
                    f" rounded up; the network makes one of {shape[1]} pixels from {side}. Use SAME"
                    " padding in the backbone, or leave --predict.tile out."
                )
