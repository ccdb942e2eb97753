"""Several devices against one."""

import dataclasses
import subprocess
import sys
from typing import ClassVar

import keras
import numpy as np
import pytest

from deeplab_tf.layers import Dropout
from deeplab_tf.recipe.options import Options, option
from deeplab_tf.training.devices.selfcheck import (
    Difference,
    differences,
    pipeline_speed,
    reordered,
    step_speed,
    train_steps,
)
from deeplab_tf.training.devices.strategy import make_strategy

_TWO = ("CPU:0", "CPU:1")
_CHAOS = Difference(loss=1.0, weights=1.0, statistics=1.0)  # of another order of the examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Normalized(Options):
    """Dropout, batch normalization and one layer."""

    kind: ClassVar[str] = "normalized"

    synchronized: bool = option(True, "statistics over all replicas")

    def build(self, num_classes, input_shape=(None, None, 3), *, auxiliary=False):
        image = keras.Input(input_shape)
        x = Dropout(0.5, name="dropout")(image / 255)
        x = keras.layers.BatchNormalization(synchronized=self.synchronized, name="bn")(x)
        logits = keras.layers.Conv2D(num_classes, 1, strides=4, name="logits")(x)
        return keras.Model(image, {"logits": logits} if auxiliary else logits)

    def losses(self, pixel_loss):
        return {"logits": (pixel_loss, 1.0)}


@pytest.fixture
def recipe(recipe_of, photos):
    return recipe_of(photos, model=_Normalized())


def _train(recipe, devices, steps=2, **options):
    kind = "mirrored" if len(devices) > 1 else "one_device"
    dataset = recipe.dataset.open(None)
    return train_steps(recipe, dataset, make_strategy(kind, devices), steps, **options)


def test_two_devices_differ_from_one_by_rounding(recipe):
    one = _train(recipe, ("CPU:0",))
    assert one[0].loss == 0 and one[1].loss != one[2].loss
    assert set(one[0].statistics) == {"bn/moving_mean", "bn/moving_variance"}
    alone = make_strategy("one_device", ("CPU:0",))
    others = reordered(recipe, recipe.dataset.open(None), alone, 2)
    found = differences(_train(recipe, _TWO), one)
    assert len(found) == len(others) == 2
    for mine, other in zip(found, others, strict=True):
        assert mine.is_rounding(other, "float32")
        for difference in (mine, other):
            assert max(difference.loss, difference.statistics) < 1e-5


def test_dropout_of_each_replica_for_itself_is_no_rounding(recipe, monkeypatch):
    one = _train(recipe, ("CPU:0",), steps=1)
    monkeypatch.setattr(Dropout, "call", keras.layers.Dropout.call)
    (found,) = differences(_train(recipe, _TWO, steps=1), one)
    assert not found.is_rounding(_CHAOS, "float32")


def test_statistics_of_each_replica_alone_are_no_rounding(recipe):
    recipe = dataclasses.replace(recipe, model=_Normalized(synchronized=False))
    one = _train(recipe, ("CPU:0",), steps=1)
    (found,) = differences(_train(recipe, _TWO, steps=1), one)
    assert not found.is_rounding(Difference(loss=1e-6, weights=1e-4, statistics=1e-6), "float32")


def test_wrong_sum_of_gradients_is_no_rounding(recipe):
    one = _train(recipe, ("CPU:0",), steps=1)
    halved = [
        dataclasses.replace(
            after, weights={k: (w + one[0].weights[k]) / 2 for k, w in after.weights.items()}
        )
        for after in one
    ]
    found = differences(halved, one)[0]
    assert found == Difference(loss=0.0, weights=pytest.approx(0.5, rel=1e-3), statistics=0.0)
    for precision in ("float32", "bfloat16"):
        assert not found.is_rounding(_CHAOS, precision)


def test_speeds_are_measured_for_parts_of_a_batch_too(recipe, monkeypatch):
    monkeypatch.setattr("deeplab_tf.training.devices.selfcheck._ROUND_SECONDS", 0.01)
    recipe = dataclasses.replace(recipe, train=recipe.train.replace(accumulation_steps=2))
    dataset, strategy = recipe.dataset.open(None), make_strategy("mirrored", _TWO)
    for speed in (step_speed, pipeline_speed):
        found = speed(recipe, dataset, strategy, 1)
        assert np.isfinite(found) and found > 0


@pytest.mark.slow  # a process with TensorFlow and a network, trained six times
def test_script_says_that_two_parts_of_the_cpu_train_as_one(root, tmp_path):
    flags = "--logical_cpus=2 --dataset.num_examples=8 --model.backbone=mobilenet_v2_tiny"
    flags += " --train.batch_size=4 --augment.random_crop.size=33 --rounds=1 --steps=2"
    done = subprocess.run(
        [
            sys.executable,
            "scripts/selfcheck.py",
            "--recipe=quickstart_shapes",
            f"--data_dir={tmp_path}",
            *flags.split(),
        ],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "The differences are rounding: 2 replicas train as one does." in done.stdout
    assert "scaling efficiency" in done.stdout and "input pipeline alone" in done.stdout
