import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import Counts, iou
from deeplab_tf.evaluation.scores.boundary import boundary_counts, boundary_width, near_contour
from deeplab_tf.recipe.parts import Eval

K = 3


def slow_boundary(mask: np.ndarray, reach: int) -> np.ndarray:
    """The pixels of one class with another pixel, or the outside, in the square around them."""
    found = np.zeros(mask.shape, bool)
    height, width = mask.shape
    for y, x in np.ndindex(mask.shape):
        if not mask[y, x]:
            continue
        for row in range(y - reach, y + reach + 1):
            for column in range(x - reach, x + reach + 1):
                inside = 0 <= row < height and 0 <= column < width
                found[y, x] |= not inside or not mask[row, column]
    return found


def slow_boundary_iou(pairs, ignore_label: int) -> np.ndarray:
    """Boundary IoU of each class over several images: its definition, one class at a time."""
    values = []
    for k in range(K):
        both = either = np.float64(0)
        for label, label_map in pairs:
            reach = max(1, int(round(0.02 * (label.shape[0] ** 2 + label.shape[1] ** 2) ** 0.5)))
            void = label == ignore_label
            one = slow_boundary(label == k, reach)
            other = slow_boundary((label_map == k) & ~void, reach)
            both += (one & other).sum()
            either += (one | other).sum()
        values.append(both / either if either else np.nan)
    return np.array(values)


def blobs(random, shape) -> np.ndarray:
    """Rectangles of classes, so that some pixels are far from contours."""
    classes = np.full(shape, random.integers(K))
    for _ in range(random.integers(1, 6)):
        top, left = (random.integers(0, side) for side in shape)
        height, width = random.integers(1, 20, 2)
        classes[top : top + height, left : left + width] = random.integers(K)
    return classes


@pytest.mark.parametrize("ignore_label", [255, -1])
@pytest.mark.parametrize("seed", range(3))
def test_boundary_iou_equals_its_definition_pixel_by_pixel(seed, ignore_label):
    random = np.random.default_rng(seed)
    pairs = []
    for shape in ((20, 31), (25, 72), (1, 9)):  # d is 1, 2 and 1
        label = blobs(random, shape)
        label_map = np.where(random.random(shape) < 0.02, random.integers(K), label)
        label_map = np.roll(label_map, random.integers(-2, 3), axis=1)
        label[: shape[0] // 3, shape[1] // 2 :][:, :3] = ignore_label
        pairs.append((label, label_map))
    each = [boundary_counts(*pair, K, ignore_label) for pair in pairs]
    found = iou(Counts.stack(each).sum(), Eval())
    np.testing.assert_array_equal(found, slow_boundary_iou(pairs, ignore_label))
    assert (np.nan_to_num(found, nan=1) < 1).any()


@pytest.mark.parametrize("reach", [1, 2, 3, 7])
def test_near_a_contour_means_another_class_in_the_square_around(reach):
    random = np.random.default_rng(reach)
    for _ in range(5):
        classes = blobs(random, tuple(random.integers(1, 30, 2))).astype(np.int32)
        expected = np.zeros(classes.shape, bool)
        for k in range(K):
            expected |= slow_boundary(classes == k, reach)
        np.testing.assert_array_equal(near_contour(classes, reach), expected)


def test_a_prediction_that_is_right_outside_void_scores_1_whatever_it_says_in_void():
    random = np.random.default_rng(0)
    label = blobs(random, (60, 80))
    label[10:14] = 255
    label_map = np.where(label == 255, random.integers(0, K, label.shape), label)
    found = iou(boundary_counts(label, label_map, K, 255), Eval())
    assert set(found[~np.isnan(found)]) == {1.0}


def test_a_shifted_square_loses_more_near_its_contour_than_in_all():
    label = np.zeros((100, 100), int)
    label[20:80, 20:80] = 1
    label_map = np.roll(label, 2, axis=1)
    near = boundary_counts(label, label_map, 2, 255)
    # d is 3: the ring of the square is 60^2 - 54^2 pixels.
    assert near.label[1] == near.predicted[1] == 60**2 - 54**2
    of_all = (60 * 58) / (60 * 62)
    assert iou(near, Eval())[1] < of_all - 0.2


def test_the_distance_is_2_percent_of_the_diagonal_and_at_least_1():
    assert boundary_width(300, 400) == 10
    assert boundary_width(1024, 2048) == 46  # 45.8
    assert boundary_width(3, 4) == 1
