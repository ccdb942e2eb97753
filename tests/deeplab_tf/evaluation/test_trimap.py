import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import Counts, mean_iou
from deeplab_tf.evaluation.trimap import Trimap, smallest_band
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
        assert list(trimap.matrices) == list(WIDTHS)
        assert not any(matrix.any() for matrix in trimap.matrices.values())


def test_a_band_does_not_cross_from_one_image_to_the_next():
    trimap = Trimap(2, 255, (1,))
    trimap.update(np.array([[0, 1, 255]]), np.array([[0, 1, 0]]))
    trimap.update(np.array([[1, 1, 1]]), np.array([[0, 1, 0]]))
    np.testing.assert_array_equal(trimap.matrices[1], [[0, 0], [0, 1]])


def test_the_smallest_example_by_hand():
    trimap = Trimap(2, 255, (1, 3))
    label = np.array([[0, 0, 1, 1, 255, 1]])
    label_map = np.array([[1, 0, 1, 0, 1, 1]])
    trimap.update(label, label_map)
    np.testing.assert_array_equal(trimap.matrices[1], [[0, 0], [1, 1]])  # columns 3 and 5
    np.testing.assert_array_equal(trimap.matrices[3], [[1, 0], [1, 2]])  # and 1 and 2


@pytest.mark.parametrize("ignore_label", [255, -1, 65535])
def test_the_mean_iou_of_each_band_equals_a_float64_loop_over_pixels(ignore_label):
    random = np.random.default_rng(7)
    for share in (0.003, 0.05):
        label = random.integers(0, 3, (24, 31))
        label[sparse_void(random, label.shape, share)] = ignore_label
        label_map = random.integers(0, 3, label.shape)
        trimap = Trimap(3, ignore_label, WIDTHS)
        trimap.update(label, label_map)
        for width, matrix in trimap.matrices.items():
            counted = slow_band(label == ignore_label, width)
            assert matrix.sum() == counted.sum()
            found = mean_iou(Counts.of(matrix), Eval())
            np.testing.assert_equal(found, slow_mean_iou(label, label_map, counted))


def test_a_wider_band_has_all_pixels_of_a_narrower_one():
    random = np.random.default_rng(1)
    label = random.integers(0, 3, (40, 50))
    label[sparse_void(random, label.shape, 0.01)] = 255
    trimap = Trimap(3, 255, WIDTHS)
    trimap.update(label, random.integers(0, 3, label.shape))
    matrices = list(trimap.matrices.values())
    for narrow, wide in zip(matrices, matrices[1:], strict=False):
        assert (narrow <= wide).all()
    assert matrices[-1].sum() == (label != 255).sum()  # no pixel is farther from void here


@pytest.mark.parametrize("widths", [(0,), (-1,), (1001,), (1.5,), (True,)])
def test_widths_are_1_to_1000_pixels(widths):
    with pytest.raises(ValueError, match="^trimap_widths must be "):
        Eval(trimap_widths=widths)
    assert Eval(trimap_widths=[1, 1000]).trimap_widths == (1, 1000)  # of JSON
