"""Exports a trained model for use without this project.

python scripts/export.py --workdir=runs/shapes --format=saved_model --output=shapes_model
python scripts/export.py --workdir=runs/photos --format=litert --precision=int8 --images=photos ...
"""

from __future__ import annotations

import cli
import trained
from absl import flags

from deeplab_tf.data.photos import find_photos, read_photo
from deeplab_tf.export import EXPORTERS
from deeplab_tf.export.agreement import Check
from deeplab_tf.export.directory import check_new
from deeplab_tf.export.litert import LEAST_AGREEMENT, check_options
from deeplab_tf.export.onnx_file import check_packages

_MOST_IMAGES = 200  # ours: the ranges of activations hardly change with more

_FORMAT = flags.DEFINE_enum("format", "saved_model", list(EXPORTERS), "what to write")
_OUTPUT = flags.DEFINE_string("output", None, "directory to write to; must be empty or absent")
_IMAGES = flags.DEFINE_multi_string(
    "images",
    None,
    "files, folders or patterns of images such as the model is for, of which the first"
    f" {_MOST_IMAGES} are read; the export is compared with the model on 16 of them, and int8"
    " ranges are measured on all; default: drawn shapes",
)
_LITERT = {
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
}


def main(argv: list[str]) -> None:
    """Exports, and compares the export's predictions with the model's."""
    cli.no_arguments(argv)
    cli.require(workdir=trained.WORKDIR.value, output=_OUTPUT.value)
    options = _options()
    check_new(_OUTPUT.value)
    paths = find_photos(_IMAGES.value)[:_MOST_IMAGES] if _IMAGES.value else []
    check = Check(images=[read_photo(path) for path in paths], print_fn=print)
    cli.import_tensorflow()
    predict = trained.recipe({}).predict
    model = trained.model(predict.output_stride)
    print(f"writing it as {_FORMAT.value} and comparing predictions")
    exported = predict.export_model(model)
    EXPORTERS[_FORMAT.value](exported, model.dataset_spec, _OUTPUT.value, check, **options)
    print(f"wrote {_OUTPUT.value}; its predictions were compared with the model's")


def _options() -> dict[str, object]:
    """The options of the format.

    Raises:
      ValueError: one is wrong or belongs to another format, or packages are missing.
    """
    if _FORMAT.value == "litert":
        options = {name: flag.value for name, flag in _LITERT.items()}
        check_options(**options)
        return options
    given = [f"--{name}" for name, flag in _LITERT.items() if flag.present]
    if given:
        raise ValueError(
            f"{', '.join(given)}: for --format=litert alone; leave it out for {_FORMAT.value}."
        )
    if _FORMAT.value == "onnx":
        check_packages()
    return {}


if __name__ == "__main__":
    cli.run(main)
