"""How sure a score is, given how few images it is from: bootstrap over images.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap", Ch. 13: of N images, N are drawn
with replacement, and the score of these is computed as that of the whole set is, from the sums of
their pixels. Over many draws the scores spread as they would over other sets of N such images. The
interval lies between two percentiles of them.

The interval says how much the choice of the images matters, not how another training would score.
It is too narrow for few images, and for classes that occur in few of them: that of a class in one
image has no width. Where absent classes are left out of a mean, it also shows which classes a draw
has. Images count as independent: for those that resemble each other, such as frames of a video, it
is too narrow too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deeplab_tf.evaluation.metrics import Counts

LEVEL = 0.95  # ours, as the others
DRAWS = 2000
FEW = 30  # images below which intervals are too narrow
SEED = 0  # any: the same images are drawn for every model, and again in every run

_NUMBERS_AT_ONCE = 2**22  # of the weights, 32 MiB


# counts [..., K] -> float64 [...], or [..., K] of the classes
Statistic = Callable[[Counts], Any]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A score, or one of each class, with its interval.

    Attributes:
      value: of all images, float64 [] or [K].
      low: lower end of the interval; NaN where no draw has a score.
      high: upper end.
    """

    value: Any
    low: Any
    high: Any


def intervals(
    statistics: Mapping[str, Statistic],
    counts: Counts,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Estimate]:
    """Scores with their percentile intervals.

    Args:
      statistics: name -> how a score, or one of each class, follows from counts.
      counts: int64 [N, K], of each image.
      level: share of the draws in an interval.
      draws: B, how often N images are drawn.
      seed: of the draws.

    Returns:
      Name -> estimate.

    Raises:
      ValueError: there are fewer than two images.
    """
    whole, drawn = counts.sum(), resampled(counts, draws=draws, seed=seed)
    return {
        name: Estimate(statistic(whole), *percentiles(statistic(drawn), level))
        for name, statistic in statistics.items()
    }


def share_interval(part: int, whole: int, *, draws: int = DRAWS) -> Estimate:
    """A share of the images, such as those that are right, with its percentile interval.

    Args:
      part: number of images that count.
      whole: N, number of images.
      draws: B, how often N images are drawn.

    Returns:
      The estimate; without an interval if there are fewer than two images, NaN if there are none.
    """
    share = part / whole if whole else math.nan
    if whole < 2:
        return Estimate(share, math.nan, math.nan)
    # How many of N drawn images count follows the binomial distribution.
    drawn = np.random.default_rng(SEED).binomial(whole, share, draws) / whole
    return Estimate(share, *percentiles(drawn, LEVEL))


def paired_differences(
    statistics: Mapping[str, Statistic],
    one: Counts,
    other: Counts,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Estimate]:
    """Differences of two models' scores, the first less the second, with their intervals.

    Each draw takes the same images for both. What makes an image difficult for both cancels then,
    and an interval is narrower than those of the scores.

    Args:
      statistics: name -> how a score, or one of each class, follows from counts.
      one: int64 [N, K], of each image, by the first model.
      other: int64 [N, K], of the same images in the same order, by the second.
      level: share of the draws in an interval.
      draws: B, how often N images are drawn.
      seed: of the draws.

    Returns:
      Name -> estimate.

    Raises:
      ValueError: the numbers of images or of classes differ, or there are fewer than two images.
    """
    if one.label.shape != other.label.shape:
        raise ValueError(
            "paired counts must be of the same images and classes; got"
            f" {one.label.shape} and {other.label.shape}."
        )
    wholes = [counts.sum() for counts in (one, other)]
    draws_of = [resampled(counts, draws=draws, seed=seed) for counts in (one, other)]
    found = {}
    for name, statistic in statistics.items():
        value, spread = (statistic(a) - statistic(b) for a, b in (wholes, draws_of))
        found[name] = Estimate(value, *percentiles(spread, level))
    return found


def resampled(counts: Counts, *, draws: int = DRAWS, seed: int = SEED) -> Counts:
    """float64 [B, K]: the summed counts of each draw of N images out of [N, K]."""
    parts = [counts.weighted(weights) for weights in draw_weights(len(counts.label), draws, seed)]
    return Counts.concatenated(parts)


def draw_weights(num_images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of int64 [b, N], in all `draws` rows: how often each image is in a draw.

    Raises:
      ValueError: there are fewer than two images, which have no spread.
    """
    if num_images < 2:
        raise ValueError(f"an interval needs at least two images; got {num_images}.")
    random = np.random.default_rng(seed)
    rows = max(1, _NUMBERS_AT_ONCE // num_images)
    for first in range(0, draws, rows):
        block = min(rows, draws - first)
        chosen = random.integers(0, num_images, (block, num_images))
        chosen += num_images * np.arange(block)[:, None]  # a row's images follow the last row's
        yield np.bincount(chosen.ravel(), minlength=block * num_images).reshape(block, -1)


def percentiles(values: np.ndarray, level: float) -> tuple[Any, Any]:
    """The ends of the interval that holds the middle `level` of the draws.

    Args:
      values: float64 [B] or [B, K]. NaN, as of a class that a draw does not have, is left out.
      level: share of the draws in the interval.

    Returns:
      (low, high), float64 [] or [K]; NaN where all draws are.
    """
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    ends = np.full((2, *values.shape[1:]), np.nan)
    known = ~np.isnan(values).all(axis=0)
    ends[:, known] = np.nanquantile(values[:, known], shares, axis=0)
    return ends[0][()], ends[1][()]
