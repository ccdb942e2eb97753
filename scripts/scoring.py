"""Scores a network on a dataset, for the scripts that do; it has no flags of its own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeplab_tf.recipe.as_json import to_tree

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


def named_workdirs(workdirs: Sequence[str], names: Sequence[str] | None) -> dict[str, str]:
    """Name -> workdir, of several models that are compared.

    Args:
      workdirs: of --workdirs.
      names: of --names; None: those of the directories.

    Raises:
      ValueError: there is not one name of its own for each.
    """
    names = names or [os.path.basename(os.path.abspath(path)) for path in workdirs]
    if len(names) != len(workdirs) or len({*names, ""}) <= len(names):
        raise ValueError(
            f"--names must be {len(workdirs)} different ones, one for each of --workdirs; got"
            f" {', '.join(names)}."
        )
    return dict(zip(names, workdirs, strict=True))


def check_comparable(recipes: Mapping[str, Recipe]) -> None:
    """Checks that all models are scored on the same images, by the same definition.

    Args:
      recipes: name of a model -> its recipe, with the flags in place of its values.

    Raises:
      ValueError: they are not.
    """
    (first, of_first), *others = ((name, _scored(recipe)) for name, recipe in recipes.items())
    for name, options in others:
        for key in of_first | options:
            one, other = of_first.get(key), options.get(key)
            if one != other:
                raise ValueError(
                    f"all models must be scored on the same images in the same way; {key} is"
                    f" {one} in {first} and {other} in {name}. Give --{key}."
                )


def _scored(recipe: Recipe) -> dict[str, Any]:
    """Flag -> value, of what determines the images and the scores' definition."""
    tree = to_tree(recipe)
    return {
        f"{part}.{key}".removesuffix(".kind"): value
        for part in ("dataset", "eval")
        for key, value in tree[part].items()
        if key != "best_metric"  # which decides only in training
    }


def check(workdir: str, recipe: Recipe, dataset: OpenDataset) -> DatasetSpec:
    """Checks what can be known of a model before any is scored, which takes long.

    Args:
      workdir: of the model.
      recipe: how it predicts, and what is scored.
      dataset: opened.

    Returns:
      The classes that are scored.

    Raises:
      FileNotFoundError: it has no weights.
      ValueError: it has other classes, or cannot be scored with these options.
    """
    from deeplab_tf.training.workdir.checkpoints import has_weights
    from deeplab_tf.training.workdir.contents import load_spec

    if not has_weights(workdir):
        raise FileNotFoundError(f"no checkpoint in {workdir} yet; train for longer.")
    source(recipe, dataset)
    spec = scored_spec(load_spec(workdir), dataset.spec)
    recipe.predict.check(spec, recipe.eval)
    return spec
