"""Scores a network on a dataset, for the scripts that do; it has no flags of its own."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
    from deeplab_tf.recipe.parts import Recipe, Result


def score(model: keras.Model, recipe: Recipe, dataset: OpenDataset) -> Result:
    """Scores a network, and shows how far it is.

    Args:
      model: of `zoo.load_model`.
      recipe: how it predicts, and what is scored.
      dataset: opened.

    Raises:
      ValueError: see `source` and `scored_spec`, and `evaluation.evaluate.evaluate`.
    """
    from deeplab_tf.data import pipeline
    from deeplab_tf.evaluation.evaluate import Renumbered
    from deeplab_tf.training.report.progress import Progress

    examples = source(recipe, dataset)
    trained_on = model.dataset_spec
    spec = scored_spec(trained_on, dataset.spec)
    predictor = recipe.predict.predictor(model)
    classes = [spec.class_names.index(name) for name in trained_on.class_names]
    if classes != list(range(spec.num_classes)):
        unknown = [name for name in spec.class_names if name not in trained_on.class_names]
        if unknown:
            print(f"never predicted, since the model was not trained on it: {', '.join(unknown)}")
        predictor = Renumbered(predictor, classes, spec.num_classes)
    print("evaluating; the first image takes seconds longer")
    progress = Progress("evaluating", len(examples))
    return recipe.predict.evaluate(
        predictor,
        pipeline.eval_examples(examples),
        spec,
        recipe.eval,
        progress=lambda done, _: progress.update(done),
        name_of=examples.name,
    )


def source(recipe: Recipe, dataset: OpenDataset) -> ExampleSource:
    """The examples to score.

    Raises:
      ValueError: there is no such split, or a test server has its labels.
    """
    split = recipe.eval.split
    if recipe.expected_mean_iou is not None and split == "test":
        found = dataset.sources.get(split)
        if found is None or (found.read(0)["label"].numpy() == dataset.spec.ignore_label).all():
            raise ValueError(
                f"the published mean IoU of {recipe.expected_mean_iou:.2f} is from the test server"
                f" of {dataset.spec.name}; the labels of 'test' are not public. --eval.split=val"
                " scores 'val', which this network was trained on."
            )
    return dataset.source(split)


def scored_spec(trained_on: DatasetSpec, found: DatasetSpec) -> DatasetSpec:
    """The classes that are scored, under the name of the dataset.

    They are those of the model. A dataset with a class for each pixel may also have more of them,
    as `pascal_context60` has background beside the 59 of `pascal_context`: all of its classes are
    scored then.

    Args:
      trained_on: the classes of the model.
      found: the dataset.

    Raises:
      ValueError: the dataset lacks classes of the model, or has another void.
    """
    if found.ignore_label == trained_on.ignore_label:
        # Without a file of names a folder has only the classes that its labels show.
        if found.class_names == trained_on.class_names[: found.num_classes]:
            return dataclasses.replace(trained_on, name=found.name)
        if set(trained_on.class_names) <= set(found.class_names) and found.ignore_label >= 0:
            return found
    raise ValueError(
        f"the model was trained on the classes {', '.join(trained_on.class_names)} with"
        f" ignore_label {trained_on.ignore_label}; {found.name} has"
        f" {', '.join(found.class_names)} with {found.ignore_label}. Name a folder's classes"
        " with --dataset.class_names_file."
    )
