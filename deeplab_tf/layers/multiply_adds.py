"""Multiply-adds of a network: what it computes, and what the DeepLabv3+ paper counted.

The true count is the size of the kernels of convolutions and dense layers, once for each output
position. Positions where a kernel reaches over the border count in full. Normalization,
activations, pooling, additions and resizes are not counted: they multiply by no kernel and are
below 1 %.

The paper's figures (Tab. 3 and 5) are half the float operations that TensorFlow 1's profiler counts
in the graph of an evaluation. They are larger than the true count for two reasons. An atrous
convolution ran as space-to-batch, convolution and batch-to-space, and is charged for the padding to
whole blocks. And the profiler counts some small operations: pooling, additions, biases,
preprocessing, argmax, mean IoU, and the initializers and the weight decay, which no image needs. It
does not count normalization, activations, resizes and concatenation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import keras

from deeplab_tf.layers.atrous import AtrousConv2D, AtrousDepthwiseConv2D
from deeplab_tf.layers.dropout import Dropout, SpatialDropout2D
from deeplab_tf.layers.normalization import BatchNorm
from deeplab_tf.layers.resize import ResizeLike, scaled_side
from deeplab_tf.recipe.options import lookup

_Shape = tuple[int, ...]
_Cost = Callable[[Any, Sequence[_Shape], _Shape], int]  # (layer, input shapes, output shape)


def multiply_adds(
    model: keras.Model,
    image_size: tuple[int, int],
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    counting: Literal["true", "paper"] = "true",
) -> int:
    """Counts the multiply-adds of predicting one image.

    Layers are counted by `RULES` and `OPERATIONS`. A layer of another class has a method
    `multiply_adds(input_shape) -> int`, with a list of shapes if it takes several tensors.

    Args:
      model: functional, image [N, H, W, C] -> logits [N, H, W, K], built for any size.
      image_size: height and width of the image, pixels.
      scales: factors of the image's size at which it is predicted.
      flip: whether it is predicted mirrored too, at every scale.
      counting: "true", or "paper": the way that gives the figures of DeepLabv3+ Tab. 3 and 5.

    Returns:
      The number for all scales and flips together.

    Raises:
      ValueError: the model is not functional, has a layer without a rule, or calls a layer more
        than once; a size or scale is not positive; or `counting` is unknown.
    """
    cost = lookup({"true": _true_cost, "paper": _profiled_cost}, counting, "way of counting")
    if not scales or min(*image_size, *scales) <= 0:
        raise ValueError(
            "image_size must be positive, and scales one or more positive numbers;"
            f" got {image_size}, {scales}."
        )
    total = 0
    for scale in scales:
        size = tuple(scaled_side(side, scale) for side in image_size)
        total += sum(cost(*node) for node in _nodes(model, size))
    if flip:
        total *= 2
    if counting == "true":
        return total
    return (total + _profiled_once(model, image_size)) // 2


def _nodes(model: keras.Model, size: _Shape) -> Iterator[tuple[Rule, Any, list[_Shape], _Shape]]:
    """(rule, layer, input shapes, output shape) of every layer, for one image of a size."""
    if not hasattr(model, "operations"):
        raise ValueError(
            f"only a functional keras.Model can be counted; got {type(model).__name__}."
        )
    image = keras.KerasTensor((1, *size, model.input.shape[-1]), model.input.dtype)
    known = {id(model.input): image}
    for layer in model.operations:
        if id(layer.output) in known:  # the input layer
            continue
        rule = _rule(layer)
        inputs = [_known(known, tensor, layer.name) for tensor in keras.tree.flatten(layer.input)]
        output = layer.compute_output_spec(inputs if len(inputs) > 1 else inputs[0])
        outputs = keras.tree.flatten(output)
        known.update(zip(map(id, keras.tree.flatten(layer.output)), outputs, strict=True))
        yield rule, layer, [tensor.shape for tensor in inputs], outputs[0].shape
    for tensor in keras.tree.flatten(model.output):
        _known(known, tensor, "the model's output")


def _known(known: dict[int, keras.KerasTensor], tensor: Any, reader: str) -> keras.KerasTensor:
    # A layer knows the tensors of its first call only.
    if id(tensor) not in known:
        raise ValueError(
            "every layer must be called once to be counted;"
            f" {reader} reads a tensor of a layer that is called twice, or of another model."
        )
    return known[id(tensor)]


def _true_cost(rule: Rule, layer: Any, inputs: Sequence[_Shape], output: _Shape) -> int:
    return rule.multiply_adds(layer, inputs, output)


def _profiled_cost(rule: Rule, layer: Any, inputs: Sequence[_Shape], output: _Shape) -> int:
    """Float operations of one forward pass as the profiler counts them."""
    charged = _whole_blocks(output, layer.dilation_rate) if rule.atrous else output
    return 2 * rule.multiply_adds(layer, inputs, charged) + rule.small(layer, inputs, output)


def _profiled_once(model: keras.Model, image_size: _Shape) -> int:
    """Float operations of the evaluation's graph that are not repeated with every pass."""
    num_classes = keras.tree.flatten(model.output)[0].shape[-1]
    argmax = num_classes - 1
    mean_iou = 6  # code: as measured, per pixel
    weights = sum(_rule(layer).once(layer) for layer in model.layers)
    return weights + math.prod(image_size) * (argmax + mean_iou)


def _whole_blocks(output: _Shape, rates: Sequence[int]) -> _Shape:
    """The output's shape with its sides rounded up to multiples of the rates."""
    batch, *sides, channels = output
    sides = [-(-side // rate) * rate for side, rate in zip(sides, rates, strict=True)]
    return batch, *sides, channels


def _none(*_) -> int:
    return 0


def _kernel_at_every_position(layer: Any, inputs: Sequence[_Shape], output: _Shape) -> int:
    return math.prod(output[:-1]) * math.prod(layer.kernel.shape)


def _bias(layer: Any, inputs: Sequence[_Shape], output: _Shape) -> int:
    return math.prod(output) if layer.use_bias else 0


def _initializer(layer: Any) -> int:
    return 2 * math.prod(layer.kernel.shape)  # random numbers, times one value and plus another


def _initializer_and_decay(layer: Any) -> int:
    return _initializer(layer) + 3 * math.prod(layer.kernel.shape) - 1  # the profiler's L2Loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What a class of layers costs.

    Attributes:
      multiply_adds: (layer, input shapes, output shape) -> true count.
      small: the same arguments -> other float operations that the paper's way counts.
      once: layer -> float operations on its weights that the paper's way counts: initializer and
        weight decay.
      atrous: whether the paper's way counts positions in whole blocks of `layer.dilation_rate`.
    """

    multiply_adds: _Cost = _none
    small: _Cost = _none
    once: Callable[[Any], int] = _none
    atrous: bool = False


_DENSE = Rule(multiply_adds=_kernel_at_every_position, small=_bias, once=_initializer_and_decay)
_CONVOLUTION = dataclasses.replace(_DENSE, atrous=True)
_DEPTHWISE = dataclasses.replace(_CONVOLUTION, once=_initializer)  # code: without weight decay
_FREE = Rule()

# By the exact class: a subclass may compute something else.
RULES: dict[type, Rule] = {
    keras.layers.Conv2D: _CONVOLUTION,
    AtrousConv2D: _CONVOLUTION,
    keras.layers.Dense: _DENSE,
    keras.layers.DepthwiseConv2D: _DEPTHWISE,
    AtrousDepthwiseConv2D: _DEPTHWISE,
    keras.layers.Add: Rule(
        small=lambda layer, inputs, output: (len(inputs) - 1) * math.prod(output)
    ),
    keras.layers.MaxPooling2D: Rule(
        small=lambda layer, inputs, output: math.prod(layer.pool_size) * math.prod(output)
    ),
    keras.layers.GlobalAveragePooling2D: Rule(
        small=lambda layer, inputs, output: math.prod(inputs[0])
    ),
    keras.layers.Rescaling: Rule(
        small=lambda layer, inputs, output: (1 + (layer.scale != 1)) * math.prod(output)
    ),
    keras.layers.Activation: _FREE,
    keras.layers.BatchNormalization: _FREE,
    keras.layers.Concatenate: _FREE,
    keras.layers.Dropout: _FREE,
    keras.layers.GroupNormalization: _FREE,
    keras.layers.InputLayer: _FREE,
    keras.layers.Multiply: _FREE,
    keras.layers.ReLU: _FREE,
    keras.layers.Reshape: _FREE,
    keras.layers.SpatialDropout2D: _FREE,
    keras.layers.ZeroPadding2D: _FREE,
    BatchNorm: _FREE,
    Dropout: _FREE,
    ResizeLike: _FREE,
    SpatialDropout2D: _FREE,
}

# keras.ops on symbolic tensors, by the names of their classes, which are not public.
OPERATIONS: dict[str, Rule] = dict.fromkeys(("ExpandDims", "Mean", "Relu", "Transpose"), _FREE)

_BY_METHOD = Rule(
    multiply_adds=lambda layer, inputs, output: layer.multiply_adds(
        list(inputs) if len(inputs) > 1 else inputs[0]
    )
)


def _rule(layer: Any) -> Rule:
    if not isinstance(layer, keras.layers.Layer):
        rule, remedy = OPERATIONS.get(type(layer).__name__), "give it a row in OPERATIONS"
    elif hasattr(layer, "multiply_adds"):
        return _BY_METHOD
    else:
        rule = RULES.get(type(layer))
        remedy = "give the class a method multiply_adds(input_shape), or a row in RULES"
    if rule is None:
        raise ValueError(
            f"there is no rule for the multiply-adds of {layer.name}, a {type(layer).__name__}:"
            f" {remedy} of deeplab_tf/layers/multiply_adds.py."
        )
    return rule
