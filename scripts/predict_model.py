"""What predict.py predicts with: the network of a workdir, or an export of any format."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import trained

from deeplab_tf import zoo
from deeplab_tf.data.photos import printable
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.export.checksums import parts_of
from deeplab_tf.export.opened import is_export, open_export
from deeplab_tf.pages.record import fingerprint
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.weights import weights_by_name

PARTS = {"predict": zoo.PREDICTS}


@dataclasses.dataclass(frozen=True)
class Model:
    """Something that predicts.

    Attributes:
      spec: of the dataset whose classes it predicts.
      made_by: what decides its predictions, a JSON object: the path for readers, a checksum, and
        the options.
      run: what `predict` does, without its check.
      notice: what users must know of it; empty: nothing.
    """

    spec: DatasetSpec
    made_by: dict[str, Any]
    run: Callable[[np.ndarray, bool], dict[str, np.ndarray]]
    notice: str = ""

    def predict(self, images: np.ndarray, probabilities: bool) -> dict[str, np.ndarray]:
        """The predictions of a batch.

        Args:
          images: uint8 [N, H, W, 3].
          probabilities: whether they are wanted; exports may give them anyway.

        Returns:
          "label_map", int [N, H, W], and "probabilities", float32 [N, H, W, K].

        Raises:
          ValueError: the probabilities are not finite.
        """
        outputs = self.run(images, probabilities)
        # The label map does not show it: the argmax of NaN is a class.
        if not np.isfinite(outputs.get("probabilities", 0)).all():
            raise ValueError(
                "probabilities must be finite; the model gives NaN or infinity. Train or export it"
                " again."
            )
        return outputs


def is_workdir(path: str) -> bool:
    """Whether a path is a workdir.

    Raises:
      FileNotFoundError: there is nothing.
      ValueError: it is neither a workdir nor an export.
    """
    if os.path.isfile(os.path.join(path, "recipe.json")):
        return True
    if is_export(path):
        return False
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file or directory {path}; --model must name one.")
    raise ValueError(
        f"{path} is not a model; --model must be a workdir of train.py or of convert_weights.py,"
        " which has a recipe.json, or what export.py wrote: a SavedModel, a .keras, .tflite or"
        " .onnx file, or the directory of one."
    )


def check_no_options() -> None:
    """Checks that there are no flags of how to predict, which an export does in its own way.

    Raises:
      ValueError: there are.
    """
    default = WholeImage()
    if recipe_flags.part_from_flags("predict", default, zoo.PREDICTS) != default:
        raise ValueError(
            "an export predicts in the way it was exported with; name a workdir to use --predict"
            " flags."
        )


def of_workdir(path: str) -> Model:
    """The network of a workdir, which predicts as the recipe and the flags say.

    Raises:
      FileNotFoundError: it has no weights.
      ValueError: a flag does not fit, or a file is damaged.
    """
    recipe = trained.recipe(PARTS, path)
    model = trained.model(recipe.predict.output_stride, path)
    predictor = recipe.predict.predictor(model)

    def run(images, probabilities):
        outputs = predictor.predict(images, probabilities=probabilities)
        return {name: values.numpy() for name, values in outputs.items()}

    tree = to_tree(recipe)
    decides = (
        model.dataset_spec.to_json(),
        json.dumps(tree["model"]),
        fingerprint(weights_by_name(model)),
    )
    made_by = _made_by(path, map(str.encode, decides), tree["predict"])
    return Model(model.dataset_spec, made_by, run)


def of_export(path: str, *, allow_any_op: bool, probabilities: bool) -> Model:
    """An export.

    Args:
      path: of the export.
      allow_any_op: see `open_export`.
      probabilities: whether they are wanted.

    Raises:
      FileNotFoundError: something of it is missing.
      ValueError: it cannot be opened, or gives no probabilities.
    """
    export = open_export(path, allow_any_op=allow_any_op)
    blank = np.zeros((1, *(export.size or (64, 64)), 3), np.uint8)
    if probabilities and "probabilities" not in export.predict(blank):
        raise ValueError(
            f"{path} gives no probabilities. Leave them out of --write, or name a SavedModel or a"
            " workdir."
        )
    classes = export.spec.to_json().encode()  # of some formats in a file of their own
    made_by = _made_by(path, itertools.chain([classes], parts_of(path)), {"kind": export.kind})
    if export.size is None:
        return Model(export.spec, made_by, lambda images, probabilities: export.predict(images))
    height, width = export.size
    return Model(
        export.spec,
        made_by,
        lambda images, probabilities: export.predict_resized(images),
        f"the model takes images of {height}x{width} pixels: images are resized to this size, and"
        " predictions are resized back by nearest neighbor",
    )


def _made_by(path: str, parts: Iterable[bytes], options: dict[str, Any]) -> dict[str, Any]:
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    return {"model": printable(path), "sha256": checksum.hexdigest(), "options": options}
