"""The pixel losses."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.losses import CrossEntropy, Focal, Lovasz

_LABEL = np.array([[[0, 1], [255, 2]]], np.int32)
_LOGITS = np.sin(np.arange(12, dtype=np.float32)).reshape(1, 2, 2, 3)


def cross_entropy(label, logits, step=0, **options):
    return CrossEntropy(**options)(label, logits, ignore_label=255, step=step)


def test_cross_entropy_is_the_sum_over_pixels_with_a_class():
    total, count = cross_entropy(_LABEL, tf.constant(_LOGITS))
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
            total, _ = cross_entropy(_LABEL, value)
        results.append((total, tape.gradient(total, value)))
    assert results[0][0] == results[1][0]
    assert np.all(results[0][1].numpy()[_LABEL == 255] == 0)


def test_all_void_gives_zero_and_no_terms():
    total, count = cross_entropy(np.full((1, 2, 2), 255, np.int32), tf.constant(_LOGITS))
    assert (total, count) == (0, 0)


def test_class_weights_count_in_the_sum_alone():
    logits = tf.constant(_LOGITS)
    parts = [cross_entropy(np.where(_LABEL == c, c, 255), logits) for c in range(3)]
    total, count = cross_entropy(_LABEL, logits, class_weights=(0.5, 0.0, 2.0))
    np.testing.assert_allclose(total, 0.5 * parts[0][0] + 2 * parts[2][0], rtol=1e-6)
    assert count == 3


def test_class_weights_of_another_number_of_classes_are_refused():
    loss = CrossEntropy(class_weights=(1.0, 2.0))
    loss.check(2)
    CrossEntropy().check(3)
    for fails in (
        lambda: loss.check(3),
        lambda: loss(_LABEL, tf.constant(_LOGITS), ignore_label=255),
    ):
        with pytest.raises(ValueError, match="^loss.class_weights must be a number for each of 3 "):
            fails()


def test_a_balanced_loss_is_the_loss_with_the_weights_that_are_found():
    weights = (0.5, 0.0, 2.0)
    balanced = Focal(class_balance="median_frequency", gamma=1.0)
    balanced.check(3)
    with pytest.raises(ValueError, match="^loss.class_balance=median_frequency needs the weights"):
        balanced(_LABEL, tf.constant(_LOGITS), ignore_label=255)
    found = balanced.with_class_weights(lambda: weights)
    assert found == Focal(class_weights=weights, gamma=1.0)
    assert found(_LABEL, tf.constant(_LOGITS), ignore_label=255)[0] > 0


def test_a_power_below_1_balances_less():
    balanced = CrossEntropy(class_balance="median_frequency", class_balance_power=0.5)
    found = balanced.with_class_weights(lambda: (0.25, 1.0, 9.0))
    assert found == CrossEntropy(class_weights=(0.5, 1.0, 3.0))


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(class_weights=(1, 2)), Lovasz()])
def test_a_loss_that_needs_no_weights_does_not_look_for_them(loss):
    assert loss.with_class_weights(lambda: pytest.fail("looked")) is loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": (1.0, -1.0)}, "class_weights must be at least 0; got (1.0, -1.0)."),
        ({"top_k_percent_pixels": 0.0}, "top_k_percent_pixels must be above 0; got 0.0."),
        ({"top_k_percent_pixels": 25.0}, "top_k_percent_pixels must be at most 1; got 25.0."),
        ({"hard_example_mining_step": -1}, "hard_example_mining_step must be at least 0; got -1."),
        (
            {"hard_example_mining_step": 5},
            "hard_example_mining_step must be 0 where top_k_percent_pixels is 1, every pixel; got"
            " 5.",
        ),
        (
            {"class_weights": (1.0, 2.0), "class_balance": "median_frequency"},
            "class_balance must be none where class_weights are given; got 'median_frequency'.",
        ),
        (
            {"class_balance_power": 0.5},
            "class_balance_power must be 1 where class_balance is none, which finds no weights; got"
            " 0.5.",
        ),
        (
            {"class_balance": "inverse"},
            "class_balance must be none|median_frequency; got 'inverse'.",
        ),
    ],
)
def test_a_bad_value_is_refused(options, message):
    with pytest.raises(ValueError) as error:
        CrossEntropy(**options)
    assert str(error.value) == message


def test_hardest_pixels_alone_are_kept_and_void_is_never_hard():
    logits = tf.constant(_LOGITS)
    losses = sorted(
        float(cross_entropy(_LABEL[:, r, c, None, None], logits[:, r : r + 1, c : c + 1])[0])
        for r, c in ((0, 0), (0, 1), (1, 1))
    )
    for kept, number in ((0.25, 1), (0.74, 2), (0.99, 3)):
        total, count = cross_entropy(_LABEL, logits, top_k_percent_pixels=kept)
        np.testing.assert_allclose(total, sum(losses[-number:]), rtol=1e-6)
        assert count == number


def test_fewer_pixels_are_kept_from_step_to_step():
    @tf.function
    def count(step):
        options = {"top_k_percent_pixels": 0.25, "hard_example_mining_step": 4}
        return cross_entropy(_LABEL, tf.constant(_LOGITS), step=step, **options)[1]

    # Of 4 pixels 4, 3.25, 2.5, 1.75 and 1, rounded down. The void one is never counted.
    assert [int(count(tf.constant(step))) for step in (0, 1, 2, 3, 4, 9)] == [3, 3, 2, 1, 1, 1]


def test_label_is_taken_where_the_corners_meet():
    label = np.full((1, 5, 5), 255, np.int32)
    label[0, ::2, ::2] = [[0, 1, 2], [2, 1, 0], [0, 0, 1]]
    logits = tf.constant(np.cos(np.arange(27, dtype=np.float32)).reshape(1, 3, 3, 3))
    small = cross_entropy(label[:, ::2, ::2], logits)
    large = cross_entropy(label, logits)
    np.testing.assert_array_equal(small, large)
    unknown = [tf.TensorSpec([None] * 3, tf.int32), tf.TensorSpec([None, None, None, 3])]
    sizes_unknown = tf.function(cross_entropy, input_signature=unknown)
    np.testing.assert_array_equal(sizes_unknown(label, logits), large)


def test_kept_share_falls_from_one():
    def at(step, top, steps):
        loss = CrossEntropy(top_k_percent_pixels=top, hard_example_mining_step=steps)
        return float(loss.kept_share(step))

    found = [at(step, 0.2, 100) for step in (0, 50, 100, 150)]
    np.testing.assert_allclose(found, [1, 0.6, 0.2, 0.2], rtol=1e-6)
    assert found[0] == 1  # int(share * pixels) is all of them
    assert at(0, 0.2, 0) == np.float32(0.2)
    assert at(7, 1.0, 0) == 1


def test_losses_and_gradients_equal_the_released_codes(shared_dir):
    directory = shared_dir / "reference" / "deeplab"
    expected = json.loads((directory / "x2_losses.json").read_text())
    arrays = np.load(directory / "x2_losses.npz")
    label = tf.constant(arrays["labels"][..., 0], tf.int32)
    logits = tf.constant(arrays["logits"])
    assert len(expected["cases"]) == 9
    for name, case in expected["cases"].items():
        loss_fn = CrossEntropy(
            class_weights=tuple(case.get("loss_weight", ())),
            top_k_percent_pixels=case.get("top_k_percent_pixels", 1.0),
            hard_example_mining_step=case.get("hard_example_mining_step", 0),
        )
        with tf.GradientTape() as tape:
            tape.watch(logits)
            compared = logits
            if case.get("upsample_logits", True):
                compared = tf.raw_ops.ResizeBilinear(
                    images=logits, size=label.shape[1:], align_corners=True
                )
            total, count = loss_fn(
                tf.fill(label.shape, 255) if name == "all_ignored" else label,
                compared,
                ignore_label=expected["ignore_label"],
                step=case.get("_step", 0),
            )
            loss = tf.math.divide_no_nan(total, count)
        assert float(loss) == pytest.approx(expected["losses"][name], rel=1e-6), name
        gradient, theirs = tape.gradient(loss, logits).numpy(), arrays[f"grad_{name}"]
        np.testing.assert_allclose(
            gradient, theirs, rtol=1e-5, atol=1e-6 * np.abs(theirs).max(), err_msg=name
        )


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_cross_entropy_and_its_gradient_are_those_of_the_formula(scale):
    generator = np.random.default_rng(0)
    logits = (scale * generator.standard_normal((2, 5, 7, 4))).astype(np.float32)
    label = generator.integers(0, 4, (2, 5, 7)).astype(np.int32)
    x = logits.astype(np.float64)
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    sums = exponentials.sum(axis=-1)
    own = np.take_along_axis(x, label[..., None], axis=-1)[..., 0]
    expected = x.max(axis=-1) - own + np.log(sums)
    variable = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        loss = CrossEntropy().of_pixels(tf.constant(label), variable)
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-6 * max(1.0, scale))
    expected = exponentials / sums[..., None] - np.eye(4)[label]
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, atol=1e-6)
