"""The deep-stem ResNet: where it strides, at which rates, and what it does to the image."""

import keras
import numpy as np
import pytest

from deeplab_tf.backbones import build_backbone

pytestmark = pytest.mark.usefixtures("forget_networks")


def _model(name, output_stride=32, output="conv5"):
    image = keras.Input((None, None, 3))
    features = build_backbone(name, image, output_stride=output_stride)
    return keras.Model(image, getattr(features, output))


def _shapes_alone(name, output_stride=32):
    with keras.StatelessScope(initialize_variables=False):  # most of the time
        return _model(name, output_stride)


def _convs(model, kernel_size=(3, 3)):
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == kernel_size
    ]


def test_first_units_run_at_the_rate_before_them():
    rates = [conv.dilation_rate[0] for conv in _convs(_shapes_alone("resnet50_deep_stem", 8))]
    assert rates[:10] == [1] * 10  # stem, conv2, conv3
    assert rates[10:16] == [1] + [2] * 5
    assert rates[16:] == [2, 4, 4]
    rates = [conv.dilation_rate[0] for conv in _convs(_shapes_alone("resnet50_deep_stem", 32))]
    assert set(rates) == {1}


def test_the_3x3_of_the_first_unit_strides():
    strided = [conv.name for conv in _convs(_model("resnet_deep_stem_tiny")) if conv.strides[0] > 1]
    assert strided == [
        "backbone_conv1_1",
        *(f"backbone_block{block}_unit1_conv2" for block in (2, 3, 4)),
    ]


def test_resnet50_has_the_published_parameters():
    model = _shapes_alone("resnet50_deep_stem")
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == 25_680_808 - 2_049_000  # code: without the classifier of ImageNet


def test_the_image_is_normalized_as_the_released_networks_expect():
    model = _model("resnet_deep_stem_tiny")
    normalized = keras.Model(model.input, model.get_layer("backbone_rescale").output)
    image = np.array([[[[0, 128, 255]]]], np.uint8)
    expected = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalized(image), expected, atol=1e-6)
