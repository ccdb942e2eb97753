"""What an evaluation found, as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence

import numpy as np

from deeplab_tf.evaluation.metrics import CLASS_METRICS, METRICS, mean_iou
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import Eval, Predict


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalResult:
    """What an evaluation found. Scores are fractions; `text` prints percent.

    Attributes:
      spec: of the dataset.
      options: the split, and the classes that count.
      predict: how the predictions were made; None: by a predictor of the caller's.
      matrix: int64 [K, K]; row: label, column: prediction.
      num_examples: number of images.
    """

    spec: DatasetSpec
    options: Eval
    predict: Predict | None
    matrix: np.ndarray
    num_examples: int

    @property
    def scores(self) -> dict[str, float]:
        """Name -> value, of all `METRICS`; NaN where there is no score."""
        return {name: row.compute(self.matrix, self.options) for name, row in METRICS.items()}

    @property
    def class_scores(self) -> dict[str, np.ndarray]:
        """Name -> float64 [K], of all `CLASS_METRICS`; NaN where there is no score."""
        return {name: row.compute(self.matrix, self.options) for name, row in CLASS_METRICS.items()}

    @property
    def all_scores(self) -> dict[str, float]:
        """`scores`, and those of the classes under names like "iou/road".

        TensorBoard shows names with the same beginning in one group.
        """
        of_classes = {
            f"{metric}/{name}": float(value)
            for metric, values in self.class_scores.items()
            for name, value in zip(self.spec.class_names, values, strict=True)
        }
        return {**self.scores, **of_classes}

    @property
    def absent_classes(self) -> tuple[int, ...]:
        """Classes in neither labels nor predictions."""
        occurrences = self.matrix.sum(axis=0) + self.matrix.sum(axis=1)
        return tuple(int(i) for i in np.flatnonzero(occurrences == 0))

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with these scores, a line each; most often there is none."""
        found = one_class_alarm(
            self.matrix.sum(axis=1), self.matrix.sum(axis=0), self.spec.class_names, "pixels"
        )
        if math.isnan(mean_iou(self.matrix, self.options)):
            found += (
                "no class counts: labels and predictions show excluded classes alone, so that there"
                " is no mean IoU. See --eval.excluded_classes.",
            )
        return found

    def text(self) -> str:
        """A table with one line per class, in percent, and the alarms."""
        titles = [row.title for row in METRICS.values()]
        width = max(map(len, [*titles, *self.spec.class_names]))
        headings = [f"{row.title} %" for row in CLASS_METRICS.values()]
        columns = "".join(f"  {heading:>7}" for heading in headings)
        lines = [f"{'class':<{width}}{columns}  {'label pixels':>14}"]
        widths = [max(7, len(heading)) for heading in headings]
        label_pixels, table = self.matrix.sum(axis=1), list(self.class_scores.values())
        for i, name in enumerate(self.spec.class_names):
            cells = "".join(
                f"  {_percent(values[i]):>{cell}}"
                for cell, values in zip(widths, table, strict=True)
            )
            lines.append(f"{name:<{width}}{cells}  {label_pixels[i]:>14,}{self._note(i)}")
        for title, score in zip(titles, self.scores.values(), strict=True):
            lines.append(f"{title:<{width}}  {_percent(score):>7}")
        lines.append(
            f"{self.num_examples} examples of {self.spec.name}, split {self.options.split}"
        )
        return "\n".join([*lines, *(f"warning: {alarm}" for alarm in self.alarms)])

    def _note(self, index: int) -> str:
        """What a reader must know of a class."""
        if index in self.options.excluded_classes:
            return "  excluded"
        if index in self.absent_classes:
            counted = "left out" if self.options.absent_classes == "exclude" else "counted as 0"
            return f"  absent, {counted}"
        return ""

    def to_json(self) -> str:
        """All of it as indented JSON; fractions, null where there is no score."""
        names = self.spec.class_names
        predict = self.predict and {"kind": self.predict.kind, **dataclasses.asdict(self.predict)}
        tree = {
            "dataset": self.spec.name,
            "num_examples": self.num_examples,
            **{name: _or_none(score) for name, score in self.scores.items()},
            **{
                name: {names[i]: _or_none(value) for i, value in enumerate(values)}
                for name, values in self.class_scores.items()
            },
            "absent_classes": [names[i] for i in self.absent_classes],
            "alarms": self.alarms,
            "eval": dataclasses.asdict(self.options),
            "predict": predict,
            "confusion_matrix": self.matrix.tolist(),  # row: label, column: prediction
        }
        return json.dumps(tree, indent=2) + "\n"


def one_class_alarm(
    labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str], what: str
) -> tuple[str, ...]:
    """The alarm that all predictions are one class where the labels show several, if they are.

    Args:
      labels: int [K], how many have each class as their label.
      predictions: int [K], how many are predicted to be of each class.
      class_names: K names.
      what: is counted, e.g. "pixels".

    Returns:
      One line, or none.
    """
    predicted = np.flatnonzero(predictions)
    shown = np.count_nonzero(labels)
    if len(predicted) != 1 or shown < 2:
        return ()
    return (
        f"all {what} are predicted as {class_names[predicted[0]]}, while the labels show {shown}"
        " classes. The network has learned nothing else yet; if this lasts, check the labels, the"
        " learning rate and the class weights.",
    )


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"


def _or_none(value: float) -> float | None:
    # JSON has no NaN.
    return None if math.isnan(value) else float(value)
