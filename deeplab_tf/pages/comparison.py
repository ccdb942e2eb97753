"""The comparison of two models: one page with the differences and the images behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.evaluation.scores.bootstrap import DRAWS, FEW, LEVEL
from deeplab_tf.evaluation.scores.comparison import COMPARED_CLASSES, TITLES, Comparison
from deeplab_tf.pages.charts import difference_bar, interval_text, lines_chart
from deeplab_tf.pages.evaluation import alarm_lines
from deeplab_tf.pages.examples import Example, examples_section
from deeplab_tf.pages.html import Column, cell, page, percent, section, swatch, table, text
from deeplab_tf.pages.record import record_section


def comparison_page(
    comparison: Comparison,
    examples: Sequence[tuple[int, Example]],
    record: Mapping[str, object],
    recipes: Mapping[str, Any],
) -> str:
    """The comparison as one page that needs no other file.

    Args:
      comparison: of the two models.
      examples: (index in the order of the scores, image with both predictions), in order.
      record: what -> its value: what was run on which data.
      recipes: name of a model -> its recipe as a JSON tree.

    Returns:
      HTML.
    """
    first = comparison.results[0]
    one, other = comparison.names
    parts = [
        f"<p>{first.num_examples:,} images of {text(first.spec.name)}, split"
        f" {text(first.options.split)}. A difference is {text(one)} less {text(other)}: above 0,"
        f" {text(one)} is better.</p>",
        *alarm_lines(
            [
                f"{name}: {alarm}"
                for name, result in zip(comparison.names, comparison.results, strict=True)
                for alarm in result.alarms
            ]
        ),
        _scores(comparison),
        _classes(comparison),
        *_trimap(comparison),
        _images(comparison, examples),
        record_section(record, recipes, first.spec),
    ]
    return page(f"{one} and {other} on {first.spec.name}, {first.options.split}", parts)


def _scores(comparison: Comparison) -> str:
    """A row per score that is one number, and what the intervals mean."""
    found = {
        name: estimate
        for name, estimate in comparison.differences.items()
        if np.ndim(estimate.value) == 0
    }
    largest = _largest(found.values())
    rows = []
    for name, estimate in found.items():
        numbers = (estimate.value, estimate.low, estimate.high)
        rows.append(
            [
                cell(text(TITLES[name])),
                *_difference(*map(float, numbers), largest, comparison.names),
                *_both(comparison, name),
            ]
        )
    few = ""
    if comparison.results[0].num_examples < FEW:
        few = f" So they are here, with fewer than {FEW} images."
    return section(
        "Scores",
        table(_headings(("score", "text"), comparison), rows, label="Scores"),
        f'<p class="muted">Intervals are {100 * LEVEL:.0f} % intervals of a paired bootstrap over'
        f" the images ({DRAWS:,} draws): each draw scores both models on the same images. An"
        " interval that holds 0 says that a difference of this size may come from the choice of"
        " the images alone; one that does not says that it would be seen on other images of this"
        " kind too. It does not say how another training of the same recipes would score. Where"
        " images resemble each other, such as frames of a video, intervals are too narrow."
        f"{few}</p>",
    )


def _classes(comparison: Comparison) -> str:
    """A table per score of a class, around zero."""
    spec, parts = comparison.results[0].spec, []
    compared = [name for name in COMPARED_CLASSES if name in comparison.differences]
    largest = _largest(comparison.differences[name] for name in compared)
    for name in compared:
        estimate, rows = comparison.differences[name], []
        for i, class_name in enumerate(spec.class_names):
            numbers = (float(ends[i]) for ends in (estimate.value, estimate.low, estimate.high))
            note = text(comparison.class_note(i))
            what = f"{swatch(spec.palette[i])}{text(class_name)}"
            rows.append(
                [
                    cell(f"{what}{f' <small>{note}</small>' if note else ''}"),
                    *_difference(*numbers, largest, comparison.names),
                    *_both(comparison, name, i),
                ]
            )
        title, headings = f"{TITLES[name]} of the classes", _headings(("class", "text"), comparison)
        parts.append(f"<h3>{text(TITLES[name])}</h3>")
        parts.append(table(headings, rows, label=title, sortable=True))
    return section(
        "Classes",
        '<p class="muted">Where there are many classes, some intervals leave out 0 by chance: one'
        " of twenty, if no class differs.</p>",
        *parts,
    )


def _headings(first: tuple[str, Column], comparison: Comparison) -> list[tuple[str, Column]]:
    """What a table of differences begins with, then a difference, its reading and both scores."""
    one, other = comparison.names
    return [
        first,
        ("difference, percentage points", "bar-column"),
        ("reading", "text"),
        (f"{one} %", "number"),
        (f"{other} %", "number"),
    ]


def _both(comparison: Comparison, name: str, index: Any = ()) -> list[str]:
    """A cell for the score of each model."""
    values = [float(result.intervals[name].value[index]) for result in comparison.results]
    return [cell(percent(value), value) for value in values]


def _difference(
    value: float, low: float, high: float, largest: float, names: tuple[str, str]
) -> list[str]:
    """A cell for a difference with its interval, and one for what it says."""
    ends = interval_text(low, high, signed=True)
    bar = difference_bar(value, low, high, largest)
    number = cell(f"{percent(value, signed=True)}{ends}{bar}", value, "bar-column")
    return [number, cell(_reading(value, low, high, names))]


def _largest(estimates: Iterable[Any]) -> float:
    """The largest number in differences and their intervals, which the bars' axis ends at."""
    ends = [np.ravel(end) for found in estimates for end in (found.value, found.low, found.high)]
    known = np.abs(np.concatenate(ends))
    return float(np.nanmax(known, initial=0.0))


def _reading(value: float, low: float, high: float, names: tuple[str, str]) -> str:
    if math.isnan(low):
        return ""
    if value == low == high == 0:
        return "the same"
    if low > 0 or high < 0:
        return f"{text(names[0] if low > 0 else names[1])} is better"
    return "may be chance"


def _trimap(comparison: Comparison) -> list[str]:
    """Mean IoU of both by the width of the band around void, if both were scored there."""
    found = {band: rows["mean_iou"] for band, rows in comparison.trimap_differences.items()}
    curves = [
        (name, [(band, result.trimap_scores[band]["mean_iou"]) for band in found])
        for name, result in zip(comparison.names, comparison.results, strict=True)
    ]
    if all(math.isnan(value) for _, points in curves for _, value in points):
        return []
    wholes = [
        (f"{name}, all pixels", result.scores["mean_iou"])
        for name, result in zip(comparison.names, comparison.results, strict=True)
    ]
    chart = lines_chart(curves, wholes, x_name="width of the band, pixels", y_name="mean IoU, %")
    largest, rows = _largest(found.values()), []
    for i, (band, one) in enumerate(found.items()):
        numbers = map(float, (one.value, one.low, one.high))
        both = (points[i][1] for _, points in curves)
        rows.append(
            [
                cell(str(band), float(band)),
                *_difference(*numbers, largest, comparison.names),
                *(cell(percent(value), value) for value in both),
            ]
        )
    return [
        section(
            "Near void: trimap",
            '<p class="muted">Mean IoU of the pixels at most so many rows and columns from void.'
            " They are near boundaries of objects where labels are void along them, as in PASCAL"
            " VOC.</p>",
            chart,
            table(_headings(("width", "number"), comparison), rows, label="Near void"),
        )
    ]


def _images(comparison: Comparison, examples: Sequence[tuple[int, Example]]) -> str:
    """The images that differ most, and on how many each model is better."""
    names, rows = comparison.names, comparison.image_differences
    better, worse = (sum(sign * row[-1] > 0 for row in rows) for sign in (1, -1))
    note = (
        f"<p>By the mean IoU of an image, {text(names[0])} is better on {better:,} and"
        f" {text(names[1])} on {worse:,} of {len(rows):,} images.</p>"
    )
    if not comparison.image_ranking:
        note += "<p>No image's mean IoU differs.</p>"
    if not examples:
        return section("Images", note)
    scores = [result.image_scores for result in comparison.results]

    def caption(index: int) -> str:
        one, other = (float(values[index]) for values in scores)
        return (
            f"mean IoU {percent(one)} % and {percent(other)} %, difference"
            f" {percent(one - other, signed=True)} percentage points"
        )

    groups = {
        "The images that differ most": [(each, caption(index)) for index, each in examples],
    }
    return examples_section("Images", groups, comparison.results[0].spec, names, note)
