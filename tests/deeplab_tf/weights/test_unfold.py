"""Normalizations without statistics get those of real images."""

import keras
import numpy as np

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.weights.unfold import unfold_batch_norm


def test_unfolding_changes_statistics_but_not_what_is_computed():
    model = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False).build(
        3
    )
    images = (127 + 120 * np.sin(np.arange(2 * 33 * 33 * 3) ** 1.1)).reshape(2, 33, 33, 3)
    images = images.astype(np.float32)
    before = model(images, training=False).numpy()
    names = {layer.name for layer in model.layers if layer.name.startswith("backbone_")}
    changed = unfold_batch_norm(model, images, names)
    assert "backbone_conv_bn" in changed
    assert not any(name.startswith("aspp_") for name in changed)
    after = model(images, training=False).numpy()
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max() + 1e-6)
    layer = model.get_layer("backbone_block1_expand_bn")
    assert np.all(layer.moving_variance.numpy() != 1)
    # With the batch's own statistics the network now computes nearly the same.
    layer_in_training = model.get_layer("backbone_conv_bn")
    x = model.get_layer("backbone_conv")(images / 127.5 - 1)
    np.testing.assert_allclose(
        layer_in_training(x, training=True), layer_in_training(x, training=False), atol=1e-3
    )


def test_statistics_are_those_of_the_feature_maps():
    image = keras.Input([None, None, 3])
    x = keras.layers.Rescaling(1 / 127.5, offset=3.0)(image)  # a mean far from 0
    first = keras.layers.BatchNormalization(name="first")(x)
    second = keras.layers.BatchNormalization(name="second")(keras.layers.ReLU()(first))
    # The same feature map is the input of two normalizations.
    third = keras.layers.BatchNormalization(name="third")(first)
    model = keras.Model(image, keras.layers.Add()([second, third]))
    images = np.random.default_rng(0).uniform(0, 255, (3, 17, 19, 3)).astype(np.float32)
    maps = [model.get_layer(name).input for name in ("first", "second", "third")]
    maps = keras.Model(image, maps)(images, training=False)
    lines = []
    unfold_batch_norm(model, images, {"first", "second", "third"}, lines.append)
    assert lines == ["restoring 3 folded batch normalizations from the first batch"]
    for name, x in zip(("first", "second", "third"), maps, strict=True):
        x, layer = np.asarray(x, np.float64), model.get_layer(name)
        np.testing.assert_allclose(layer.moving_mean, x.mean(axis=(0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, x.var(axis=(0, 1, 2)), rtol=1e-5)


def test_statistics_that_are_there_stay():
    model = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False).build(
        3
    )
    layer = model.get_layer("backbone_conv_bn")
    layer.moving_mean.assign(np.full(layer.moving_mean.shape, 0.5))
    images = np.full((1, 33, 33, 3), 99, np.float32)
    assert layer.name not in unfold_batch_norm(model, images, {layer.name})
    assert np.all(layer.moving_mean.numpy() == 0.5)
