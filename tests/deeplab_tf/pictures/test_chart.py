import numpy as np
import pytest

from deeplab_tf.pictures.chart import _ticks, draw_curves


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
