"""Scores a trained model: IoU of each class, mean IoU, pixel accuracy.

python scripts/evaluate.py --workdir=runs/shapes
python scripts/evaluate.py --workdir=runs/mine --predict.scales=0.75,1,1.25 --predict.flip=true
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import cli
import trained
from absl import flags

from deeplab_tf import zoo
from deeplab_tf.recipe.files import check_writable, write_text

if TYPE_CHECKING:
    from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
    from deeplab_tf.recipe.parts import Recipe

_OUTPUT = flags.DEFINE_string(
    "output", None, "file for the scores; default: evaluation.json in the workdir"
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
    try:
        check_writable(path)  # now: the scores take long
    except OSError as error:
        raise OSError(f"{error} Name another file with --output.") from error
    cli.import_tensorflow()
    from deeplab_tf.data import pipeline
    from deeplab_tf.training.report.progress import Progress

    recipe = trained.recipe(_PARTS)
    dataset = recipe.dataset.open(_DATA_DIR.value)
    source = _source(recipe, dataset)
    model = trained.model(recipe.predict.output_stride)
    print("evaluating; the first image takes seconds longer")
    progress = Progress("evaluating", len(source))
    result = recipe.predict.evaluate(
        recipe.predict.predictor(model),
        pipeline.eval_examples(source),
        _trained_spec(model.dataset_spec, dataset.spec),
        recipe.eval,
        progress=lambda done, _: progress.update(done),
        name_of=source.name,
    )
    print(result.text())
    if recipe.expected_mean_iou is not None:
        split = trained.recipe({}).eval.split
        print(f"the recipe's source states a mean IoU of {recipe.expected_mean_iou:.2f} on {split}")
    write_text(path, result.to_json())
    print(f"written to {path}")


def _source(recipe: Recipe, dataset: OpenDataset) -> ExampleSource:
    """The examples to score.

    Raises:
      ValueError: there is no such split, or a test server has its labels.
    """
    split = recipe.eval.split
    if recipe.expected_mean_iou is not None and split == "test":
        source = dataset.sources.get(split)
        if source is None or (source.read(0)["label"].numpy() == dataset.spec.ignore_label).all():
            raise ValueError(
                f"the published mean IoU of {recipe.expected_mean_iou:.2f} is from the test server"
                f" of {dataset.spec.name}; the labels of 'test' are not public. --eval.split=val"
                " scores 'val', which this network was trained on."
            )
    return dataset.source(split)


def _trained_spec(trained_on: DatasetSpec, found: DatasetSpec) -> DatasetSpec:
    """The classes of the model, under the name of the dataset that it is scored on.

    Raises:
      ValueError: the dataset has other classes.
    """
    # Without a file of names a folder has only the classes that its labels show.
    fits = found.class_names == trained_on.class_names[: found.num_classes]
    if not fits or found.ignore_label != trained_on.ignore_label:
        raise ValueError(
            f"the model was trained on the classes {', '.join(trained_on.class_names)} with"
            f" ignore_label {trained_on.ignore_label}; {found.name} has"
            f" {', '.join(found.class_names)} with {found.ignore_label}. Name a folder's classes"
            " with --dataset.class_names_file."
        )
    return dataclasses.replace(trained_on, name=found.name)


if __name__ == "__main__":
    cli.run(
        main,
        less_memory="Set --predict.tile=1024, or lower --predict.scales, --predict.pad_size or"
        " --predict.long_side.",
    )
