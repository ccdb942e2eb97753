"""Reads the recipe.json of version 2, whose ResNets gave the decoder an activated conv3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplab_tf.recipe.json_files import require


def as_version_3(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a recipe of version 2 as one of version 3, which has the same form.

    Raises:
      ValueError: the network is not described as in version 2, or its decoder reads a ResNet's
        conv3: the weights do not suit the network that is built today.
    """
    model = tree.get("model")
    require(isinstance(model, dict), "model", "an object", model)
    backbone, levels = str(model.get("backbone")), model.get("decoder_features")
    is_resnet = backbone.startswith("resnet") and "deep_stem" not in backbone
    if is_resnet and model.get("decoder", True) and "conv3" in (levels or ()):
        raise ValueError(
            f"model.decoder_features must not have conv3 in a recipe of version 2 with {backbone}:"
            " its weights were trained on conv3 after its activation, and networks read it before"
            " the activation since version 0.6, as the released code does. Use version 0.5 of this"
            " package, or train the network again."
        )
    return {**tree, "version": 3}
