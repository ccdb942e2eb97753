"""Bars with intervals in HTML, and lines in SVG, in the colors of `page.css`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from deeplab_tf.pages.html import percent, text

_WIDTH, _HEIGHT = 420, 260  # ours: of a chart, in its own units: text stays readable on a phone
_LEFT, _TOP, _RIGHT, _BOTTOM = 40, 26, 14, 38  # margins, for the labels
_MOST_TICKS = 6  # ours
_COLORS = ("first", "second")  # classes in page.css

Points = Sequence[tuple[float, float]]


def bar(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A bar from 0 to a fraction, with its interval if there is one.

    Args:
      value: 0..1; NaN: no bar.
      low: lower end of the interval.
      high: its upper end.

    Returns:
      HTML.
    """
    if math.isnan(value):
        return ""
    interval = "" if math.isnan(low) else f"--low:{100 * low:.2f}%;--high:{100 * high:.2f}%"
    return (
        f'<span class="bar" style="--from:0%;--to:{100 * value:.2f}%;{interval}"><i></i>'
        f"{'<u></u>' if interval else ''}</span>"
    )


def difference_bar(value: float, low: float, high: float, largest: float) -> str:
    """A bar from the middle, which is 0, to a difference, with its interval.

    Args:
      value: of the difference; NaN: no bar.
      low: lower end of the interval.
      high: its upper end.
      largest: the difference at the ends of the axis; all bars of a column share it.

    Returns:
      HTML.
    """
    if math.isnan(value):
        return ""

    def place(difference: float) -> float:
        return 50 + 50 * difference / (largest or 1)

    interval = "" if math.isnan(low) else f"--low:{place(low):.2f}%;--high:{place(high):.2f}%"
    name = "bar around-zero" if value >= 0 else "bar around-zero second"
    return (
        f'<span class="{name}" style="--from:{place(min(0, value)):.2f}%;'
        f'--to:{place(max(0, value)):.2f}%;{interval}"><i></i>'
        f"{'<u></u>' if interval else ''}</span>"
    )


def interval_text(low: float, high: float, *, signed: bool = False) -> str:
    """The ends of an interval in percent, in small letters; nothing if there is none."""
    if math.isnan(low):
        return ""
    ends = percent(low, signed=signed), percent(high, signed=signed)
    return f" <small>{ends[0]} to {ends[1]}</small>"


def lines_chart(
    lines: Sequence[tuple[str, Points]],
    wholes: Sequence[tuple[str, float]],
    *,
    x_name: str,
    y_name: str,
) -> str:
    """Fractions over a number, one line per model.

    Args:
      lines: (name, points) of one model or two.
      wholes: (name, value without a limit of x) of each, a dashed line.
      x_name: what the horizontal axis, which begins at 0, shows.
      y_name: what the vertical axis shows, in percent.

    Returns:
      A legend in HTML, and an SVG.
    """
    known = [(x, y) for _, points in lines for x, y in points if not math.isnan(y)]
    values = [y for _, y in known] + [whole for _, whole in wholes if not math.isnan(whole)]
    last_x = max(x for x, _ in known)
    ticks = _percent_ticks(min(values), max(values))

    def x_of(x: float) -> float:
        return _LEFT + x / last_x * (_WIDTH - _LEFT - _RIGHT)

    def y_of(fraction: float) -> float:
        share = (100 * fraction - ticks[0]) / (ticks[-1] - ticks[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{text(y_name)} by {text(x_name)}">'
    ]
    for tick in ticks:
        y = y_of(tick / 100)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{floor}H{right}"/>')
    parts.append(f'<text x="2" y="14">{text(y_name)}</text>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">{text(x_name)}</text>')
    # Labels of small widths would overlap.
    label_of, last = [], math.inf
    for x in sorted({x for x, _ in known}, reverse=True):
        if last - x_of(x) >= 20:
            label_of.append(x)
            last = x_of(x)
    for x in label_of:
        parts.append(f'<text x="{x_of(x):.1f}" y="{floor + 14}" text-anchor="middle">{x:g}</text>')
    keys = []
    for color, (name, points) in zip(_COLORS, lines, strict=False):
        shown = [(x, y) for x, y in points if not math.isnan(y)]
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in shown)
        parts.append(f'<path class="line {color}" d="M{path}"/>')
        for x, y in shown:
            title = f"{name}, {x:g}: {percent(y)} %"
            parts.append(
                f'<circle class="dot {color}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3.5">'
                f"<title>{text(title)}</title></circle>"
            )
        keys.append(_key(color, name))
    for color, (name, whole) in zip(_COLORS, wholes, strict=False):
        if not math.isnan(whole):
            parts.append(
                f'<path class="line whole {color}" d="M{_LEFT} {y_of(whole):.1f}H{right}"/>'
            )
            keys.append(_key(f"{color} whole", f"{name}: {percent(whole)} %"))
    return f'<p class="chips">{"".join(keys)}</p>{"".join(parts)}</svg>'


def _key(color: str, name: str) -> str:
    """A line of the legend."""
    line = f'<svg width="28" height="10"><path class="line {color}" d="M0 5H28"/></svg>'
    return f"<span>{line}&nbsp;{text(name)}</span>"


def _percent_ticks(low: float, high: float) -> list[int]:
    """Round numbers of percent, evenly spaced, from `low` or below to `high` or above."""
    steps = (1, 2, 5, 10, 20)
    spans = {step: (math.floor(100 * low / step), math.ceil(100 * high / step)) for step in steps}
    step = next(s for s in steps if spans[s][1] - spans[s][0] < _MOST_TICKS or s == steps[-1])
    first, last = spans[step]
    return [i * step for i in range(first, max(last, first + 1) + 1)]
