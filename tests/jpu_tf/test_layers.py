"""The layers against their definitions."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import NormConfig
from jpu_tf.layers import (
    AdaptiveAveragePooling,
    Encoding,
    ResizeToRemainder,
    classifier,
    dense,
    separable_conv,
)

NORM = NormConfig(momentum=0.9, epsilon=1e-5)


def _encoding(channels, num_codewords=4, **options):
    layer = Encoding(num_codewords, **options)
    layer.build((None, None, None, channels))
    values = np.arange(num_codewords * channels, dtype=np.float32)
    layer.codewords.assign(np.sin(values).reshape(num_codewords, channels))
    layer.scale.assign(-np.linspace(0.1, 0.9, num_codewords))
    return layer


def _by_definition(x, layer):
    """e_k = sum over pixels of a_ik (x_i - c_k), with every residual in memory, in float64."""
    codewords = layer.codewords.numpy().astype(np.float64)
    residuals = x.reshape(len(x), -1, 1, x.shape[-1]).astype(np.float64) - codewords
    scores = layer.scale.numpy() * (residuals**2).sum(axis=-1)
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    return (shares[..., None] * residuals).sum(axis=1)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 3, 5, 8), (3, 7, 2, 16)])
def test_encoding_is_the_sum_of_weighted_residuals(shape):
    x = np.cos(np.arange(np.prod(shape)) * 0.9).reshape(shape).astype(np.float32)
    layer = _encoding(shape[-1])
    np.testing.assert_allclose(layer(x), _by_definition(x, layer), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("distance", "spread", "tolerance"), [(0.0, 0.1, 2e-6), (100.0, 0.1, 2e-6), (0.0, 10.0, 2e-4)]
)
def test_product_form_loses_little(distance, spread, tolerance):
    """Features near 0 and far from 0; last, vectors 100 times nearer to a codeword than others."""
    generator = np.random.default_rng(0)
    layer = _encoding(512, num_codewords=32)
    layer.codewords.assign(distance + spread * generator.normal(size=(32, 512)))
    nearest = layer.codewords.numpy()[np.arange(64) % 32]
    x = (nearest + 0.1 * generator.normal(size=(64, 512))).reshape(1, 8, 8, 512).astype(np.float32)
    expected = _by_definition(x, layer)
    assert np.abs(layer(x) - expected).max() <= tolerance * np.abs(expected).max()


def test_encoding_is_computed_in_float32_where_half_precision_would_overflow():
    x = np.full((1, 64, 64, 16), 100.0, np.float16)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = _encoding(16)
    finally:
        keras.config.set_dtype_policy("float32")
    output = layer(x)
    assert output.dtype == "float32"
    assert np.abs(output).max() > np.finfo(np.float16).max
    np.testing.assert_allclose(
        output, _by_definition(x, layer), rtol=1e-4, atol=1e-5 * np.abs(output).max()
    )


def test_encoding_needs_memory_linear_in_the_pixels():
    """No tensor of the traced layer, its gradient included, is larger than input or shares."""
    layer = _encoding(16, num_codewords=8)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, layer.codewords.value, layer.scale.value])

    graph = gradients.get_concrete_function(tf.TensorSpec([2, 10, 10, 16])).graph
    sizes = [math.prod(t.shape) for op in graph.get_operations() for t in op.outputs if t.shape]
    assert max(sizes) == 2 * 100 * 16


def _adaptive_average(x, bins):
    """The definition, bin by bin."""
    height, width = x.shape[1:3]
    rows = [(i * height // bins, -(-(i + 1) * height // bins)) for i in range(bins)]
    columns = [(i * width // bins, -(-(i + 1) * width // bins)) for i in range(bins)]
    means = [[x[:, a:b, c:d].mean(axis=(1, 2)) for c, d in columns] for a, b in rows]
    return np.array(means).transpose(2, 0, 1, 3)


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (6, 12), (17, 23)])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_adaptive_average_pooling_has_overlapping_bins(size, bins):
    x = np.sin(np.arange(2 * size[0] * size[1] * 3) * 0.7).reshape(2, *size, 3).astype(np.float32)
    computed = AdaptiveAveragePooling(bins)(x)
    np.testing.assert_allclose(computed, _adaptive_average(x, bins), atol=1e-6)


def test_adaptive_average_pooling_takes_sizes_unknown_until_it_runs():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, AdaptiveAveragePooling(3)(image))
    assert model.output_shape == (None, 3, 3, 3)
    x = np.sin(np.arange(7 * 11 * 3)).reshape(1, 7, 11, 3).astype(np.float32)
    np.testing.assert_allclose(model.predict(x, verbose=0), _adaptive_average(x, 3), atol=1e-6)


def test_initial_weights_are_uniform_within_the_root_of_the_fan_in():
    x = keras.Input((8, 8, 100))
    outputs = [
        separable_conv(x, 50, rate=2, norm=NORM, name="s"),
        classifier(x, 50, dropout=0.0, name="c"),
        dense(x[:, 0, 0], 50, name="d"),
    ]
    model = keras.Model(x, outputs)
    for weight, bound in (
        (model.get_layer("s_depthwise").kernel, 1 / 3),
        (model.get_layer("s_pointwise").kernel, 0.1),
        (model.get_layer("c").kernel, 0.1),
        (model.get_layer("c").bias, 0.1),
        (model.get_layer("d").kernel, 0.1),
    ):
        assert 0.85 * bound < np.abs(weight.numpy()).max() <= bound


def test_initial_codewords_and_scales_are_the_released_codes():
    layer = Encoding()
    layer.build((None, None, None, 512))
    assert 0.0077 < np.abs(layer.codewords.numpy()).max() <= 0.0078125
    assert layer.codewords.shape == (32, 512)
    assert -1 <= layer.scale.numpy().min() < layer.scale.numpy().max() <= 0


@pytest.mark.parametrize(
    ("size", "expected"), [((33, 65), (33, 65)), ((34, 64), (65, 65)), ((2, 129), (33, 129))]
)
def test_resize_to_remainder_goes_up_to_the_next_size_of_the_remainder(size, expected):
    layer = ResizeToRemainder(33)
    image = np.stack([*np.mgrid[: size[0], : size[1]], np.full(size, 7)], -1).astype(np.float32)
    resized = np.asarray(layer(image[None]))
    assert resized.shape == (1, *expected, 3)
    assert layer.compute_output_shape((1, *size, 3)) == resized.shape
    assert layer.compute_output_shape((1, None, None, 3)) == (1, None, None, 3)
    corners = np.ix_([0], [0, -1], [0, -1], [0, 1, 2])
    np.testing.assert_allclose(resized[corners], image[None][corners], atol=1e-5)
