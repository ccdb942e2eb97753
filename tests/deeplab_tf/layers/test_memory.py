"""Memory of a network's tensors, counted without making them."""

import keras
import numpy as np
import pytest

from deeplab_tf.layers import BatchNorm, Dropout, layers_compute_in
from deeplab_tf.layers.memory import bytes_of, forward_bytes, kept_bytes
from deeplab_tf.model import DeepLabV3PlusConfig
from jpu_tf.model import FastFCNConfig


def _network():
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="backbone_conv")(x)
    x = keras.layers.ReLU(name="backbone_relu")(BatchNorm(name="backbone_bn")(x))
    x = keras.layers.MaxPooling2D(2, name="backbone_pool")(x)
    x = Dropout(0.5, name="dropout")(x)
    return keras.Model(image, keras.layers.Conv2D(5, 1, name="logits", dtype="float32")(x))


_WEIGHTS = 4 * (3 * 3 * 3 * 4 + 4 * 4 + 4 * 5 + 5)


def test_a_forward_pass_holds_the_weights_and_the_largest_layers_tensors():
    # The convolution reads [8, 10, 3] and makes [8, 10, 4]; ReLU overwrites.
    assert forward_bytes(_network(), 8, 10) == _WEIGHTS + 4 * 8 * 10 * (3 + 4)


def test_what_the_backward_pass_reads_is_kept_once():
    # Of both convolutions and of batch normalization the input, of ReLU the output, of the pooling
    # both, and of the loss the gradient of the logits.
    kept = 8 * 10 * (3 + 4 + 4) + 4 * 5 * (4 + 4 + 5)
    assert kept_bytes(_network(), 8, 10) == 4 * kept


def test_half_precision_keeps_half_of_what_is_not_float32():
    with layers_compute_in("bfloat16"):
        model = _network()
    # A mixed policy makes float32 images half precision at once; logits stay float32.
    assert kept_bytes(model, 8, 10) == 2 * (8 * 10 * (3 + 4 + 4) + 4 * 5 * (4 + 4)) + 4 * 4 * 5 * 5


@pytest.mark.parametrize(
    "config",
    [DeepLabV3PlusConfig(backbone="xception_tiny"), FastFCNConfig(backbone="resnet_tiny")],
)
def test_memory_of_any_size_is_counted_and_grows_with_the_area(config):
    model = config.build(3, auxiliary=True)
    for count in (forward_bytes, kept_bytes):
        small, huge = count(model, 4097, 4097), count(model, 100_001, 100_001)
        assert huge / small == pytest.approx((100_001 / 4097) ** 2, rel=0.02)
    assert kept_bytes(model, 513, 257) == pytest.approx(kept_bytes(model, 513, 513) / 2, rel=0.05)


@pytest.mark.parametrize("backbone", ["xception_tiny", "mobilenet_v2_tiny"])
def test_rematerialization_keeps_less(backbone):
    model = DeepLabV3PlusConfig(backbone=backbone).build(3, auxiliary=True)
    whole, less = (kept_bytes(model, 257, 257, remat=remat) for remat in (False, True))
    assert 0.1 * whole < less < 0.9 * whole


def test_arguments_that_are_no_tensors_are_passed_on():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 1, name="conv")(image / 255 - 1)
    model = keras.Model(image, keras.ops.transpose(keras.ops.mean(x, axis=(1, 2))))
    # Both operations with a number read their input, as far as is known.
    assert kept_bytes(model, 8, 8) == 4 * (3 * 8 * 8 * 3 + 4)


def test_what_is_not_known_counts_as_nothing():
    image = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    twice = keras.Model(image, layer(layer(image)))
    assert 0 < kept_bytes(twice, 8, 8) <= 4 * 8 * 8 * (3 + 3 + 3)

    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    assert forward_bytes(Subclassed(), 8, 8) == kept_bytes(Subclassed(), 8, 8) == 0


def test_bytes_of_a_variable():
    assert bytes_of(keras.Variable(np.zeros((3, 5), np.float32))) == 60
    assert bytes_of(keras.KerasTensor((2, 3), "bfloat16")) == 12
