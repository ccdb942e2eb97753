"""Every head: what the builder and the recipes expect of it."""

import keras
import numpy as np
import pytest

from deeplab_tf.backbones import Features
from deeplab_tf.layers import NormConfig
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.weights import weights_by_name
from jpu_tf.heads import HEADS, PSP, DeepLab, Encoding
from jpu_tf.model import FastFCNConfig

NORM = NormConfig(momentum=0.9, epsilon=1e-5)


def _model(head, *, first_kernel_size=1):
    """The head on feature maps of one size."""
    conv2, *maps = (keras.Input((s, s, c)) for s, c in ((18, 4), (9, 6), (9, 8), (9, 10)))
    features = Features({"conv2": conv2}, conv2, *maps)
    outputs = head.build(maps[-1], features, 5, norm=NORM, first_kernel_size=first_kernel_size)
    return keras.Model([conv2, *maps], outputs)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_gives_logits_and_the_outputs_that_it_has_losses_for(kind, small):
    head = small(HEADS[kind])
    model = _model(head)
    assert model.output.keys() == {"logits", *head.losses(CrossEntropy())}
    assert model.output["logits"].shape[-1] == 5
    assert {value.dtype for value in model.output.values()} == {"float32"}
    assert all(name.startswith("head_") for name in weights_by_name(model))


@pytest.mark.parametrize("kind", HEADS)
def test_a_heads_options_change_the_network(kind, small):
    default = small(HEADS[kind])
    rates = [
        layer.rate
        for layer in _model(default.replace(dropout=0.5)).layers
        if hasattr(layer, "rate")
    ]
    assert 0.5 in rates
    if hasattr(default, "channels"):
        models = (_model(default), _model(default.replace(channels=default.channels + 8)))
        shapes, wider = ({n: w.shape for n, w in weights_by_name(m).items()} for m in models)
        assert shapes != wider


def test_options_of_the_encoding_head_make_the_layers_they_name():
    def names(**options):
        return {layer.name for layer in _model(Encoding(channels=8, **options)).layers}

    assert "head_lateral_fusion" in names(lateral=True)
    assert "head_lateral_fusion" not in names()
    assert "head_se_logits" in names()
    assert "head_se_logits" not in names(se_weight=0.0)


@pytest.mark.parametrize(("kernel_size", "expected"), [(None, 1), (1, 1), (3, 3)])
def test_encoding_heads_first_kernel_is_the_upsamplers_unless_given(kernel_size, expected):
    model = _model(Encoding(channels=8, kernel_size=kernel_size), first_kernel_size=1)
    assert model.get_layer("head_conv").kernel_size == (expected, expected)


def test_encoding_heads_loss_has_the_released_weight():
    ((name, (_, weight)),) = Encoding().losses(CrossEntropy()).items()
    assert (name, weight) == ("se_logits", 0.2)
    assert Encoding(se_weight=0.0).losses(CrossEntropy()) == {}


def test_the_deeplab_head_goes_to_stride_4():
    assert _model(DeepLab(channels=8)).output["logits"].shape == (None, 18, 18, 5)


def test_a_head_drops_whole_channels(small):
    dropout = _model(small(HEADS["fcn"], dropout=0.5)).get_layer("head_logits_dropout")
    dropped = np.asarray(dropout(np.ones((1, 4, 4, 64), np.float32), training=True))
    assert set(dropped.reshape(16, 64).sum(axis=0)) == {0.0, 32.0}


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Encoding, {"kernel_size": 2}, "kernel_size must be 1|3, or none; got 2"),
        (Encoding, {"se_weight": -0.1}, "se_weight must be at least 0; got -0.1"),
        (PSP, {"channels": 0}, "channels must be at least 1; got 0"),
        (PSP, {"dropout": 1.0}, "dropout must be below 1; got 1.0"),
    ],
)
def test_bad_options_are_refused(cls, options, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        cls(**options)


def test_lateral_features_need_maps_of_one_size():
    lateral = Encoding(lateral=True)
    assert FastFCNConfig(upsampler="none", head=lateral).backbone_output_stride == 8
    for options in ({}, {"upsampler": "none", "output_stride": 32}):
        with pytest.raises(ValueError, match=r"^head\.lateral must be false unless conv3, conv4"):
            FastFCNConfig(head=lateral, **options)
