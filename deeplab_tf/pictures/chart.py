"""Line charts of measured values, with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Points = Sequence[tuple[int, float]]  # (x, value)
# ours: told apart by people who do not see all colors
COLORS = ("#1f5fbf", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539", "#6a3d9a")
_WIDTH = 800  # of a picture, pixels
_CURVE_HEIGHT = 300  # of a panel of draw_curves, pixels
_LINES_HEIGHT = 450  # of the one of draw_lines
_LEGEND_ROW = 22  # height of a line of the legend
_MARGINS = (70, 36, 24, 40)  # left, top, right, bottom of a panel: room for the labels
_PALE = "#b5cbe8"  # of values whose mean is drawn over them
_MANY = 40  # values; a panel with more of them has a line of means too
_SHARPNESS = 2  # drawn this many times larger and shrunk, for smooth lines


def draw_curves(panels: Sequence[tuple[str, Points]]) -> np.ndarray:
    """Draws one chart below the other, with the same steps on the horizontal axis.

    Where there are many values, as of the loss of single steps, they are pale, and their running
    mean is drawn over them.

    Args:
      panels: (name, points) of each chart; values that are not finite are left out.

    Returns:
      uint8 [H, W, 3].
    """
    last_step = max((step for _, points in panels for step, _ in points), default=1)
    picture = _blank(_CURVE_HEIGHT * max(1, len(panels)))
    for i, (name, points) in enumerate(panels):
        box = _CURVE_HEIGHT * i, _CURVE_HEIGHT
        lines, colors = [points], COLORS
        if len(points) > _MANY:
            window = len(points) // 20  # ours: a twentieth of the curve
            lines = [points, running_mean(points, window)]
            colors = (_PALE, COLORS[0])
            name = f"{name} (dark: mean of {2 * window + 1} values)"
        axes = {"last_x": last_step, "x_name": "step", "least": 0.0}
        _draw_panel(picture, box, name, lines, colors, **axes)
    return np.asarray(picture.reduce(_SHARPNESS))


def running_mean(points: Points, window: int) -> list[tuple[int, float]]:
    """The mean of each value and of up to `window` values before and after it.

    Values that are not finite are left out; where all are, there is no point.
    """
    means = []
    for i, (x, _) in enumerate(points):
        around = [value for _, value in points[max(0, i - window) : i + window + 1]]
        finite = [value for value in around if math.isfinite(value)]
        if finite:
            means.append((x, math.fsum(finite) / len(finite)))
    return means


def draw_lines(title: str, x_name: str, lines: Mapping[str, Points]) -> np.ndarray:
    """Draws several lines in one chart, each in its color, and a legend below it.

    Args:
      title: what the values are.
      x_name: what the horizontal axis, which begins at 0, shows.
      lines: name -> points; values that are not finite are left out.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: there are more lines than colors.
    """
    if len(lines) > len(COLORS):
        raise ValueError(f"a chart has at most {len(COLORS)} lines; got {len(lines)}.")
    last_x = max((x for points in lines.values() for x, _ in points), default=1)
    picture = _blank(_LINES_HEIGHT + _LEGEND_ROW * (len(lines) + 1))
    box = 0, _LINES_HEIGHT
    _draw_panel(picture, box, title, [*lines.values()], COLORS, last_x=last_x, x_name=x_name)
    draw, font = ImageDraw.Draw(picture), _font()
    for i, (name, color) in enumerate(zip(lines, COLORS, strict=False)):
        y = (_LINES_HEIGHT + _LEGEND_ROW * (i + 0.5)) * _SHARPNESS
        left, end = (x * _SHARPNESS for x in (_MARGINS[0], _MARGINS[0] + 30))
        _draw_line(draw, [(left, y), (end, y)], color)
        draw.text((end + 10 * _SHARPNESS, y), name, "black", font, anchor="lm")
    return np.asarray(picture.reduce(_SHARPNESS))


def _blank(height: int) -> Image.Image:
    return Image.new("RGB", (_WIDTH * _SHARPNESS, height * _SHARPNESS), "white")


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=13 * _SHARPNESS)


def _draw_panel(
    picture: Image.Image,
    box: tuple[int, int],
    title: str,
    lines: Sequence[Points],
    colors: Sequence[str],
    *,
    last_x: int,
    x_name: str,
    least: float | None = None,
) -> None:
    """Draws a chart with its axes.

    Args:
      picture: to draw in.
      box: y of the panel's top, and its height, pixels.
      title: what the values are.
      lines: the points of each.
      colors: of each line.
      last_x: of the horizontal axis, which begins at 0.
      x_name: of the horizontal axis.
      least: a value that the vertical axis shows too.
    """
    left, top, right, bottom = (margin * _SHARPNESS for margin in _MARGINS)
    offset, height, width = (n * _SHARPNESS for n in (*box, _WIDTH))
    draw, font = ImageDraw.Draw(picture), _font()
    line, gap = _SHARPNESS, 6 * _SHARPNESS
    lines = [[(x, value) for x, value in points if math.isfinite(value)] for points in lines]
    values = [value for points in lines for _, value in points]
    shown = values if least is None else [least, *values]
    y_ticks = _ticks(min(shown, default=0.0), max(values, default=1.0))
    x_ticks = [tick for tick in _ticks(0, max(1, last_x)) if tick <= max(1, last_x)]

    def x_of(x: float) -> float:
        return left + x / max(1, last_x) * (width - left - right)

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
    draw.text((left, high - gap), title, "black", font, anchor="lb")
    draw.text((width - right, low + bottom - gap), x_name, "black", font, anchor="rb")
    for points, color in zip(lines, colors, strict=False):
        _draw_line(draw, [(x_of(x), y_of(value)) for x, value in points], color)


def _draw_line(draw: ImageDraw.ImageDraw, path: Sequence[tuple[float, float]], color: str) -> None:
    if len(path) > 1:
        draw.line(path, color, 2 * _SHARPNESS, joint="curve")
    if len(path) < 50:  # more would overlap
        for x, y in path:
            draw.circle((x, y), 3 * _SHARPNESS, color)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eleven round numbers, evenly spaced, from `low` or below to `high` or above."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    spacing = next(n * power for n in (1, 2, 5, 10) if n * power * 8 >= span)
    first = math.floor(low / spacing)
    last = max(math.ceil(high / spacing), first + 1)
    return [float(f"{i * spacing:.10g}") for i in range(first, last + 1)]
