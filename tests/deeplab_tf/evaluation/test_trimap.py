import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import METRICS, ConfusionMatrix, Counts, mean_iou
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.bootstrap import DRAWS, SEED, draw_weights
from deeplab_tf.evaluation.trimap import Trimap, smallest_band
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval

WIDTHS = (1, 2, 5, 10, 20, 40)


def slow_band(void: np.ndarray, width: int) -> np.ndarray:
    """Pixels with void in the square of side 2 width + 1 around them, one after the other."""
    found = np.zeros(void.shape, bool)
    for y, x in np.ndindex(void.shape):
        rows = slice(max(0, y - width), y + width + 1)
        columns = slice(max(0, x - width), x + width + 1)
        found[y, x] = void[rows, columns].any()
    return found & ~void


def slow_mean_iou(label, label_map, counted) -> float:
    ious = []
    for k in range(3):
        both = either = 0.0
        for index in np.ndindex(label.shape):
            if counted[index]:
                both += float(label[index] == k and label_map[index] == k)
                either += float(label[index] == k or label_map[index] == k)
        if either:
            ious.append(np.float64(both) / np.float64(either))
    return float(np.mean(ious)) if ious else float("nan")


def rows_of(counts: Counts) -> list[list[list[int]]]:
    """Intersection, label and prediction of each class, of each image."""
    arrays = (counts.intersection, counts.label, counts.predicted)
    return np.stack(arrays, axis=1).tolist()


def sparse_void(random, shape, share) -> np.ndarray:
    return random.random(shape) < share


@pytest.mark.parametrize("seed", range(40))
def test_bands_equal_a_search_around_each_pixel(seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 30, 2))
    void = sparse_void(random, shape, random.choice([0.002, 0.01, 0.1, 0.6]))
    widths = tuple(
        sorted(random.choice(np.arange(1, 45), size=random.integers(1, 7), replace=False))
    )
    smallest = smallest_band(void, widths)
    for i, width in enumerate(widths):
        np.testing.assert_array_equal((smallest <= i) & ~void, slow_band(void, width))


@pytest.mark.parametrize("where", [(0, 0), (0, 8), (6, 0), (6, 8), (3, 4), (0, 4), (3, 8)])
def test_one_void_pixel_gives_the_chessboard_distance_to_it_up_to_the_border(where):
    void = np.zeros((7, 9), bool)
    void[where] = True
    rows, columns = np.indices(void.shape)
    distance = np.maximum(abs(rows - where[0]), abs(columns - where[1]))
    widths = tuple(range(1, 12))
    expected = np.maximum(distance - 1, 0)
    np.testing.assert_array_equal(smallest_band(void, widths), expected)


def test_a_label_without_void_and_one_of_void_alone_have_empty_bands():
    for label in (np.zeros((5, 6), np.int32), np.full((5, 6), 255, np.int32)):
        trimap = Trimap(3, 255, WIDTHS)
        trimap.update(label, np.zeros((5, 6), np.int32))
        assert list(trimap.counts) == list(WIDTHS)
        assert not any(counts.label.any() for counts in trimap.counts.values())


def test_a_band_does_not_cross_from_one_image_to_the_next():
    trimap = Trimap(2, 255, (1,))
    trimap.update(np.array([[0, 1, 255]]), np.array([[0, 1, 0]]))
    trimap.update(np.array([[1, 1, 1]]), np.array([[0, 1, 0]]))
    assert rows_of(trimap.counts[1]) == [[[0, 1], [0, 1], [0, 1]], [[0, 0], [0, 0], [0, 0]]]


def test_the_smallest_example_by_hand():
    trimap = Trimap(2, 255, (1, 3))
    label = np.array([[0, 0, 1, 1, 255, 1]])
    label_map = np.array([[1, 0, 1, 0, 1, 1]])
    trimap.update(label, label_map)
    assert rows_of(trimap.counts[1]) == [[[0, 1], [0, 2], [1, 1]]]  # columns 3 and 5
    assert rows_of(trimap.counts[3]) == [[[1, 2], [1, 3], [2, 2]]]  # and 1 and 2


def test_an_image_that_is_refused_is_counted_in_no_band():
    trimap = Trimap(2, 255, (1, 2))
    label = np.array([[255, 0, 1]])
    trimap.update(label, label % 2)
    with pytest.raises(ValueError, match="^label_map values must be 0..1; got 2 in 1 pixels"):
        trimap.update(label, np.array([[0, 0, 2]]))  # wrong in the second band alone
    assert rows_of(trimap.counts[1]) == [[[1, 0], [1, 0], [1, 0]]]
    assert rows_of(trimap.counts[2]) == [[[1, 1], [1, 1], [1, 1]]]


@pytest.mark.parametrize("ignore_label", [255, -1, 65535])
def test_the_mean_iou_of_each_band_equals_a_float64_loop_over_pixels(ignore_label):
    random = np.random.default_rng(7)
    for share in (0.003, 0.05):
        label = random.integers(0, 3, (24, 31))
        label[sparse_void(random, label.shape, share)] = ignore_label
        label_map = random.integers(0, 3, label.shape)
        trimap = Trimap(3, ignore_label, WIDTHS)
        trimap.update(label, label_map)
        for width, counts in trimap.counts.items():
            counted = slow_band(label == ignore_label, width)
            assert counts.label.sum() == counted.sum()
            found = mean_iou(counts.sum(), Eval())
            np.testing.assert_equal(found, slow_mean_iou(label, label_map, counted))


def test_a_wider_band_has_all_pixels_of_a_narrower_one():
    random = np.random.default_rng(1)
    label = random.integers(0, 3, (40, 50))
    label[sparse_void(random, label.shape, 0.01)] = 255
    trimap = Trimap(3, 255, WIDTHS)
    trimap.update(label, random.integers(0, 3, label.shape))
    bands = list(trimap.counts.values())
    for narrow, wide in zip(bands, bands[1:], strict=False):
        assert (np.array(rows_of(narrow)) <= rows_of(wide)).all()
    assert bands[-1].label.sum() == (label != 255).sum()  # no pixel is farther from void here


@pytest.mark.parametrize("absent_classes", ["exclude", "zero"])
def test_the_interval_of_a_band_is_that_of_a_loop_over_draws_of_images(absent_classes):
    random = np.random.default_rng(3)
    trimap, confusion, images = Trimap(3, 255, (1, 4)), ConfusionMatrix(3, 255), []
    for i in range(6):
        label = random.integers(0, 3 if i == 0 else 2, (9, 11))  # one image alone has class 2
        label[sparse_void(random, label.shape, 0.02)] = 255
        label_map = np.where(random.random(label.shape) < 0.7, label % 3, i % 2)
        trimap.update(label, label_map)
        confusion.update(label, label_map)
        images.append((label, label_map))
    result = EvalResult(
        spec=DatasetSpec(
            name="abc",
            class_names=("a", "b", "c"),
            ignore_label=255,
            palette=bit_palette(3),
            splits={"val": 6},
        ),
        options=Eval(trimap_widths=(1, 4), absent_classes=absent_classes),
        predict=None,
        matrix=confusion.matrix,
        num_examples=6,
        trimap=trimap.counts,
    )
    drawn = np.concatenate(list(draw_weights(6, DRAWS, SEED)))
    for width in (1, 4):
        matrices = []
        for label, label_map in images:
            matrices.append(np.zeros((3, 3), int))
            for index in zip(*np.nonzero(slow_band(label == 255, width)), strict=True):
                matrices[-1][label[index], label_map[index]] += 1
        scores = []
        for weights in drawn:
            matrix = sum(n * one for n, one in zip(weights, matrices, strict=True))
            union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
            ious = [matrix[k, k] / union[k] for k in range(3) if union[k]]
            number = 3 if absent_classes == "zero" else len(ious)
            scores.append(sum(ious) / number if number else np.nan)
        found = result.trimap_intervals[width]["mean_iou"]
        expected = np.nanquantile(scores, [0.025, 0.975])
        np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-12)
        assert found.low < found.value < found.high
        assert found.value == result.trimap_scores[width]["mean_iou"]
        of_all = Counts.of(sum(matrices))
        for name, row in METRICS.items():
            assert result.trimap_scores[width][name] == row.compute(of_all, result.options)


@pytest.mark.parametrize("widths", [(0,), (-1,), (1001,), (1.5,), (True,)])
def test_widths_are_1_to_1000_pixels(widths):
    with pytest.raises(ValueError, match="^trimap_widths must be "):
        Eval(trimap_widths=widths)
    assert Eval(trimap_widths=[1, 1000]).trimap_widths == (1, 1000)  # of JSON
