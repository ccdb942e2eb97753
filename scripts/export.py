"""Exports a trained model for use without this project, and checks the export against the model.

python scripts/export.py --workdir=runs/shapes --format=saved_model --output=shapes_model
python scripts/export.py --workdir=runs/photos --format=litert --precision=int8 --images=photos ...
python scripts/export.py --workdir=runs/photos --format=onnx --predict.flip=true ...

docs/export.md shows how to use each format.
"""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import checkpoint_flag
import cli
import numpy as np
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.data.photos import find_photos, read_photo
from deeplab_tf.evaluation.scores.comparison import TITLES
from deeplab_tf.export import EXPORTERS
from deeplab_tf.export.agreement import MOST_COMPARED, Check, resized, spread
from deeplab_tf.export.directory import check_new
from deeplab_tf.export.litert import LEAST_AGREEMENT, check_options
from deeplab_tf.export.model_card import Origin, checked_scores
from deeplab_tf.export.onnx_file import check_packages
from deeplab_tf.export.saved_model import SIGNATURE_NAMES
from deeplab_tf.pages.record import fingerprint
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.json_files import read_json
from deeplab_tf.weights import weights_by_name

if TYPE_CHECKING:
    import keras

    from deeplab_tf.recipe.parts import Predict, Recipe

_MOST_IMAGES = 200  # ours: the ranges of activations hardly change with more
_LONGEST = 1025  # ours: side of an image in memory, pixels; what is compared is smaller

_FORMAT = flags.DEFINE_enum("format", "saved_model", list(EXPORTERS), "what to write")
_OUTPUT = flags.DEFINE_string("output", None, "directory to write to; must be empty or absent")
_IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "files, folders or patterns of images such as the model is for; the export is compared with the"
    f" model on the first {MOST_COMPARED}, and int8 ranges are measured on the first"
    f" {_MOST_IMAGES}; default: drawn shapes",
)
# Format -> its own options.
_OPTIONS = {
    "saved_model": {
        "signature_names": flags.DEFINE_enum(
            "signature_names",
            "own",
            list(SIGNATURE_NAMES),
            "of a SavedModel's serving_default: own (image -> label_map, probabilities), or those"
            " of the models of DeepLab's authors (ImageTensor -> SemanticPredictions)",
        ),
    },
    "litert": {
        "precision": flags.DEFINE_enum(
            "precision",
            "float32",
            list(LEAST_AGREEMENT),
            "of a LiteRT file: of the weights (float16), or of weights and activations (int8)",
        ),
        "height": flags.DEFINE_integer("height", 513, "of the images of a LiteRT file, pixels"),
        "width": flags.DEFINE_integer("width", 513, "of the images of a LiteRT file, pixels"),
        "allow_inexact": flags.DEFINE_bool(
            "allow_inexact",
            False,
            "keep a LiteRT file with which fewer pixels agree than should: "
            + ", ".join(f"{name} {100 * share:g} %" for name, share in LEAST_AGREEMENT.items()),
        ),
    },
}
_PARTS = {"predict": zoo.PREDICTS}
cli.define_parts(_PARTS)


def main(argv: list[str]) -> None:
    """Exports, and compares the export's predictions with the model's."""
    cli.no_arguments(argv)
    cli.require(workdir=trained.WORKDIR.value, output=_OUTPUT.value)
    trained.workdir()  # which must be there
    options = _options()
    check_new(_OUTPUT.value)  # now: building takes long
    check = Check(images=_images(options), print_fn=print)
    cli.import_tensorflow()
    recipe = trained.recipe({})
    predict = _predict(recipe)
    model = trained.model(predict.output_stride)
    exported = predict.export_model(model)
    prediction = _prediction_text(predict, options)
    print(f"the export predicts {prediction}")
    print(f"writing it as {_FORMAT.value} and comparing predictions")
    EXPORTERS[_FORMAT.value](
        exported,
        model.dataset_spec,
        _OUTPUT.value,
        check,
        origin=_origin(recipe, model, prediction),
        **options,
    )
    print(f"wrote {_OUTPUT.value}; its predictions were compared with the model's")


def _options() -> dict[str, Any]:
    """The options of the format.

    Raises:
      ValueError: one is wrong or belongs to another format, or packages are missing.
    """
    for owner, options in _OPTIONS.items():
        given = [f"--{name}" for name, flag in options.items() if flag.present]
        if given and owner != _FORMAT.value:
            raise ValueError(
                f"{', '.join(given)}: for --format={owner} alone; leave it out for {_FORMAT.value}."
            )
    values = {name: flag.value for name, flag in _OPTIONS.get(_FORMAT.value, {}).items()}
    if _FORMAT.value == "litert":
        check_options(**values)
    if _FORMAT.value == "onnx":
        check_packages()
    return values


def _images(options: dict[str, Any]) -> list[np.ndarray]:
    """The images to compare on, none of them large: many must fit into memory."""
    is_int8 = options.get("precision") == "int8"
    if not _IMAGES.value:
        if is_int8:
            print(
                "no --images: the int8 ranges are measured on drawn shapes, and photos may need"
                " others"
            )
        return []
    images = []
    most = MOST_COMPARED + (_MOST_IMAGES if is_int8 else 0)
    for path in spread(find_photos(_IMAGES.value), most):
        image = read_photo(path)
        scale = min(1, _LONGEST / max(image.shape[:2]))
        images.append(resized(image, *(max(1, round(side * scale)) for side in image.shape[:2])))
    return images


def _predict(recipe: Recipe) -> Predict:
    """How the export predicts: images as a whole and at one scale, unless flags ask for more.

    Raises:
      ValueError: they ask for what an export does not have.
    """
    plain = recipe.predict
    for name, value in {"scales": (1.0,), "flip": False, "pad_size": None, "tile": None}.items():
        if hasattr(plain, name):
            plain = plain.replace(**{name: value})
    asked = recipe_flags.part_from_flags("predict", plain, zoo.PREDICTS)
    is_plain = asked.replace(output_stride=None) == plain.replace(output_stride=None)
    if asked.kind != "whole_image" and not is_plain:
        raise ValueError(
            f"an export cannot predict by {asked.kind} with these --predict flags: it is one"
            " network, and takes images as a whole. --predict=whole_image has --predict.scales and"
            " --predict.flip, which an export can have."
        )
    if _FORMAT.value == "keras" and not is_plain:
        raise ValueError(
            "--predict.scales and --predict.flip are not for --format=keras, which holds the"
            " network for training. Leave them out, or choose another format."
        )
    return asked


def _prediction_text(predict: Predict, options: dict[str, Any]) -> str:
    """How the export predicts, in words."""
    size = "at their own size"
    if "height" in options:
        size = f"at {options['height']}x{options['width']} pixels"
    text = f"images as a whole, {size}"
    if predict.kind != "whole_image":
        return f"{text} and one scale; {predict.kind} of the recipe is not part of it"
    if predict.scales != (1.0,):
        text += f", mean of the scales {', '.join(f'{scale:g}' for scale in predict.scales)}"
    return text + (", and of the mirrored image" if predict.flip else "")


def _origin(recipe: Recipe, model: keras.Model, prediction: str) -> Origin:
    """What the model card says of the weights.

    Raises:
      ValueError: evaluation.json or source.json of the workdir is damaged.
    """
    from deeplab_tf.training.workdir.contents import load_source

    workdir, checkpoint = trained.workdir(), checkpoint_flag.CHECKPOINT.value
    path = os.path.join(workdir, "evaluation.json")
    scores = read_json(path, dict) if os.path.isfile(path) else {}
    # Those of another checkpoint, or of weights that have been trained on, are not these weights'.
    is_theirs = scores.get("weights") == fingerprint(weights_by_name(model))
    if is_theirs:
        scores = read_json(path, checked_scores)
    tree, source = to_tree(recipe), load_source(workdir)
    weights = f"{checkpoint} of {os.path.basename(os.path.abspath(workdir))}"
    if source is not None:
        weights = f"converted from {source['file']}; how they were trained is not known here"
        tree = {name: tree[name] for name in ("version", "model", "dataset", "predict", "eval")}
    command = [
        "python",
        "scripts/evaluate.py",
        f"--workdir={workdir}",
        f"--checkpoint={checkpoint}",
    ]
    if recipe.dataset.kind != "folder":
        command.append("--data_dir=DATA_DIR")
    return Origin(
        recipe=json.dumps(tree, indent=2),
        weights=weights,
        scores=scores if is_theirs else None,
        titles=TITLES,
        how_to_score=shlex.join(command),
        prediction=prediction,
    )


if __name__ == "__main__":
    cli.run(main)
