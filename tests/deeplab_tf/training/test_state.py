"""Loss scale, moving average and counters of a run."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.training.state import LossScale, MovingAverage, RunState


def test_loss_scale_halves_at_once_and_doubles_after_2000_good_steps():
    scale = LossScale()
    update = tf.function(scale.update)
    first = float(scale.value())
    assert first == 2**15
    for _ in range(1999):
        update(tf.constant(True))
    assert float(scale.value()) == first
    update(tf.constant(True))
    assert float(scale.value()) == 2 * first
    for _ in range(1000):
        update(tf.constant(True))
    update(tf.constant(False))
    assert float(scale.value()) == first
    for _ in range(1999):  # the count began again
        update(tf.constant(True))
    assert float(scale.value()) == first


def test_loss_scale_does_not_fall_below_1():
    scale = LossScale()
    for _ in range(40):
        scale.update(tf.constant(False))
    assert float(scale.value()) == 1


class _Weight:
    """A Keras variable, as far as an average needs it."""

    def __init__(self, values):
        self.value = tf.Variable(values)


def test_moving_average_follows_its_formula():
    weight = _Weight(np.array([1.0, -2.0], np.float32))
    average = MovingAverage({"a/kernel": weight}, decay=0.3)
    expected = np.array([1.0, -2.0])
    for update in range(6):
        weight.value.assign_add([0.5, 1.0])
        average.update()
        decay = min(0.3, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight.value.numpy()
        np.testing.assert_allclose(average.variables["a/kernel"].numpy(), expected, rtol=1e-6)
    average.restart()
    np.testing.assert_array_equal(average.variables["a/kernel"].numpy(), weight.value.numpy())


def test_skipped_steps_are_counted_in_all_and_in_a_row():
    state = RunState()
    counts = []
    for finite in (True, False, False, True, False):
        state.follow(tf.constant(finite))
        counts.append((int(state.skipped_steps), int(state.skipped_in_a_row)))
    assert counts == [(0, 0), (1, 1), (2, 2), (2, 0), (3, 1)]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, []),
        ({"scale_loss": True}, ["loss_scale"]),
        ({"ema_decay": 0.9}, ["average", "average_updates"]),
    ],
)
def test_a_checkpoint_holds_what_the_options_need(options, names):
    found = RunState({"w": _Weight([1.0])}, **options).checkpointed()
    assert sorted(found) == sorted(["skipped_steps", "skipped_in_a_row", "recoveries", *names])
