"""The names that DeepLab's TensorFlow 1 code gives to its weights.

Names and shapes tell the network: any of the released backbones with any of the released heads,
with batch normalization or with it folded into the convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.messages import shortened
from deeplab_tf.weights.fit import weights_by_name
from deeplab_tf.weights.naming import Naming, Recognized

# Our layer name -> scope in the released code; @ stands for the backbone's own scope. The scope of
# a batch normalization is BatchNorm in that of its convolution.
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
# Scope of a backbone in the released code -> our name.
_BACKBONES = {
    "xception_41": "xception41",
    "xception_65": "xception65",
    "xception_71": "xception71",
    "resnet_v1_50": "resnet50",
    "resnet_v1_101": "resnet101",
}
# MobileNetV2 has one scope for all widths: filters of its first convolution -> our name (code:
# the multiplier times 32, rounded, as in `backbones.mobilenet_v2`; a test compares the two).
_MOBILENET_V2 = "MobilenetV2"
_MOBILENETS_V2 = {
    8: "mobilenet_v2_dm025",
    11: "mobilenet_v2_dm035",
    16: "mobilenet_v2_dm05",
    24: "mobilenet_v2_dm075",
    32: "mobilenet_v2",
    42: "mobilenet_v2_dm13",
    45: "mobilenet_v2_dm14",
}


def recognize(arrays: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> Recognized | None:
    """The network that variables belong to; see `naming.Naming`.

    Names and shapes leave open the output stride, the multi-grid and the atrous rates.

    Args:
      arrays: variable name -> array.
      options: `atrous_rates` must suit the number of branches. Any number but 0 and 3 needs it.

    Raises:
      ValueError: the network is not one of this package, or the atrous rates do not suit it.
    """
    root = _root(arrays)
    if root is None:
        return None
    known: dict[str, Any] = {"backbone": _backbone(root, arrays)}
    if "logits/semantic/weights" not in arrays:
        return Recognized(kind="deeplabv3plus", known=known, num_classes=None)
    branches = {match[1] for name in arrays if (match := re.match(r"aspp([1-9])[_/]", name))}
    rates = options.get("atrous_rates")
    if not branches:
        known["atrous_rates"] = ()
    elif len(branches) != (3 if rates is None else len(rates)):
        raise ValueError(
            f"atrous_rates must be {len(branches)} rates, one for each atrous branch in the file;"
            f" got {rates}."
        )
    known["image_pooling"] = "image_pooling/weights" in arrays
    known["decoder"] = any(name.startswith("decoder/") for name in arrays)
    known["separable"] = any(re.match(r"aspp\d_depthwise/", name) for name in arrays)
    if "concat_projection/weights" in arrays:
        known["aspp_channels"] = _filters(arrays, "concat_projection/weights")
    if known["decoder"]:
        known.update(_decoder_options(arrays))
    num_classes = _filters(arrays, "logits/semantic/weights")
    return Recognized(kind="deeplabv3plus", known=known, num_classes=num_classes)


def _root(names: Iterable[str]) -> str | None:
    """The backbone's scope: the first part that is one's and has variables in it."""
    roots = {name.split("/")[0] for name in names if "/" in name}
    return next((root for root in (_MOBILENET_V2, *_BACKBONES) if root in roots), None)


def _backbone(root: str, arrays: Mapping[str, np.ndarray]) -> str:
    if root != _MOBILENET_V2:
        stem_is_7x7 = root.startswith("resnet") and f"{root}/conv1/weights" in arrays
        return _BACKBONES[root] + "_7x7" * stem_is_7x7
    filters = _filters(arrays, f"{_MOBILENET_V2}/Conv/weights")
    if filters not in _MOBILENETS_V2:
        raise ValueError(
            "the first convolution of a MobileNetV2 must have one of"
            f" {', '.join(map(str, _MOBILENETS_V2))} filters; {_MOBILENET_V2}/Conv/weights has"
            f" {filters}."
        )
    return _MOBILENETS_V2[filters]


def _filters(arrays: Mapping[str, np.ndarray], name: str) -> int:
    if name not in arrays:
        raise ValueError(f"the weights must have {name}; got {shortened(sorted(arrays), most=8)}.")
    if arrays[name].ndim != 4:
        raise ValueError(
            f"{name} must be the kernel of a convolution [h, w, in, out]; got the shape"
            f" {arrays[name].shape}."
        )
    return arrays[name].shape[-1]


def _decoder_options(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Options of a decoder. If a weight is missing, fitting the weights reports it."""
    options: dict[str, Any] = {}
    if "decoder/feature_projection0/weights" in arrays:
        options["low_level_channels"] = _filters(arrays, "decoder/feature_projection0/weights")
    convs = {}
    for name in arrays:
        match = re.fullmatch(
            r"decoder/decoder_conv(\d+)(_pointwise|/decoder_conv0_(\d))/weights", name
        )
        if match:
            plain = match[3] is not None
            options["decoder_separable"] = not plain
            index = int(match[3]) - 1 if plain else int(match[1])
            filters = _filters(arrays, name)
            convs[index] = (arrays[name].shape[0] if plain else 3, filters)
    if convs and max(convs) >= len(arrays):
        raise ValueError(
            f"the decoder's convolutions must be numbered from 0 without a gap; there is one with"
            f" the number {max(convs)}."
        )
    if convs:
        known = next(iter(convs.values()))
        options["decoder_convs"] = tuple(convs.get(i, known) for i in range(max(convs) + 1))
    return options


def released_name(weight: str, root: str) -> str:
    """The name that the released code has for our 'layer/weight'.

    Args:
      weight: as from `weights_by_name`.
      root: the backbone's scope, e.g. "xception_65".

    Raises:
      ValueError: the released code has no such layer.
    """
    from deeplab_tf.layers.names import BATCH_NORM_SUFFIX

    layer, kind = weight.split("/")
    base = layer.removesuffix(BATCH_NORM_SUFFIX)
    scope = _scope(base).replace("@", root)
    if base != layer:
        return f"{scope}/BatchNorm/{kind}"
    kernel = "depthwise_weights" if base.endswith("_depthwise") else "weights"
    return f"{scope}/{'biases' if kind == 'bias' else kernel}"


def _scope(layer_name: str) -> str:
    for pattern, scope in _SCOPES:
        match = re.fullmatch(pattern, layer_name)
        if match:
            return match.expand(scope)  # an absent group expands to nothing
    raise ValueError(f"layer {layer_name!r} has no name in DeepLab's TensorFlow 1 code.")


def to_our_names(arrays: Mapping[str, np.ndarray], model: keras.Model) -> dict[str, np.ndarray]:
    """Renames arrays for `fit_weights`; unfolds batch normalization where it is folded.

    A folded normalization left a bias on its convolution. It becomes gamma = sqrt(1 + epsilon),
    beta = bias, mean 0 and variance 1, which computes the same.

    Args:
      arrays: variable name -> array.
      model: the network that they are for, whose normalizations have the epsilon.

    Returns:
      'layer/weight' -> array. Variables of such a network that this one does not have keep their
      names. Others, as the classifier of ImageNet, are left out.
    """
    from deeplab_tf.layers.names import BATCH_NORM_SUFFIX

    root = _root(arrays) or ""
    renamed, used = {}, set()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            folded = released_name(f"{layer.name.removesuffix(BATCH_NORM_SUFFIX)}/bias", root)
            if folded in arrays:
                used.add(folded)
                bias = arrays[folded]
                values = {
                    "gamma": np.full_like(bias, np.sqrt(1 + layer.epsilon)),
                    "beta": bias,
                    "moving_mean": np.zeros_like(bias),
                    "moving_variance": np.ones_like(bias),
                }
                renamed |= {f"{layer.name}/{name}": value for name, value in values.items()}
    for weight in weights_by_name(model).keys() - renamed.keys():
        theirs = released_name(weight, root)
        if theirs in arrays:
            used.add(theirs)
            renamed[weight] = arrays[theirs]
    segmentation = re.compile(
        rf"{root}/(?!logits/|Logits/|Conv_1/)"
        r"|aspp\d|decoder/|logits/semantic|image_pooling/|concat_projection/"
    )
    left_over = {n: a for n, a in arrays.items() if n not in used and segmentation.match(n)}
    return {**renamed, **left_over}


NAMING = Naming(
    title="DeepLab's TensorFlow 1 code",
    examples=", ".join(f"{scope}/..." for scope in (_MOBILENET_V2, *_BACKBONES)),
    recognize=recognize,
    to_our_names=to_our_names,
)
