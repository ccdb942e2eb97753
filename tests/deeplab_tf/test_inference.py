"""The network for inference computes what the trained network computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from folding import as_trained, check_equal, norms

from deeplab_tf import DeepLabV3Plus, WholeImage, inference_model
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.classifier import ClassifierConfig
from deeplab_tf.inference import copy_weights

TINY = sorted(name for name in BACKBONES if name.endswith("_tiny"))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("backbone", TINY)
def test_every_backbone_computes_the_same(backbone, output_stride):
    model = as_trained(DeepLabV3Plus(5, backbone=backbone, output_stride=output_stride))
    network = inference_model(model)
    assert len(norms(network)) < len(norms(model)) / 4
    check_equal(model, network)


def test_classifiers_compute_the_same():
    model = as_trained(ClassifierConfig(backbone="xception_tiny").build(7))
    check_equal(model, inference_model(model))


def test_released_forms_without_decoder_leave_no_normalization():
    model = as_trained(DeepLabV3Plus(5, backbone="mobilenet_v2_tiny", decoder=False))
    network = inference_model(model)
    assert norms(network) == []
    assert network.count_params() < model.count_params()
    check_equal(model, network)


def test_names_and_classes_stay():
    model = DeepLabV3Plus(5, backbone="resnet_tiny")
    model.dataset_spec = "the classes"
    network = inference_model(model)
    assert network.dataset_spec == "the classes"
    assert type(network) is type(model)
    convs = [x.name for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convs) > 10
    assert [x.name for x in network.layers if isinstance(x, keras.layers.Conv2D)] == convs
    assert network.output_shape == model.output_shape


def test_the_model_stays_as_it_is():
    model = as_trained(DeepLabV3Plus(5, backbone="xception_tiny"))
    before = model.get_weights()
    names = [layer.name for layer in model.layers]
    network = inference_model(model)
    network(np.zeros((1, 33, 33, 3), np.float32))
    assert [layer.name for layer in model.layers] == names
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(len(layer._inbound_nodes) == 1 for layer in model.layers)


def test_weights_that_were_trained_on_are_read_again():
    model = as_trained(DeepLabV3Plus(5, backbone="xception_tiny"))
    network = inference_model(model)
    as_trained(model, seed=2)
    copy_weights(model, network)
    check_equal(model, network)


def test_a_predictor_reads_the_weights_again_when_it_is_told_to():
    image = np.random.default_rng(3).integers(0, 256, (33, 40, 3)).astype(np.uint8)
    model = as_trained(DeepLabV3Plus(5, backbone="mobilenet_v2_tiny"))
    predictor = WholeImage().predictor(model)
    first = predictor.probabilities(image)
    as_trained(model, seed=2)
    np.testing.assert_array_equal(predictor.probabilities(image), first)
    predictor.update()
    expected = WholeImage().predictor(model).probabilities(image)
    np.testing.assert_array_equal(predictor.probabilities(image), expected)
    assert np.abs(first - expected).max() > 1e-3


def test_a_network_without_normalization_is_its_own():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    assert inference_model(model) is model
    copy_weights(model, inference_model(model))


def test_networks_within_it_without_anything_to_fold_are_copied():
    inner = keras.Input((None, None, 4))
    functional = keras.Model(inner, keras.layers.Conv2D(4, 3)(inner))
    sequential = keras.Sequential([keras.Input((None, None, 4)), keras.layers.Conv2D(4, 3)])
    image = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization(name="goes")(keras.layers.Conv2D(4, 1)(image))
    model = as_trained(keras.Model(image, sequential(functional(x))))
    network = inference_model(model)
    assert norms(network) == []
    check_equal(model, network)
    as_trained(model, seed=2)
    copy_weights(model, network)
    check_equal(model, network)
    assert len(functional._inbound_nodes) == len(sequential._inbound_nodes) == 1


def test_what_something_else_reads_is_not_folded():
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 1, use_bias=False, name="read_twice")(image)
    x = keras.layers.Concatenate()([x, keras.layers.BatchNormalization(name="stays")(x)])
    x = keras.layers.Conv2D(4, 1, activation="relu", name="activated")(x)
    x = keras.layers.BatchNormalization(name="stays_too")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", name="biased")(x)
    x = keras.layers.BatchNormalization(scale=False, center=False, name="goes")(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="multiplied")(x)
    x = keras.layers.BatchNormalization(name="moves_on")(x)
    x = keras.layers.Conv2D(5, 1, strides=2, name="pointwise")(x)
    x = keras.layers.BatchNormalization(name="last")(x)
    model = as_trained(keras.Model(image, x))
    network = inference_model(model)
    assert norms(network) == ["stays", "stays_too"]
    assert network.get_layer("pointwise").use_bias
    check_equal(model, network)


def test_tensorflow_fuses_the_operations_of_xception(capfd):
    model = as_trained(DeepLabV3Plus(5, backbone="xception_tiny"))
    network = inference_model(model)
    predict = tf.function(lambda image: network(image, training=False), autograph=False)
    predict(tf.zeros([1, 65, 65, 3]))
    assert "remapper failed" not in capfd.readouterr().err


def test_half_precision_computes_nearly_the_same():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = as_trained(DeepLabV3Plus(5, backbone="mobilenet_v2_tiny"))
        network = inference_model(model)
    finally:
        keras.config.set_dtype_policy(policy)
    image = np.random.default_rng(1).uniform(0, 255, (1, 65, 65, 3)).astype(np.float32)
    expected, found = (np.asarray(m(image, training=False)) for m in (model, network))
    assert found.dtype == expected.dtype == np.float32
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
