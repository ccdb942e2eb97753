"""Label smoothing, focal loss and Lovász-softmax against slow float64 versions."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.losses import CrossEntropy, Focal, Lovasz

_RNG = np.random.default_rng(0)
_LOGITS = tf.constant(_RNG.normal(0, 2, (2, 5, 7, 4)), tf.float32)
_LABEL = _RNG.integers(0, 3, (2, 5, 7)).astype(np.int32)  # class 3 is in no label
_LABEL[0, :2, :3] = 255


def log_probabilities(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def of_true_class(values, label):
    return np.take_along_axis(values, np.where(label == 255, 0, label)[..., None], -1)[..., 0]


def test_label_smoothing_is_cross_entropy_with_a_soft_target():
    total, count = CrossEntropy(label_smoothing=0.1)(_LABEL, _LOGITS, ignore_label=255)
    log_p = log_probabilities(_LOGITS)
    target = 0.9 * np.eye(4)[np.where(_LABEL == 255, 0, _LABEL)] + 0.1 / 4
    expected = -(target * log_p).sum(-1)[_LABEL != 255].sum()
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert count == (_LABEL != 255).sum()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_cross_entropy_times_a_power_of_what_is_missing(gamma):
    weights = (1.0, 2.0, 0.5, 1.0)
    loss = Focal(gamma=gamma, class_weights=weights)
    total, count = loss(_LABEL, _LOGITS, ignore_label=255)
    log_p = of_true_class(log_probabilities(_LOGITS), _LABEL)
    terms = -((1 - np.exp(log_p)) ** gamma) * log_p
    terms *= np.asarray(weights)[np.where(_LABEL == 255, 0, _LABEL)]
    np.testing.assert_allclose(total, terms[_LABEL != 255].sum(), rtol=1e-5)
    assert count == (_LABEL != 255).sum()


def test_focal_has_a_finite_gradient_where_the_class_is_certain():
    logits = tf.Variable(np.float32([[[[200.0, 0.0], [0.0, 0.0]]]]))
    with tf.GradientTape() as tape:
        total, _ = Focal(gamma=0.5)(np.zeros((1, 1, 2), np.int32), logits, ignore_label=255)
    assert np.isfinite(tape.gradient(total, logits).numpy()).all()


def lovasz_of(errors, truth):
    """Alg. 1 of Berman et al. 2018, from the definition: the extension of 1 - IoU of a set."""
    order = np.argsort(-errors, kind="stable")
    value, before = 0.0, 0.0
    for i in range(len(order)):
        wrong = np.zeros(len(order), bool)
        wrong[order[: i + 1]] = True
        predicted = truth ^ wrong
        jaccard = 1 - (truth & predicted).sum() / (truth | predicted).sum()
        value += errors[order[i]] * (jaccard - before)
        before = jaccard
    return value


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_is_the_extension_of_one_minus_iou(per_image):
    total, count = Lovasz(per_image=per_image)(_LABEL, _LOGITS, ignore_label=255)
    p = np.exp(log_probabilities(_LOGITS))
    groups = [slice(0, 1), slice(1, 2)] if per_image else [slice(0, 2)]
    expected = []
    for group in groups:
        label, probabilities = _LABEL[group], p[group]
        valid = label != 255
        for c in range(4):
            truth = label[valid] == c
            if truth.any():
                errors = np.abs(truth - probabilities[valid][:, c])
                expected.append(lovasz_of(errors, truth))
    np.testing.assert_allclose(total, np.sum(expected), rtol=1e-5)
    assert count == len(expected)


def test_lovasz_of_a_certain_prediction_is_one_minus_its_iou():
    label = np.array([[[0, 0, 1, 1, 255]]], np.int32)
    predicted = np.array([[[0, 1, 1, 1, 0]]])
    logits = tf.constant(np.eye(2)[predicted] * 200, tf.float32)
    total, count = Lovasz()(label, logits, ignore_label=255)
    np.testing.assert_allclose(total, (1 - 1 / 2) + (1 - 2 / 3), rtol=1e-6)
    assert count == 2


@pytest.mark.parametrize("loss", [CrossEntropy(label_smoothing=0.1), Focal(), Lovasz()])
def test_void_and_nothing_but_void_give_no_gradient_there(loss):
    logits = tf.Variable(_LOGITS)
    with tf.GradientTape() as tape:
        total, _ = loss(_LABEL, logits, ignore_label=255)
    gradient = tape.gradient(total, logits).numpy()
    assert np.all(gradient[_LABEL == 255] == 0)
    assert np.abs(gradient[_LABEL != 255]).max() > 0
    total, count = loss(np.full_like(_LABEL, 255), _LOGITS, ignore_label=255)
    assert (total, count) == (0, 0)


@pytest.mark.parametrize("loss", [CrossEntropy(label_smoothing=0.1), Focal(), Lovasz()])
def test_smaller_logits_are_compared_with_the_nearest_labels(loss):
    small = loss(_LABEL[:, ::2, ::2], _LOGITS[:, :3, :4], ignore_label=255)
    resized = loss(_LABEL, _LOGITS[:, :3, :4], ignore_label=255)
    np.testing.assert_allclose(small, resized)
