"""Learning rates."""

import json
import math

import numpy as np
import pytest

from deeplab_tf.training.schedules import SCHEDULES, Cosine, Poly, Step


def rates(schedule, steps, *, total_steps, steps_per_epoch=1.0):
    return [
        schedule(step, total_steps=total_steps, steps_per_epoch=steps_per_epoch) for step in steps
    ]


def test_poly_rate_falls_from_base_to_zero():
    found = rates(Poly(base_lr=0.5, power=0.9), (0, 2, 4, 5), total_steps=4)
    np.testing.assert_allclose(found, [0.5, 0.5 * 0.5**0.9, 0.0, 0.0])


def test_poly_rate_stays_at_the_end_rate_after_the_decay():
    schedule = Poly(base_lr=0.5, power=2.0, end_lr=0.1, decay_steps=4)
    found = rates(schedule, (0, 2, 4, 9), total_steps=10)
    np.testing.assert_allclose(found, [0.5, 0.1 + 0.4 * 0.25, 0.1, 0.1])


def test_cosine_rate_is_half_a_cosine():
    schedule = Cosine(base_lr=0.5, end_lr=0.1)
    found = rates(schedule, (0, 1, 2, 3, 4, 5), total_steps=4)
    root = math.sqrt(0.5)
    expected = [0.5, 0.3 + 0.2 * root, 0.3, 0.3 - 0.2 * root, 0.1, 0.1]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_step_rate_is_multiplied_at_each_interval():
    schedule = Step(base_lr=1.0, factor=0.5, every_epochs=2.0)
    found = rates(schedule, (0, 4, 5, 9, 10, 14, 15), total_steps=20, steps_per_epoch=2.5)
    np.testing.assert_array_equal(found, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125])
    at_each_step = Step(base_lr=1.0, factor=0.5, every_epochs=0.1)
    found = rates(at_each_step, (0, 1, 2), total_steps=3, steps_per_epoch=10.0)
    np.testing.assert_array_equal(found, [1, 0.5, 0.25])


@pytest.mark.parametrize("kind", ["poly", "cosine", "step"])
def test_a_decay_begins_at_the_base_rate(kind):
    schedule = SCHEDULES[kind](base_lr=0.5)
    assert schedule(0, total_steps=10, steps_per_epoch=2.0) == 0.5


@pytest.mark.parametrize("kind", SCHEDULES)
def test_every_schedule_is_the_same_after_a_warm_up(kind):
    cls = SCHEDULES[kind]
    plain = cls(base_lr=0.5)
    decay = rates(plain, range(12), total_steps=10, steps_per_epoch=2.0)
    for warmup, rise in (("constant", [0.1] * 4), ("linear", [0.1, 0.2, 0.3, 0.4])):
        schedule = plain.replace(warmup_steps=4, warmup_lr=0.1, warmup=warmup)
        found = rates(schedule, range(16), total_steps=14, steps_per_epoch=2.0)
        np.testing.assert_allclose(found[:4], rise)
        np.testing.assert_array_equal(found[4:], decay)


def test_rate_rises_linearly_to_the_base_where_asked():
    def rate(step, warmup):
        schedule = Poly(
            base_lr=0.5, power=1.0, end_lr=0.1, warmup_steps=4, warmup_lr=0.1, warmup=warmup
        )
        return schedule(step, total_steps=14, steps_per_epoch=1.0)

    np.testing.assert_allclose([rate(s, "linear") for s in (0, 2, 4)], [0.1, 0.3, 0.5])
    np.testing.assert_allclose([rate(s, "constant") for s in (0, 2, 3, 4)], [0.1, 0.1, 0.1, 0.5])
    np.testing.assert_allclose([rate(s, "constant") for s in (9, 14, 15)], [0.3, 0.1, 0.1])


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_of_the_whole_training_is_refused(kind):
    schedule = SCHEDULES[kind](warmup_steps=20)
    schedule.check(21)
    with pytest.raises(ValueError) as error:
        schedule.check(20)
    assert str(error.value) == (
        "schedule.warmup_steps must be below the length of training, 20 steps; got 20."
    )


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (Poly, {"base_lr": -1.0}, "base_lr must be at least 0"),
        (Poly, {"end_lr": -0.1}, "end_lr must be at least 0"),
        (Poly, {"power": -0.1}, "power must be at least 0"),
        (Poly, {"decay_steps": 0}, "decay_steps must be at least 1"),
        (Poly, {"warmup_steps": -1}, "warmup_steps must be at least 0"),
        (Poly, {"warmup_lr": -0.1}, "warmup_lr must be at least 0"),
        (Poly, {"warmup": "cosine"}, "warmup must be constant|linear"),
        (Cosine, {"end_lr": -0.1}, "end_lr must be at least 0"),
        (Step, {"factor": 0}, "factor must be above 0"),
        (Step, {"every_epochs": 0}, "every_epochs must be above 0"),
    ],
)
def test_a_bad_value_is_refused(cls, values, message):
    with pytest.raises(ValueError) as error:
        cls(**values)
    assert str(error.value).startswith(message)


def test_rates_equal_the_released_codes(shared_dir):
    cases = json.loads((shared_dir / "reference" / "deeplab" / "x3_lr_poly.json").read_text())
    compared = 0
    for case in cases:
        config = case["config"]
        decay_steps = config.get("decay_steps")
        schedule = Poly(
            base_lr=config["base"],
            power=case["power"],
            end_lr=config.get("end", 0.0),
            decay_steps=None if decay_steps is None else int(decay_steps),
            warmup_steps=config["slow"],
            warmup_lr=config["slow_lr"],
            warmup=config.get("burnin", "constant"),
        )
        for step, rate in case["step_lr"]:
            ours = schedule(step, total_steps=config["steps"], steps_per_epoch=1.0)
            # The released code computes 1 - step / steps in float32, where little is left of it
            # near the end.
            left = max(1 - step / config["steps"], 1e-9)
            assert ours == pytest.approx(rate, rel=1e-6 + 1e-7 / left, abs=1e-12), (config, step)
            compared += 1
    assert compared == 41
