"""Weights of the authors' released TensorFlow 1 code, by their variable names.

Networks are recognised from names and shapes. Read so far: MobileNetV2 with any of the released
heads, either with batch normalization or with it folded into the convolutions.
"""

from __future__ import annotations

import dataclasses
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

# Our layer name -> scope in the released code, tried in this order. Batch normalization has our
# suffix _bn and the scope BatchNorm below the convolution's.
_SCOPES: tuple[tuple[str, str], ...] = (
    (r"backbone_conv", "MobilenetV2/Conv"),
    (r"backbone_block0_(\w+)", r"MobilenetV2/expanded_conv/\1"),
    (r"backbone_block(\d+)_(\w+)", r"MobilenetV2/expanded_conv_\1/\2"),
    (r"aspp_image_pooling", "image_pooling"),
    (r"aspp_conv(\d+)(_depthwise|_pointwise)?", r"aspp\1\2"),
    (r"aspp_projection", "concat_projection"),
    (r"decoder_low_level", "decoder/feature_projection0"),
    (r"decoder_conv(\d+)(_depthwise|_pointwise)", r"decoder/decoder_conv\1\2"),
    (r"logits", "logits/semantic"),
)
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


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


def recognise(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], int]:
    """The DeepLabV3Plus arguments and the number of classes that the arrays belong to.

    What names cannot tell, the output stride, is left to its default.

    Args:
      arrays: variable name in the released code -> array.

    Returns:
      (arguments of model.DeepLabV3Plus, num_classes).

    Raises:
      ValueError: the names are those of no network known here.
    """
    stem = arrays.get("MobilenetV2/Conv/weights")
    logits = arrays.get("logits/semantic/weights")
    if stem is None or logits is None:
        raise ValueError(
            "these are not the weights of a released DeepLab network with MobileNetV2: they need"
            " MobilenetV2/Conv/weights and logits/semantic/weights; got "
            + (", ".join(sorted(arrays)[:8]) or "no arrays")
            + "."
        )
    branches = [int(match[1]) for name in arrays if (match := re.match(r"aspp([1-9])[_/]", name))]
    separable = any("_depthwise/depthwise_weights" in name for name in arrays)
    return {
        "backbone": _mobilenet_v2_name(stem.shape[-1]),
        "atrous_rates": None if branches else (),
        "image_pooling": "image_pooling/weights" in arrays,
        "decoder": any(name.startswith("decoder/") for name in arrays),
        "separable": separable,
    }, logits.shape[-1]


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
      ('layer/weight' -> array, names in `arrays` that were not asked for).
    """
    renamed, used = {}, set()

    def take(theirs: str, ours: str) -> None:
        if theirs in arrays:
            used.add(theirs)
            renamed[ours] = arrays[theirs]

    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            take(f"{_scope(layer.name)}/depthwise_weights", f"{layer.name}/kernel")
        elif isinstance(layer, keras.layers.Conv2D):
            take(f"{_scope(layer.name)}/weights", f"{layer.name}/kernel")
            if layer.use_bias:
                take(f"{_scope(layer.name)}/biases", f"{layer.name}/bias")
        elif isinstance(layer, keras.layers.BatchNormalization):
            scope = _scope(layer.name.removesuffix("_bn"))
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
    return renamed, tuple(sorted(arrays.keys() - used))


def _scope(layer_name: str) -> str:
    for pattern, scope in _SCOPES:
        match = re.fullmatch(pattern, layer_name)
        if match:
            return match.expand(scope)  # an absent group expands to nothing
    raise ValueError(f"layer {layer_name!r} has no name in the released code.")
