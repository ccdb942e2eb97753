"""Memory: what a training step needs, what the machine has, and what would fit."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.layers.memory import bytes_of, kept_bytes
from deeplab_tf.layers.remat import reason_against
from deeplab_tf.recipe.machine import gigabytes, machine_memory
from deeplab_tf.recipe.parts import Recipe

if TYPE_CHECKING:
    from deeplab_tf.training.run import Network

_AT_MOST = 2.0  # ours: what a step takes, relative to the estimate; at most 1.8 was measured
_SMALLEST_SIDE = 65  # ours: of a crop that is proposed; below, a network sees little
_SIDE_STEP = 32  # ours: a crop keeps its remainder, for the largest output stride


def check_memory(
    recipe: Recipe,
    network: Network,
    strategy: tf.distribute.Strategy,
    print_fn: Callable[[str], None],
) -> None:
    """Checks that the steps of a recipe fit into this machine's memory, before the first one.

    TensorFlow does not tell how much memory a GPU has, and XLA decides for itself what it keeps, so
    only CPUs without XLA are checked.

    Args:
      recipe: of the training.
      network: from `build_network`.
      strategy: the devices.
      print_fn: prints a warning if a step does not fit into what is free now.

    Raises:
      ValueError: a step needs more than there is, used or not; the message says what would fit.
    """
    memory = machine_memory()
    if memory is None or recipe.train.jit_compile or not _is_on_cpus(strategy):
        return
    total, free = memory
    needs = _Needs(recipe, network, strategy)
    more = needs.more()
    needed = needs.held() + more
    if needed <= total and more <= free:
        return
    what = needs.what()
    proposed = needs.proposed(free)
    fits = f"These would fit: {', '.join(proposed)}" if proposed else "Only a smaller network fits"
    if needed > total:
        raise ValueError(
            f"--train.batch_size and --augment must fit into memory; {what} need at least"
            f" {gigabytes(needed)}, and this machine has {gigabytes(total)}. {fits}."
        )
    print_fn(
        f"warning: {what} need at least {gigabytes(more)} more memory; {gigabytes(free)} is free."
        f" {fits}."
    )


def what_would_fit(recipe: Recipe, network: Network, strategy: tf.distribute.Strategy) -> str:
    """What to say when a training step has run out of memory: settings that need at most half.

    Args:
      recipe: of the training.
      network: from `build_network`.
      strategy: the devices.
    """
    needs = _Needs(recipe, network, strategy)
    limit = needs.more() * _AT_MOST / 2
    memory = machine_memory()
    if memory is not None and _is_on_cpus(strategy):
        limit = min(limit, memory[0])
    proposed = needs.proposed(limit)
    remedy = f"Half of it or less: {', '.join(proposed)}" if proposed else "Take a smaller network"
    return f"{needs.what()} need at least {gigabytes(needs.more())} besides the weights. {remedy}."


class _Needs:
    """What a step of a recipe, or of one with other settings, needs on this machine.

    The estimate is a lower bound: the batch, and gradients or the activations that the backward
    pass reads. Six trainings of small networks, whole, in parts and with rematerialization, took
    1.1 to 1.8 times as much (ours, on a CPU).
    """

    def __init__(self, recipe: Recipe, network: Network, strategy: tf.distribute.Strategy):
        self._recipe, self._network = recipe, network
        self._replicas = strategy.num_replicas_in_sync
        self._local = len(strategy.extended.worker_devices)
        self._size = pipeline.check_one_size(recipe.augment)
        self._kept: dict[Any, int] = {}

    def what(self) -> str:
        """What needs memory, for a message."""
        config = self._recipe.train
        images = config.batch_size // config.accumulation_steps // self._replicas * self._local
        height, width = self._size
        return f"steps on {images} image(s) of {width} x {height} pixels at a time"

    def held(self) -> int:
        """What exists already: weights, slots of the optimizer, moving averages."""
        average = self._network.state.average
        variables = [*self._network.model.weights, *self._network.optimizer.slots]
        if average is not None:
            variables += average.variables.values()
        return self._local * sum(map(bytes_of, variables))

    def more(
        self,
        *,
        batch_size: int | None = None,
        accumulation_steps: int | None = None,
        remat: bool | None = None,
        size: tuple[int, int] | None = None,
    ) -> int:
        """Bytes that a step needs besides, on all devices of this machine; None: the recipe's."""
        config = self._recipe.train
        parts = accumulation_steps or config.accumulation_steps
        images = (batch_size or config.batch_size) // self._replicas  # of a step, on a device
        height, width = size or self._size
        remat = config.remat if remat is None else remat
        if (remat, height, width) not in self._kept:
            self._kept[remat, height, width] = kept_bytes(
                self._network.model, height, width, remat=remat
            )
        kept = images // parts * self._kept[remat, height, width]
        channels = self._network.model.input.shape[-1]
        batch = images * height * width * 4 * (channels + 1)  # float32 images and int32 labels
        gradients = sum(map(bytes_of, self._network.model.trainable_weights))
        sums = gradients if parts > 1 else 0
        return self._local * (max(gradients, kept) + sums + batch)

    def proposed(self, available: float) -> list[str]:
        """Flags with which a step fits, each alone, and what it then needs at least."""
        config = self._recipe.train

        def fits(**settings) -> bool:
            return self.more(**settings) * _AT_MOST <= available

        found: list[tuple[str, dict[str, Any]]] = []
        each = config.batch_size // self._replicas
        parts = (n for n in _divisors(each) if n > config.accumulation_steps)
        steps = next((n for n in parts if fits(accumulation_steps=n)), None)
        if steps is not None:
            found.append((f"train.accumulation_steps={steps}", {"accumulation_steps": steps}))
        possible = not config.jit_compile and reason_against(self._network.model) is None
        if not config.remat and possible and fits(remat=True):
            found.append(("train.remat=true", {"remat": True}))
        unit = self._replicas * config.accumulation_steps
        sizes = range(unit, config.batch_size, unit)
        batch_size = _last(sizes, lambda n: fits(batch_size=n))
        if batch_size is not None:
            found.append((f"train.batch_size={batch_size}", {"batch_size": batch_size}))
        side = self._size[0]
        kinds = [a.kind for a in self._recipe.augment if getattr(a, "size", None) == side]
        if kinds and self._size == (side, side):
            first = _SMALLEST_SIDE + (side - _SMALLEST_SIDE) % _SIDE_STEP
            sides = range(first, side, _SIDE_STEP)
            smaller = _last(sides, lambda n: fits(size=(n, n)))
            if smaller is not None:
                flags = " ".join(f"--augment.{kind}.size={smaller}" for kind in kinds)
                found.append((flags.removeprefix("--"), {"size": (smaller, smaller)}))
        return [f"--{flag} ({gigabytes(self.more(**settings))})" for flag, settings in found]


def _is_on_cpus(strategy: tf.distribute.Strategy) -> bool:
    return all("CPU" in device for device in strategy.extended.worker_devices)


def _divisors(number: int) -> list[int]:
    """In ascending order."""
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def _last(numbers: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The last of ascending numbers that fits, where all below fit too."""
    place = bisect.bisect_left(numbers, True, key=lambda n: not fits(n))
    return numbers[place - 1] if place else None
