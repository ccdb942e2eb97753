import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.metrics import (
    CLASS_METRICS,
    METRICS,
    ConfusionMatrix,
    Metric,
    check_options,
    iou,
    mean_iou,
    pixel_accuracy,
)
from deeplab_tf.recipe.parts import Eval


def test_scores_of_six_pixels_worked_out_by_hand():
    confusion = ConfusionMatrix(3, 255)
    confusion.update(np.array([[0, 0, 1], [1, 1, 255]]), np.array([[0, 1, 1], [1, 0, 2]]))
    np.testing.assert_array_equal(confusion.matrix, [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
    # Class 0: 1 right of 3; class 1: 2 of 4; class 2 only where the label is void.
    np.testing.assert_allclose(iou(confusion.matrix, Eval()), [1 / 3, 2 / 4, np.nan])
    assert pixel_accuracy(confusion.matrix, Eval()) == pytest.approx(3 / 5)
    for options, expected in (
        (Eval(), (1 / 3 + 1 / 2) / 2),
        (Eval(absent_classes="zero"), (1 / 3 + 1 / 2) / 3),
        (Eval(excluded_classes=(0,)), 1 / 2),
        (Eval(excluded_classes=(0, 2), absent_classes="zero"), 1 / 2),
    ):
        assert mean_iou(confusion.matrix, options) == pytest.approx(expected)


def test_a_class_that_is_only_predicted_counts_as_zero():
    confusion = ConfusionMatrix(2, 255)
    confusion.update(np.array([[0, 0]]), np.array([[0, 1]]))
    np.testing.assert_array_equal(iou(confusion.matrix, Eval()), [1 / 2, 0])
    assert mean_iou(confusion.matrix, Eval()) == 1 / 4


def test_matrix_equals_a_loop_over_pixels():
    random = np.random.default_rng(0)
    label = random.integers(0, 5, (2, 7, 9))
    label[random.random(label.shape) < 0.2] = 255
    label_map = random.integers(0, 5, label.shape)
    expected = np.zeros((5, 5), int)
    for index in np.ndindex(label.shape):
        if label[index] != 255:
            expected[label[index], label_map[index]] += 1
    confusion = ConfusionMatrix(5, 255)
    confusion.update(label.astype(np.uint8), tf.constant(label_map, tf.int32))
    np.testing.assert_array_equal(confusion.matrix, expected)
    assert confusion.matrix.dtype == np.int64
    for k in range(5):
        both = ((label == k) & (label_map == k)).sum()
        either = (((label == k) | (label_map == k)) & (label != 255)).sum()
        assert iou(confusion.matrix, Eval())[k] == both / either


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
    empty = ConfusionMatrix(2, 255).matrix
    for metric in METRICS.values():
        assert np.isnan(metric.compute(empty, Eval()))
    for metric in CLASS_METRICS.values():
        assert np.isnan(metric.compute(empty, Eval())).all()


@pytest.mark.parametrize(
    ("label", "label_map", "message"),
    [
        ([[0, 3]], [[0, 0]], r"label values must be 0..2 or 255 \(ignored\); got 3 in 1 pixels"),
        ([[0, -1]], [[0, 0]], r"label values must be .* got -1"),
        ([[0, 0]], [[0, 3]], r"label_map values must be 0..2; got 3"),
        ([[0, 0]], [[0]], r"same shape; got \(1, 2\) and \(1, 1\)"),
        ([[0.0, 0.0]], [[0, 0]], r"label must be of an integer type; got float64"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_counted(label, label_map, message):
    confusion = ConfusionMatrix(3, 255)
    with pytest.raises(ValueError, match=message):
        confusion.update(np.array(label), np.array(label_map))
    assert confusion.matrix.sum() == 0


def test_options_that_do_not_fit_the_classes_are_refused():
    check_options(Eval(excluded_classes=(0, 2)), 3)
    with pytest.raises(
        ValueError, match=r"^eval.excluded_classes must be among .* 0..2; got 3, 9\.$"
    ):
        check_options(Eval(excluded_classes=(3, 1, 9)), 3)
    with pytest.raises(ValueError, match="^eval.excluded_classes must leave a class; got all 2"):
        check_options(Eval(excluded_classes=(1, 0)), 2)


@pytest.mark.parametrize("widths", [(2, 1), (1, 1)])
def test_the_widths_of_the_trimap_ascend(widths):
    check_options(Eval(trimap_widths=(1, 2)), 3)
    with pytest.raises(
        ValueError, match=f"^eval.trimap_widths must be different and ascending; got {widths[0]},1"
    ):
        check_options(Eval(trimap_widths=widths), 3)


def test_the_best_metric_is_one_of_the_table():
    check_options(Eval(best_metric="pixel_accuracy"), 3)
    with pytest.raises(
        ValueError,
        match="^eval.best_metric must be one of mean_iou, pixel_accuracy; got 'miou'.$",
    ):
        check_options(Eval(best_metric="miou"), 3)
    other = {"top_1": Metric("top-1 accuracy", pixel_accuracy)}
    check_options(Eval(best_metric="top_1"), 3, other)
    with pytest.raises(ValueError, match="must be one of top_1; got 'mean_iou'"):
        check_options(Eval(), 3, other)
