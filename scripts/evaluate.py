"""Scores a trained model: IoU of each class, mean IoU and other scores, with intervals.

python scripts/evaluate.py --workdir=runs/shapes
python scripts/evaluate.py --workdir=runs/mine --predict.scales=0.75,1,1.25 --predict.flip=true
python scripts/evaluate.py --workdir=runs/voc --eval.trimap_widths=1,2,5,10,20,40
python scripts/evaluate.py --workdir=runs/voc --eval.boundary_iou=true

Writes the scores as JSON and those of the classes as a table, evaluation.csv. The intervals say how
much the choice of the images matters: bootstrap over the images, 95 %.
"""

from __future__ import annotations

import os

import cli
import scoring
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe.files import check_writable, write_text

_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "file for the scores, .csv beside it for the classes; default: evaluation.json in the workdir",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
_PARTS = {name: zoo.PARTS[name] for name in ("dataset", "predict", "eval")}
cli.define_parts(_PARTS)


def main(argv: list[str]) -> None:
    """Evaluates, prints the table and writes it."""
    cli.no_arguments(argv)
    path = _OUTPUT.value
    if path is None:
        path = os.path.join(trained.workdir(), "evaluation.json")
    cli.require(workdir=trained.WORKDIR.value, output=path)
    csv_path = f"{os.path.splitext(path)[0]}.csv"
    if csv_path == path:
        raise ValueError(f"--output must name a JSON file, whose table is {path}; got {path}.")
    try:
        for each in (path, csv_path):
            check_writable(each)  # now: the scores take long
    except OSError as error:
        raise OSError(f"{error} Name another file with --output.") from error
    cli.import_tensorflow()
    recipe = trained.recipe(_PARTS)
    dataset = recipe.dataset.open(_DATA_DIR.value)
    scoring.source(recipe, dataset)  # now: building the network takes long
    model = trained.model(recipe.predict.output_stride)
    result = scoring.score(model, recipe, dataset)
    print(result.text())
    if recipe.expected_mean_iou is not None:
        split = trained.recipe({}).eval.split
        print(f"the recipe's source states a mean IoU of {recipe.expected_mean_iou:.2f} on {split}")
    write_text(path, result.to_json())
    write_text(csv_path, result.to_csv())
    print(f"written to {path} and {csv_path}")


if __name__ == "__main__":
    cli.run(
        main,
        less_memory="Set --predict.tile=1024, or lower --predict.scales, --predict.pad_size or"
        " --predict.long_side.",
    )
