"""Exports a trained model for use without this project.

python scripts/export.py --workdir=runs/shapes --format=saved_model --output=shapes_model
"""

from __future__ import annotations

import cli
import trained
from absl import flags

# Named here because the exporters themselves import TensorFlow; the test compares the lists.
FORMATS = ("saved_model",)

_FORMAT = flags.DEFINE_enum("format", "saved_model", FORMATS, "what to write")
_OUTPUT = flags.DEFINE_string("output", None, "directory to write to; must not be there yet")


def main(argv: list[str]) -> None:
    """Exports, and checks what was written against the model."""
    cli.no_arguments(argv)
    cli.require(workdir=trained.WORKDIR.value, output=_OUTPUT.value)
    cli.import_tensorflow()
    from deeplab_tf.export import EXPORTERS
    from deeplab_tf.evaluation.whole_image import at_trained_sizes

    how = trained.recipe().eval
    model = trained.model(how.output_stride)
    if how.protocol == "sliding_window":  # an export has no windows
        model = at_trained_sizes(model, how.crop_size)
    EXPORTERS[_FORMAT.value](model, trained.spec(), _OUTPUT.value)
    print(f"wrote {_OUTPUT.value}; its predictions were compared with the model's")


if __name__ == "__main__":
    cli.run(main)
