"""Scores a trained model: IoU of each class, mean IoU, pixel accuracy.

python scripts/evaluate.py --workdir=runs/shapes
python scripts/evaluate.py --workdir=runs/mine --eval.scales=0.75,1,1.25 --eval.flip
"""

from __future__ import annotations

import dataclasses
import os

import cli
import trained
from absl import flags

from deeplab_tf import config, recipe_flags
from deeplab_tf.data.spec import DatasetSpec

_DATA_DIR = flags.DEFINE_string("data_dir", None, "where prepared datasets are")
recipe_flags.define_section("eval", config.EvalConfig)
recipe_flags.define_section("data", config.DataConfig)


def main(argv: list[str]) -> None:
    """Evaluates, prints the table and writes it to evaluation.json in the workdir."""
    cli.no_arguments(argv)
    workdir = trained.workdir()
    cli.import_tensorflow()
    from deeplab_tf.data import open_dataset, pipeline
    from deeplab_tf.evaluation import evaluate
    from deeplab_tf.files import write_text
    from deeplab_tf.run_log import Progress

    recipe, spec = _recipe(), trained.spec()
    dataset = open_dataset(recipe.data, _DATA_DIR.value)
    _check_classes(spec, dataset.spec)
    source = dataset.source(recipe.eval.split)
    progress = Progress("evaluating", len(source))
    result = evaluate(
        trained.model(recipe.eval.output_stride),
        pipeline.eval_examples(source),
        spec,
        recipe.eval,
        lambda done, _: progress.update(done),
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
      ValueError: a flag would change what was trained.
    """
    old = trained.recipe()
    new = dataclasses.replace(
        old,
        eval=recipe_flags.section_from_flags("eval", old.eval),
        data=recipe_flags.section_from_flags("data", old.data),
    )
    changed = config.differences(old, new)
    if changed:
        raise ValueError(
            f"an evaluation cannot change what was trained: {'; '.join(changed)}. Of --data only"
            " the places of images, labels and lists may be given."
        )
    return new


def _check_classes(spec: DatasetSpec, found: DatasetSpec) -> None:
    # Classes that a folder's own labels show may be fewer, where nothing names them.
    fits = found.class_names == spec.class_names[: found.num_classes]
    if not fits or found.ignore_label != spec.ignore_label:
        raise ValueError(
            f"the model was trained on the classes {', '.join(spec.class_names)} with ignore_label"
            f" {spec.ignore_label}; the dataset has {', '.join(found.class_names)} with"
            f" {found.ignore_label}."
        )


if __name__ == "__main__":
    cli.run(main)
