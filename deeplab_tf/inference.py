"""The network for inference: batch normalization folded into the convolutions before it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from deeplab_tf.recipe.lazy import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fold:
    """A normalization and the convolution that takes its place.

    Attributes:
      conv: whose kernel takes the scale.
      norm: disappears.
      shift_goes_to: 1x1 convolution whose bias takes the shift; None: the bias of `conv`.
    """

    conv: Any
    norm: Any
    shift_goes_to: Any


def inference_model(model: keras.Model) -> keras.Model:
    """A copy of a network that computes the same in inference, faster.

    Batch normalization becomes part of the convolution before it: with s = gamma / sqrt(variance +
    epsilon), the kernel is multiplied by s and the bias is beta - s * mean. Between a depthwise
    and a 1x1 convolution the bias moves on into that of the 1x1 convolution. A normalization stays
    where an activation lies before it or where something else reads the convolution. Dropout
    disappears.

    Args:
      model: functional. Its weights are copied as they are now; `copy_weights` copies them again.

    Returns:
      A model with the same inputs and outputs, whose convolutions have the same names. It is
      `model` itself if it has no normalization to fold.
    """
    if not _has_folds(model):
        return model
    network = _clone(model)
    if hasattr(model, "dataset_spec"):
        network.dataset_spec = model.dataset_spec
    copy_weights(model, network)
    return network


def _has_folds(model: keras.Model) -> bool:
    """Whether there is a normalization to fold, in the graph or in a network within it."""
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return bool(_folds(model)) or any(map(_has_folds, nested))


def _clone(model: keras.Model) -> keras.Model:
    """The folded graph, without the weights."""
    if not hasattr(model, "operations"):
        return keras.models.clone_model(model)  # keras.Sequential, which has no graph to fold
    folds = _folds(model)
    with_bias = {(fold.shift_goes_to or fold.conv).name for fold in folds}
    removed = {fold.norm.name for fold in folds}
    dropouts = (keras.layers.Dropout, keras.layers.SpatialDropout2D)
    removed |= {layer.name for layer in model.layers if isinstance(layer, dropouts)}

    def clone(layer):
        if layer.name in removed:
            return layer  # is not called
        if isinstance(layer, keras.Model):
            return _clone(layer)
        config = layer.get_config()
        if _is_conv(layer):
            config["use_bias"] = layer.use_bias or layer.name in with_bias
            for name in ("kernel_initializer", "depthwise_initializer", "bias_initializer"):
                if name in config:
                    config[name] = "zeros"  # random numbers that nothing reads take a second
        return type(layer).from_config(config)

    def call(layer, *args, **kwargs):
        return args[0] if layer.name in removed else layer(*args, **kwargs)

    return keras.models.clone_model(model, clone_function=clone, call_function=call)


def copy_weights(model: keras.Model, network: keras.Model) -> None:
    """Copies the weights of a network, which may have been trained on, into that for inference.

    Args:
      model: the network.
      network: `inference_model(model)`.
    """
    if network is model:
        return
    folded = _folded_weights(model)
    copies = {layer.name: layer for layer in network.layers}
    for layer in model.layers:
        copy = copies.get(layer.name)
        if copy is None:
            continue
        if isinstance(layer, keras.Model):
            copy_weights(layer, copy)
        elif layer.name in folded:
            copy.set_weights([array for array in folded[layer.name] if array is not None])
        else:
            copy.set_weights(layer.get_weights())


def _folds(model: keras.Model) -> list[_Fold]:
    """What can be folded, in the order of the graph."""
    operations = [op for op in getattr(model, "operations", []) if len(op._inbound_nodes) == 1]
    readers: dict[int, list[Any]] = {}
    for operation in model.operations if operations else []:
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(operation)
    for tensor in keras.tree.flatten(model.outputs if operations else []):
        readers.setdefault(id(tensor), []).append(None)

    def only_reader(operation):
        found = readers.get(id(operation.output), [])
        return found[0] if len(found) == 1 and found[0] in operations else None

    pairs = {}
    for operation in operations:
        if _is_conv(operation) and operation.activation is keras.activations.linear:
            norm = only_reader(operation)
            if isinstance(norm, keras.layers.BatchNormalization) and _is_fusible(norm, readers):
                pairs[operation.name] = operation, norm
    folds = []
    for conv, norm in pairs.values():
        after = only_reader(norm)
        pushes = (
            isinstance(conv, keras.layers.DepthwiseConv2D)
            and after is not None
            and after.name in pairs
            and not isinstance(after, keras.layers.DepthwiseConv2D)
            and after.kernel_size == (1, 1)
            and after.groups == 1
        )
        folds.append(_Fold(conv=conv, norm=norm, shift_goes_to=after if pushes else None))
    return folds


def _is_conv(layer: Any) -> bool:
    return isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))


def _is_fusible(norm: Any, readers: dict[int, list[Any]]) -> bool:
    """Whether TensorFlow can fuse the operations around a folded normalization.

    Where a sum is read by a ReLU and by something else (Xception), TensorFlow 2.21 fails to fuse
    convolution, bias and sum, and then fuses nothing in the whole graph. A normalization before
    such a sum stays.
    """
    if norm.axis not in (-1, 3):
        return False
    for sum_ in readers.get(id(norm.output), []):
        if isinstance(sum_, keras.layers.Add):
            after = readers.get(id(sum_.output), [])
            if len(after) > 1 and any(isinstance(layer, keras.layers.ReLU) for layer in after):
                return False
    return True


def _folded_weights(model: keras.Model) -> dict[str, list[np.ndarray | None]]:
    """Name of a convolution -> its kernel and, if it has one, its bias."""
    weights: dict[str, list[np.ndarray | None]] = {}
    moved: dict[str, np.ndarray] = {}  # name of a convolution -> shift of its input, [C]
    for fold in _folds(model):
        kernel, *own_bias = (_float64(weight) for weight in fold.conv.weights)
        scale, shift = _scale_and_shift(fold.norm)
        bias = own_bias[0] if own_bias else np.zeros_like(scale)
        if fold.conv.name in moved:
            bias = bias + moved[fold.conv.name] @ kernel[0, 0]
        if isinstance(fold.conv, keras.layers.DepthwiseConv2D):
            kernel = kernel * scale.reshape(kernel.shape[2:])
        else:
            kernel = kernel * scale
        bias = bias * scale + shift
        if fold.shift_goes_to is not None:
            moved[fold.shift_goes_to.name] = bias
            bias = None if not own_bias else np.zeros_like(bias)
        weights[fold.conv.name] = [kernel, bias]
    return weights


def _scale_and_shift(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Float64 [C], [C]: what a normalization multiplies by, and then adds."""
    mean, variance = _float64(norm.moving_mean), _float64(norm.moving_variance)
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.gamma is not None:
        scale = scale * _float64(norm.gamma)
    shift = -mean * scale
    if norm.beta is not None:
        shift = shift + _float64(norm.beta)
    return scale, shift


def _float64(weight: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(weight).astype(np.float64)
