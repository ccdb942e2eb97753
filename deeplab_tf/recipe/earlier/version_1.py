"""Reads the recipe.json of version 1, whose networks had `fine_tune_batch_norm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplab_tf.recipe.json_files import require

_BATCH_NORM = {True: "synchronized", False: "frozen"}


def as_version_2(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a recipe of version 1 as one of version 2.

    Raises:
      ValueError: the network is not described as in version 1; the message names the key.
    """
    model = tree.get("model")
    require(isinstance(model, dict), "model", "an object", model)
    if "fine_tune_batch_norm" in model:
        was = model["fine_tune_batch_norm"]
        require(isinstance(was, bool), "model.fine_tune_batch_norm", "true or false", was)
        model = {**model, "batch_norm": _BATCH_NORM[was]}
        del model["fine_tune_batch_norm"]
    return {**tree, "version": 2, "model": model}
