"""The classifier's network, its loss, and the way from its weights to a segmentation network."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf import zoo
from deeplab_tf.backbones import BACKBONES, build_backbone
from deeplab_tf.classifier import ClassifierConfig, image_class
from deeplab_tf.layers.multiply_adds import multiply_adds
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.losses import CrossEntropy, Focal
from deeplab_tf.training.run import start_from
from deeplab_tf.weights import weights_by_name
from jpu_tf.model import FastFCNConfig

TINY = sorted(name for name in BACKBONES if name.endswith("_tiny"))
_SEGMENTATION = DeepLabV3PlusConfig(
    atrous_rates=(1,), aspp_channels=8, low_level_channels=4, decoder_convs=((3, 8),)
)


def _shapes(model, prefix=""):
    return {
        name: tuple(weight.shape)
        for name, weight in weights_by_name(model).items()
        if name.startswith(prefix)
    }


@pytest.mark.parametrize("backbone", TINY)
def test_its_backbone_has_the_weights_of_a_segmentation_network(backbone):
    config = ClassifierConfig(backbone=backbone)
    own = _shapes(config.build(7), "backbone_")
    segmentation = _SEGMENTATION.replace(backbone=backbone).build(3)
    assert own == _shapes(segmentation, "backbone_")
    others = _shapes(config.build(7)).keys() - own.keys()
    assert all(name.startswith("classifier_") for name in others)


@pytest.mark.parametrize("output_stride", [8, 32])
def test_an_image_of_any_size_gets_one_logit_per_class(output_stride):
    model = ClassifierConfig(backbone="resnet_tiny", output_stride=output_stride).build(5)
    for size in ((33, 65), (64, 64)):
        logits = model(np.zeros((2, *size, 3), np.float32))
        assert logits.shape == (2, 5) and logits.dtype == tf.float32
    outputs = ClassifierConfig(backbone="resnet_tiny").build(5, auxiliary=True).output
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {"logits": (None, 5)}


def test_without_dropout_the_logits_are_linear_in_the_mean_features():
    model = ClassifierConfig(backbone="xception_tiny").build(4)
    pool = model.get_layer("classifier_pool")
    image = np.random.default_rng(0).integers(0, 256, (2, 65, 65, 3)).astype(np.float32)
    features = keras.Model(model.input, pool.input)(image).numpy()
    kernel, bias = (w.numpy() for w in model.get_layer("classifier_logits").weights)
    expected = features.mean(axis=(1, 2)) @ kernel[0, 0] + bias
    np.testing.assert_allclose(model(image), expected, rtol=1e-4, atol=1e-6)


def test_only_mobilenet_v2_has_a_convolution_before_the_pooling_unless_asked():
    def filters(backbone, **options):
        shapes = _shapes(ClassifierConfig(backbone=backbone, **options).build(2))
        return shapes.get("classifier_conv/kernel", (None,))[-1]

    assert [filters(name) for name in ("resnet_tiny", "xception_tiny")] == [None, None]
    assert filters("mobilenet_v2_tiny") == 1280
    assert filters("mobilenet_v2_tiny", channels=16) == 16
    assert filters("resnet_tiny", channels=16) == 16


def test_the_multi_grid_of_segmentation_is_left_out():
    def rates(**options):
        image = keras.Input((None, None, 3))
        conv5 = build_backbone("resnet50", image, output_stride=32, **options).conv5
        layers = keras.Model(image, conv5).layers
        return [layer.dilation_rate[0] for layer in layers if hasattr(layer, "dilation_rate")]

    model = ClassifierConfig(backbone="resnet50").build(3)
    own = [layer.dilation_rate[0] for layer in model.layers if hasattr(layer, "dilation_rate")]
    assert max(own) == 1 < max(rates())
    assert own == [*rates(multi_grid=(1, 1, 1)), 1]


def test_batch_norm_options_reach_every_normalization():
    model = ClassifierConfig(
        backbone="mobilenet_v2_tiny", batch_norm="frozen", batch_norm_momentum=0.5
    ).build(3)
    layers = [layer for layer in model.layers if layer.name.endswith("_bn")]
    assert {layer.name for layer in layers} >= {"backbone_conv_bn", "classifier_conv_bn"}
    assert {(layer.statistics, layer.momentum) for layer in layers} == {("frozen", 0.5)}


def test_multiply_adds_can_be_counted():
    model = ClassifierConfig(backbone="xception_tiny").build(10)
    without = multiply_adds(ClassifierConfig(backbone="xception_tiny").build(2), (65, 65))
    assert multiply_adds(model, (65, 65)) - without == 8 * 64  # the kernel of eight more classes


def test_a_label_becomes_the_images_class():
    label = np.full((3, 4, 5), -1, np.int32)
    label[0], label[1, 2:] = 7, 0  # padding is void; class 0 is not
    np.testing.assert_array_equal(image_class(tf.constant(label)), [[[7]], [[0]], [[-1]]])


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(label_smoothing=0.1),
        CrossEntropy(class_weights=(1.0, 2.0, 3.0)),
        Focal(gamma=2.0),
    ],
)
def test_the_loss_is_that_of_one_pixel_per_image(loss):
    rng = np.random.default_rng(0)
    label = np.array([2, 0, 1, 0], np.int32)
    maps = np.broadcast_to(label[:, None, None], (4, 6, 5)).copy()
    maps[0, :3], maps[3] = -1, -1  # some void, and nothing else
    logits = tf.constant(rng.normal(size=(4, 3)), tf.float32)
    pixel_loss = functools.partial(loss, ignore_label=-1, step=tf.constant(0))
    (image_loss, weight) = ClassifierConfig().losses(pixel_loss)["logits"]
    total, count = image_loss(tf.constant(maps), logits)
    expected, _ = pixel_loss(tf.constant(label[:3, None, None]), logits[:3, None, None, :])
    assert weight == 1.0 and count == 3
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize("config", [_SEGMENTATION, FastFCNConfig()])
def test_a_segmentation_network_starts_from_its_backbone(config):
    backbone = "resnet_tiny"
    classifier = ClassifierConfig(backbone=backbone).build(8, auxiliary=True)
    for weight in classifier.weights:
        weight.assign(tf.ones_like(weight) * 0.25)
    model = config.replace(backbone=backbone).build(8, auxiliary=True)
    lines = []
    start_from(classifier, model, np.zeros((1, 33, 33, 3), np.float32), lines.append)
    for name, weight in weights_by_name(model).items():
        taken = bool(np.all(weight.numpy() == 0.25))
        assert taken == name.startswith("backbone_"), name
    number = sum(name.startswith("backbone_") for name in weights_by_name(model))
    assert lines[0].startswith(f"loaded {number} weights")
    assert "classifier_logits/kernel" in lines[0]


def test_the_backbones_must_be_the_same():
    classifier = ClassifierConfig(backbone="resnet_tiny").build(4)
    model = _SEGMENTATION.replace(backbone="xception_tiny").build(4)
    with pytest.raises(ValueError, match="weights do not fit the backbone"):
        start_from(classifier, model, np.zeros((1, 33, 33, 3), np.float32), print)


def test_it_keeps_its_name_among_the_models():
    assert zoo.MODELS[ClassifierConfig.kind] is ClassifierConfig
