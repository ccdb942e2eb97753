"""The report of an evaluation: one page with the scores, the images and what was run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.evaluation.classify import ACCURACIES, ClassifyResult
from deeplab_tf.evaluation.metrics import METRICS
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.bootstrap import DRAWS, FEW, LEVEL, Estimate, share_interval
from deeplab_tf.pages.charts import bar, interval_text, lines_chart
from deeplab_tf.pages.confusion import confusion_section
from deeplab_tf.pages.examples import Example, examples_section
from deeplab_tf.pages.html import cell, page, percent, section, swatch, table, text
from deeplab_tf.pages.record import record_section

_INTERVALS = (
    f"Intervals are {100 * LEVEL:.0f} % bootstrap intervals over the images ({DRAWS:,} draws). They"
    " say how much the choice of the images matters, not how another training would score. Where"
    " images resemble each other, such as frames of a video, they are too narrow."
)


def evaluation_page(
    result: EvalResult | ClassifyResult,
    examples: Mapping[str, Iterable[tuple[int, Example]]],
    record: Mapping[str, object],
    recipe: Any,
) -> str:
    """The report as one page that needs no other file.

    Args:
      result: the scores.
      examples: title of a group of images -> (index in the order of the scores, image), in order;
        see `examples.choose`.
      record: what -> its value: what was run on which data.
      recipe: as a JSON tree.

    Returns:
      HTML.
    """
    name, split = result.spec.name, result.options.split
    if isinstance(result, ClassifyResult):
        parts = [*_accuracies(result), _accuracies_of_classes(result)]
    else:
        parts = [*_scores(result), _classes(result), *_trimap(result)]
        if examples:
            parts.append(_examples(result, examples))
        parts.append(confusion_section(result.matrix, result.spec.class_names))
    parts.append(record_section(record, {"the model": recipe}, result.spec))
    return page(f"Evaluation on {name}, {split}", parts)


def alarm_lines(alarms: Sequence[str]) -> list[str]:
    """What is wrong with the scores, to stand before them."""
    return [f'<p class="warning" role="alert">{text(alarm)}</p>' for alarm in alarms]


def _score_card(title: str, value: float, found: Estimate | None) -> str:
    """A headline score, with its interval if there is one."""
    low, high = (math.nan, math.nan) if found is None else (float(found.low), float(found.high))
    return (
        f'<div class="score">{text(title)}<b>{percent(value)}&thinsp;%</b>'
        f"{interval_text(low, high)}{bar(value, low, high)}</div>"
    )


def _number_of(result: EvalResult | ClassifyResult) -> str:
    number = result.num_examples
    return f"{number:,} image{'' if number == 1 else 's'} of {result.spec.name}"


def _scores(result: EvalResult) -> list[str]:
    cards = [
        _score_card(title, value, result.intervals.get(name))
        for name, (title, value) in result.headlines.items()
    ]
    note = _INTERVALS if result.intervals else "One image has no interval."
    if result.intervals and result.num_examples < FEW:
        note += f" So they are here, with fewer than {FEW} images."
    return [
        f"<p>{text(_number_of(result))}, split {text(result.options.split)}.</p>",
        *alarm_lines(result.alarms),
        f'<div class="scores">{"".join(cards)}</div>',
        f'<p class="muted">{note}</p>',
    ]


def _classes(result: EvalResult) -> str:
    """A row per class, with a bar per score."""
    columns = result.class_columns
    pixels = result.matrix.sum(axis=1)
    images_with = np.count_nonzero(result.images.label, axis=0)
    total = max(1, int(pixels.sum()))
    rows = []
    for i, name in enumerate(result.spec.class_names):
        note = result.class_note(i).strip()
        what = f"{swatch(result.spec.palette[i])}{text(name)}"
        cells = [cell(f"{what}{f' <small>{note}</small>' if note else ''}")]
        for metric, (_, values) in columns.items():
            found = result.intervals.get(metric)
            ends = (found.low[i], found.high[i]) if found is not None else (math.nan, math.nan)
            value = float(values[i])
            content = f"{percent(value)}{interval_text(*ends)}{bar(value, *ends)}"
            cells.append(cell(content, value, "bar-column"))
        share = pixels[i] / total
        cells.append(cell(f"{percent(share)} <small>{pixels[i]:,} px</small>", float(share)))
        cells.append(cell(f"{images_with[i]:,}", float(images_with[i])))
        rows.append(cells)
    headings = [
        ("class", "text"),
        *((f"{title} %", "bar-column") for title, _ in columns.values()),
        ("% of label pixels", "number"),
        ("images with it", "number"),
    ]
    few = '<p class="muted">The interval of a class in few images is too narrow.</p>'
    notes = [few] if result.intervals else []
    return section("Classes", *notes, table(headings, rows, label="Classes", sortable=True))


def _trimap(result: EvalResult) -> list[str]:
    """Mean IoU by the width of the band around void, if it was scored."""

    def score_cell(band: int, name: str, value: float) -> str:
        found = result.trimap_intervals.get(band, {}).get(name)
        ends = "" if found is None else interval_text(float(found.low), float(found.high))
        return cell(f"{percent(value)}{ends}", value)

    points = [(band, scores["mean_iou"]) for band, scores in result.trimap_scores.items()]
    if all(math.isnan(value) for _, value in points):
        return []
    chart = lines_chart(
        [("pixels in the band", points)],
        [("all pixels", result.scores["mean_iou"])],
        x_name="width of the band, pixels",
        y_name="mean IoU, %",
    )
    rows = [
        [
            cell(str(band), float(band)),
            *(score_cell(band, name, value) for name, value in scores.items()),
            cell(f"{result.trimap[band].label.sum():,}", float(result.trimap[band].label.sum())),
        ]
        for band, scores in result.trimap_scores.items()
    ]
    headings = [("width", "number"), *((f"{row.title} %", "number") for row in METRICS.values())]
    return [
        section(
            "Near void: trimap",
            '<p class="muted">Scores of the pixels at most so many rows and columns from void. They'
            " are near boundaries of objects where labels are void along them, as in PASCAL VOC."
            "</p>",
            chart,
            table([*headings, ("pixels", "number")], rows, label="Near void"),
        )
    ]


def _examples(result: EvalResult, examples: Mapping[str, Iterable[tuple[int, Example]]]) -> str:
    scores = result.image_scores

    def captioned(group: Iterable[tuple[int, Example]]) -> Iterable[tuple[Example, str]]:
        for index, example in group:
            yield example, f"mean IoU {percent(scores[index])} %{_largest_error(result, example)}"

    left_out = int(np.isnan(scores).sum())
    notes = [
        '<p class="muted">Images are ranked by their own mean IoU, over the classes in their label'
        " or prediction.</p>"
    ]
    if left_out:
        notes.append(
            '<p class="muted">Without a score, since no class that counts is in the label or the'
            f" prediction: {left_out:,}.</p>"
        )
    groups = {title: captioned(group) for title, group in examples.items()}
    return examples_section("Images", groups, result.spec, ["Prediction"], *notes)


def _largest_error(result: EvalResult, example: Example) -> str:
    """The confusion that costs an image the most pixels."""
    (label_map,), label = example.label_maps, example.label
    counted = label != result.spec.ignore_label
    wrong = counted & (label_map != label)
    if not wrong.any():
        return ""
    names = result.spec.class_names
    pairs = np.stack([label[wrong], label_map[wrong]])
    found, times = np.unique(pairs, axis=1, return_counts=True)
    one, other = found[:, times.argmax()]
    share = times.max() / counted.sum()
    return (
        f"; wrong {percent(wrong.sum() / counted.sum())} %, most often {text(names[one])} as"
        f" {text(names[other])} ({percent(share)} %)"
    )


def _accuracies(result: ClassifyResult) -> list[str]:
    images = int(result.ranks.sum())
    cards = [
        _score_card(ACCURACIES[name].title, value, share_interval(round(value * images), images))
        for name, value in result.scores.items()
    ]
    return [
        f"<p>{text(_number_of(result))}, split {text(result.options.split)}.</p>",
        *alarm_lines(result.alarms),
        f'<div class="scores">{"".join(cards)}</div>',
        f'<p class="muted">{_INTERVALS}</p>',
    ]


def _accuracies_of_classes(result: ClassifyResult) -> str:
    images = result.ranks.sum(axis=1)
    rows = []
    for i, value in enumerate(result.class_scores["top_1"]):
        value = float(value)
        found = share_interval(int(result.ranks[i, 0]), int(images[i]))
        name = f"{swatch(result.spec.palette[i])}{text(result.spec.class_names[i])}"
        interval = found.low, found.high
        ends = interval_text(*interval)
        rows.append(
            [
                cell(name),
                cell(f"{percent(value)}{ends}{bar(value, *interval)}", value, "bar-column"),
                cell(f"{images[i]:,}", float(images[i])),
                cell(f"{result.predicted[i]:,}", float(result.predicted[i])),
            ]
        )
    headings = [
        ("class", "text"),
        ("top-1 accuracy %", "bar-column"),
        ("images", "number"),
        ("predicted", "number"),
    ]
    return section("Classes", table(headings, rows, label="Classes", sortable=True))
