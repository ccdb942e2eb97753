"""Atrous convolutions, resizing and the building blocks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers.atrous import AtrousConv2D, AtrousDepthwiseConv2D
from deeplab_tf.layers.blocks import (
    NormConfig,
    classifier,
    depthwise_conv,
    separable_conv_bn_relu,
)
from deeplab_tf.layers.resize import ResizeLike, scaled_side


def _ramp(*shape: int) -> np.ndarray:
    return np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)


def _equation_1(x: np.ndarray, kernel: np.ndarray, rate: int) -> np.ndarray:
    """y[i] = sum over taps k of x[i + rate * k] w[k] (DeepLabv3+ Eq. 1), zeros outside."""
    _, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
    y = 0.0
    for row in range(3):
        for column in range(3):
            top, left = row * rate, column * rate
            y = y + padded[:, top : top + height, left : left + width] @ kernel[row, column]
    return y


@pytest.mark.parametrize("rate", [2, 5, 9])
def test_atrous_convolution_is_equation_1(rate):
    x = _ramp(2, 11, 8, 3)
    layer = AtrousConv2D(4, 3, padding="same", dilation_rate=rate, use_bias=False)
    y = layer(x).numpy()
    np.testing.assert_allclose(y, _equation_1(x, layer.kernel.numpy(), rate), atol=1e-5)


@pytest.mark.parametrize("rate", [2, 3, 6, 7])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_atrous_values_and_gradients_equal_keras_layers(depthwise, dtype, rate):
    x = tf.constant(_ramp(2, 9, 12, 4))
    options = {"padding": "same", "dilation_rate": rate, "use_bias": False, "dtype": dtype}
    if depthwise:
        layers = [
            AtrousDepthwiseConv2D(3, **options),
            keras.layers.DepthwiseConv2D(3, **options),
        ]
    else:
        layers = [AtrousConv2D(4, 3, **options), keras.layers.Conv2D(4, 3, **options)]
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.set_weights(layers[0].get_weights())
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) ** 2)
        results.append([y, *tape.gradient(loss, [x, layer.kernel.value])])
    tolerance = 1e-4 if dtype == "float32" else 2e-2
    for ours, keras_own in zip(*results, strict=True):
        scale = np.abs(tf.cast(keras_own, tf.float32)).max()
        np.testing.assert_allclose(
            tf.cast(ours, tf.float32), tf.cast(keras_own, tf.float32), atol=tolerance * scale
        )


@pytest.mark.parametrize("rate", [2, 9])
def test_depthwise_convolution_is_equation_1_with_the_right_gradient(rate):
    x = keras.Input((11, 8, 3))
    model = keras.Model(x, depthwise_conv(x, rate=rate, name="d"))
    kernel = model.get_layer("d").kernel
    full = np.zeros((3, 3, 3, 3), np.float32)
    full[:, :, range(3), range(3)] = kernel.numpy()[..., 0]
    value = tf.constant(_ramp(2, 11, 8, 3))
    with tf.GradientTape() as tape:
        y = model(value)
        loss = tf.reduce_sum(y)
    np.testing.assert_allclose(y, _equation_1(value.numpy(), full, rate), atol=1e-5)
    # The gradient of a tap's weight is the sum of the pixels that the tap reads.
    padded = np.pad(value.numpy(), ((0, 0), (rate, rate), (rate, rate), (0, 0)))
    taps = [
        [
            padded[:, r * rate : r * rate + 11, c * rate : c * rate + 8].sum((0, 1, 2))
            for c in range(3)
        ]
        for r in range(3)
    ]
    gradient = tape.gradient(loss, kernel.value)[..., 0]
    np.testing.assert_allclose(gradient, np.array(taps), atol=1e-4)


def test_resize_aligns_corners():
    x = np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)[None, :, :, None]
    y = ResizeLike()([x, np.zeros((1, 3, 5, 1), np.float32)]).numpy()[0, :, :, 0]
    np.testing.assert_allclose(y[0], [0, 0.5, 1, 1.5, 2], atol=1e-6)
    np.testing.assert_allclose(y[:, 0], [0, 2, 4], atol=1e-6)
    assert y[-1, -1] == 6.0


def test_resize_from_one_pixel_is_a_broadcast():
    x = np.full((2, 1, 1, 3), 7.0, np.float32)
    y = ResizeLike()([x, np.zeros((2, 4, 6, 1), np.float32)]).numpy()
    np.testing.assert_array_equal(y, np.full((2, 4, 6, 3), 7.0))


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 65), (0.5, 33), (0.01, 1), (1.5, 97)])
def test_scaling_a_side_scales_the_gaps_between_pixels(scale, expected):
    assert scaled_side(65, scale) == expected


def test_resize_in_half_precision_interpolates_in_float32():
    x = tf.cast(_ramp(1, 3, 3, 1), tf.float16)
    y = ResizeLike(dtype="float16")([x, tf.zeros([1, 257, 257, 1], tf.float16)])
    exact = ResizeLike()([tf.cast(x, tf.float32), tf.zeros([1, 257, 257, 1])])
    assert y.dtype == tf.float16
    np.testing.assert_allclose(tf.cast(y, tf.float32), exact, atol=1e-3)


def test_resize_takes_any_size_in_one_graph():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, ResizeLike()([image[:, ::4, ::4], image]))
    run = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in [(5, 9), (16, 7)]:
        assert run(tf.zeros([1, *size, 3])).shape == (1, *size, 3)


def test_separable_convolution_has_a_relu_between_its_halves():
    x = keras.Input((5, 5, 2))
    norm = NormConfig(momentum=0.9, epsilon=1e-5)
    model = keras.Model(x, separable_conv_bn_relu(x, 3, rate=2, norm=norm, name="s"))
    assert [layer.name for layer in model.layers[1:]] == [
        "s_depthwise",
        "s_depthwise_bn",
        "s_depthwise_relu",
        "s_pointwise",
        "s_pointwise_bn",
        "s_pointwise_relu",
    ]


def test_classifier_is_float32_under_a_half_precision_policy():
    x = keras.Input((5, 5, 2), dtype="float16")
    assert classifier(x, 3, name="logits").dtype == "float32"
