"""How far atrous convolutions reach over their feature maps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers.atrous import Reach, farthest_reach
from deeplab_tf.model import DeepLabV3PlusConfig


def _network(**options):
    return DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False, **options
    ).build(3)


@pytest.mark.parametrize("separable", [True, False])
@pytest.mark.parametrize(
    ("rates", "size", "expected"),
    [
        ((6, 12, 18), (257, 321), (18, (17, 21), 0.0)),
        ((6, 12, 18), (513, 513), (18, (33, 33), 15 / 33)),
        ((3, 1), (160, 96), (3, (10, 6), 3 / 6)),
    ],
)
def test_the_farthest_reach_is_that_of_the_largest_rate(separable, rates, size, expected):
    reach = farthest_reach(_network(atrous_rates=rates, separable=separable), *size)
    assert reach.layer.startswith(f"aspp_conv{rates.index(max(rates)) + 1}")
    assert reach == Reach(reach.layer, *expected)


def test_a_network_without_atrous_convolutions_reaches_nowhere():
    assert farthest_reach(_network(atrous_rates=(), output_stride=32), 65, 65) is None


@pytest.mark.parametrize(("side", "trained"), [(4, False), (5, True)])
def test_weights_that_never_meet_the_map_have_no_gradient(side, trained):
    network = _network(atrous_rates=(4,), batch_norm="frozen")
    shape = (2, side * 16, side * 16, 3)
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    (layer,) = (each for each in network.layers if each.name == "aspp_conv1_depthwise")
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(network(images, training=True) ** 2)
    gradient = np.abs(tape.gradient(loss, layer.kernel).numpy())[..., 0]
    assert (farthest_reach(network, side * 16, side * 16).inside > 0) == trained
    assert gradient[1, 1].max() > 0
    outer = gradient[[0, 0, 2, 2], [0, 1, 1, 2]]
    assert (outer.max() > 0) == trained
