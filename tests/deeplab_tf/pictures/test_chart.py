import numpy as np
import pytest

from deeplab_tf.pictures.chart import COLORS, _ticks, draw_curves, draw_lines, running_mean


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 30000, [0, 5000, 10000, 15000, 20000, 25000, 30000]),
        (0, 0.7, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        (-3, 3, [-3, -2, -1, 0, 1, 2, 3]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    assert _ticks(low, high) == expected


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.0, 1e30])
def test_ticks_of_one_value_still_span_something(value):
    ticks = _ticks(value, value)
    assert ticks[0] <= value <= ticks[-1] and ticks[0] < ticks[-1]


@pytest.mark.parametrize(
    "points", [[], [(1, 2.0)], [(1, float("nan")), (2, float("inf"))], [(0, 0.0), (10**7, 1e9)]]
)
def test_any_points_can_be_drawn(points):
    picture = draw_curves([("loss", points)])
    assert picture.shape == (300, 800, 3) and picture.dtype == np.uint8


def test_many_values_are_pale_below_their_running_mean():
    noisy = [(step, 1.0 + (-1) ** step * 0.5) for step in range(200)]
    picture = draw_curves([("loss", noisy)])
    assert has_color(picture, "#b5cbe8")
    rows = np.flatnonzero((picture == (0x1F, 0x5F, 0xBF)).all(-1).any(1))
    assert rows.size and np.ptp(rows) < 30  # of 300: the mean of 0.5 and 1.5 hardly moves
    assert not has_color(draw_curves([("loss", noisy[:40])]), "#b5cbe8")


def test_a_running_mean_is_that_of_the_values_around():
    points = [(10, 1.0), (20, 2.0), (30, float("nan")), (40, 6.0)]
    assert running_mean(points, 1) == [(10, 1.5), (20, 1.5), (30, 4.0), (40, 6.0)]
    assert running_mean(points, 0) == [(10, 1.0), (20, 2.0), (40, 6.0)]
    assert running_mean([], 3) == []


def has_color(picture: np.ndarray, color: str) -> bool:
    red, green, blue = bytes.fromhex(color[1:])
    return bool((picture == (red, green, blue)).all(-1).any())


def test_each_line_has_a_color_of_its_own_in_the_chart_and_in_the_legend():
    lines = {f"model {i}": [(1, 50.0 + i), (40, 60.0 + i)] for i in range(len(COLORS))}
    picture = draw_lines("mean IoU", "width", lines)
    chart, legend = picture[:450], picture[450:]
    for color in COLORS:
        assert has_color(chart, color) and has_color(legend, color)
    two = draw_lines("mean IoU", "width", dict(list(lines.items())[:2]))
    assert [has_color(two, color) for color in COLORS] == [True, True] + [False] * 6


def test_the_vertical_axis_of_lines_spans_their_values_and_not_0():
    high = draw_lines("mean IoU", "width", {"a": [(1, 71.0), (40, 79.0)]})[:450]
    rows = np.flatnonzero((high == (0x1F, 0x5F, 0xBF)).all(-1).any(1))
    assert rows.max() - rows.min() > 200


def test_more_lines_than_colors_are_refused():
    with pytest.raises(ValueError, match=f"at most {len(COLORS)} lines; got {len(COLORS) + 1}"):
        draw_lines("", "", {str(i): [] for i in range(len(COLORS) + 1)})


@pytest.mark.parametrize("points", [[], [(1, float("nan"))], [(0, 5.0)], [(3, 0.0), (9, 1e9)]])
def test_lines_of_any_points_can_be_drawn(points):
    assert draw_lines("loss", "x", {"a": points}).dtype == np.uint8
