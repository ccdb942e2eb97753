"""One optimizer step: its loss, its gradients, and the same over several replicas."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD, AdamW
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import train_step
from deeplab_tf.weights import fit_weights, weights_by_name

# Of each replica: gradients through batch normalization, decoder, and a head of one pixel.
_MODEL = DeepLabV3PlusConfig(
    backbone="mobilenet_v2_tiny",
    atrous_rates=(1, 2),
    aspp_channels=8,
    low_level_channels=4,
    decoder_convs=((3, 8), (3, 8)),
    batch_norm_momentum=0.9,
    dropout=0.0,
)


def _three_steps(devices, batch, weights, options):
    """(loss, gradient norm, weights and statistics) after each of three steps over `devices`."""
    strategy = make_strategy("mirrored", devices)
    with strategy.scope():
        model = _MODEL.build(3, auxiliary=True)
        optimizer = options.build(model)
        state = RunState()
    fit_weights(model, weights)
    pixel_loss = functools.partial(CrossEntropy(), ignore_label=255)

    @tf.function
    def step(batch, rate):
        results = strategy.run(
            train_step,
            args=(model, optimizer, state, _MODEL.losses(pixel_loss), batch),
            kwargs={"learning_rate": rate},
        )
        return tf.nest.map_structure(strategy.experimental_local_results, results)

    data = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    distributed = next(iter(strategy.experimental_distribute_dataset(data)))
    after = []
    for rate in (0.01, 0.005, 0.002):
        results = step(distributed, tf.constant(rate))
        for values in results.values():
            assert len({float(value) for value in values}) == 1  # the same on all replicas
        found = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
        after.append((float(results["loss"][0]), float(results["gradient_norm"][0]), found))
    return after


@pytest.fixture(scope="module")
def batch():
    waves = 127 + 120 * np.sin(np.arange(33 * 33 * 3) / 5).reshape(33, 33, 3)
    # Unlike each other: the statistics of the pooled branch are over four single pixels.
    image = np.stack([waves, waves[::-1] * 0.2, 255 - waves, waves[:, ::-1] * 0.6])
    label = image.mean(-1).astype(np.int32) // 86
    label[0, :20] = 255  # the replicas have unlike numbers of valid pixels
    return {"image": image.astype(np.float32), "label": label}


@pytest.fixture(scope="module")
def weights():
    keras.utils.set_random_seed(0)
    return {name: w.numpy() for name, w in weights_by_name(_MODEL.build(3)).items()}


@pytest.mark.slow  # two networks of three steps; test_division.py has smaller ones
def test_two_replicas_with_sync_bn_equal_one_large_batch(batch, weights):
    options = SGD(weight_decay=1e-2, lr_multipliers=(("backbone_", 0.5),))
    one = _three_steps(("CPU:0",), batch, weights, options)
    two = _three_steps(("CPU:0", "CPU:1"), batch, weights, options)
    assert one[2][0] < one[0][0]
    # Rounding grows from step to step: by the third one a mere other order of the images on one
    # replica moves weights by 3e-3. Statistics of half a batch would move the loss by 1e-2.
    for (mine, whole), (loss_error, norm_error, error) in zip(
        zip(two, one, strict=True),
        ((1e-6, 2e-4, 1e-5), (1e-5, 5e-3, 2e-4), (5e-5, 2e-2, 2e-3)),
        strict=True,
    ):
        np.testing.assert_allclose(mine[0], whole[0], rtol=loss_error)
        np.testing.assert_allclose(mine[1], whole[1], rtol=norm_error)
        for name, value in whole[2].items():
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(mine[2][name], value, atol=error * scale, err_msg=name)


def _pointwise(zeros_or_ones):
    """One layer, two classes, as a network that is trained."""
    inputs = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(2, 1, name="logits", kernel_initializer=zeros_or_ones)
    return keras.Model(inputs, {"logits": layer(inputs / 255)}), layer


def test_adamw_on_two_replicas_equals_one_large_batch():
    label = np.zeros((4, 4, 4), np.int32)
    label[:, 0] = 1  # a quarter: Adam makes steps of the rounding of a gradient that is 0
    label[0] = 255
    image = np.random.default_rng(0).uniform(0, 255, (4, 4, 4, 3)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": image, "label": label}).batch(4)
    pixel_loss = functools.partial(CrossEntropy(), ignore_label=255)
    kernels = []
    for devices in (("CPU:0",), ("CPU:0", "CPU:1")):
        strategy = make_strategy("mirrored", devices)
        with strategy.scope():
            model, layer = _pointwise("ones")
            optimizer = AdamW(weight_decay=0.1).build(model)
            state = RunState()

        @tf.function
        def step(batch, strategy=strategy, model=model, optimizer=optimizer, state=state):
            outputs = {"logits": (pixel_loss, 1.0)}
            strategy.run(
                train_step,
                args=(model, optimizer, state, outputs, batch),
                kwargs={"learning_rate": tf.constant(0.1)},
            )

        batch = next(iter(strategy.experimental_distribute_dataset(data)))
        for _ in range(3):
            step(batch)
        assert optimizer.slots[-1].numpy() == 3  # updates, not those of both replicas
        kernels.append(layer.kernel.numpy())
    assert np.abs(kernels[0] - 1).max() > 0.2
    np.testing.assert_allclose(kernels[1], kernels[0], rtol=1e-5)


def _eager_step(label, loss_normalization="global"):
    image = tf.fill([1, 9, 9, 3], 50.0)
    model, layer = _pointwise("ones")
    result = train_step(
        model,
        SGD(momentum=0.0, weight_decay=0.25).build(model),
        RunState(),
        {"logits": (functools.partial(CrossEntropy(), ignore_label=255), 1.0)},
        {"image": image, "label": tf.constant(label)},
        learning_rate=tf.constant(1.0),
        loss_normalization=loss_normalization,
    )
    return result, layer


def test_weight_decay_is_the_gradient_of_half_the_squared_norm():
    result, layer = _eager_step(np.full((1, 9, 9), 255, np.int32))
    assert result["loss"] == 0
    np.testing.assert_allclose(layer.kernel.numpy(), 0.75, rtol=1e-6)  # 1 - rate * 0.25 * 1
    np.testing.assert_array_equal(layer.bias.numpy(), 0)
    np.testing.assert_allclose(result["gradient_norm"], 0.25 * np.sqrt(6), rtol=1e-6)


def test_loss_is_the_mean_over_valid_pixels():
    label = np.full((1, 9, 9), 255, np.int32)
    label[0, 0, :5] = 1
    for normalization in ("global", "replica"):
        result, layer = _eager_step(label, normalization)
        np.testing.assert_allclose(result["loss"], np.log(2), rtol=1e-6)
        np.testing.assert_allclose(layer.bias.numpy(), [-0.5, 0.5], rtol=1e-6)


def test_losses_of_several_outputs_are_weighted_and_reported():
    inputs = keras.Input((None, None, 3))
    outputs = {
        name: keras.layers.Conv2D(2, 1, name=name, kernel_initializer="zeros")(inputs)
        for name in ("logits", "aux_logits")
    }
    model = keras.Model(inputs, outputs)
    pixel_loss = functools.partial(CrossEntropy(), ignore_label=255)
    result = train_step(
        model,
        SGD().build(model),
        RunState(),
        {"logits": (pixel_loss, 1.0), "aux_logits": (pixel_loss, 0.5)},
        {"image": tf.ones([1, 4, 4, 3]), "label": tf.zeros([1, 4, 4], tf.int32)},
        learning_rate=tf.constant(1.0),
    )
    assert set(result) == {
        "loss", "gradient_norm", "loss_logits", "loss_aux_logits", "skipped_steps",
        "skipped_in_a_row"}  # fmt: skip
    np.testing.assert_allclose(result["loss"], 1.5 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(result["loss_logits"], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(result["loss_aux_logits"], 0.5 * np.log(2), rtol=1e-6)


def test_pixels_mined_on_two_replicas_are_averaged_together():
    strategy = make_strategy("mirrored", ("CPU:0", "CPU:1"))
    with strategy.scope():
        model, _ = _pointwise("zeros")
        optimizer = SGD(momentum=0.0, weight_decay=0.0).build(model)
        state = RunState()
    loss = CrossEntropy(class_weights=(1.0, 3.0), top_k_percent_pixels=0.25)
    label = np.zeros((2, 4, 4), np.int32)
    label[1] = 255
    label[1, 0, :2] = 1  # the second replica keeps 4 pixels too, of which 2 have a class
    batch = {"image": np.ones((2, 4, 4, 3), np.float32), "label": label}

    @tf.function
    def step(batch, normalization):
        pixel_loss = functools.partial(loss, ignore_label=255)
        results = strategy.run(
            train_step,
            args=(model, optimizer, state, {"logits": (pixel_loss, 1.0)}, batch),
            kwargs={"learning_rate": tf.constant(0.0), "loss_normalization": normalization},
        )
        return strategy.experimental_local_results(results["loss"])[0]

    data = tf.data.Dataset.from_tensor_slices(batch).batch(2)
    distributed = next(iter(strategy.experimental_distribute_dataset(data)))
    for normalization, mean in (("global", (4 * 1 + 2 * 3) / 6), ("replica", (1 + 3) / 2)):
        found = step(distributed, normalization)
        np.testing.assert_allclose(found, mean * np.log(2), rtol=1e-6)


def test_a_strategy_is_made_once_for_the_same_devices():
    assert make_strategy("mirrored", ("CPU:0", "CPU:1")) is make_strategy(
        "mirrored", ("CPU:0", "CPU:1")
    )
    assert make_strategy("mirrored", ("CPU:0", "CPU:1")).num_replicas_in_sync == 2


def test_unknown_device_is_refused():
    with pytest.raises(ValueError, match="^train.devices must be .*CPU:0.*; got GPU:7"):
        make_strategy("mirrored", ("GPU:7",))
