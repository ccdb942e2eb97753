"""Batch normalization: fused, over replicas, with the moving statistics, in half precision."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers.normalization import BatchNorm
from deeplab_tf.layers.precision import full_precision
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.devices.strategy import make_strategy
from jpu_tf.heads import HEADS
from jpu_tf.model import FastFCNConfig


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
    layer, x = _layer(statistics="frozen"), _activations()
    with tf.GradientTape() as tape:
        y = layer(x, training=True)
        loss = tf.reduce_sum(y**2)
    np.testing.assert_allclose(y.numpy(), layer(x, training=False).numpy(), atol=1e-6)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), [0.0, 0.0])
    for gradient in tape.gradient(loss, [layer.gamma.value, layer.beta.value]):
        assert np.all(np.abs(gradient) > 1e-3)


def _forward_backward(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, tf.float64) ** 3)
    return y, tape.gradient(loss, x)


def _on_two_replicas(x, **options):
    """(outputs, gradients, the layer) of a batch that two replicas share."""
    strategy = make_strategy(devices=("CPU:0", "CPU:1"))
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        layer = _layer(**options)
    halves = strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices(x).batch(len(x))
    )

    @tf.function
    def step(x):
        return strategy.run(_forward_backward, args=(layer, x))

    y, gradient = (
        tf.concat(strategy.experimental_local_results(part), axis=0)
        for part in step(next(iter(halves)))
    )
    return y, gradient, layer


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_two_replicas_have_the_statistics_and_gradients_of_the_whole_batch(mean):
    x = _activations(mean)
    y, gradient, layer = _on_two_replicas(x)
    alone = _layer()
    expected_y, expected_gradient = _forward_backward(alone, tf.constant(x))
    np.testing.assert_allclose(y, expected_y, atol=2e-3 if mean else 1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-2 if mean else 1e-4)
    for ours, whole in zip(layer.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_allclose(ours, whole, rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "rounding"), [("float32", 1e-6), ("float64", 1e-15), ("mixed_bfloat16", 2**-8)]
)
def test_per_replica_normalizes_each_part_alone_and_averages_the_moving_statistics(dtype, rounding):
    x = _activations()
    x[2:] = 2.0 * x[2:] + 10.0  # the replicas' parts are far from each other
    options = {"dtype": dtype, "statistics": "per_replica"}
    y, gradient, layer = _on_two_replicas(tf.cast(x, _layer(dtype=dtype).compute_dtype), **options)
    alone = [_layer(dtype=dtype) for _ in range(2)]
    parts = [
        _forward_backward(own, tf.cast(part, own.compute_dtype))
        for own, part in zip(alone, np.split(x, 2), strict=True)
    ]
    for ours, own in zip((y, gradient), zip(*parts, strict=True), strict=True):
        ours, own = tf.cast(ours, tf.float64), tf.cast(tf.concat(own, axis=0), tf.float64)
        np.testing.assert_allclose(ours, own, atol=4 * rounding * np.abs(own).max())
    for name in ("moving_mean", "moving_variance"):
        copies = getattr(layer, name).value.values
        np.testing.assert_array_equal(copies[0], copies[1])
        mean = np.mean([getattr(own, name).numpy() for own in alone], axis=0)
        np.testing.assert_allclose(copies[0], mean, rtol=1e-6)


def test_one_replica_has_the_statistics_of_its_whole_batch():
    x = tf.constant(_activations())
    layers = [_layer(), _layer(statistics="per_replica")]
    results = [[*_forward_backward(layer, x), *layer.get_weights()] for layer in layers]
    for synchronized, per_replica in zip(*results, strict=True):
        np.testing.assert_array_equal(synchronized, per_replica)


# Largest |output - float64's|, in standard deviations, and relative error of the variance. Both
# grow because a float32 near 10^4 has a spacing of 10^-3.
@pytest.mark.parametrize(
    ("ratio", "of_output", "of_variance"),
    [(1, 2e-5, 1e-5), (100, 1e-3, 1e-5), (1000, 1e-2, 1e-4), (10000, 1e-1, 2e-3)],
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_statistics_are_precise_far_from_zero(replicas, ratio, of_output, of_variance):
    x = np.random.default_rng(0).normal(ratio, 1.0, (4, 65, 65, 2)).astype(np.float32)
    if replicas == 1:
        layer = _layer()
        y, _ = _forward_backward(layer, tf.constant(x))
    else:
        y, _, layer = _on_two_replicas(x)
    mean, variance = x.mean((0, 1, 2), np.float64), x.var((0, 1, 2), np.float64)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * [1.5, 0.5] + [0.25, -1.0]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1.5 * of_output)
    count = x.size / 2
    moved = (layer.moving_variance.numpy().astype(np.float64) - 0.9) / 0.1
    np.testing.assert_allclose(moved, variance * count / (count - 1), rtol=of_variance)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_goes_through_the_fused_kernel_as_it_is(dtype, training):
    """The kernel's values and gradients are those of float64, rounded at the end."""
    layer = _layer(dtype=f"mixed_{dtype}")
    layer.moving_mean.assign([3.5, 2.0])
    layer.moving_variance.assign([2.0, 0.3])
    x = tf.cast(_activations(3.0), dtype)
    upstream = tf.cast(tf.cos(tf.range(120.0)), dtype)

    @tf.function
    def values(x):
        weights = [x, layer.gamma.value, layer.beta.value]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
        return [y, *tape.gradient(y, weights, tf.reshape(upstream, y.shape))]

    operations = {
        operation.type: operation
        for operation in values.get_concrete_function(x).graph.get_operations()
    }
    assert operations["FusedBatchNormV3"].get_attr("T") == tf.as_dtype(dtype)
    assert operations["FusedBatchNormV3"].get_attr("U") == tf.float32
    assert "Cast" not in operations

    before = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
    ours = values(x)
    exact_x, gamma, beta = (
        tf.cast(t, tf.float64) for t in (x, layer.gamma.value, layer.beta.value)
    )
    with tf.GradientTape() as tape:
        tape.watch([exact_x, gamma, beta])
        mean, variance = tf.nn.moments(exact_x, [0, 1, 2]) if training else before
        exact = (exact_x - mean) / tf.sqrt(variance + np.float64(1e-3)) * gamma + beta
    exact_upstream = tf.cast(tf.reshape(upstream, x.shape), tf.float64)
    known = [exact, *tape.gradient(exact, [exact_x, gamma, beta], exact_upstream)]
    rounding = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for value, expected, tolerance in zip(ours, known, [rounding] * 2 + [1e-5] * 2, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(tf.cast(value, tf.float64), expected, atol=tolerance * scale)
    if training:
        np.testing.assert_allclose(layer.moving_mean, 0.9 * before[0] + 0.1 * mean, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_two_replicas_in_half_precision_have_statistics_of_float32(dtype):
    x = tf.cast(200.0 * _activations(3.0), dtype)  # its squares are above float16's 65504
    y, gradient, layer = _on_two_replicas(x, dtype=f"mixed_{dtype}")
    exact = tf.cast(x, tf.float64).numpy()
    mean, variance, count = exact.mean((0, 1, 2)), exact.var((0, 1, 2)), exact.size / 2
    expected = (exact - mean) / np.sqrt(variance + 1e-3) * [1.5, 0.5] + [0.25, -1.0]
    assert y.dtype == gradient.dtype == dtype
    rounding = {"bfloat16": 2**-8, "float16": 2**-11}[dtype]
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected, atol=4 * rounding)
    assert np.all(np.isfinite(tf.cast(gradient, tf.float32)))
    unbiased = variance * count / (count - 1)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("statistics", ["synchronized", "per_replica", "frozen"])
@pytest.mark.parametrize(
    "config",
    [
        DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny"),
        *(FastFCNConfig(backbone="resnet_deep_stem_tiny", head=head) for head in HEADS),
    ],
)
def test_batch_norm_of_a_network_is_the_statistics_of_all_its_layers(config, statistics):
    model = config.replace(batch_norm=statistics).build(3, auxiliary=True)
    found = [layer.statistics for layer in model.layers if isinstance(layer, BatchNorm)]
    assert len(found) > 20
    assert set(found) == {statistics}


def test_unknown_statistics_are_refused():
    with pytest.raises(ValueError, match="^statistics must be one of synchronized, .*; got True"):
        _layer(statistics=True)


def _saved(path, **options) -> keras.Model:
    inputs = keras.Input((None, None, 2))
    outputs = BatchNorm(momentum=0.9, epsilon=1e-5, **options)(inputs)
    model = keras.Model(inputs, outputs)
    model.layers[-1].moving_mean.assign([1.0, 2.0])
    model.save(path)
    return model


def test_keras_file_round_trip_keeps_the_layer(tmp_path):
    model = _saved(tmp_path / "m.keras", statistics="frozen")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.layers[-1].statistics == "frozen"
    x = _activations()
    np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())


@pytest.mark.parametrize(("old", "new"), [(True, "synchronized"), (False, "frozen")])
def test_keras_file_of_an_earlier_version_opens(tmp_path, old, new):
    model = _saved(tmp_path / "new.keras", statistics=new)
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as source,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as target,
    ):
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                wanted = f'"use_batch_statistics": {json.dumps(old)}'
                data = data.decode().replace(f'"statistics": "{new}"', wanted)
                assert wanted in data
            target.writestr(name, data)
    loaded = keras.models.load_model(tmp_path / "old.keras")
    assert loaded.layers[-1].statistics == new
    np.testing.assert_array_equal(loaded(_activations()), model(_activations()))


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
