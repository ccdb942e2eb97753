"""What was run on which data, so that a page can be trusted when its command is forgotten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_tf.pages.html import section, text
from deeplab_tf.recipe.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    import keras


def record_section(
    rows: Mapping[str, object], recipes: Mapping[str, Any], spec: DatasetSpec
) -> str:
    """A table of what was run, and the recipes and classes, which open on a click.

    Args:
      rows: what -> its value, text, in order.
      recipes: name of a model -> its recipe as a JSON tree.
      spec: of the dataset that was scored.

    Returns:
      HTML.
    """
    listed = "".join(f"<dt>{text(key)}</dt><dd>{text(value)}</dd>" for key, value in rows.items())
    trees = {f"Recipe of {name}": recipe for name, recipe in recipes.items()}
    trees["Classes"] = json.loads(spec.to_json())
    details = [
        f"<details><summary>{text(title)}</summary><pre>{text(json.dumps(tree, indent=2))}</pre>"
        "</details>"
        for title, tree in trees.items()
    ]
    return section("What was run", f"<dl>{listed}</dl>", *details)


def fingerprint(weights: Mapping[str, keras.Variable]) -> str:
    """16 hexadecimal digits of SHA-256 over names, types and values of a model's weights.

    Two files with the same weights have the same one, whatever their format.

    Args:
      weights: name -> weight, of `weights_by_name`.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name].numpy())
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def data_fingerprint(names: Sequence[str], label_pixels: np.ndarray) -> str:
    """16 hexadecimal digits of SHA-256 over what was scored, the same for every network.

    Args:
      names: of the N images, in the order of the scores.
      label_pixels: int [N, K], pixels of each class in the label of each image.
    """
    digest = hashlib.sha256()
    for name, pixels in zip(names, label_pixels, strict=True):
        digest.update(f"{name} {pixels.tolist()}\n".encode())
    return digest.hexdigest()[:16]
