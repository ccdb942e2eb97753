"""Two evaluations of the same images, side by side."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplab_tf.evaluation.metrics import (
    BENCHMARK_SCORES,
    BOUNDARY_CLASS_METRICS,
    BOUNDARY_METRICS,
    CLASS_METRICS,
    METRICS,
)
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.bootstrap import (
    DRAWS,
    LEVEL,
    SEED,
    Estimate,
    paired_differences,
)
from deeplab_tf.recipe.dataset_spec import DatasetSpec

_IMAGES_SHOWN = 10  # ours: in the text; the JSON has all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two models score on the same images. Differences are the first less the second.

    Attributes:
      names: of the two models.
      results: what their evaluations found.

    Raises:
      ValueError: they were not evaluated on the same two or more images and classes.
    """

    names: tuple[str, str]
    results: tuple[EvalResult, EvalResult]

    def __post_init__(self) -> None:
        first, second = self.results
        check_same_classes([first.spec, second.spec])
        if first.names != second.names or len(first.names) < 2:
            raise ValueError(
                "both models must be scored on the same images in the same order, two or more; got"
                f" {len(first.names)} and {len(second.names)}."
            )
        if (first.images.label != second.images.label).any():
            raise ValueError("both models must be scored against the same labels; these differ.")

    @functools.cached_property
    def differences(self) -> dict[str, Estimate]:
        """Name -> difference, of each score that both have; of a class metric [K]."""
        first, second = self.results
        found = paired_differences(first.statistics, first.images, second.images)
        if first.boundaries is not None and second.boundaries is not None:
            found |= paired_differences(
                first.boundary_statistics, first.boundaries, second.boundaries
            )
        return found

    @functools.cached_property
    def trimap_differences(self) -> dict[int, dict[str, Estimate]]:
        """Width of a band -> name of METRICS -> difference, of each width that both have."""
        first, second = self.results
        return {
            width: paired_differences(first.trimap_statistics, counts, second.trimap[width])
            for width, counts in first.trimap.items()
            if width in second.trimap
        }

    @functools.cached_property
    def image_ranking(self) -> list[int]:
        """Indices of the images whose scores differ, the one with the largest difference first."""
        one, other = (result.image_scores for result in self.results)
        return [i for i in self._scored_images if one[i] != other[i]]

    @property
    def image_differences(self) -> list[tuple[str, float, float, float]]:
        """(name, score of the first, of the second, difference), the largest difference first.

        The score is the image's own mean IoU. Images without one are left out.
        """
        one, other = (result.image_scores for result in self.results)
        names = self.results[0].names
        return [
            (names[i], float(one[i]), float(other[i]), float(one[i] - other[i]))
            for i in self._scored_images
        ]

    @functools.cached_property
    def _scored_images(self) -> list[int]:
        """Indices of the images that have a score, the one with the largest difference first."""
        one, other = (result.image_scores for result in self.results)
        sizes = np.abs(one - other)
        return [int(i) for i in np.argsort(-sizes, kind="stable") if not math.isnan(sizes[i])]

    def class_note(self, index: int) -> str:
        """What a reader must know of a class; it names the model if it is true of one alone."""
        notes = [result.class_note(index).strip() for result in self.results]
        if notes[0] == notes[1]:
            return notes[0]
        of_one = zip(self.names, notes, strict=True)
        return "; ".join(f"{name}: {note}" for name, note in of_one if note)

    def text(self) -> str:
        """Tables in percent: scores, mean IoU in bands, IoU of each class, what differs most."""
        first = self.results[0]
        lines = [
            f"{first.num_examples} examples of {first.spec.name}, split {first.options.split};"
            f" difference: {self.names[0]} less {self.names[1]}, with its {100 * LEVEL:.0f} %"
            f" interval (paired bootstrap over the examples, {DRAWS:,} draws)"
        ]
        headlines, of_classes, class_notes = [], [], []
        for name, found in self.differences.items():
            title, values = TITLES[name], [result.intervals[name].value for result in self.results]
            if np.ndim(found.value) == 0:
                headlines.append(_row(title, *values, found.value, found.low, found.high))
            elif name in COMPARED_CLASSES:
                columns = (*values, found.value, found.low, found.high)
                rows = zip(first.spec.class_names, *columns, strict=True)
                of_classes += [_row(f"{title}, {each[0]}", *each[1:]) for each in rows]
                class_notes += map(self.class_note, range(first.spec.num_classes))
        for width, differences in self.trimap_differences.items():
            values = [result.trimap_scores[width]["mean_iou"] for result in self.results]
            found = differences["mean_iou"]
            title = f"trimap mean IoU, width {width}"
            headlines.append(_row(title, *values, found.value, found.low, found.high))
        headlines.insert(0, ["%", *self.names, "difference", "interval"])
        notes = [*[""] * len(headlines), *class_notes]
        for line, note in zip(_table([*headlines, *of_classes]), notes, strict=True):
            lines.append(f"{line}  {note}".rstrip())
        images = [
            [name, *(f"{100 * value:.2f}" for value in (one, other)), f"{100 * difference:+.2f}"]
            for name, one, other, difference in self.image_differences
            if difference
        ]
        better = sum(row[-1] > 0 for row in self.image_differences)
        worse = sum(row[-1] < 0 for row in self.image_differences)
        lines.append(
            f"mean IoU of an image: {self.names[0]} is better on {better}, {self.names[1]} on"
            f" {worse} of {len(self.image_differences)}; "
            + ("the examples that differ most:" if images else "no example differs")
        )
        if images:
            lines += _table([["example, %", *self.names, "difference"], *images[:_IMAGES_SHOWN]])
        return "\n".join(lines)

    def to_json(self) -> str:
        """All of it as indented JSON; fractions, null where there is no score."""
        first = self.results[0]
        differences: dict[str, Any] = {}
        for name, found in self.differences.items():
            columns = [result.intervals[name].value for result in self.results]
            columns += [found.value, found.low, found.high]
            trees = [_tree(*row) for row in zip(*map(np.atleast_1d, columns), strict=True)]
            if np.ndim(found.value) == 0:
                differences[name] = trees[0]
            else:
                differences[name] = dict(zip(first.spec.class_names, trees, strict=True))
        tree = {
            "dataset": first.spec.name,
            "split": first.options.split,
            "num_examples": first.num_examples,
            "models": self.names,
            "intervals": {"level": LEVEL, "draws": DRAWS, "seed": SEED},
            "differences": differences,
            "images": [
                {"name": name, "first": one, "second": other, "difference": difference}
                for name, one, other, difference in self.image_differences
            ],
        }
        if self.trimap_differences:
            tree["trimap"] = {str(width): self._band(width) for width in self.trimap_differences}
        return json.dumps(tree, indent=2) + "\n"

    def _band(self, width: int) -> dict[str, Any]:
        """Name of METRICS -> both scores of a band and their difference, as in JSON."""
        one, other = (result.trimap_scores[width] for result in self.results)
        return {
            name: _tree(one[name], other[name], found.value, found.low, found.high)
            for name, found in self.trimap_differences[width].items()
        }


def check_same_classes(specs: Sequence[DatasetSpec]) -> None:
    """Checks that two models are scored on the same classes.

    Raises:
      ValueError: they are not.
    """
    first, second = specs
    if first.class_names != second.class_names:
        raise ValueError(
            "both models must be scored on the same classes; got"
            f" {', '.join(first.class_names)} and {', '.join(second.class_names)}."
        )


COMPARED_CLASSES = ("iou", "boundary_iou")  # in the text; the JSON has every metric
TITLES = {
    name: row.title
    for table in (
        METRICS,
        *BENCHMARK_SCORES.values(),
        CLASS_METRICS,
        BOUNDARY_METRICS,
        BOUNDARY_CLASS_METRICS,
    )
    for name, row in table.items()
}


def _row(title: str, *values: float) -> list[str]:
    """A line of the table: two scores, their difference and its interval."""
    one, other, difference, low, high = (100 * value for value in values)
    if math.isnan(difference):
        return [title, *("-" if math.isnan(x) else f"{x:.2f}" for x in (one, other)), "-", "-"]
    return [title, f"{one:.2f}", f"{other:.2f}", f"{difference:+.2f}", f"{low:+.2f} to {high:+.2f}"]


def _table(rows: list[list[str]]) -> list[str]:
    """Lines whose cells stand below each other, names at the left and numbers at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _tree(one: float, other: float, difference: float, low: float, high: float) -> dict[str, Any]:
    values = {"first": one, "second": other, "difference": difference, "low": low, "high": high}
    return {key: None if math.isnan(x) else float(x) for key, x in values.items()}
