"""Predicts photos: a PNG of class indices and a coloured overlay for each, at its own size.

python scripts/predict.py --workdir=runs/shapes --images=photos --output=predictions
python scripts/predict.py --saved_model=shapes_model --images='photos/*.jpg' --output=predictions
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import cli
import trained
from absl import flags

from deeplab_tf.recipe import options as config
from deeplab_tf.data import photos
from deeplab_tf.recipe import flags as recipe_flags

if TYPE_CHECKING:  # importing data imports TensorFlow
    import numpy as np

    from deeplab_tf.recipe.dataset_spec import DatasetSpec

_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "written by export.py; or use --workdir")
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "files, folders or patterns, separated by commas; may be given several times"
)
_OUTPUT = flags.DEFINE_string("output", None, "directory for the predictions")
recipe_flags.define_section("eval", config.EvalConfig)

# what of --eval decides a prediction
_USED = ("scales", "flip", "protocol", "pad_size", "base_size", "crop_size", "output_stride")


def main(argv: list[str]) -> None:
    """Predicts all images that can be read; at the end it fails if some could not."""
    cli.no_arguments(argv)
    if (trained.WORKDIR.value is None) == (_SAVED_MODEL.value is None):
        raise ValueError("give one of --workdir and --saved_model: it says which model predicts.")
    cli.require(images=_IMAGES.value, output=_OUTPUT.value)
    outputs = photos.output_stems(photos.find_photos(_IMAGES.value), _OUTPUT.value)
    cli.import_tensorflow()
    from deeplab_tf.pictures import visualization
    from deeplab_tf.training.run_log import Progress

    label_map_of, spec = _saved_model() if trained.WORKDIR.value is None else _trained_model()
    legend = visualization.legend(spec.class_names, spec.palette)
    visualization.save_picture(os.path.join(_OUTPUT.value, photos.LEGEND), legend)
    progress = Progress("predicting", len(outputs))
    failed = []
    for done, (path, stem) in enumerate(outputs.items(), start=1):
        try:
            image = photos.read_photo(path)
        except ValueError as error:
            progress.close()
            print(f"error: {error}")
            failed.append(path)
        else:
            label_map = label_map_of(image)
            visualization.save_label_map(f"{stem}.png", label_map, spec.palette)
            picture = visualization.overlay(image, label_map, spec.palette)
            visualization.save_picture(f"{stem}_overlay.png", picture)
        progress.update(done)
    print(f"predictions of {len(outputs) - len(failed)} images are in {_OUTPUT.value}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(outputs)} images failed: {', '.join(failed)}")


_Predict = Callable[["np.ndarray"], "np.ndarray"]  # uint8 [H, W, 3] -> int32 [H, W]


def _trained_model() -> tuple[_Predict, DatasetSpec]:
    from deeplab_tf.evaluation.whole_image import make_predictor

    options = _options(trained.recipe().eval)
    predictor = make_predictor(trained.model(options.output_stride), options)

    def label_map_of(image):
        return predictor.label_map(image, scales=options.scales, flip=options.flip).numpy()

    return label_map_of, trained.spec()


def _saved_model() -> tuple[_Predict, DatasetSpec]:
    from deeplab_tf.export.saved_model import SavedModel

    if _options(config.EvalConfig()) != config.EvalConfig():
        raise ValueError(
            "a SavedModel predicts whole images at one scale; use --workdir for --eval flags."
        )
    loaded = SavedModel(_SAVED_MODEL.value)
    return lambda image: loaded.predict(image[None])["label_map"][0].numpy(), loaded.spec


def _options(default: config.EvalConfig) -> config.EvalConfig:
    options = recipe_flags.section_from_flags("eval", default)
    for name in vars(default):
        if name not in _USED and getattr(options, name) != getattr(default, name):
            raise ValueError(
                f"--eval.{name} does not change a prediction; of --eval"
                f" {', '.join(_USED)} do. Leave it out."
            )
    return options


if __name__ == "__main__":
    cli.run(main)
