import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.metrics import ConfusionMatrix


def test_scores_of_six_pixels_worked_out_by_hand():
    confusion = ConfusionMatrix(3, 255)
    confusion.update(np.array([[0, 0, 1], [1, 1, 255]]), np.array([[0, 1, 1], [1, 0, 2]]))
    np.testing.assert_array_equal(confusion.matrix, [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
    # Class 0: 1 right of 3 named; class 1: 2 of 4; class 2 only where the label is void.
    np.testing.assert_allclose(confusion.iou(), [1 / 3, 2 / 4, np.nan])
    assert confusion.mean_iou() == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert confusion.mean_iou(absent="zero") == pytest.approx((1 / 3 + 1 / 2) / 3)
    assert confusion.mean_iou(excluded_classes=(0,)) == pytest.approx(1 / 2)
    assert confusion.mean_iou(excluded_classes=(0, 2), absent="zero") == pytest.approx(1 / 2)
    assert confusion.pixel_accuracy() == pytest.approx(3 / 5)


def test_a_class_that_is_only_predicted_counts_as_zero():
    confusion = ConfusionMatrix(2, 255)
    confusion.update(np.array([[0, 0]]), np.array([[0, 1]]))
    np.testing.assert_array_equal(confusion.iou(), [1 / 2, 0])
    assert confusion.mean_iou() == 1 / 4


def test_matrix_equals_a_loop_over_pixels():
    random = np.random.default_rng(0)
    label = random.integers(0, 5, (2, 7, 9))
    label[random.random(label.shape) < 0.2] = 255
    label_map = random.integers(0, 5, label.shape)
    mask = random.random(label.shape) < 0.7
    expected = np.zeros((5, 5), int)
    for index in np.ndindex(label.shape):
        if label[index] != 255 and mask[index]:
            expected[label[index], label_map[index]] += 1
    confusion = ConfusionMatrix(5, 255)
    confusion.update(label.astype(np.uint8), tf.constant(label_map, tf.int32), mask)
    np.testing.assert_array_equal(confusion.matrix, expected)
    assert confusion.matrix.dtype == np.int64
    for k in range(5):
        both = ((label == k) & (label_map == k) & mask).sum()
        either = (((label == k) | (label_map == k)) & (label != 255) & mask).sum()
        assert confusion.iou()[k] == both / either


def test_merged_halves_equal_the_whole():
    label, label_map = np.arange(12).reshape(2, 6) % 3, np.arange(12).reshape(2, 6) % 2
    whole, first, second = (ConfusionMatrix(3, 255) for _ in range(3))
    whole.update(label, label_map)
    first.update(label[0], label_map[0])
    second.update(label[1], label_map[1])
    first.merge(second)
    np.testing.assert_array_equal(first.matrix, whole.matrix)


def test_an_ignore_label_above_uint8_and_one_below_zero_are_dropped():
    for ignore_label in (65535, -1):
        confusion = ConfusionMatrix(2, ignore_label)
        confusion.update(np.array([[ignore_label, 1]]), np.array([[0, 1]]))
        np.testing.assert_array_equal(confusion.matrix, [[0, 0], [0, 1]])


def test_more_classes_than_a_label_byte_could_pair():
    confusion = ConfusionMatrix(150, 255)
    confusion.update(np.array([[149]], np.uint8), np.array([[149]], np.uint8))
    assert confusion.matrix[149, 149] == 1


def test_no_pixel_at_all_scores_nan_not_zero():
    confusion = ConfusionMatrix(2, 255)
    assert np.isnan(confusion.mean_iou())
    assert np.isnan(confusion.pixel_accuracy())


@pytest.mark.parametrize(
    ("label", "label_map", "message"),
    [
        ([[0, 3]], [[0, 0]], r"label values must be 0..2 or 255 \(ignored\); got 3 in 1 pixels"),
        ([[0, -1]], [[0, 0]], r"label values must be .* got -1"),
        ([[0, 0]], [[0, 3]], r"label_map values must be 0..2; got 3"),
        ([[0, 0]], [[0]], r"same shape; got \(1, 2\), \(1, 1\)"),
        ([[0.0, 0.0]], [[0, 0]], r"label must be of an integer type; got float64"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_counted(label, label_map, message):
    confusion = ConfusionMatrix(3, 255)
    with pytest.raises(ValueError, match=message):
        confusion.update(np.array(label), np.array(label_map))
    assert confusion.matrix.sum() == 0


def test_wrong_options_are_refused():
    confusion = ConfusionMatrix(3, 255)
    with pytest.raises(ValueError, match="excluded_classes values must be 0..2; got 3"):
        confusion.mean_iou(excluded_classes=(3,))
    with pytest.raises(ValueError, match="'exclude' or 'zero'; got 'ignore'"):
        confusion.mean_iou(absent="ignore")
    with pytest.raises(ValueError, match="must agree in num_classes"):
        confusion.merge(ConfusionMatrix(4, 255))
