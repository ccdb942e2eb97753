"""Scores a trained model: IoU of each class, mean IoU, pixel accuracy.

python scripts/evaluate.py --workdir=runs/shapes
python scripts/evaluate.py --workdir=runs/mine --eval.scales=0.75,1,1.25 --eval.flip=true
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import cli
import trained
from absl import flags

from deeplab_tf.recipe import options as config
from deeplab_tf.recipe import flags as recipe_flags

if TYPE_CHECKING:  # importing data imports TensorFlow
    from deeplab_tf.recipe.dataset_spec import DatasetSpec

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
recipe_flags.define_section("eval", config.EvalConfig)
recipe_flags.define_section("data", config.DataConfig)

_OF_THE_DATASET = (
    "dataset",
    "images_dir",
    "labels_dir",
    "val_images_dir",
    "val_labels_dir",
    "val_list",
    "val_fraction",
    "class_names_file",
    "ignore_label",
    "num_examples",
)


def main(argv: list[str]) -> None:
    """Evaluates, prints the table and writes it to evaluation.json in the workdir."""
    cli.no_arguments(argv)
    workdir = trained.workdir()
    cli.import_tensorflow()
    from deeplab_tf.data import open_dataset, pipeline
    from deeplab_tf.evaluation.evaluate import evaluate
    from deeplab_tf.recipe.files import write_text
    from deeplab_tf.training.run_log import Progress

    recipe = _recipe()
    dataset = open_dataset(recipe.data, _DATA_DIR.value)
    spec = _trained_spec(dataset.spec)
    source = dataset.source(recipe.eval.split)
    progress = Progress("evaluating", len(source))
    result = evaluate(
        trained.model(recipe.eval.output_stride),
        pipeline.eval_examples(source),
        spec,
        recipe.eval,
        lambda done, _: progress.update(done),
        name_of=source.name,
    )
    print(result.text())
    if recipe.expected_mean_iou is not None:
        print(f"the recipe's source states a mean IoU of {recipe.expected_mean_iou:.2f}")
    path = os.path.join(workdir, "evaluation.json")
    write_text(path, result.to_json())
    print(f"written to {path}")


def _recipe() -> config.Recipe:
    """The run's recipe with the given --eval and --data flags.

    Raises:
      ValueError: a flag was given that changes training alone.
    """
    old = trained.recipe()
    data = recipe_flags.section_from_flags("data", old.data)
    for name in [field.name for field in dataclasses.fields(data)]:
        if name not in _OF_THE_DATASET and getattr(data, name) != getattr(old.data, name):
            raise ValueError(f"--data.{name} does not change an evaluation. Leave it out.")
    return dataclasses.replace(
        old, data=data, eval=recipe_flags.section_from_flags("eval", old.eval)
    )


def _trained_spec(found: DatasetSpec) -> DatasetSpec:
    """The classes of the model, under the name of the dataset it is scored on.

    Raises:
      ValueError: the dataset has other classes.
    """
    spec = trained.spec()
    # Where nothing names the classes of a folder, its labels may show fewer than there are.
    fits = found.class_names == spec.class_names[: found.num_classes]
    if not fits or found.ignore_label != spec.ignore_label:
        raise ValueError(
            f"the model was trained on the classes {', '.join(spec.class_names)} with ignore_label"
            f" {spec.ignore_label}; {found.name} has {', '.join(found.class_names)} with"
            f" {found.ignore_label}. A folder's classes are named by --data.class_names_file."
        )
    return dataclasses.replace(spec, name=found.name)


if __name__ == "__main__":
    cli.run(main)
