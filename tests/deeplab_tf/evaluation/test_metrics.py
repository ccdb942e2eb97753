import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.metrics import (
    BENCHMARK_SCORES,
    CLASS_METRICS,
    METRICS,
    ConfusionMatrix,
    Counts,
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
    np.testing.assert_allclose(iou(Counts.of(confusion.matrix), Eval()), [1 / 3, 2 / 4, np.nan])
    assert pixel_accuracy(Counts.of(confusion.matrix), Eval()) == pytest.approx(3 / 5)
    for options, expected in (
        (Eval(), (1 / 3 + 1 / 2) / 2),
        (Eval(absent_classes="zero"), (1 / 3 + 1 / 2) / 3),
        (Eval(excluded_classes=(0,)), 1 / 2),
        (Eval(excluded_classes=(0, 2), absent_classes="zero"), 1 / 2),
    ):
        assert mean_iou(Counts.of(confusion.matrix), options) == pytest.approx(expected)


def test_a_class_that_is_only_predicted_counts_as_zero():
    confusion = ConfusionMatrix(2, 255)
    confusion.update(np.array([[0, 0]]), np.array([[0, 1]]))
    np.testing.assert_array_equal(iou(Counts.of(confusion.matrix), Eval()), [1 / 2, 0])
    assert mean_iou(Counts.of(confusion.matrix), Eval()) == 1 / 4


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
        assert iou(Counts.of(confusion.matrix), Eval())[k] == both / either


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
    empty = Counts.of(ConfusionMatrix(2, 255).matrix)
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
        match="^eval.best_metric must be one of mean_iou, pixel_accuracy, mean_.*; got 'miou'.$",
    ):
        check_options(Eval(best_metric="miou"), 3)
    other = {"top_1": Metric("top-1 accuracy", pixel_accuracy)}
    check_options(Eval(best_metric="top_1"), 3, other)
    with pytest.raises(ValueError, match="must be one of top_1; got 'mean_iou'"):
        check_options(Eval(), 3, other)


def slow_scores(label, label_map, num_classes, excluded, absent_is_zero) -> dict[str, float]:
    """Each score of all pixels in float64, from one pixel after the other."""
    ious, accuracies, weighted, right, total, weights = [], [], 0.0, 0.0, 0.0, 0.0
    for k in range(num_classes):
        both = either = is_label = 0.0
        for index in np.ndindex(label.shape):
            if label[index] != 255:
                both += float(label[index] == k and label_map[index] == k)
                either += float(label[index] == k or label_map[index] == k)
                is_label += float(label[index] == k)
        right += both
        total += is_label
        if k in excluded:
            continue
        if either:
            weighted += is_label * (both / either)
            weights += is_label
        if either or absent_is_zero:
            ious.append(both / either if either else 0.0)
        if is_label or absent_is_zero:
            accuracies.append(both / is_label if is_label else 0.0)
    return {
        "mean_iou": np.mean(ious),
        "pixel_accuracy": right / total,
        "mean_class_accuracy": np.mean(accuracies),
        "frequency_weighted_iou": weighted / weights,
    }


@pytest.mark.parametrize("seed", range(6))
def test_every_metric_equals_a_float64_loop_over_pixels(seed):
    random = np.random.default_rng(seed)
    label = random.choice(5, (9, 11), p=[0.5, 0.3, 0.15, 0.05, 0])  # class 4 is only predicted
    label[random.random(label.shape) < 0.2] = 255
    label_map = np.where(random.random(label.shape) < 0.6, label % 255, random.integers(0, 5))
    confusion = ConfusionMatrix(6, 255)
    confusion.update(label, label_map)
    for excluded in ((), (0,), (1, 5)):
        for absent in ("exclude", "zero"):
            options = Eval(excluded_classes=excluded, absent_classes=absent)
            expected = slow_scores(label, label_map, 6, excluded, absent == "zero")
            assert expected.keys() == METRICS.keys()
            for name, row in METRICS.items():
                found = row.compute(Counts.of(confusion.matrix), options)
                assert found == pytest.approx(expected[name], rel=1e-14), name


def test_the_accuracy_of_a_class_is_the_share_of_its_label_that_is_found():
    counts = Counts.of(np.array([[3, 1, 0], [0, 0, 0], [2, 2, 0]]))
    accuracy = CLASS_METRICS["class_accuracy"].compute(counts, Eval())
    np.testing.assert_allclose(accuracy, [3 / 4, np.nan, 0])
    # A class that is only predicted has no accuracy, while its IoU is 0.
    np.testing.assert_allclose(iou(counts, Eval()), [3 / 6, 0, 0])


@pytest.mark.parametrize("absent", ["exclude", "zero"])
def test_a_metric_of_many_sets_of_images_is_that_of_each(absent):
    matrices = np.random.default_rng(3).integers(0, 4, (7, 5, 5))
    matrices[0] = 0
    matrices[1, 2], matrices[1, :, 2] = 0, 0
    each = [Counts.of(matrix) for matrix in matrices]
    options = Eval(absent_classes=absent, excluded_classes=(4,))
    for row in (*METRICS.values(), *CLASS_METRICS.values(), *BENCHMARK_SCORES["ade20k"].values()):
        together = row.compute(Counts.stack(each), options)
        np.testing.assert_array_equal(together, [row.compute(one, options) for one in each])


def test_update_returns_the_pixels_that_it_added():
    confusion = ConfusionMatrix(2, 255)
    first = confusion.update(np.array([[0, 1]]), np.array([[1, 1]]))
    second = confusion.update(np.array([[0, 255]]), np.array([[0, 1]]))
    np.testing.assert_array_equal(first, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(second, [[1, 0], [0, 0]])
    np.testing.assert_array_equal(confusion.matrix, first + second)
