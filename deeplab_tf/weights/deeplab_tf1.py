"""Weights of the authors' released TensorFlow 1 code, by their variable names.

Networks are recognised from names and shapes: any of the released backbones with any of the
released heads, either with batch normalization or with it folded into the convolutions.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import keras
import numpy as np

# Our layer name -> scope in the released code; @ stands for the backbone's own scope. Batch
# normalization has our suffix _bn and the scope BatchNorm below the convolution's.
_SCOPES: tuple[tuple[str, str], ...] = (
    (r"backbone_conv", "@/Conv"),
    (r"backbone_block0_(expand|depthwise|project)", r"@/expanded_conv/\1"),
    (r"backbone_block(\d+)_(expand|depthwise|project)", r"@/expanded_conv_\1/\2"),
    (r"backbone_(conv1(?:_\d)?)", r"@/\1"),
    (r"backbone_block(\d)_unit(\d+)_(conv\d|shortcut)", r"@/block\1/unit_\2/bottleneck_v1/\3"),
    (r"backbone_entry_conv(\d)", r"@/entry_flow/conv1_\1"),
    (
        r"backbone_(entry|exit)_block(\d)_sep(\d)_(depthwise|pointwise)",
        r"@/\1_flow/block\2/unit_1/xception_module/separable_conv\3_\4",
    ),
    (
        r"backbone_(entry|exit)_block(\d)_shortcut",
        r"@/\1_flow/block\2/unit_1/xception_module/shortcut",
    ),
    (
        r"backbone_middle_unit(\d+)_sep(\d)_(depthwise|pointwise)",
        r"@/middle_flow/block1/unit_\1/xception_module/separable_conv\2_\3",
    ),
    (r"aspp_image_pooling", "image_pooling"),
    (r"aspp_conv(\d+)(_depthwise|_pointwise)?", r"aspp\1\2"),
    (r"aspp_projection", "concat_projection"),
    (r"decoder_low_level", "decoder/feature_projection0"),
    (r"decoder_conv(\d+)(_depthwise|_pointwise)", r"decoder/decoder_conv\1\2"),
    # slim's `repeat` numbers from 1 below the first one's scope.
    (r"decoder_conv0", "decoder/decoder_conv0/decoder_conv0_1"),
    (r"decoder_conv1", "decoder/decoder_conv0/decoder_conv0_2"),
    (r"decoder_conv2", "decoder/decoder_conv0/decoder_conv0_3"),
    (r"logits", "logits/semantic"),
)
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

_KINDS = ("weights", "depthwise_weights", "biases", *_BATCH_NORM)
_AVERAGE = "/ExponentialMovingAverage"

# Scope of a backbone in the released code -> our name; MobileNetV2 has one scope for all widths.
_BACKBONES = {
    "xception_41": "xception41",
    "xception_65": "xception65",
    "xception_71": "xception71",
    "resnet_v1_50": "resnet50",
    "resnet_v1_101": "resnet101",
}


def read_npz(path: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by their names in the released code.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not an .npz file of plain arrays.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, AttributeError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a readable .npz file of arrays: {error}") from error


def read_checkpoint(path: str) -> dict[str, np.ndarray]:
    """The variables of a TensorFlow 1 checkpoint; their moving averages if all that train have one.

    A few averages among plain values would be a network that nobody trained; they are left out, as
    are optimizer slots and counters.

    Args:
      path: the prefix that the files .index and .data-... share, one of these files, or a
        directory with one checkpoint or with the file 'checkpoint' that names the last one.

    Raises:
      FileNotFoundError: there is no checkpoint.
      ValueError: it is damaged, or not a checkpoint.
    """
    import tensorflow as tf

    prefix = _checkpoint_prefix(path)
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = reader.get_variable_to_shape_map()
        variables = [name for name in names if name.rsplit("/", 1)[-1] in _KINDS]
        averaged = all(name + _AVERAGE in names for name in variables if "/moving_" not in name)
        arrays = {
            name: reader.get_tensor(
                name + _AVERAGE if averaged and name + _AVERAGE in names else name
            )
            for name in variables
        }
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:300]
        raise ValueError(f"{prefix} is not a readable checkpoint: {reason}") from error
    return arrays


def _checkpoint_prefix(path: str) -> str:
    import tensorflow as tf

    if os.path.isdir(path):
        indices = [name for name in sorted(os.listdir(path)) if name.endswith(".index")]
        if len(indices) == 1:  # whatever the file 'checkpoint' says, which may be of another place
            return os.path.join(path, indices[0].removesuffix(".index"))
        latest = tf.train.latest_checkpoint(path)
        if latest is None:
            raise FileNotFoundError(
                f"{path} must hold one checkpoint, or a file 'checkpoint' that names one; it has"
                f" {len(indices)} .index files. Name the checkpoint's prefix instead."
            )
        return latest
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path)
    if not os.path.exists(prefix + ".index"):
        raise FileNotFoundError(f"there is no checkpoint {prefix} (no file {prefix}.index).")
    return prefix


def read_frozen_graph(path: str) -> dict[str, np.ndarray]:
    """The weights in a frozen graph (.pb), which are its constants with a variable's name.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a frozen graph.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    with open(path, "rb") as file:
        content = file.read()
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(content)
        arrays = {
            node.name: tf.make_ndarray(node.attr["value"].tensor)
            for node in graph.node
            if node.op == "Const" and node.name.rsplit("/", 1)[-1] in _KINDS
        }
    except (DecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a readable frozen graph: {error}") from error
    if not arrays:
        raise ValueError(f"{path} is not a frozen graph: it has no constants that are weights.")
    return arrays


def recognise(
    arrays: Mapping[str, np.ndarray], *, atrous_rates: tuple[int, ...] | None = None
) -> tuple[dict[str, Any], int | None]:
    """The DeepLabV3Plus arguments and the number of classes that the arrays belong to.

    What names cannot tell, the output stride and the multi-grid, is left to its default.

    Args:
      arrays: variable name in the released code -> array.
      atrous_rates: of ASPP's 3x3 branches if there are any; None: tied to the output stride.

    Returns:
      (arguments of model.DeepLabV3Plus, num_classes). A backbone alone, as trained on ImageNet,
      gives ({"backbone": ...}, None).

    Raises:
      ValueError: the names are those of no network known here, or there are neither 0 nor 3 atrous
        branches and no rates are given.
    """
    root, logits = _root(arrays), arrays.get("logits/semantic/weights")
    if root is None:
        known = ", ".join(["MobilenetV2", *_BACKBONES])
        raise ValueError(
            "these are not the weights of a released DeepLab network: they need a backbone's"
            f" variables ({known}); got " + (", ".join(sorted(arrays)[:8]) or "no arrays") + "."
        )
    if root == "MobilenetV2":
        stem = arrays.get("MobilenetV2/Conv/weights")
        if stem is None:
            raise ValueError("these weights of MobileNetV2 lack MobilenetV2/Conv/weights.")
        backbone = _mobilenet_v2_name(stem.shape[-1])
    else:
        backbone = _BACKBONES[root]
        if root.startswith("resnet") and f"{root}/conv1/weights" in arrays:
            backbone += "_7x7"
    if logits is None:
        return {"backbone": backbone}, None
    branches = {match[1] for name in arrays if (match := re.match(r"aspp([1-9])[_/]", name))}
    if len(branches) not in (0, 3) and atrous_rates is None:
        raise ValueError(
            f"these weights have {len(branches)} atrous branches; say their rates (atrous_rates)."
        )
    arguments = {
        "backbone": backbone,
        "atrous_rates": atrous_rates if branches else (),
        "image_pooling": "image_pooling/weights" in arrays,
        "decoder": any(name.startswith("decoder/") for name in arrays),
        "separable": any(re.match(r"aspp\d_depthwise/", name) for name in arrays),
    }
    if "concat_projection/weights" in arrays:
        arguments["aspp_channels"] = arrays["concat_projection/weights"].shape[-1]
    if arguments["decoder"]:
        arguments.update(_decoder_arguments(arrays))
    return arguments, logits.shape[-1]


def _decoder_arguments(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What DeepLabV3Plus has to know of a decoder; what is missing shows when weights are fit."""
    arguments = {}
    if "decoder/feature_projection0/weights" in arrays:
        channels = arrays["decoder/feature_projection0/weights"].shape[-1]
        arguments["low_level_channels"] = channels
    convs = {}
    for name, array in arrays.items():
        match = re.fullmatch(
            r"decoder/decoder_conv(\d+)(_pointwise|/decoder_conv0_(\d))/weights", name
        )
        if match:
            plain = match[3] is not None
            arguments["decoder_separable"] = not plain
            index = int(match[3]) - 1 if plain else int(match[1])
            convs[index] = (array.shape[0] if plain else 3, array.shape[-1])
    if convs:
        known = next(iter(convs.values()))
        arguments["decoder_convs"] = tuple(convs.get(i, known) for i in range(max(convs) + 1))
    return arguments


def _root(names: Collection[str]) -> str | None:
    """The backbone's scope: the first part that is one's and has variables below it."""
    roots = {name.split("/")[0] for name in names if "/" in name}
    return next((root for root in ("MobilenetV2", *_BACKBONES) if root in roots), None)


def _mobilenet_v2_name(stem_channels: int) -> str:
    from deeplab_tf.backbones.mobilenet_v2 import SPECS

    for name, spec in SPECS.items():
        if spec.channels(spec.stem) == stem_channels and spec == dataclasses.replace(
            SPECS["mobilenet_v2"], depth_multiplier=spec.depth_multiplier
        ):
            return name
    raise ValueError(
        f"no MobileNetV2 variant here has {stem_channels} channels in its first convolution."
    )


def to_our_names(
    arrays: Mapping[str, np.ndarray], model: keras.Model
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Renames arrays for `weights.fit_weights`; unfolds batch normalization where it is folded.

    A folded normalization left a bias on its convolution. It becomes gamma = sqrt(1 + epsilon),
    beta = bias, mean 0 and variance 1, which computes the same.

    Args:
      arrays: variable name in the released code -> array.
      model: the network they are for; tells each normalization's epsilon.

    Returns:
      ('layer/weight' -> array, names of such a network that this one did not ask for).
    """
    renamed, used = {}, set()
    root = _root(arrays) or ""

    def scope_of(layer_name: str) -> str:
        return _scope(layer_name).replace("@", root)

    def take(theirs: str, ours: str) -> None:
        if theirs in arrays:
            used.add(theirs)
            renamed[ours] = arrays[theirs]

    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            take(f"{scope_of(layer.name)}/depthwise_weights", f"{layer.name}/kernel")
        elif isinstance(layer, keras.layers.Conv2D):
            take(f"{scope_of(layer.name)}/weights", f"{layer.name}/kernel")
            if layer.use_bias:
                take(f"{scope_of(layer.name)}/biases", f"{layer.name}/bias")
        elif isinstance(layer, keras.layers.BatchNormalization):
            scope = scope_of(layer.name.removesuffix("_bn"))
            folded = f"{scope}/biases"
            if folded in arrays:
                used.add(folded)
                bias = arrays[folded]
                values = (np.full_like(bias, np.sqrt(1 + layer.epsilon)), bias, bias * 0,
                          np.ones_like(bias))  # fmt: skip
                for name, value in zip(_BATCH_NORM, values, strict=True):
                    renamed[f"{layer.name}/{name}"] = value
            else:
                for name in _BATCH_NORM:
                    take(f"{scope}/BatchNorm/{name}", f"{layer.name}/{name}")
    # An ImageNet network's end and whatever else is none of these networks' is nobody's concern.
    ours = re.compile(
        rf"({root}/(?!logits/|Logits/|Conv_1/)|aspp\d|decoder/|logits/semantic|image_pooling/|concat_projection/)"
    )
    return renamed, tuple(sorted(name for name in arrays.keys() - used if ours.match(name)))


def _scope(layer_name: str) -> str:
    for pattern, scope in _SCOPES:
        match = re.fullmatch(pattern, layer_name)
        if match:
            return match.expand(scope)  # an absent group expands to nothing
    raise ValueError(f"layer {layer_name!r} has no name in the released code.")
