import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import CLASS_METRICS, METRICS, Counts
from deeplab_tf.evaluation.scores import bootstrap
from deeplab_tf.evaluation.scores.bootstrap import (
    Estimate,
    draw_weights,
    intervals,
    paired_differences,
    percentiles,
)
from deeplab_tf.recipe.parts import Eval


def statistics_of(metrics, **options):
    scoring = Eval(**options)
    return {
        name: lambda counts, row=row: row.compute(counts, scoring) for name, row in metrics.items()
    }


def random_counts(random, images=12, classes=4) -> Counts:
    matrices = random.integers(0, 50, (images, classes, classes))
    matrices[np.arange(images), np.arange(images) % 2] = 0  # each image lacks a class
    matrices += 60 * np.eye(classes, dtype=int) * (matrices.sum(axis=2, keepdims=True) > 0)
    return Counts.stack([Counts.of(matrix) for matrix in matrices])


def naive_draws(statistic, counts, draws, seed) -> np.ndarray:
    """The statistic of each draw, image by image."""
    values = []
    (weights,) = draw_weights(len(counts.label), draws, seed)
    for row in weights:
        drawn = [i for i, times in enumerate(row) for _ in range(times)]
        assert len(drawn) == len(counts.label)
        picked = [Counts(*(getattr(counts, f)[i] for f in vars(counts))) for i in drawn]
        values.append(statistic(Counts.stack(picked).sum()))
    return np.array(values)


@pytest.mark.parametrize("absent", ["exclude", "zero"])
def test_intervals_equal_those_of_a_loop_over_draws_and_images(absent):
    counts = random_counts(np.random.default_rng(0))
    statistics = statistics_of({**METRICS, **CLASS_METRICS}, absent_classes=absent)
    found = intervals(statistics, counts, draws=60, seed=5, level=0.9)
    for name, statistic in statistics.items():
        drawn = naive_draws(statistic, counts, 60, 5)
        np.testing.assert_allclose(found[name].value, statistic(counts.sum()), rtol=1e-14)
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        np.testing.assert_allclose(found[name].low, low, rtol=1e-12)
        np.testing.assert_allclose(found[name].high, high, rtol=1e-12)


def test_a_paired_difference_takes_the_same_images_for_both():
    random = np.random.default_rng(1)
    one, other = random_counts(random), random_counts(random)
    statistics = statistics_of(METRICS)
    found = paired_differences(statistics, one, other, draws=60, seed=2)
    for name, statistic in statistics.items():
        drawn = naive_draws(statistic, one, 60, 2) - naive_draws(statistic, other, 60, 2)
        np.testing.assert_allclose(found[name].low, np.quantile(drawn, 0.025), rtol=1e-10)
        np.testing.assert_allclose(found[name].high, np.quantile(drawn, 0.975), rtol=1e-10)
    same = paired_differences(statistics, one, one)
    assert all(estimate == Estimate(0, 0, 0) for estimate in same.values())


def test_blocks_do_not_change_the_draws(monkeypatch):
    counts = random_counts(np.random.default_rng(2))
    whole = intervals(statistics_of(METRICS), counts, draws=50)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 7 * 12)
    assert len(list(draw_weights(12, 50, 0))) == 8
    assert intervals(statistics_of(METRICS), counts, draws=50) == whole


def test_a_draw_without_a_class_is_left_out_and_a_class_without_a_draw_has_no_interval():
    values = np.array([[np.nan, 1.0, np.nan], [0.2, 2.0, np.nan], [0.4, 3.0, np.nan]])
    low, high = percentiles(values, 1.0)
    np.testing.assert_array_equal(low, [0.2, 1, np.nan])
    np.testing.assert_array_equal(high, [0.4, 3, np.nan])
    assert percentiles(values[:, 0], 1.0) == (0.2, 0.4)
    assert np.isnan(percentiles(values[:, 2], 1.0)).all()


def test_one_image_has_no_interval_and_other_images_no_difference():
    counts = random_counts(np.random.default_rng(3))
    one = Counts(counts.intersection[:1], counts.label[:1], counts.predicted[:1])
    with pytest.raises(ValueError, match="^an interval needs at least two images; got 1"):
        intervals({}, one)
    with pytest.raises(ValueError, match=r"^paired counts must be of the same images .* \(1, 4\)"):
        paired_differences({}, counts, one)


# Images of a simulated world: their sizes, shares of classes and difficulty vary.
_SETS, _IMAGES, _CLASSES = 200, 100, 3


def simulated(random, images: int, skill=0.0) -> Counts:
    pixels = random.integers(2_000, 8_000, images)
    shares = random.dirichlet([4.0, 2.0, 2.0], images)
    difficulty = random.normal(1.0 + skill, 0.5, (images, 1))
    accuracy = 1 / (1 + np.exp(-random.normal(difficulty, 0.3, (images, _CLASSES))))
    label = np.floor(shares * pixels[:, None]).astype(np.int64)
    intersection = random.binomial(label, accuracy)
    wrong = label - intersection
    # A wrong pixel is predicted as the next class.
    return Counts(intersection, label, intersection + np.roll(wrong, 1, axis=1))


def test_intervals_cover_the_true_score_in_95_percent_of_simulated_sets():
    random = np.random.default_rng(11)
    statistics = statistics_of(METRICS)
    truth = simulated(random, 400_000).sum()
    covered = dict.fromkeys(statistics, 0)
    for _ in range(_SETS):
        found = intervals(statistics, simulated(random, _IMAGES), draws=1000)
        for name, statistic in statistics.items():
            covered[name] += found[name].low <= statistic(truth) <= found[name].high
    for name, times in covered.items():
        assert 0.90 <= times / _SETS <= 0.98, (name, times)


@pytest.mark.slow  # 600 times 2,000 draws
def test_paired_intervals_cover_the_true_difference_and_are_narrower():
    random = np.random.default_rng(12)
    statistics = statistics_of({"mean_iou": METRICS["mean_iou"]})

    def pair(images: int) -> tuple[Counts, Counts]:
        seed = int(random.integers(2**31))
        return (
            simulated(np.random.default_rng(seed), images),
            simulated(np.random.default_rng(seed), images, skill=0.2),
        )

    wholes = [statistics["mean_iou"](counts.sum()) for counts in pair(400_000)]
    covered, narrower = 0, 0
    for _ in range(_SETS):
        one, other = pair(_IMAGES)
        found = paired_differences(statistics, one, other)["mean_iou"]
        alone = intervals(statistics, one)["mean_iou"]
        covered += found.low <= wholes[0] - wholes[1] <= found.high
        narrower += found.high - found.low < alone.high - alone.low
    assert 0.90 <= covered / _SETS <= 0.98, covered
    assert narrower == _SETS
