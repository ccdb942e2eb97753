"""The pixel losses."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.losses import kept_fraction, masked_cross_entropy

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


def test_class_weights_count_in_the_sum_alone():
    logits = tf.constant(_LOGITS)
    parts = [
        masked_cross_entropy(np.where(_LABEL == c, c, 255), logits, ignore_label=255)
        for c in range(3)
    ]
    total, count = masked_cross_entropy(
        _LABEL, logits, ignore_label=255, class_weights=(0.5, 0.0, 2.0)
    )
    np.testing.assert_allclose(total, 0.5 * parts[0][0] + 2 * parts[2][0], rtol=1e-6)
    assert count == 3


def test_class_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match="a number for each of 3 classes; got 2"):
        masked_cross_entropy(
            _LABEL, tf.constant(_LOGITS), ignore_label=255, class_weights=(1.0, 2.0)
        )


def test_hardest_pixels_alone_are_kept_and_void_is_never_hard():
    logits = tf.constant(_LOGITS)
    losses = sorted(
        float(masked_cross_entropy(_LABEL[:, r, c, None, None], logits[:, r : r + 1, c : c + 1],
                                   ignore_label=255)[0])
        for r, c in ((0, 0), (0, 1), (1, 1))
    )  # fmt: skip
    for kept, number in ((0.25, 1), (0.74, 2), (1.0, 3)):
        total, count = masked_cross_entropy(_LABEL, logits, ignore_label=255, kept_fraction=kept)
        np.testing.assert_allclose(total, sum(losses[-number:]), rtol=1e-6)
        assert count == number


def test_label_is_taken_where_the_corners_meet():
    label = np.full((1, 5, 5), 255, np.int32)
    label[0, ::2, ::2] = [[0, 1, 2], [2, 1, 0], [0, 0, 1]]
    logits = tf.constant(np.cos(np.arange(27, dtype=np.float32)).reshape(1, 3, 3, 3))
    small = masked_cross_entropy(label[:, ::2, ::2], logits, ignore_label=255)
    large = masked_cross_entropy(label, logits, ignore_label=255)
    np.testing.assert_array_equal(small, large)

    @tf.function(input_signature=[tf.TensorSpec([None] * 3, tf.int32), tf.TensorSpec([None] * 4)])
    def sizes_unknown(label, logits):
        return masked_cross_entropy(label, logits, ignore_label=255)

    np.testing.assert_array_equal(sizes_unknown(label, logits), large)


def test_kept_fraction_falls_from_one():
    def at(step, top, steps):
        return kept_fraction(step, top_k_percent_pixels=top, hard_example_mining_step=steps)

    assert [at(step, 0.2, 100) for step in (0, 50, 100, 150)] == [1, 0.6, 0.2, 0.2]
    assert at(0, 0.2, 0) == 0.2
    assert at(7, 1.0, 0) is None


def test_losses_and_gradients_equal_the_released_codes(shared_dir):
    directory = shared_dir / "reference" / "deeplab"
    expected = json.loads((directory / "x2_losses.json").read_text())
    arrays = np.load(directory / "x2_losses.npz")
    label = tf.constant(arrays["labels"][..., 0], tf.int32)
    logits = tf.constant(arrays["logits"])
    assert len(expected["cases"]) == 9
    for name, case in expected["cases"].items():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            compared = logits
            if case.get("upsample_logits", True):
                compared = tf.raw_ops.ResizeBilinear(
                    images=logits, size=label.shape[1:], align_corners=True
                )
            total, count = masked_cross_entropy(
                tf.fill(label.shape, 255) if name == "all_ignored" else label,
                compared,
                ignore_label=expected["ignore_label"],
                class_weights=case.get("loss_weight", ()),
                kept_fraction=kept_fraction(
                    case.get("_step", 0),
                    top_k_percent_pixels=case.get("top_k_percent_pixels", 1.0),
                    hard_example_mining_step=case.get("hard_example_mining_step", 0),
                ),
            )
            loss = tf.math.divide_no_nan(total, count)
        assert float(loss) == pytest.approx(expected["losses"][name], rel=1e-6), name
        gradient, theirs = tape.gradient(loss, logits).numpy(), arrays[f"grad_{name}"]
        np.testing.assert_allclose(
            gradient, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max(), err_msg=name
        )
