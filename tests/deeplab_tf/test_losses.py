"""The pixel losses."""

import numpy as np
import tensorflow as tf

from deeplab_tf.losses import masked_cross_entropy

_LABEL = np.array([[[0, 1], [255, 2]]], np.int32)
_LOGITS = np.sin(np.arange(12, dtype=np.float32)).reshape(1, 2, 2, 3)


def test_cross_entropy_is_the_sum_over_pixels_with_a_class():
    total, count = masked_cross_entropy(_LABEL, tf.constant(_LOGITS), ignore_label=255)
    log_p = _LOGITS - np.log(np.exp(_LOGITS).sum(-1, keepdims=True))
    expected = -(log_p[0, 0, 0, 0] + log_p[0, 0, 1, 1] + log_p[0, 1, 1, 2])
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert count == 3


def test_void_pixels_do_not_change_the_loss_or_the_gradient():
    logits = tf.constant(_LOGITS)
    wild = tf.constant(np.where((_LABEL == 255)[..., None], np.float32(np.inf), _LOGITS))
    results = []
    for value in (logits, wild):
        with tf.GradientTape() as tape:
            tape.watch(value)
            total, _ = masked_cross_entropy(_LABEL, value, ignore_label=255)
        results.append((total, tape.gradient(total, value)))
    assert results[0][0] == results[1][0]
    assert np.all(results[0][1].numpy()[_LABEL == 255] == 0)


def test_all_void_gives_zero_and_no_terms():
    total, count = masked_cross_entropy(
        np.full((1, 2, 2), 255, np.int32), tf.constant(_LOGITS), ignore_label=255
    )
    assert (total, count) == (0, 0)
