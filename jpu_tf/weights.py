"""The names that FastFCN's PyTorch code gives to its weights.

Without their first part they are the names of the ImageNet networks that its backbones start from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from deeplab_tf.recipe.messages import shortened
from deeplab_tf.weights import weights_by_name
from deeplab_tf.weights.naming import Naming, Recognized
from jpu_tf.heads import ASPP, FCN, PSP, Encoding
from jpu_tf.upsamplers import JPU, JPUX, UPSAMPLERS, NoUpsampling

if TYPE_CHECKING:
    import keras
    import numpy as np

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
# A name that only networks with this head have -> the head. The order matters.
_HEAD_SIGNS = {
    "head.encmodule.encoding.3.codewords": Encoding,
    "head.aspp.b0.0.weight": ASPP,
    "head.conv5.0.conv1.0.weight": PSP,
    "head.conv5.4.weight": FCN,
}
_UPSAMPLER_SIGNS = {"jpu.jum_1.conv_l.0.weight": JPUX, "jpu.conv5.0.weight": JPU}
# Modules of the outputs that only training needs -> how our names of their layers begin.
_TRAINING_ONLY = {"auxlayer.": "aux_", "head.encmodule.selayer.": "head_se_logits"}


def released_name(weight: str, head: str | None) -> str | None:
    """The name that the released code has for our 'layer/weight'; None if it has no such weight.

    Args:
      weight: as from `deeplab_tf.weights.weights_by_name`.
      head: kind of the network's head, since heads share names of layers; None: a backbone alone.
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


def recognize(
    state_dict: Mapping[str, np.ndarray], options: Mapping[str, Any]
) -> Recognized | None:
    """The network that a state dict belongs to; see `deeplab_tf.weights.Naming`.

    Names and shapes leave open whether a network without JPU is dilated, runs at output stride 32
    or is upsampled bilinearly. Without options it is dilated.

    Args:
      state_dict: name -> array.
      options: `upsampler` must have no weights if there are none.

    Raises:
      ValueError: the network is not one of this package, or the upsampler does not suit it.
    """
    arrays = _on_one_device(state_dict)
    if "pretrained.conv1.weight" in arrays:
        raise ValueError(
            "these weights are of a ResNet with one 7x7 convolution as its stem (conv1.weight);"
            " FastFCN's released networks have a deep stem of three (conv1.0.weight)."
        )
    if "pretrained.conv1.0.weight" not in arrays:
        return None
    known: dict[str, Any] = {"backbone": _backbone(arrays)}
    if not any(name.startswith("head.") for name in arrays):
        return Recognized(kind="fastfcn", known=known, num_classes=None)
    head = _first_sign(_HEAD_SIGNS, arrays)
    if head is None:
        signs = ", ".join(f"{sign} ({head.kind})" for sign, head in _HEAD_SIGNS.items())
        found = {name: arrays[name] for name in arrays if name.startswith("head.")}
        raise ValueError(
            f"these weights must have those of a released head, one of {signs}; got"
            f" {shortened(sorted(found), most=8)}."
        )
    known["head"] = _encoding(arrays) if head is Encoding else head()
    upsampler = _first_sign(_UPSAMPLER_SIGNS, arrays)
    assumed = {}
    if upsampler is None:
        assumed["upsampler"] = NoUpsampling()
        _check_weightless(options.get("upsampler"))
    else:
        known["upsampler"] = upsampler()
    if "auxlayer.conv5.0.weight" not in arrays:
        known["aux_weight"] = 0.0
    logits = released_name("head_logits/kernel", head.kind)
    if logits not in arrays or arrays[logits].ndim != 4:
        raise ValueError(f"these weights must have {logits}, the classifier of head {head.kind}.")
    num_classes = arrays[logits].shape[0]
    return Recognized(kind="fastfcn", known=known, assumed=assumed, num_classes=num_classes)


def _on_one_device(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state dict as a network on one device has it, without what no network here reads.

    Left out are the prefix 'module.' of parallel training, counters of batches and the unused
    classifier of ImageNet. A backbone alone gets the prefix 'pretrained.' of the whole network.
    """
    names = {name: name.removeprefix("module.") for name in state_dict}
    if "conv1.0.weight" in names.values():
        names = {name: f"pretrained.{new}" for name, new in names.items()}
    return {
        new: state_dict[name]
        for name, new in names.items()
        if not new.endswith(".num_batches_tracked") and not new.startswith("pretrained.fc.")
    }


def _backbone(arrays: Mapping[str, np.ndarray]) -> str:
    units = tuple(
        len({name.split(".")[2] for name in arrays if name.startswith(f"pretrained.layer{i}.")})
        for i in range(1, 5)
    )
    if units not in _BACKBONES:
        known = ", ".join(f"{name} {units}" for units, name in _BACKBONES.items())
        raise ValueError(
            f"the backbone must have as many units in its stages as one of {known}; got {units}."
        )
    return _BACKBONES[units]


def _first_sign(signs: Mapping[str, type], names: Iterable[str]) -> type | None:
    return next((part for sign, part in signs.items() if sign in names), None)


def _encoding(arrays: Mapping[str, np.ndarray]) -> Encoding:
    options: dict[str, Any] = {"lateral": "head.fusion.0.weight" in arrays}
    if "head.encmodule.selayer.weight" not in arrays:
        options["se_weight"] = 0.0
    kernel = arrays.get("head.conv5.0.weight")
    if kernel is not None:
        if kernel.ndim != 4:
            raise ValueError(
                "head.conv5.0.weight must be the kernel of a convolution [out, in, h, w]; got the"
                f" shape {kernel.shape}."
            )
        options["kernel_size"] = kernel.shape[-1]
    return Encoding(**options)


def _check_weightless(upsampler: Any) -> None:
    """Checks the upsampler that the user chose for a network without weights of one."""
    weightless = [kind for kind, part in UPSAMPLERS.items() if not part.prefixes]
    kind = getattr(upsampler, "kind", upsampler)
    if kind is not None and kind not in weightless:
        raise ValueError(
            f"upsampler must be {' or '.join(weightless)} for weights without JPU; got {kind}."
        )


def to_our_names(state_dict: Mapping[str, np.ndarray], model: keras.Model) -> dict[str, np.ndarray]:
    """Renames and transposes arrays for `deeplab_tf.weights.fit_weights`.

    Args:
      state_dict: name -> array.
      model: the network that they are for. If it has no auxiliary outputs, their weights are left
        out.

    Returns:
      'layer/weight' -> array. What the model has no weight for keeps its name.
    """
    arrays = _on_one_device(state_dict)
    head = _first_sign(_HEAD_SIGNS, arrays)
    ours = weights_by_name(model)
    theirs = {weight: released_name(weight, head and head.kind) for weight in ours}
    theirs = {weight: name for weight, name in theirs.items() if name in arrays}
    absent = tuple(
        module
        for module, prefix in _TRAINING_ONLY.items()
        if not any(weight.startswith(prefix) for weight in ours)
    )
    used = set(theirs.values())
    return {
        **{weight: to_our_layout(arrays[name], weight) for weight, name in theirs.items()},
        **{n: a for n, a in arrays.items() if n not in used and not n.startswith(absent)},
    }


NAMING = Naming(
    title="FastFCN's PyTorch code",
    examples="pretrained.conv1.0.weight, ..., or conv1.0.weight, ... for a backbone alone",
    recognize=recognize,
    to_our_names=to_our_names,
)
