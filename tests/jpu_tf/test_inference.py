"""The network for inference of FastFCN computes what the trained network computes."""

import keras
import pytest
from folding import as_trained, check_equal, norms

from deeplab_tf import inference_model
from jpu_tf.heads import HEADS
from jpu_tf.sliding_window import at_trained_sizes
from jpu_tf.upsamplers import UPSAMPLERS


@pytest.mark.parametrize("head", HEADS)
def test_every_head_computes_the_same(head, tiny):
    model = as_trained(tiny(head=head).build(5, auxiliary=True))
    check_equal(model, inference_model(model))


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_upsampler_computes_the_same(upsampler, tiny):
    model = as_trained(tiny(upsampler=upsampler, head="fcn").build(5))
    check_equal(model, inference_model(model))


def test_a_network_within_another_is_folded_too(tiny):
    inner = as_trained(tiny(head="fcn").build(5))
    model = at_trained_sizes(inner, 64)
    network = inference_model(model)
    assert network is not model
    inside = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    assert len(inside) == 1 and norms(inside[0]) == []
    check_equal(model, network)
