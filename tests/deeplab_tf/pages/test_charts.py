import math
import re

import numpy as np
import pytest

from deeplab_tf.pages.charts import bar, difference_bar, lines_chart
from deeplab_tf.pages.html import percent


def places(source: str) -> dict[str, float]:
    """--name of a style -> percent."""
    return {name: float(value) for name, value in re.findall(r"--(\w+):(-?[\d.]+)%", source)}


def test_a_bar_ends_at_its_score_and_shows_its_interval():
    assert places(bar(0.25, 0.2, 0.5)) == {"from": 0, "to": 25, "low": 20, "high": 50}
    assert places(bar(0.25)) == {"from": 0, "to": 25} and "<u>" not in bar(0.25)
    assert bar(math.nan) == difference_bar(math.nan, 0, 0, 1) == ""


def test_a_difference_is_a_bar_from_the_middle_to_its_side():
    right, left = difference_bar(0.1, 0.05, 0.2, 0.2), difference_bar(-0.1, -0.2, 0.05, 0.2)
    assert places(right) == {"from": 50, "to": 75, "low": 62.5, "high": 100}
    assert places(left) == {"from": 25, "to": 50, "low": 0, "high": 62.5}
    assert "second" in left and "second" not in right
    assert places(difference_bar(0, 0, 0, 0)) == {"from": 50, "to": 50, "low": 50, "high": 50}


@pytest.mark.parametrize(
    "values", [[0.0], [1.0], [0.5, 0.5], [0.0, 1.0], [0.301, 0.303], [0.2, math.nan, 0.99]]
)
def test_a_chart_has_every_point_between_its_ticks(values):
    points = list(enumerate(values, start=1))
    source = lines_chart([("a", points)], [("all", 0.4)], x_name="x", y_name="y")
    ticks = [int(t) for t in re.findall(r'text-anchor="end">(\d+)</text>', source)]
    known = [v for v in values if not math.isnan(v)]
    assert 2 <= len(ticks) <= 7 and len(set(np.diff(ticks))) == 1
    assert ticks[0] <= 100 * min([*known, 0.4]) and 100 * max([*known, 0.4]) <= ticks[-1]
    centers = [float(y) for y in re.findall(r'cy="([\d.]+)"', source)]
    assert len(centers) == len(known) and all(26 <= y <= 222 for y in centers)
    assert "nan" not in source


def test_percent_has_the_sign_of_what_it_shows():
    assert [percent(x) for x in (0.123, 0.0, math.nan)] == ["12.3", "0.0", "–"]
    signed = [percent(x, signed=True) for x in (0.123, -0.12345, 0.0, -0.00001, 0.0004)]
    assert signed == ["+12.30", "\N{MINUS SIGN}12.35", "0.00", "0.00", "+0.04"]
