"""Class weights from the labels of the training split.

workdir/class_weights.json   the weights that the run was started with
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from deeplab_tf.data.labels.threads import map_in_threads
from deeplab_tf.data.pipeline import first_line
from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource
from deeplab_tf.recipe.files import write_text
from deeplab_tf.recipe.json_files import checked, join, read_json, require
from deeplab_tf.recipe.messages import shortened, shown
from deeplab_tf.training.workdir.checkpoints import has_weights


def class_weights(
    workdir: str,
    source: ExampleSource,
    spec: DatasetSpec,
    *,
    on_bad_example: Literal["fail", "skip"] = "fail",
    save: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[float, ...]:
    """The weights of the classes in a run, by median frequency balancing.

    Once the workdir has weights of a network, the file there is read, so that a run that resumes
    has the weights that it was started with. Before, or without the file, the labels are counted.

    Args:
      workdir: of the run.
      source: examples of the training split.
      spec: of the dataset.
      on_bad_example: see `class_frequencies`.
      save: write the file if the labels are counted; false for all workers but the chief, which
        find the same weights.
      progress: called with (examples counted, examples in all).

    Returns:
      One weight per class.

    Raises:
      ValueError: an example cannot be read, no pixel has a class, or the file is damaged or of
        other classes.
      OSError: the file cannot be written.
    """
    path = os.path.join(workdir, "class_weights.json")
    if has_weights(workdir) and os.path.exists(path):
        return _load(path, spec.class_names)
    weights = median_frequency_weights(
        class_frequencies(
            source,
            spec.num_classes,
            spec.ignore_label,
            on_bad_example=on_bad_example,
            progress=progress,
        )
    )
    if save:
        _save(path, spec.class_names, weights)
    return weights


def class_frequencies(
    source: ExampleSource,
    num_classes: int,
    ignore_label: int,
    *,
    on_bad_example: Literal["fail", "skip"] = "fail",
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """How much of the images that show a class is the class.

    Images are not decoded.

    Args:
      source: the examples; each counts once.
      num_classes: K, background counted, void not.
      ignore_label: value of the pixels that do not count.
      on_bad_example: "fail" to raise an error for an example that cannot be read, "skip" to leave
        it out.
      progress: called with (examples counted, examples in all).

    Returns:
      float64 [K]: pixels of the class / pixels, void not counted (ours: the papers do not say), of
      the images that show it; 0 for a class that no image shows.

    Raises:
      ValueError: an example cannot be read, or a label value is not a class; the message names it.
    """
    count = _counter(source, num_classes, ignore_label)
    pixels, pixels_of_images = np.zeros((2, num_classes), np.int64)
    found = map_in_threads(count, range(len(source)))
    for done, (problem, counts) in enumerate(found, start=1):
        if problem and on_bad_example == "fail":
            raise ValueError(f"class weights need all labels of the training split: {problem}")
        if not problem:
            pixels += counts
            pixels_of_images += (counts > 0) * counts.sum()
        if progress is not None:
            progress(done, len(source))
    return pixels / np.maximum(pixels_of_images, 1)


def _counter(
    source: ExampleSource, num_classes: int, ignore_label: int
) -> Callable[[int], tuple[str | None, np.ndarray]]:
    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)], autograph=False)
    def read(index):
        # A graph leaves out what its outputs do not need, here the image.
        label = source.read(index)["label"]
        valid = tf.boolean_mask(label, label != ignore_label)
        wrong = tf.boolean_mask(valid, (valid < 0) | (valid >= num_classes))
        # One more bin takes the wrong values, which have no place among the counts.
        valid = tf.where((valid >= 0) & (valid < num_classes), valid, num_classes)
        return wrong[:1], tf.math.bincount(valid, minlength=num_classes + 1)

    def count(index: int) -> tuple[str | None, np.ndarray]:
        try:
            wrong, counts = (result.numpy() for result in read(tf.constant(index, tf.int64)))
        except (tf.errors.OpError, ValueError) as error:
            return f"{source.name(index)}: {first_line(error)}", np.zeros(num_classes, np.int64)
        problem = None
        if wrong.size:
            problem = (
                f"{source.name(index)}: label values must be 0..{num_classes - 1} or"
                f" {ignore_label} (void); got {wrong[0]}"
            )
        return problem, counts[:num_classes].astype(np.int64)

    return count


def median_frequency_weights(frequencies: np.ndarray) -> tuple[float, ...]:
    """The median of the classes' frequencies / the class's (cited: Eigen and Fergus 2015, 6.3.2).

    SegNet is trained on CamVid with these weights (cited: Badrinarayanan et al. 2017, Sec. 3.2).

    Args:
      frequencies: float64 [K], of `class_frequencies`.

    Returns:
      K weights; 1 for a class that no image shows (ours: no pixel has it), which the median leaves
      out.

    Raises:
      ValueError: no image shows a class.
    """
    occurs = frequencies > 0
    if not occurs.any():
        raise ValueError("class weights need labels with classes; all pixels are void.")
    weights = np.ones(len(frequencies))
    weights[occurs] = np.median(frequencies[occurs]) / frequencies[occurs]
    return tuple(weights.tolist())


def _save(path: str, class_names: Sequence[str], weights: Sequence[float]) -> None:
    by_name = dict(zip(class_names, weights, strict=True))
    write_text(path, json.dumps({"class_weights": by_name}, indent=2) + "\n")


def _load(path: str, class_names: Sequence[str]) -> tuple[float, ...]:
    def converted(tree: Mapping[str, Any]) -> tuple[float, ...]:
        by_name = checked(tree, {"class_weights": dict[str, float]})["class_weights"]
        if list(by_name) != list(class_names):
            raise ValueError(
                f"class_weights must have the classes {shortened(class_names)};"
                f" got {shown(list(by_name))}."
            )
        for name, weight in by_name.items():
            require(weight >= 0, join("class_weights", name), "at least 0", weight)
        return tuple(by_name.values())

    try:
        return read_json(path, converted)
    except ValueError as error:
        raise ValueError(f"{error} Remove the file: the labels are then counted again.") from None
