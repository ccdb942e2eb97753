"""Scores a model on a split, image by image at the images' own sizes."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.recipe.options import EvalConfig
from deeplab_tf.data.pipeline import first_line
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.evaluation.whole_image import AnyPredictor, make_predictor
from deeplab_tf.evaluation.metrics import ConfusionMatrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalResult:
    """What an evaluation found. Scores are fractions; `text` prints percent."""

    spec: DatasetSpec
    config: EvalConfig
    confusion: ConfusionMatrix
    num_examples: int

    @property
    def iou(self) -> np.ndarray:
        """float64 [K]; NaN for absent classes."""
        return self.confusion.iou()

    @property
    def mean_iou(self) -> float:
        """Over the classes that `config` does not leave out."""
        return self.confusion.mean_iou(self.config.excluded_classes, self.config.absent_classes)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels with a class whose prediction is right."""
        return self.confusion.pixel_accuracy()

    @property
    def absent_classes(self) -> tuple[int, ...]:
        """Classes in neither labels nor predictions."""
        return tuple(int(i) for i in np.flatnonzero(np.isnan(self.iou)))

    def text(self) -> str:
        """A table with a line a class, in percent."""
        width = max(len("pixel accuracy"), *map(len, self.spec.class_names))
        label_pixels = self.confusion.matrix.sum(axis=1)
        lines = [f"{'class':<{width}}  {'IoU %':>7}  {'label pixels':>14}"]
        for i, (name, iou) in enumerate(zip(self.spec.class_names, self.iou, strict=True)):
            note = "  excluded" if i in self.config.excluded_classes else ""
            if i in self.absent_classes:
                counted = "left out" if self.config.absent_classes == "exclude" else "counted as 0"
                note = note or f"  absent, {counted}"
            lines.append(f"{name:<{width}}  {_percent(iou):>7}  {label_pixels[i]:>14,}{note}")
        lines += [
            f"{'mean IoU':<{width}}  {_percent(self.mean_iou):>7}",
            f"{'pixel accuracy':<{width}}  {_percent(self.pixel_accuracy):>7}",
            f"{self.num_examples} examples of {self.spec.name}, split {self.config.split}",
        ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """All of it as indented JSON; fractions, null where there is no score."""
        tree = {
            "dataset": self.spec.name,
            "num_examples": self.num_examples,
            "mean_iou": _or_none(self.mean_iou),
            "pixel_accuracy": _or_none(self.pixel_accuracy),
            "iou": {
                name: _or_none(iou)
                for name, iou in zip(self.spec.class_names, self.iou, strict=True)
            },
            "absent_classes": [self.spec.class_names[i] for i in self.absent_classes],
            "eval": dataclasses.asdict(self.config),
            "confusion_matrix": self.confusion.matrix.tolist(),  # row: label, column: prediction
        }
        return json.dumps(tree, indent=2) + "\n"


def evaluate(
    model: keras.Model | AnyPredictor,
    examples: tf.data.Dataset,
    spec: DatasetSpec,
    eval: EvalConfig,
    progress: Callable[[int, int | None], None] | None = None,
    *,
    name_of: Callable[[int], str] | None = None,
) -> EvalResult:
    """Scores a model.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K] at the image's size; or a
        predictor of one, as from `inference.make_predictor`, to evaluate again without tracing it
        again.
      examples: of {"image": uint8 [H, W, 3], "label": int32 [H, W], "name": string []}, unbatched.
      spec: of the dataset; K is its number of classes.
      eval: how predictions are made, as far as a predictor does not decide it, and what the mean
        IoU leaves out.
      progress: called after each example with (examples done, examples in all or None).
      name_of: what to call the example of an index that cannot be read; None: its number.

    Returns:
      The scores. `eval.split` and `eval.output_stride` are only reported: they were decided when
      `examples` and `model` were made.

    Raises:
      ValueError: there are no examples, or none with a labelled pixel, or the model has not K
        outputs, or an example cannot be read, or a label is of another size than its image or has
        a value that is no class; the message says which example.
    """
    predictor = make_predictor(model, eval) if isinstance(model, keras.Model) else model
    outputs = predictor.num_classes
    if outputs != spec.num_classes:
        raise ValueError(
            f"the model must have an output a class of {spec.name} ({spec.num_classes});"
            f" it has {outputs}."
        )
    confusion = ConfusionMatrix(spec.num_classes, spec.ignore_label)
    cardinality = int(examples.cardinality())
    total = cardinality if cardinality >= 0 else None
    done = 0
    iterator = iter(examples)
    while True:
        try:
            example = next(iterator)
        except StopIteration:
            break
        except tf.errors.OpError as error:
            what = f"example {done + 1}" if name_of is None else name_of(done)
            raise ValueError(f"{what} cannot be read: {first_line(error)}") from error
        label_map = predictor.label_map(example["image"], scales=eval.scales, flip=eval.flip)
        try:
            confusion.update(example["label"], label_map)
        except ValueError as error:
            raise ValueError(f"example {example['name'].numpy().decode()!r}: {error}") from error
        done += 1
        if progress is not None:
            progress(done, total)
    if not done:
        raise ValueError(
            f"there must be at least one example of {spec.name} to evaluate; got none."
        )
    if not confusion.matrix.any():
        raise ValueError(
            f"labels of {spec.name} must have classes to be compared with; all pixels of {done}"
            " examples are void. A test split without labels can be predicted, not evaluated."
        )
    return EvalResult(spec=spec, config=eval, confusion=confusion, num_examples=done)


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"


def _or_none(value: float) -> float | None:
    # JSON has no NaN.
    return None if math.isnan(value) else float(value)
