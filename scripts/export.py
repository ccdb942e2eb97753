"""Exports a trained model for use without this project.

python scripts/export.py --workdir=runs/shapes --format=saved_model --output=shapes_model
"""

from __future__ import annotations

import cli
import trained
from absl import flags

from deeplab_tf.export import EXPORTERS

_FORMAT = flags.DEFINE_enum("format", "saved_model", list(EXPORTERS), "what to write")
_OUTPUT = flags.DEFINE_string("output", None, "directory to write to; must be empty or absent")


def main(argv: list[str]) -> None:
    """Exports, and compares the export's predictions with the model's."""
    cli.no_arguments(argv)
    cli.require(workdir=trained.WORKDIR.value, output=_OUTPUT.value)
    cli.import_tensorflow()
    predict = trained.recipe({}).predict
    model = trained.model(predict.output_stride)
    print(f"writing it as {_FORMAT.value} and comparing predictions")
    EXPORTERS[_FORMAT.value](predict.export_model(model), model.dataset_spec, _OUTPUT.value)
    print(f"wrote {_OUTPUT.value}; its predictions were compared with the model's")


if __name__ == "__main__":
    cli.run(main)
