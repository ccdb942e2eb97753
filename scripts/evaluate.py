"""Scores a trained model: IoU of each class, mean IoU and other scores, with intervals.

python scripts/evaluate.py --workdir=runs/shapes
python scripts/evaluate.py --workdir=runs/mine --predict.scales=0.75,1,1.25 --predict.flip=true
python scripts/evaluate.py --workdir=runs/voc --eval.trimap_widths=1,2,5,10,20,40
python scripts/evaluate.py --workdir=runs/voc --eval.boundary_iou=true

Writes the scores as JSON, those of the classes as a table, evaluation.csv, and a report for a
browser, evaluation.html: one file with the scores, the confusion matrix, the best, median and worst
images, and what was run on which data. The intervals say how much the choice of the images matters:
bootstrap over the images, 95 %.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import cli
import scoring
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.pages.record import fingerprint
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.files import check_writable, write_text
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.weights import weights_by_name

_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "file for the scores, .csv for the classes and .html for the report beside it; default:"
    " evaluation.json in the workdir",
)
_REPORT_IMAGES = flags.DEFINE_integer(
    "report_images",
    3,
    "how many of the best, of the median and of the worst images the report shows; 0: none",
    lower_bound=0,
    upper_bound=100,
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
    csv_path, html_path = (f"{os.path.splitext(path)[0]}{end}" for end in (".csv", ".html"))
    if path in (csv_path, html_path):
        raise ValueError(
            f"--output must name a JSON file; {csv_path} and {html_path} go beside it. Got {path}."
        )
    try:
        for each in (path, csv_path, html_path):
            _check_is_not_of_a_run(each)
            check_writable(each)  # now: the scores take long
    except OSError as error:
        raise OSError(f"{error} Name another file with --output.") from error
    cli.import_tensorflow()
    recipe = trained.recipe(_PARTS)
    dataset = recipe.dataset.open(_DATA_DIR.value)
    scoring.source(recipe, dataset)  # now: building the network takes long
    model = trained.model(recipe.predict.output_stride)
    scored = scoring.score(model, recipe, dataset)
    result = scored.result
    print(result.text())
    if recipe.expected_mean_iou is not None:
        split = trained.recipe({}).eval.split
        print(f"the recipe's source states a mean IoU of {recipe.expected_mean_iou:.2f} on {split}")
    # The model card of an export has these scores if it is of these weights.
    tree = {**json.loads(result.to_json()), "weights": fingerprint(weights_by_name(model))}
    write_text(path, json.dumps(tree, indent=2) + "\n")
    write_text(csv_path, result.to_csv())
    print(f"written to {path} and {csv_path}")
    report = _report(scored, recipe, scoring.record(scored, [(trained.workdir(), recipe, model)]))
    write_text(html_path, report)
    print(f"written to {html_path}")


def _check_is_not_of_a_run(path: str) -> None:
    """Checks that a file of scores does not replace what a training needs.

    Raises:
      OSError: it does.
    """
    directory, name = os.path.split(path)
    is_workdir = os.path.exists(os.path.join(directory, "recipe.json"))
    if is_workdir and name in ("recipe.json", "dataset.json", "metrics.csv"):
        raise OSError(f"{path} is a file of the training run.")


def _report(scored: scoring.Scored, recipe: Recipe, record: Mapping[str, str]) -> str:
    """The page; its images are predicted again, one after the other."""
    from deeplab_tf.pages.evaluation import evaluation_page
    from deeplab_tf.pages.examples import choose

    chosen = {}
    if "mean_iou" in scored.result.scores:
        chosen = choose(scored.result.image_scores, _REPORT_IMAGES.value)
    examples = {
        title: ((index, scoring.example([scored], index)) for index in indices)
        for title, indices in chosen.items()
    }
    return evaluation_page(scored.result, examples, record, to_tree(recipe))


if __name__ == "__main__":
    cli.run(
        main,
        less_memory="Set --predict.tile=1024, or lower --predict.scales, --predict.pad_size or"
        " --predict.long_side.",
    )
