"""Line charts of measured values against the step, with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[int, float]]  # (step, value)
_PANEL = (800, 300)  # width and height, pixels
_MARGINS = (70, 36, 24, 40)  # left, top, right, bottom of a panel: room for the labels
_SHARPNESS = 2  # drawn this many times larger and shrunk, for smooth lines


def draw_curves(panels: Sequence[tuple[str, Points]]) -> np.ndarray:
    """Draws one chart below the other, with the same steps on the horizontal axis.

    Args:
      panels: (name, points) of each chart; values that are not finite are left out.

    Returns:
      uint8 [H, W, 3].
    """
    last_step = max((step for _, points in panels for step, _ in points), default=1)
    size = (_PANEL[0] * _SHARPNESS, _PANEL[1] * max(1, len(panels)) * _SHARPNESS)
    picture = Image.new("RGB", size, "white")
    for i, (name, points) in enumerate(panels):
        _draw_panel(ImageDraw.Draw(picture), _PANEL[1] * i, name, points, last_step)
    return np.asarray(picture.reduce(_SHARPNESS))


def _draw_panel(
    draw: ImageDraw.ImageDraw, offset: int, name: str, points: Points, last_step: int
) -> None:
    left, top, right, bottom = (margin * _SHARPNESS for margin in _MARGINS)
    width, height, offset = (n * _SHARPNESS for n in (*_PANEL, offset))
    font = ImageFont.load_default(size=13 * _SHARPNESS)
    line, gap = _SHARPNESS, 6 * _SHARPNESS
    points = [(step, value) for step, value in points if math.isfinite(value)]
    values = [value for _, value in points]
    y_ticks = _ticks(min([0.0, *values]), max(values, default=1.0))
    x_ticks = [tick for tick in _ticks(0, max(1, last_step)) if tick <= max(1, last_step)]

    def x_of(step: float) -> float:
        return left + step / max(1, last_step) * (width - left - right)

    def y_of(value: float) -> float:
        share = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return offset + height - bottom - share * (height - top - bottom)

    low, high = y_of(y_ticks[0]), y_of(y_ticks[-1])
    for tick in y_ticks:
        draw.line((left, y_of(tick), width - right, y_of(tick)), "#dddddd", line)
        draw.text((left - gap, y_of(tick)), f"{tick:.10g}", "black", font, anchor="rm")
    for tick in x_ticks:
        draw.line((x_of(tick), low, x_of(tick), high), "#dddddd", line)
        draw.text((x_of(tick), low + gap), f"{tick:.10g}", "black", font, anchor="mt")
    draw.line((left, high, left, low, width - right, low), "black", line)
    draw.text((left, high - gap), name, "black", font, anchor="lb")
    draw.text((width - right, low + bottom - gap), "step", "black", font, anchor="rb")
    path = [(x_of(step), y_of(value)) for step, value in points]
    if len(path) > 1:
        draw.line(path, "#1f5fbf", 2 * line, joint="curve")
    if len(path) < 50:  # more would overlap
        for x, y in path:
            draw.circle((x, y), 3 * line, "#1f5fbf")


def _ticks(low: float, high: float) -> list[float]:
    """Four to eleven round numbers, evenly spaced, from `low` or below to `high` or above."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    spacing = next(n * power for n in (1, 2, 5, 10) if n * power * 8 >= span)
    first = math.floor(low / spacing)
    last = max(math.ceil(high / spacing), first + 1)
    return [float(f"{i * spacing:.10g}") for i in range(first, last + 1)]
