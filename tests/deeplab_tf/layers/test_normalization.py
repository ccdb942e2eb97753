"""Batch normalization: fused, over replicas, with the moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers.normalization import BatchNorm, full_precision
from deeplab_tf.training.strategy import make_strategy


def _activations(mean: float = 3.0) -> np.ndarray:
    values = np.arange(4 * 3 * 5 * 2, dtype=np.float32).reshape(4, 3, 5, 2)
    return mean + np.sin(values)


def _layer(**options) -> BatchNorm:
    layer = BatchNorm(momentum=0.9, epsilon=1e-3, **options)
    layer.build((None, None, None, 2))
    layer.gamma.assign([1.5, 0.5])
    layer.beta.assign([0.25, -1.0])
    return layer


def test_training_normalizes_with_the_batch_and_averages_the_unbiased_variance():
    layer, x = _layer(), _activations()
    y = layer(x, training=True).numpy()
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(variance + 1e-3) * [1.5, 0.5] + [0.25, -1.0]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    count = x.size / 2
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(
        layer.moving_variance.numpy(), 0.9 + 0.1 * variance * count / (count - 1), rtol=1e-5
    )


def test_inference_equals_keras_layer():
    layer, x = _layer(), _activations()
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3)
    theirs.build(x.shape)
    layer.moving_mean.assign([0.5, 2.0])
    layer.moving_variance.assign([2.0, 0.3])
    theirs.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(x).numpy(), theirs(x).numpy(), atol=1e-5)


def test_frozen_statistics_leave_the_averages_but_train_gamma_and_beta():
    layer, x = _layer(use_batch_statistics=False), _activations()
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(y**2)
    np.testing.assert_allclose(y.numpy(), layer(x, training=False).numpy(), atol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), [0.0, 0.0])
    for gradient in tape.gradient(loss, [layer.gamma.value, layer.beta.value]):
        assert np.all(np.abs(gradient) > 1e-3)


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_two_replicas_have_the_statistics_and_gradients_of_the_whole_batch(mean):
    strategy = make_strategy(("CPU:0", "CPU:1"))
    with strategy.scope():
        layer = _layer()
    alone = _layer()
    x = _activations(mean)

    def forward_backward(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y**3)
        return y, tape.gradient(loss, x)

    @tf.function
    def distributed(x):
        return strategy.run(lambda x: forward_backward(layer, x), args=(x,))

    parts = next(
        iter(
            strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(x).batch(4))
        )
    )
    y, gradient = (
        np.concatenate(strategy.experimental_local_results(part)) for part in distributed(parts)
    )
    expected_y, expected_gradient = forward_backward(alone, tf.constant(x))
    np.testing.assert_allclose(y, expected_y, atol=2e-3 if mean else 1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-2 if mean else 1e-4)
    for ours, whole in zip(layer.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-4)


def test_keras_file_round_trip_keeps_the_layer(tmp_path):
    inputs = keras.Input((None, None, 2))
    outputs = BatchNorm(momentum=0.9, epsilon=1e-5, use_batch_statistics=False)(inputs)
    model = keras.Model(inputs, outputs)
    model.layers[-1].moving_mean.assign([1.0, 2.0])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.layers[-1].use_batch_statistics is False
    x = _activations()
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())


@pytest.mark.parametrize("training", [True, False])
def test_float64_is_the_formula_to_the_last_digits(training):
    layer, x = _layer(dtype="float64"), _activations().astype(np.float64)
    y = layer(x, training=training)
    mean, variance = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if training else (0.0, 1.0)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * [1.5, 0.5] + [0.25, -1.0]
    assert y.dtype == "float64"
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    if training:
        count = x.size / 2
        unbiased = variance * count / (count - 1)
        np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * unbiased, rtol=1e-12)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("float32", "float32"), ("mixed_bfloat16", "float32"), ("float64", "float64")],
)
def test_full_precision_is_at_least_float32(policy, expected):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        assert full_precision() == expected
    finally:
        keras.config.set_dtype_policy(before)
