"""Scores a trained model: IoU of each class, mean IoU and other scores, with intervals.

python scripts/evaluate.py --workdir=runs/shapes
python scripts/evaluate.py --workdir=runs/mine --predict.scales=0.75,1,1.25 --predict.flip=true
python scripts/evaluate.py --workdir=runs/voc --eval.trimap_widths=1,2,5,10,20,40
python scripts/evaluate.py --workdir=runs/voc --eval.boundary_iou=true
python scripts/evaluate.py --workdir=runs/mine --export=mine_int8 --output=mine_int8.json

Writes the scores as JSON, those of the classes as a table, evaluation.csv, and a report for a
browser, evaluation.html: one file with the scores, the confusion matrix, the best, median and worst
images, and what was run on which data. The intervals say how much the choice of the images matters:
bootstrap over the images, 95 %.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import checkpoint_flag
import cli
import scoring
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.export.checksums import parts_of
from deeplab_tf.export.opened import open_export
from deeplab_tf.pages.record import fingerprint
from deeplab_tf.recipe.as_json import to_tree
from deeplab_tf.recipe.files import check_writable, write_text
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.weights import weights_by_name

if TYPE_CHECKING:
    from deeplab_tf.recipe.dataset_spec import OpenDataset

    # What was scored; for the JSON, which model it is; for the page, the same in words.
    Found = tuple[scoring.Scored, dict[str, Any], dict[str, str]]

_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "file for the scores, .csv for the classes and .html for the report beside it; default:"
    " evaluation.json in the workdir",
)
_EXPORT = flags.DEFINE_string(
    "export",
    None,
    "what export.py wrote of the workdir's network: it is scored instead of the network, on the"
    " same data, as it predicts; needs --output",
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
_OF_A_RUN = (
    "class_weights.json",
    "dataset.json",
    "lock",
    "metrics.csv",
    "recipe.json",
    "source.json",
    "training_curve.png",
)


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
    if _EXPORT.value is not None:
        _check_export()
    cli.import_tensorflow()
    recipe = trained.recipe(_PARTS)
    dataset = recipe.dataset.open(_DATA_DIR.value)
    score = _score_network if _EXPORT.value is None else _score_export
    scored, what, rows = score(recipe, dataset)
    result = scored.result
    print(result.text())
    if recipe.expected_mean_iou is not None:
        split = trained.recipe({}).eval.split
        print(f"the recipe's source states a mean IoU of {recipe.expected_mean_iou:.2f} on {split}")
    tree = {**json.loads(result.to_json()), **what, "data": scored.data_fingerprint}
    write_text(path, json.dumps(tree, indent=2) + "\n")
    write_text(csv_path, result.to_csv())
    print(f"written to {path} and {csv_path}")
    write_text(html_path, _report(scored, recipe, scoring.record(scored, [rows])))
    print(f"written to {html_path}")


def _score_network(recipe: Recipe, dataset: OpenDataset) -> Found:
    """Scores the network of the workdir."""
    scoring.source(recipe, dataset)  # now: building the network takes long
    model = trained.model(recipe.predict.output_stride)
    predictor = recipe.predict.predictor(model)
    scored = scoring.score(predictor, model.dataset_spec, recipe, dataset)
    # The model card of an export has these scores if it is of these weights.
    weights = {"weights": fingerprint(weights_by_name(model))}
    return scored, weights, scoring.network_rows(trained.workdir(), recipe, model)


def _score_export(recipe: Recipe, dataset: OpenDataset) -> Found:
    """Scores an export of the workdir's network.

    Raises:
      ValueError: the recipe is not one of label maps, or the export cannot be opened.
    """
    if "mean_iou" not in recipe.predict.metrics:
        raise ValueError(
            f"--export must be of a network that gives a class to each pixel; {recipe.predict.kind}"
            " gives one to each image."
        )
    export = open_export(_EXPORT.value)
    scored = scoring.score(export, export.spec, recipe, dataset)
    result = dataclasses.replace(scored.result, predict=None)  # not as the recipe says
    size = "images at their own size"
    if export.size is not None:
        size = f"images resized to {export.size[0]}x{export.size[1]} pixels, label maps back"
    checksum = hashlib.sha256()
    for part in parts_of(_EXPORT.value):
        checksum.update(part)
    what = {"kind": export.kind, "size": export.size, "sha256": checksum.hexdigest()}
    rows = {
        "workdir": os.path.abspath(trained.workdir()),
        "export": f"{os.path.abspath(_EXPORT.value)}, {export.kind}, SHA-256 {what['sha256']}",
        "prediction": f"as exported; {size}",
    }
    return dataclasses.replace(scored, result=result), {"export": what}, rows


def _check_export() -> None:
    """Checks the flags beside --export.

    Raises:
      ValueError: one does not fit.
    """
    cli.require(output=_OUTPUT.value)  # evaluation.json is for the network's own scores
    if checkpoint_flag.CHECKPOINT.present:
        raise ValueError("--checkpoint is for the network; an export has its own weights.")
    given = [name for name in flags.FLAGS if flags.FLAGS[name].present]
    of_predict = [name for name in given if f"{name}.".startswith("predict.")]
    if of_predict:
        raise ValueError(
            f"--{of_predict[0]}: an export predicts as it was exported. Leave it out, or export the"
            " network with it."
        )


def _check_is_not_of_a_run(path: str) -> None:
    """Checks that a file of scores does not replace what a training needs.

    Raises:
      OSError: it does.
    """
    directory, name = os.path.split(path)
    is_workdir = os.path.exists(os.path.join(directory, "recipe.json"))
    if is_workdir and (name in _OF_A_RUN or name.startswith("recipe-until-")):
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
