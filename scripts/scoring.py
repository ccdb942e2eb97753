"""Scores predictions on a dataset, for the scripts that do; it has no flags of its own."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deeplab_tf.recipe.as_json import part_text, to_tree
from deeplab_tf.recipe.lazy import keras, tf

if TYPE_CHECKING:
    from deeplab_tf.pages.examples import Example
    from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
    from deeplab_tf.recipe.parts import Predictor, Recipe, Result


@dataclasses.dataclass(frozen=True)
class Scored:
    """Predictions that were scored, and what it takes to look at single examples.

    Attributes:
      result: the scores.
      predictor: that made the predictions.
      examples: that were scored, in the order of the scores.
    """

    result: Result
    predictor: Predictor
    examples: ExampleSource

    @functools.cached_property
    def data_fingerprint(self) -> str | None:
        """See `pages.record.data_fingerprint`; None where an image has one class."""
        from deeplab_tf.pages.record import data_fingerprint

        if "mean_iou" not in self.result.scores:
            return None
        return data_fingerprint(self.result.names, self.result.images.label)


def score(
    predictor: Predictor, trained_on: DatasetSpec, recipe: Recipe, dataset: OpenDataset
) -> Scored:
    """Scores predictions, and shows how far it is.

    Args:
      predictor: of `recipe.predict`, or an export.
      trained_on: the classes of its network.
      recipe: what is scored.
      dataset: opened.

    Raises:
      ValueError: see `source` and `scored_spec`, and `evaluation.evaluate.evaluate`.
    """
    from deeplab_tf.data import pipeline
    from deeplab_tf.evaluation.evaluate import Renumbered
    from deeplab_tf.training.report.progress import Progress

    examples = source(recipe, dataset)
    spec = scored_spec(trained_on, dataset.spec)
    classes = [spec.class_names.index(name) for name in trained_on.class_names]
    if classes != list(range(spec.num_classes)):
        unknown = [name for name in spec.class_names if name not in trained_on.class_names]
        if unknown:
            print(f"never predicted, since the model was not trained on it: {', '.join(unknown)}")
        predictor = Renumbered(predictor, classes, spec.num_classes)
    print("evaluating; the first image takes seconds longer")
    progress = Progress("evaluating", len(examples))
    result = recipe.predict.evaluate(
        predictor,
        pipeline.eval_examples(examples),
        spec,
        recipe.eval,
        progress=lambda done, _: progress.update(done),
        name_of=examples.name,
    )
    return Scored(result, predictor, examples)


def example(scored: Sequence[Scored], index: int) -> Example:
    """Reads one example and predicts it again, in the size in which a page shows it.

    Args:
      scored: one or two networks, scored on the same examples.
      index: of the example.

    Raises:
      ValueError: it cannot be read, or is no longer the one that was scored.
    """
    from deeplab_tf.data.pipeline import first_line
    from deeplab_tf.pages.examples import shrunken

    first = scored[0]
    try:
        found = first.examples.read(tf.constant(index, tf.int64))
    except tf.errors.OpError as error:
        which = first.examples.name(index)
        raise ValueError(f"{which} cannot be read again: {first_line(error)}") from error
    name, expected = found["name"].numpy().decode(), first.result.names[index]
    if name != expected:
        raise ValueError(
            f"example {index + 1} must be {expected!r}, as it was scored; got {name!r}."
        )
    label_maps = [np.asarray(each.predictor.label_map(found["image"])) for each in scored]
    return shrunken(name, found["image"].numpy(), found["label"].numpy(), label_maps)


def network_rows(workdir: str, recipe: Recipe, model: keras.Model) -> dict[str, str]:
    """What was scored, for a page.

    Args:
      workdir: of the network.
      recipe: how it predicts.
      model: of `zoo.load_model`.
    """
    from deeplab_tf.pages.record import fingerprint
    from deeplab_tf.weights import weights_by_name

    return {
        "workdir": os.path.abspath(workdir),
        "weights": f"{model.count_params():,} of step {model.checkpoint_step:,}, fingerprint"
        f" {fingerprint(weights_by_name(model))}",
        "prediction": part_text(to_tree(recipe)["predict"]),
    }


def record(scored: Scored, models: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What was run on which data, for a page.

    Args:
      scored: one of the models.
      models: what each of them is, as of `network_rows`.
    """
    import deeplab_tf

    rows = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    for i, model in enumerate(models, start=1):
        number = f" {i}" if len(models) > 1 else ""
        rows |= {f"{key}{number}": value for key, value in model.items()}
    result, number = scored.result, scored.result.num_examples
    dataset = f"{result.spec.name}, split {result.options.split}, {number:,}"
    dataset += f" image{'' if number == 1 else 's'}"
    if scored.data_fingerprint:
        dataset += f", fingerprint of names and label pixels {scored.data_fingerprint}"
    return rows | {
        "dataset": dataset,
        "versions": f"deeplab_tf {deeplab_tf.__version__}, TensorFlow {tf.__version__}, Keras"
        f" {keras.__version__}, NumPy {np.__version__}, Python {platform.python_version()}",
        "devices": ", ".join(device.name for device in tf.config.list_logical_devices()),
    }


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
