"""Checks that several devices train as one does, and measures how fast they are.

Every number here is ours.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.layers import full_precision
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.training.run import batches, build_network, build_step
from deeplab_tf.training.step import check_jit_compile
from deeplab_tf.weights import weights_by_name

# A difference is rounding if it is at most this many times what another order of the examples
# makes, or below what the precision explains. Statistics that are not synchronized make 0.02 of the
# moving statistics, and replicas that do not add up 0.1 or more.
_TIMES_REORDERED = 10
_ROUNDING = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 5e-2}
_NO_ROUNDING = 0.015
# Of the recipe's rate. At the whole one, a small network with random weights multiplies its
# rounding a hundredfold in a step.
_RATE_FACTOR = 0.01
_WARM_UP = 3  # calls: the first one traces, the second may still choose algorithms
_ROUND_SECONDS = 1.0  # long against the clock and the start of a call


@dataclasses.dataclass(frozen=True, kw_only=True)
class AfterStep:
    """Where training is after an optimizer step.

    Attributes:
      loss: of the step's batch.
      weights: name -> array, of those that are trained.
      statistics: name -> array, of the others.
    """

    loss: float
    weights: Mapping[str, np.ndarray]
    statistics: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How far two trainings are apart after a step.

    Attributes:
      loss: relative to the loss.
      weights: norm, relative to that of how far the weights have moved.
      statistics: the same of the moving statistics.
    """

    loss: float
    weights: float
    statistics: float

    def is_rounding(self, reordered: Difference, precision: str) -> bool:
        """Whether nothing but rounding explains it.

        Args:
          reordered: the difference that another order of the examples makes on one device.
          precision: `Train.precision`.
        """
        return all(
            mine <= max(_ROUNDING[precision], min(_TIMES_REORDERED * other, _NO_ROUNDING))
            for mine, other in zip(
                dataclasses.astuple(self), dataclasses.astuple(reordered), strict=True
            )
        )


def train_steps(
    recipe: Recipe,
    dataset: OpenDataset,
    strategy: tf.distribute.Strategy,
    steps: int,
    *,
    dropout: bool = True,
    reverse: bool = False,
) -> list[AfterStep]:
    """Trains a recipe from random weights, at a low rate.

    Args:
      recipe: what to train.
      dataset: the opened `recipe.dataset`.
      strategy: the devices.
      steps: optimizer steps.
      dropout: whether the recipe's dropout drops anything.
      reverse: each batch in the opposite order; on one device only.

    Returns:
      The start, with a loss of 0, and what is after each step.
    """
    model, make_step = _prepared(recipe, dataset, strategy, dropout=dropout)
    trained = {id(variable) for variable in model.trainable_variables}
    by_name = weights_by_name(model)

    def snapshot(loss):
        arrays = {name: np.array(variable.numpy()) for name, variable in by_name.items()}
        weights = {name for name, variable in by_name.items() if id(variable) in trained}
        return AfterStep(
            loss=loss,
            weights={name: array for name, array in arrays.items() if name in weights},
            statistics={name: array for name, array in arrays.items() if name not in weights},
        )

    source = dataset.source(recipe.train.split)
    schedule = functools.partial(
        recipe.schedule,
        total_steps=recipe.train.total_steps(len(source)),
        steps_per_epoch=len(source) / recipe.train.batch_size,
    )
    found = [snapshot(0.0)]
    for step, parts in enumerate(itertools.islice(batches(recipe, dataset, strategy), steps)):
        if reverse:
            parts = tf.nest.map_structure(lambda tensor: tensor[::-1], parts)
        rate = _RATE_FACTOR * schedule(step) * recipe.train.learning_rate_factor
        results = make_step(parts, tf.constant(step), tf.constant(rate, full_precision()))
        found.append(snapshot(float(results["loss"])))
    return found


def reordered(
    recipe: Recipe, dataset: OpenDataset, strategy: tf.distribute.Strategy, steps: int
) -> list[Difference]:
    """How far apart trainings are after each step if only the order in their batches differs.

    They are without dropout: what it drops follows from an example's position in the batch.

    Args:
      recipe: what to train.
      dataset: the opened `recipe.dataset`.
      strategy: of one device.
      steps: optimizer steps.
    """
    train = functools.partial(train_steps, recipe, dataset, strategy, steps, dropout=False)
    return differences(train(reverse=True), train())


def differences(mine: list[AfterStep], others: list[AfterStep]) -> list[Difference]:
    """How far the first training is from the second after each step; both start alike."""

    def apart(name: str, step: int) -> float:
        a, b, start = (getattr(t[i], name) for t, i in ((mine, step), (others, step), (others, 0)))
        moved = _norm(b[key] - start[key] for key in b)
        return _norm(a[key] - b[key] for key in b) / moved if moved else 0.0

    return [
        Difference(
            loss=abs(a.loss - b.loss) / max(abs(b.loss), 1e-12),
            weights=apart("weights", step),
            statistics=apart("statistics", step),
        )
        for step, (a, b) in enumerate(zip(mine[1:], others[1:], strict=True), start=1)
    ]


def _norm(arrays: Iterator[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.sum(np.square(array, dtype=np.float64))) for array in arrays))


def step_speed(
    recipe: Recipe, dataset: OpenDataset, strategy: tf.distribute.Strategy, rounds: int
) -> float:
    """Images per second of the training step alone, on one batch that stays on the devices."""
    _, make_step = _prepared(recipe, dataset, strategy)
    parts = next(batches(recipe, dataset, strategy))
    # With a rate above 0, many steps on one batch may give weights that are not finite.
    call = functools.partial(make_step, parts, tf.constant(0), tf.constant(0.0, full_precision()))
    return recipe.train.batch_size * _calls_per_second(call, rounds)


def pipeline_speed(
    recipe: Recipe, dataset: OpenDataset, strategy: tf.distribute.Strategy, rounds: int
) -> float:
    """Images per second that the input pipeline delivers to the devices if nothing else runs."""
    stream = batches(recipe, dataset, strategy)
    return recipe.train.batch_size * _calls_per_second(lambda: next(stream), rounds)


def _calls_per_second(call: Callable[[], Any], rounds: int) -> float:
    """The median over the rounds."""

    def seconds(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        tf.test.experimental.sync_devices()
        return time.perf_counter() - start

    seconds(_WARM_UP)
    calls = max(1, math.ceil(_ROUND_SECONDS / seconds(1)))
    return statistics.median(calls / seconds(calls) for _ in range(rounds))


def _prepared(
    recipe: Recipe,
    dataset: OpenDataset,
    strategy: tf.distribute.Strategy,
    *,
    dropout: bool = True,
) -> tuple[keras.Model, Callable[..., dict[str, tf.Tensor]]]:
    """A network with random weights, and its training step."""
    check_jit_compile(recipe, strategy)
    network = build_network(recipe, dataset.spec.num_classes, strategy)
    for layer in network.model.layers:
        if isinstance(layer, keras.layers.Dropout) and not dropout:
            layer.rate = 0
    # Class weights change nothing here, and finding them takes long.
    loss = recipe.loss.with_class_weights(lambda: (1.0,) * dataset.spec.num_classes)
    make_step = build_step(recipe, network, loss, dataset.spec.ignore_label, strategy)
    return network.model, make_step
