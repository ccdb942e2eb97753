"""What an evaluation found, as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.evaluation.metrics import BENCHMARK_SCORES, CLASS_METRICS, METRICS, Metric, mean_iou
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
      trimap: width of a band, pixels -> the matrix of the pixels in it (see `trimap`); of each of
        `options.trimap_widths`.
    """

    spec: DatasetSpec
    options: Eval
    predict: Predict | None
    matrix: np.ndarray
    num_examples: int
    trimap: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float]:
        """Name -> value, of all `METRICS`; NaN where there is no score."""
        return self._computed(METRICS, self.matrix)

    @property
    def class_scores(self) -> dict[str, np.ndarray]:
        """Name -> float64 [K], of all `CLASS_METRICS`; NaN where there is no score."""
        return self._computed(CLASS_METRICS, self.matrix)

    @property
    def benchmark_scores(self) -> dict[str, float]:
        """Name -> value, of the dataset's rows in `BENCHMARK_SCORES`."""
        return self._computed(self._benchmark, self.matrix)

    @property
    def trimap_scores(self) -> dict[int, dict[str, float]]:
        """Width of a band -> `scores` of the pixels in it."""
        return {width: self._computed(METRICS, matrix) for width, matrix in self.trimap.items()}

    @property
    def _benchmark(self) -> Mapping[str, Metric]:
        return BENCHMARK_SCORES.get(self.spec.name, {})

    def _computed(self, metrics: Mapping[str, Metric], matrix: np.ndarray) -> dict[str, Any]:
        return {name: row.compute(matrix, self.options) for name, row in metrics.items()}

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
        if self.trimap and not any(matrix.any() for matrix in self.trimap.values()):
            found += (
                "no pixel is in a trimap band: no label has void (ignore_label"
                f" {self.spec.ignore_label}) beside a class. Score a dataset whose labels are void"
                " along the boundaries of objects, or leave --eval.trimap_widths out.",
            )
        return found

    def text(self) -> str:
        """A table with one line per class, in percent, that of the trimap, and the alarms."""
        titles = [row.title for row in (*METRICS.values(), *self._benchmark.values())]
        scores = [*self.scores.values(), *self.benchmark_scores.values()]
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
        for title, score in zip(titles, scores, strict=True):
            lines.append(f"{title:<{width}}  {_percent(score):>7}")
        lines.append(
            f"{self.num_examples} examples of {self.spec.name}, split {self.options.split}"
        )
        lines += self._trimap_lines()
        return "\n".join([*lines, *(f"warning: {alarm}" for alarm in self.alarms)])

    def _trimap_lines(self) -> list[str]:
        """A table with one line per band, in percent, if there are any."""
        if not self.trimap:
            return []
        titles = [f"{row.title} %" for row in METRICS.values()]
        headings = ["trimap, pixels from void", *titles, "label pixels", "of all %"]
        rows = [headings]
        for band, scores in self.trimap_scores.items():
            pixels = int(self.trimap[band].sum())
            percents = map(_percent, scores.values())
            rows.append([str(band), *percents, f"{pixels:,}", _percent(self._share(pixels))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in rows
        ]

    def _share(self, pixels: int) -> float:
        """Share of the label pixels that have a class; NaN if there are none."""
        total = self.matrix.sum()
        return float(pixels / total) if total else float("nan")

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
        predict = self.predict and {"kind": self.predict.kind, **dataclasses.asdict(self.predict)}
        options = dataclasses.asdict(self.options)
        if not self.trimap:
            del options["trimap_widths"]
        tree = {
            "dataset": self.spec.name,
            "num_examples": self.num_examples,
            **self._score_tree(self.matrix, {**METRICS, **self._benchmark}),
            "absent_classes": [self.spec.class_names[i] for i in self.absent_classes],
            "alarms": self.alarms,
            "eval": options,
            "predict": predict,
            "confusion_matrix": self.matrix.tolist(),  # row: label, column: prediction
        }
        if self.trimap:
            tree["trimap"] = {str(band): self._band_tree(band) for band in self.trimap}
        return json.dumps(tree, indent=2) + "\n"

    def _band_tree(self, band: int) -> dict[str, Any]:
        matrix = self.trimap[band]
        pixels = int(matrix.sum())
        share = _or_none(self._share(pixels))
        return {"pixels": pixels, "share_of_pixels": share, **self._score_tree(matrix, METRICS)}

    def _score_tree(self, matrix: np.ndarray, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """Scores of the pixels in a matrix, and those of each class by its name."""
        scores, of_classes = (self._computed(rows, matrix) for rows in (metrics, CLASS_METRICS))
        return {
            **{name: _or_none(score) for name, score in scores.items()},
            **{
                name: dict(zip(self.spec.class_names, map(_or_none, values), strict=True))
                for name, values in of_classes.items()
            },
        }


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
