"""What an evaluation found, as text, as JSON and as a table of the classes."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.evaluation.metrics import (
    BENCHMARK_SCORES,
    BOUNDARY_CLASS_METRICS,
    BOUNDARY_METRICS,
    CLASS_METRICS,
    METRICS,
    Counts,
    Metric,
    mean_iou,
)
from deeplab_tf.evaluation.scores.bootstrap import DRAWS, LEVEL, SEED, Estimate, intervals
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
      trimap: width of a band, pixels -> int64 [N, K], of the pixels in it in each image (see
        `trimap`); of each of `options.trimap_widths`.
      names: of the N images, in the order in which they were scored.
      images: int64 [N, K], of each image; None: not known, so that there are no intervals.
      boundaries: int64 [N, K], of the pixels near contours in each image; None: not counted.
    """

    spec: DatasetSpec
    options: Eval
    predict: Predict | None
    matrix: np.ndarray
    num_examples: int
    trimap: Mapping[int, Counts] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()
    images: Counts | None = None
    boundaries: Counts | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Name -> value, of all `METRICS`; NaN where there is no score."""
        return self._computed(METRICS, self._counts)

    @property
    def class_scores(self) -> dict[str, np.ndarray]:
        """Name -> float64 [K], of all `CLASS_METRICS`; NaN where there is no score."""
        return self._computed(CLASS_METRICS, self._counts)

    @property
    def benchmark_scores(self) -> dict[str, float]:
        """Name -> value, of the dataset's rows in `BENCHMARK_SCORES`."""
        return self._computed(self._benchmark, self._counts)

    @property
    def boundary_scores(self) -> dict[str, float]:
        """Name -> value, of all `BOUNDARY_METRICS`; empty if nothing near contours was counted."""
        if self.boundaries is None:
            return {}
        return self._computed(BOUNDARY_METRICS, self.boundaries.sum())

    @property
    def trimap_scores(self) -> dict[int, dict[str, float]]:
        """Width of a band -> `scores` of the pixels in it."""
        return {
            width: self._computed(METRICS, counts.sum()) for width, counts in self.trimap.items()
        }

    @property
    def image_scores(self) -> np.ndarray:
        """float64 [N], mean IoU of each image over the classes in its label or its prediction.

        NaN where no class counts. Absent classes are left out whatever the options say: as 0 they
        would say how many classes an image shows.
        """
        return mean_iou(self.images, self.options.replace(absent_classes="exclude"))

    @functools.cached_property
    def intervals(self) -> dict[str, Estimate]:
        """Name -> estimate, of all scores, those of each class included; see `scores.bootstrap`.

        Empty if there are fewer than two images.
        """
        if self.images is None or self.num_examples < 2:
            return {}
        found = intervals(self.statistics, self.images)
        if self.boundaries is not None:
            found |= intervals(self.boundary_statistics, self.boundaries)
        return found

    @functools.cached_property
    def trimap_intervals(self) -> dict[int, dict[str, Estimate]]:
        """Width of a band -> name -> estimate, of each of `trimap_scores`.

        Empty if there are fewer than two images.
        """
        if self.num_examples < 2:
            return {}
        return {
            width: intervals(self.trimap_statistics, counts)
            for width, counts in self.trimap.items()
        }

    @property
    def statistics(self) -> dict[str, Callable[[Counts], Any]]:
        """Name -> the score of counts, of each row whose score follows from all pixels."""
        return self._statistics({**METRICS, **self._benchmark, **CLASS_METRICS})

    @property
    def boundary_statistics(self) -> dict[str, Callable[[Counts], Any]]:
        """Name -> the score of counts, of each row whose score is of the pixels near contours."""
        return self._statistics({**BOUNDARY_METRICS, **BOUNDARY_CLASS_METRICS})

    @property
    def trimap_statistics(self) -> dict[str, Callable[[Counts], Any]]:
        """Name -> the score of counts, of each row that a band has a score of."""
        return self._statistics(METRICS)

    def _statistics(self, metrics: Mapping[str, Metric]) -> dict[str, Callable[[Counts], Any]]:
        return {
            name: functools.partial(row.compute, options=self.options)
            for name, row in metrics.items()
        }

    @property
    def _benchmark(self) -> Mapping[str, Metric]:
        return BENCHMARK_SCORES.get(self.spec.name, {})

    @property
    def _counts(self) -> Counts:
        return Counts.of(self.matrix)

    def _computed(self, metrics: Mapping[str, Metric], counts: Counts) -> dict[str, Any]:
        values = {name: row.compute(counts, self.options) for name, row in metrics.items()}
        # As Python's own numbers where there is one.
        return {name: x if np.ndim(x) else float(x) for name, x in values.items()}

    @property
    def headlines(self) -> dict[str, tuple[str, float]]:
        """Name -> (title, value) of each score that is one number, in the order of the table."""
        rows = {**METRICS, **self._benchmark, **BOUNDARY_METRICS}
        values = {**self.scores, **self.benchmark_scores, **self.boundary_scores}
        return {name: (rows[name].title, value) for name, value in values.items()}

    @property
    def class_columns(self) -> dict[str, tuple[str, np.ndarray]]:
        """Name -> (title, float64 [K]) of each score of a class."""
        values = self.class_scores
        if self.boundaries is not None:
            values |= self._computed(BOUNDARY_CLASS_METRICS, self.boundaries.sum())
        rows = {**CLASS_METRICS, **BOUNDARY_CLASS_METRICS}
        return {name: (rows[name].title, scores) for name, scores in values.items()}

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
        if math.isnan(mean_iou(self._counts, self.options)):
            found += (
                "no class counts: labels and predictions show excluded classes alone, so that there"
                " is no mean IoU. See --eval.excluded_classes.",
            )
        if self.trimap and not any(counts.label.any() for counts in self.trimap.values()):
            found += (
                "no pixel is in a trimap band: no label has void (ignore_label"
                f" {self.spec.ignore_label}) beside a class. Score a dataset whose labels are void"
                " along the boundaries of objects, or leave --eval.trimap_widths out.",
            )
        return found

    def text(self) -> str:
        """A table with one line per class, in percent, that of the trimap, and the alarms."""
        titles = [title for title, _ in self.headlines.values()]
        width = max(map(len, [*titles, *self.spec.class_names]))
        headings = [f"{title} %" for title, _ in self.class_columns.values()]
        columns = "".join(f"  {heading:>7}" for heading in headings)
        lines = [f"{'class':<{width}}{columns}  {'label pixels':>14}"]
        widths = [max(7, len(heading)) for heading in headings]
        label_pixels = self.matrix.sum(axis=1)
        table = [values for _, values in self.class_columns.values()]
        for i, name in enumerate(self.spec.class_names):
            cells = "".join(
                f"  {_percent(values[i]):>{cell}}"
                for cell, values in zip(widths, table, strict=True)
            )
            lines.append(f"{name:<{width}}{cells}  {label_pixels[i]:>14,}{self.class_note(i)}")
        for name, (title, score) in self.headlines.items():
            found = self.intervals.get(name)
            lines.append(f"{title:<{width}}  {_percent(score):>7}{_range(found)}")
        lines.append(
            f"{self.num_examples} examples of {self.spec.name}, split {self.options.split}"
        )
        if self.intervals:
            lines.append(
                f"in parentheses: {100 * LEVEL:.0f} % intervals, bootstrap over the examples"
                f" ({DRAWS:,} draws)"
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
            pixels = int(self.trimap[band].label.sum())
            found = self.trimap_intervals.get(band, {}).get("mean_iou")
            mean, *others = map(_percent, scores.values())
            share = _percent(self._share(pixels))
            rows.append([str(band), mean + _range(found), *others, f"{pixels:,}", share])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
            for row in rows
        ]

    def _share(self, pixels: int) -> float:
        """Share of the label pixels that have a class; NaN if there are none."""
        total = self.matrix.sum()
        return float(pixels / total) if total else float("nan")

    def class_note(self, index: int) -> str:
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
            **{name: _or_none(value) for name, (_, value) in self.headlines.items()},
            **{name: self._by_class(values) for name, (_, values) in self.class_columns.items()},
            "intervals": self._interval_tree(),
            "absent_classes": [self.spec.class_names[i] for i in self.absent_classes],
            "alarms": self.alarms,
            "eval": options,
            "predict": predict,
            "confusion_matrix": self.matrix.tolist(),  # row: label, column: prediction
        }
        if self.trimap:
            tree["trimap"] = {str(band): self._band_tree(band) for band in self.trimap}
        return json.dumps(tree, indent=2) + "\n"

    def _interval_tree(self) -> dict[str, Any] | None:
        """[low, high] of each score, and how they were found; None if there are none."""
        if not self.intervals:
            return None
        ends = {}
        for name, found in self.intervals.items():
            pairs, of_classes = _ends(found), np.ndim(found.value) == 1
            ends[name] = self._by_class(pairs) if of_classes else pairs[0]
        return {"level": LEVEL, "draws": DRAWS, "seed": SEED, **ends}

    def _band_tree(self, band: int) -> dict[str, Any]:
        counts = self.trimap[band].sum()
        pixels = int(counts.label.sum())
        found = self.trimap_intervals.get(band)
        scores, of_classes = (self._computed(rows, counts) for rows in (METRICS, CLASS_METRICS))
        return {
            "pixels": pixels,
            "share_of_pixels": _or_none(self._share(pixels)),
            **{name: _or_none(score) for name, score in scores.items()},
            **{name: self._by_class(values) for name, values in of_classes.items()},
            "intervals": found and {name: _ends(one)[0] for name, one in found.items()},
        }

    def _by_class(self, values: Iterable[Any]) -> dict[str, Any]:
        """Name of a class -> its value; numbers as in JSON."""
        plain = (x if isinstance(x, list) else _or_none(x) for x in values)
        return dict(zip(self.spec.class_names, plain, strict=True))

    def to_csv(self) -> str:
        """One row per class: its pixels, and its scores with their intervals.

        Scores are fractions, nothing where there is none.
        """
        columns: dict[str, Sequence[Any]] = {
            "class": self.spec.class_names,
            "label_pixels": self.matrix.sum(axis=1),
            "predicted_pixels": self.matrix.sum(axis=0),
        }
        for name, (_, values) in self.class_columns.items():
            columns[name] = _cells(values)
            if found := self.intervals.get(name):
                columns[f"{name}_low"] = _cells(found.low)
                columns[f"{name}_high"] = _cells(found.high)
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return table.getvalue()


def _range(found: Estimate | None) -> str:
    """The interval of a score as text, if there is one."""
    if found is None or math.isnan(found.low):
        return ""
    return f" ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _ends(found: Estimate) -> list[list[float | None]]:
    """[low, high] of each score in an estimate, as in JSON."""
    pairs = zip(np.atleast_1d(found.low), np.atleast_1d(found.high), strict=True)
    return [[_or_none(end) for end in pair] for pair in pairs]


def _cells(values: np.ndarray) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6f}" for value in values]


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
