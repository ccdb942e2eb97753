"""Tables with the paper's figures beside ours, as text, CSV and Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deeplab_tf.recipe.json_files import read_json
from deeplab_tf.tables import Row, Table

_CLOSE = 0.1  # ours: percent by which multiply-adds may differ and count as the paper's


@dataclasses.dataclass(frozen=True)
class Measure:
    """A column of figures.

    Attributes:
      title: heading, with the unit.
      of_scores: the figure in what evaluate.py writes; None: it is measured, or a server's.
    """

    title: str
    of_scores: Callable[[Mapping[str, Any]], float] | None = None


def _percent(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda scores: 100.0 * scores[name]


MEASURES: dict[str, Measure] = {
    "mean_iou": Measure("mean IoU %", _percent("mean_iou")),
    "mean_iou_60": Measure("mean IoU % of 60", _percent("mean_iou_background_as_0")),
    "pixel_accuracy": Measure("pixel acc. %", _percent("pixel_accuracy")),
    "final_score": Measure("final score %"),
    "top_1_error": Measure("top-1 error %", lambda scores: 100 * (1 - scores["top_1"])),
    "top_5_error": Measure("top-5 error %", lambda scores: 100 * (1 - scores["top_5"])),
    "multiply_adds": Measure("multiply-adds B"),
    "true_multiply_adds": Measure("true multiply-adds B"),
    "parameters": Measure("parameters M"),
    "speed": Measure("images/s"),
    "mean_speed": Measure("images/s, mean"),
    "speed_ratio": Measure("ratio"),
    "cost_ratio": Measure("multiply-add ratio"),
}


def figures_of(path: str) -> dict[str, float]:
    """The figures in a file that evaluate.py wrote; none if there is no such file.

    Raises:
      ValueError: the file is damaged.
    """
    scores, found = stored(path), {}
    for name, measure in MEASURES.items():
        if measure.of_scores is not None:
            try:
                found[name] = measure.of_scores(scores)
            except (KeyError, TypeError):  # a kind of evaluation without this score, or null
                continue
    return found


def cells_of(
    table: Table, rows: Sequence[Row], ours: Mapping[str, Mapping[str, float]]
) -> list[list[str]]:
    """The heading and the rows.

    Args:
      table: of the rows.
      rows: to print.
      ours: row -> measure -> our figure, as far as there are any.
    """
    heading, columns = ["row", *table.columns], []
    for name in table.measures:
        title = MEASURES[name].title
        if any(name in row.figures for row in rows):
            heading += [f"{title}: paper", "ours"]
            columns.append((name, True))
        elif any(name in figures for figures in ours.values()):
            heading.append(f"{title}: ours")
            columns.append((name, False))
    lines = [heading]
    for row in rows:
        cells = [row.name, *row.cells]
        for name, printed in columns:
            if printed:
                cells.append(_number(row.figures.get(name)))
            cells.append(_number(ours.get(row.name, {}).get(name)))
        lines.append(cells)
    return lines


def notes_of(
    table: Table, rows: Sequence[Row], ours: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """What a reader of the rows must know, a line each."""
    notes: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            notes.setdefault(row.note, []).append(row.name)
    lines = [f"{', '.join(names)}: {note}." for note, names in notes.items()]
    compared = [
        ours[row.name]["multiply_adds"] / row.figures["multiply_adds"] - 1
        for row in rows
        if "multiply_adds" in row.figures and "multiply_adds" in ours.get(row.name, {})
    ]
    if compared:
        close = sum(abs(100 * difference) <= _CLOSE for difference in compared)
        lines.append(
            f"Multiply-adds of {close} of {len(compared)} rows are within {_CLOSE} % of the"
            " paper's. They are counted as the paper does; the true count is beside."
        )
    return lines


def as_text(title: str, cells: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A table for a terminal."""
    columns = []
    for heading, *column in zip(*cells, strict=True):
        width = max(map(len, (heading, *column)))
        of_numbers = all(cell.replace(".", "").isdecimal() for cell in column if cell)
        align = str.rjust if of_numbers and any(column) else str.ljust
        columns.append([align(cell, width) for cell in (heading, *column)])
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return "\n".join([title, "", *lines, *([""] if notes else []), *notes]) + "\n"


def as_csv(cells: Sequence[Sequence[str]]) -> str:
    """The same as comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def as_markdown(title: str, cells: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The same as Markdown."""
    head, *rows = (f"| {' | '.join(row)} |" for row in cells)
    rule = f"| {' | '.join('---' for _ in cells[0])} |"
    return "\n".join([f"## {title}", "", head, rule, *rows, "", *notes]).rstrip() + "\n"


def stored(path: str) -> dict[str, Any]:
    """The object in a JSON file of results; nothing if there is no such file.

    Raises:
      ValueError: the file is damaged.
    """
    if not os.path.exists(path):
        return {}
    try:
        return read_json(path, dict)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged; remove it, and the same command makes it again ({error})"
        ) from error


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"
