"""Predicts photos: for each a PNG of class indices and a colored overlay, at its own size.

python scripts/predict.py --workdir=runs/shapes --images=photos --output=predictions
python scripts/predict.py --saved_model=shapes_model --images='photos/*.jpg' --output=predictions
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import cli
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.data import photos
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.messages import shortened

if TYPE_CHECKING:
    import numpy as np

    from deeplab_tf.recipe.dataset_spec import DatasetSpec

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "written by export.py, in place of --workdir; refused if it has operations that may do more"
    " than predict",
)
_ALLOW_ANY_OP = flags.DEFINE_bool(
    "allow_any_op",
    False,
    "run a --saved_model with any operation of TensorFlow, which can read and write files",
)
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "files, folders or patterns, separated by commas; may be given several times"
)
_OUTPUT = flags.DEFINE_string("output", None, "directory for the predictions")
_PARTS = {"predict": zoo.PREDICTS}
_LESS_MEMORY = "Use a smaller image, or --predict.tile=1024."
cli.define_parts(_PARTS)


def main(argv: list[str]) -> None:
    """Predicts every image that it can; fails at the end if it could not predict some."""
    cli.no_arguments(argv)
    if (trained.WORKDIR.value is None) == (_SAVED_MODEL.value is None):
        raise ValueError("give one of --workdir and --saved_model, the model that predicts.")
    if _ALLOW_ANY_OP.value and _SAVED_MODEL.value is None:
        raise ValueError("--allow_any_op is for --saved_model alone; leave it out.")
    cli.require(images=_IMAGES.value, output=_OUTPUT.value)
    outputs = photos.output_stems(photos.find_photos(_IMAGES.value), _OUTPUT.value)
    cli.import_tensorflow()
    from deeplab_tf.pictures import visualization
    from deeplab_tf.training.report.progress import Progress

    label_map_of, spec = _saved_model() if trained.WORKDIR.value is None else _trained_model()
    legend = visualization.legend(spec.class_names, spec.palette)
    visualization.save_picture(os.path.join(_OUTPUT.value, photos.LEGEND), legend)
    print("predicting; the first image takes seconds longer")
    progress = Progress("predicting", len(outputs))
    failed = []
    for done, (path, stem) in enumerate(outputs.items(), start=1):
        name = photos.printable(path)
        try:
            image = photos.read_photo(path)
            label_map = label_map_of(image)
            picture = visualization.overlay(image, label_map, spec.palette)
            visualization.save_picture(f"{stem}_overlay.png", picture)
            # Last, so that where it is the overlay is too.
            visualization.save_label_map(f"{stem}.png", label_map, spec.palette)
        except Exception as error:
            line = cli.error_line(error, _LESS_MEMORY)
            if line is None:  # a bug, which other images may show too
                raise
            progress.close()
            what = line if line.startswith("cannot read ") else f"{name}: {line}"
            print(f"error: {what}", file=sys.stderr)
            failed.append(name)
        progress.update(done)
    print(f"predictions of {len(outputs) - len(failed)} images are in {_OUTPUT.value}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(outputs)} images failed: {shortened(failed)}")


_LabelMapOf = Callable[["np.ndarray"], "np.ndarray"]  # uint8 [H, W, 3] -> int32 [H, W]


def _trained_model() -> tuple[_LabelMapOf, DatasetSpec]:
    predict = trained.recipe(_PARTS).predict
    model = trained.model(predict.output_stride)
    predictor = predict.predictor(model)
    return lambda image: predictor.label_map(image).numpy(), model.dataset_spec


def _saved_model() -> tuple[_LabelMapOf, DatasetSpec]:
    from deeplab_tf.export.saved_model import SavedModel

    default = WholeImage()
    if recipe_flags.part_from_flags("predict", default, zoo.PREDICTS) != default:
        raise ValueError(
            "a SavedModel predicts whole images at one scale; use --workdir for --predict flags."
        )
    loaded = SavedModel(_SAVED_MODEL.value, allow_any_op=_ALLOW_ANY_OP.value)
    return lambda image: loaded.predict(image[None])["label_map"][0].numpy(), loaded.spec


if __name__ == "__main__":
    cli.run(main, less_memory=_LESS_MEMORY)
