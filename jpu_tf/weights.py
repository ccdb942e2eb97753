"""Weights of FastFCN's released code by their names there, and the network they belong to.

The same names, without their first part, are those of the ImageNet networks that its backbones
start from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from deeplab_tf.weights import weights_by_name

# Our layer -> (its module in the released code, the module of its normalization).
_SHARED: tuple[tuple[str, str, str], ...] = (
    (r"backbone_conv1_1", "pretrained.conv1.0", "pretrained.conv1.1"),
    (r"backbone_conv1_2", "pretrained.conv1.3", "pretrained.conv1.4"),
    (r"backbone_conv1_3", "pretrained.conv1.6", "pretrained.bn1"),
    (
        r"backbone_block(\d)_unit(\d+)_conv(\d)",
        r"pretrained.layer\1.\2.conv\3",
        r"pretrained.layer\1.\2.bn\3",
    ),
    (
        r"backbone_block(\d)_unit(\d+)_shortcut",
        r"pretrained.layer\1.\2.downsample.0",
        r"pretrained.layer\1.\2.downsample.1",
    ),
    (r"jpu_conv(\d)", r"jpu.conv\1.0", r"jpu.conv\1.1"),
    (r"jpu_branch(\d)_depthwise", r"jpu.dilation\1.0.conv1", r"jpu.dilation\1.0.bn"),
    (r"jpu_branch(\d)_pointwise", r"jpu.dilation\1.0.pointwise", r"jpu.dilation\1.1"),
    (r"jpu_unit(\d)_low", r"jpu.jum_\1.conv_l.0", r"jpu.jum_\1.conv_l.1"),
    (r"jpu_unit(\d)_high", r"jpu.jum_\1.conv_h.0", r"jpu.jum_\1.conv_h.1"),
    (
        r"jpu_unit(\d)_branch(\d)_depthwise",
        r"jpu.jum_\1.dilation\2.0.conv1",
        r"jpu.jum_\1.dilation\2.0.bn",
    ),
    (
        r"jpu_unit(\d)_branch(\d)_pointwise",
        r"jpu.jum_\1.dilation\2.0.pointwise",
        r"jpu.jum_\1.dilation\2.1",
    ),
    (r"aux_conv", "auxlayer.conv5.0", "auxlayer.conv5.1"),
    (r"aux_logits", "auxlayer.conv5.4", ""),
)
_HEADS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "encoding": (
        (r"head_conv", "head.conv5.0", "head.conv5.1"),
        (r"head_lateral_conv3", "head.connect.0.0", "head.connect.0.1"),
        (r"head_lateral_conv4", "head.connect.1.0", "head.connect.1.1"),
        (r"head_lateral_fusion", "head.fusion.0", "head.fusion.1"),
        (r"head_encoding_conv", "head.encmodule.encoding.0", "head.encmodule.encoding.1"),
        (r"head_encoding", "head.encmodule.encoding.3", "head.encmodule.encoding.4"),
        (r"head_gate", "head.encmodule.fc.0", ""),
        (r"head_se_logits", "head.encmodule.selayer", ""),
        (r"head_logits", "head.conv6.1", ""),
    ),
    "aspp": (
        (r"head_aspp_conv(\d)", r"head.aspp.b\1.0", r"head.aspp.b\1.1"),
        (r"head_aspp_image_pooling", "head.aspp.b4.gap.1", "head.aspp.b4.gap.2"),
        (r"head_aspp_projection", "head.aspp.project.0", "head.aspp.project.1"),
        (r"head_conv", "head.block.0", "head.block.1"),
        (r"head_logits", "head.block.4", ""),
    ),
    "psp": (
        # code: numbered; ours: by the number of bins
        *(
            (rf"head_pool{bins}", f"head.conv5.0.conv{i}.0", f"head.conv5.0.conv{i}.1")
            for i, bins in enumerate((1, 2, 3, 6), start=1)
        ),
        (r"head_conv", "head.conv5.1", "head.conv5.2"),
        (r"head_logits", "head.conv5.5", ""),
    ),
    "fcn": (
        (r"head_conv", "head.conv5.0", "head.conv5.1"),
        (r"head_logits", "head.conv5.4", ""),
    ),
}
_WEIGHTS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "codewords": "codewords",
    "scale": "scale",
}

# Units of conv2..conv5 -> backbone.
_BACKBONES = {
    (3, 4, 6, 3): "resnet50_deep_stem",
    (3, 4, 23, 3): "resnet101_deep_stem",
    (3, 8, 36, 3): "resnet152_deep_stem",
}
# A key that only networks with this head have -> the head; the order matters.
_HEAD_SIGNS = (
    ("head.encmodule.encoding.3.codewords", "encoding"),
    ("head.aspp.b0.0.weight", "aspp"),
    ("head.conv5.0.conv1.0.weight", "psp"),
    ("head.conv5.4.weight", "fcn"),
)
_UPSAMPLER_SIGNS = (("jpu.jum_1.conv_l.0.weight", "jpu_x"), ("jpu.conv5.0.weight", "jpu"))


def released_name(weight: str, head: str) -> str | None:
    """The name that the released code has for our 'layer/weight'; None if it has no such weight.

    Args:
      weight: as from `deeplab_tf.weights.weights_by_name`.
      head: of the network, since heads share names of layers.
    """
    layer, kind = weight.split("/")
    base = re.sub(r"_(bn|gn)$", "", layer)
    for pattern, module, norm in _HEADS.get(head, ()) + _SHARED:
        match = re.fullmatch(pattern, base)
        if match:
            module = match.expand(module if base == layer else norm)
            # Ours count units from 1, theirs from 0.
            module = re.sub(
                r"(pretrained\.layer\d)\.(\d+)", lambda m: f"{m[1]}.{int(m[2]) - 1}", module
            )
            return f"{module}.{_WEIGHTS[kind]}"
    return None


def to_our_layout(array: np.ndarray, weight: str) -> np.ndarray:
    """A released array in the layout of our 'layer/weight'.

    Convolutions are [out, in, h, w] there and [h, w, in, out] here, depthwise ones [channels, 1,
    h, w] and [h, w, channels, 1], dense layers [out, in] and [in, out].
    """
    if not weight.endswith("/kernel"):
        return array
    if array.ndim == 4:
        return array.transpose((2, 3, 0, 1) if "_depthwise/" in weight else (2, 3, 1, 0))
    return array.T


def normalize_names(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state_dict as a network on one device has it, without what no network here reads.

    The prefix 'module.' of parallel training goes, counters of batches and the unused classifier
    of ImageNet too; a backbone alone gets the prefix 'pretrained.' of the whole network.
    """
    names = {name: name.removeprefix("module.") for name in state_dict}
    if "conv1.0.weight" in names.values():
        names = {name: f"pretrained.{new}" for name, new in names.items()}
    return {
        new: state_dict[name]
        for name, new in names.items()
        if not new.endswith(".num_batches_tracked") and not new.startswith("pretrained.fc.")
    }


def recognise(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int | None]:
    """The FastFCN arguments and the number of classes that a state_dict belongs to.

    Names and shapes cannot tell whether a network without JPU is dilated, runs at output stride
    32 or is upsampled bilinearly; those are left to their defaults.

    Args:
      shapes: name -> shape, names as from `normalize_names`.

    Returns:
      (arguments of model.FastFCN, num_classes). A backbone alone gives ({"backbone": ...}, None).

    Raises:
      ValueError: the names are those of no network known here.
    """
    arguments: dict[str, Any] = {"backbone": _backbone(shapes)}
    if not any(name.startswith("head.") for name in shapes):
        return arguments, None
    head = next((head for sign, head in _HEAD_SIGNS if sign in shapes), None)
    if head is None:
        known = ", ".join(f"{sign} ({head})" for sign, head in _HEAD_SIGNS)
        raise ValueError(
            f"these weights must have those of a released head, one of {known}; got"
            f" {_first(name for name in shapes if name.startswith('head.'))}."
        )
    upsampler = next((name for sign, name in _UPSAMPLER_SIGNS if sign in shapes), "none")
    arguments |= {"upsampler": upsampler, "head": head}
    if "auxlayer.conv5.0.weight" not in shapes:
        arguments["aux_weight"] = 0.0
    if head == "encoding":
        if "head.encmodule.selayer.weight" not in shapes:
            arguments["se_weight"] = 0.0
        arguments["head_lateral"] = "head.fusion.0.weight" in shapes
        if "head.conv5.0.weight" in shapes:
            arguments["head_kernel_size"] = shapes["head.conv5.0.weight"][-1]
    logits = released_name("head_logits/kernel", head)
    if logits not in shapes:
        raise ValueError(f"these weights lack {logits}, the classifier of head {head}.")
    return arguments, shapes[logits][0]


def _backbone(shapes: Mapping[str, tuple[int, ...]]) -> str:
    if "pretrained.conv1.weight" in shapes or "conv1.weight" in shapes:
        raise ValueError(
            "these weights are of a ResNet with one 7x7 convolution as its stem (conv1.weight);"
            " FastFCN's released networks have a deep stem of three (conv1.0.weight)."
        )
    units = tuple(
        len({name.split(".")[2] for name in shapes if name.startswith(f"pretrained.layer{i}.")})
        for i in range(1, 5)
    )
    if "pretrained.conv1.0.weight" not in shapes or units not in _BACKBONES:
        known = ", ".join(f"{name} {units}" for units, name in _BACKBONES.items())
        raise ValueError(
            "these are not the weights of a released FastFCN network: they need a backbone"
            f" pretrained.conv1.0.weight, ... with as many units in its stages as {known}; got"
            f" {units} in {_first(shapes)}."
        )
    return _BACKBONES[units]


def _first(names) -> str:
    return ", ".join(sorted(names)[:8]) or "no arrays"


def to_our_names(
    state_dict: Mapping[str, np.ndarray], model: keras.Model, head: str
) -> dict[str, np.ndarray]:
    """Renames and transposes arrays for `deeplab_tf.weights.fit_weights`.

    Args:
      state_dict: name -> array, names as from `normalize_names`.
      model: the network they are for, built with auxiliary=True.
      head: of the network.

    Returns:
      'layer/weight' -> array; what the model has no weight for keeps its name.
    """
    theirs = {weight: released_name(weight, head) for weight in weights_by_name(model)}
    theirs = {weight: name for weight, name in theirs.items() if name in state_dict}
    used = set(theirs.values())
    return {
        **{weight: to_our_layout(state_dict[name], weight) for weight, name in theirs.items()},
        **{name: array for name, array in state_dict.items() if name not in used},
    }
