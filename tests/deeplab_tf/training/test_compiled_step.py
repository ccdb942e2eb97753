"""The step of a run: in parts, in half precision, clipped, and skipped where it is not finite."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.devices.strategy import make_strategy
from deeplab_tf.training.losses import CrossEntropy, Focal
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import check_jit_compile, compiled_step
from deeplab_tf.weights import weights_by_name

_ONE, _TWO = ("CPU:0",), ("CPU:0", "CPU:1")


def _network():
    """Two outputs of unlike sizes, and moving statistics."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(inputs / 255)
    x = keras.layers.BatchNormalization(momentum=0.5, name="bn")(x)
    x = keras.layers.ReLU()(x)
    options = {"kernel_size": 1, "dtype": "float32"}
    outputs = {
        "logits": keras.layers.Conv2D(3, name="logits", **options)(x),
        "aux_logits": keras.layers.Conv2D(3, strides=2, name="aux_logits", **options)(x),
    }
    return keras.Model(inputs, outputs)


class _Setting:
    """A network, its optimizer and state, over `devices`."""

    def __init__(self, devices=_ONE, *, loss=None, optimizer=None, scale_loss=False, **options):
        self.strategy = make_strategy("mirrored", devices)
        keras.utils.set_random_seed(1)
        with self.strategy.scope():
            self.model = _network()
            for layer in self.model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.trainable = options.pop("batch_statistics", False)
            self.optimizer = (optimizer or SGD(weight_decay=0.01)).build(self.model)
            self.state = RunState(weights_by_name(self.model), scale_loss=scale_loss, ema_decay=0.5)
        pixel_loss = functools.partial(loss or CrossEntropy(), ignore_label=255)
        losses = {"logits": (pixel_loss, 1.0), "aux_logits": (pixel_loss, 0.4)}
        self.parts = options.pop("parts", 1)
        self.step = compiled_step(
            self.strategy,
            self.model,
            self.optimizer,
            self.state,
            lambda step: losses,
            seed=0,
            parts=self.parts,
            **options,
        )

    def run(self, image, label, rate=0.1):
        """One step on a batch, which `strategy` and the parts divide."""
        data = tf.data.Dataset.from_tensor_slices({"image": image, "label": label})
        data = self.strategy.experimental_distribute_dataset(data.batch(len(image) // self.parts))
        results = self.step(list(data), tf.constant(0), tf.constant(rate))
        return {name: float(value) for name, value in results.items()}

    def variables(self):
        """All that a step may change."""
        found = {name: weight.numpy() for name, weight in weights_by_name(self.model).items()}
        found |= {f"slot {i}": slot.numpy() for i, slot in enumerate(self.optimizer.slots)}
        average = self.state.average.variables
        return found | {f"average {name}": variable.numpy() for name, variable in average.items()}


def _batch():
    random = np.random.default_rng(0)
    image = random.uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
    label = random.integers(0, 3, (8, 16, 16)).astype(np.int32)
    label[:3, 4:] = 255  # the parts have unlike numbers of valid pixels
    return image, label


def _check_equal(parts, whole, order=slice(None)):
    """Checks that two settings train alike; `order` of the whole batch's examples."""
    image, label = _batch()
    for _ in range(2):
        found, expected = parts.run(image, label), whole.run(image[order], label[order])
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    expected = whole.variables()
    for name, value in parts.variables().items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("loss", [CrossEntropy(class_weights=(1.0, 2.0, 0.5)), Focal()])
def test_a_batch_in_parts_equals_the_whole_where_batch_norm_is_frozen(loss):
    _check_equal(_Setting(loss=loss, parts=4), _Setting(loss=loss))


def test_parts_are_normalized_by_each_replicas_own_pixels_on_request():
    settings = [
        _Setting(_TWO, loss_normalization="replica", parts=parts, scale_loss=True)
        for parts in (4, 1)
    ]
    # Of each part of two examples, the first replica gets the first.
    _check_equal(*settings, order=[0, 2, 4, 6, 1, 3, 5, 7])


def test_parts_over_two_replicas_equal_one_batch_on_one():
    _check_equal(_Setting(_TWO, parts=2), _Setting())


def test_xla_computes_the_same_step_and_skips_it_alike():
    image, label = _batch()
    settings = [
        _Setting(parts=2, batch_statistics=True, jit_compile=compiled) for compiled in (True, False)
    ]
    broken = np.full_like(image, np.inf)
    results = [[s.run(image, label), s.run(broken, label)] for s in settings]
    for name, value in results[1][0].items():
        np.testing.assert_allclose(results[0][0][name], value, rtol=1e-5, err_msg=name)
    assert results[0][1]["skipped_steps"] == 1
    expected = settings[1].variables()
    for name, value in settings[0].variables().items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("devices", "train", "loss", "reason"),
    [
        (_TWO, {}, CrossEntropy(), "on 2 replicas"),
        (_ONE, {"remat": True}, CrossEntropy(), "with train.remat"),
        (
            _ONE,
            {},
            CrossEntropy(top_k_percent_pixels=0.5, hard_example_mining_step=9),
            "with a loss that changes its size",
        ),
    ],
)
def test_xla_is_refused_where_it_does_not_work(photos, recipe_of, devices, train, loss, reason):
    recipe = recipe_of(photos, loss=loss, train={"jit_compile": True, **train})
    with pytest.raises(ValueError, match=f"^train.jit_compile must be false {reason}"):
        check_jit_compile(recipe, make_strategy("mirrored", devices))


def test_gradients_above_the_limit_are_scaled_to_it():
    free, clipped = (
        _Setting(optimizer=SGD(momentum=0.0, weight_decay=0.01, clip_norm=limit))
        for limit in (None, 0.05)
    )
    before = free.variables()["conv/kernel"]
    norm = free.run(*_batch())["gradient_norm"]
    assert norm > 0.1
    assert clipped.run(*_batch())["gradient_norm"] == pytest.approx(norm)  # before clipping
    steps = [setting.variables()["conv/kernel"] - before for setting in (free, clipped)]
    np.testing.assert_allclose(steps[1], steps[0] * 0.05 / norm, rtol=1e-3, atol=1e-7)


def test_gradients_below_the_limit_stay_as_they_are():
    free, clipped = (
        _Setting(optimizer=SGD(weight_decay=0.01, clip_norm=limit)) for limit in (None, 100.0)
    )
    free.run(*_batch()), clipped.run(*_batch())
    for name, value in clipped.variables().items():
        np.testing.assert_array_equal(value, free.variables()[name], err_msg=name)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("devices", [_ONE, _TWO])
def test_a_gradient_that_is_not_finite_on_one_replica_changes_nothing(devices, parts):
    setting = _Setting(devices, parts=parts, batch_statistics=True)
    image, label = _batch()
    setting.run(image, label)
    before = setting.variables()
    broken = image.copy()
    broken[-1] = np.inf  # of the last replica and the last part
    for skipped in (1, 2):
        results = setting.run(broken, label)
        assert results["skipped_steps"] == results["skipped_in_a_row"] == skipped
        assert not np.isfinite(results["loss"])
    for name, value in setting.variables().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    results = setting.run(image, label)
    assert (results["skipped_steps"], results["skipped_in_a_row"]) == (2, 0)
    assert np.isfinite(results["loss"])
    assert not np.array_equal(setting.variables()["conv/kernel"], before["conv/kernel"])


@pytest.mark.parametrize("devices", [_ONE, _TWO])
def test_an_overflow_on_one_replica_halves_the_loss_scale(devices):
    setting = _Setting(devices, scale_loss=True)
    image, label = _batch()
    plain = _Setting(devices)
    # The scale is a power of 2, which changes no digit.
    assert setting.run(image, label) == plain.run(image, label)
    for name, value in setting.variables().items():
        np.testing.assert_array_equal(value, plain.variables()[name], err_msg=name)
    assert float(setting.state.loss_scale.value()) == 2**15
    image[-1] = 1e37  # finite until the loss is scaled
    setting.run(image, label)
    assert float(setting.state.loss_scale.value()) == 2**14
