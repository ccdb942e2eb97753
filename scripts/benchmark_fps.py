"""FastFCN Tab. 2: how fast each network predicts, beside the same one with a dilated backbone.

Runs on any backend of Keras (KERAS_BACKEND=jax, torch), compiled and waited for. With --rounds=100
the mean is that of the released code, whose networks, though, neither take turns nor are waited
for.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from jpu_tf.model import FastFCNConfig

IMAGE_SIZE = (512, 512)  # paper: Tab. 2
NUM_CLASSES = 59  # code: PASCAL-Context without its background
_WARM_UP_CALLS = 10  # code; at most as many as there are rounds, since a CPU needs seconds for each
_LEAST_WARM_UP_CALLS = 2  # ours: the first one compiles
_CALLS_OF_A_MEAN = 10  # code: its figure is the mean of the FPS of ten calls each, 100 in all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A network and what the paper measured, on a Titan Xp."""

    backbone: str
    head: str
    upsampler: str
    fps: float

    @property
    def model(self) -> FastFCNConfig:
        """The network as the reference times it, with auxiliary and semantic encoding outputs."""
        return FastFCNConfig(backbone=self.backbone, head=self.head, upsampler=self.upsampler)


def _rows(backbone: str, head: str, **fps: float) -> list[Row]:
    return [
        Row(backbone=backbone, head=head, upsampler=upsampler, fps=value)
        for upsampler, value in fps.items()
    ]


# paper: Tab. 2. The released code has neither bilinear nor FPN; these are ours. In each group the
# first row, without upsampler, is the dilated network that the others are compared with.
GROUPS: tuple[list[Row], ...] = (
    _rows("resnet50_deep_stem", "encoding", none=18.77, bilinear=45.67, fpn=37.87, jpu=37.56),
    _rows("resnet50_deep_stem", "aspp", none=15.99, jpu=20.67),
    _rows("resnet50_deep_stem", "psp", none=18.08, jpu=28.48),
    _rows("resnet101_deep_stem", "encoding", none=10.51, bilinear=35.20, fpn=32.40, jpu=32.02),
    _rows("resnet101_deep_stem", "aspp", none=10.46, jpu=18.08),
    _rows("resnet101_deep_stem", "psp", none=11.36, jpu=23.87),
)
_HEADS = (
    "backbone",
    "head",
    "upsampler",
    "parameters M",
    "multiply-adds B",
    "images/s, median",
    "images/s, mean",
    "ratio",
    "paper FPS",
    "paper ratio",
    "multiply-add ratio",
)


def print_table(groups: Sequence[Sequence[Row]] = GROUPS, *, batch_size: int, rounds: int) -> None:
    """Measures and prints every row; the rows of a group take turns in each round.

    Args:
      groups: rows that are compared with the first of them.
      batch_size: images a call.
      rounds: calls of each network, after those that warm it up.
    """
    import keras

    print(
        f"FastFCN Tab. 2; {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} pixels, {NUM_CLASSES} classes, batch"
        f" {batch_size}, {keras.config.dtype_policy().name}, {keras.backend.backend()};"
        f" median and mean of {rounds} rounds (the released code's mean: --rounds=100).\nRatios are"
        " of medians to the row with upsampler none, whose backbone is dilated to output stride"
        " 8; all outputs of training are computed.\n"
    )
    widths = [max(len(_HEADS[0]), 19), *(max(len(head), 9) for head in _HEADS[1:])]
    _print_cells(_HEADS, widths)
    for group in groups:
        measured = _measure(group, batch_size, rounds)
        first = measured[0]
        for row, (parameters, cost, speed, mean) in zip(group, measured, strict=True):
            cells = (
                row.backbone,
                row.head,
                row.upsampler,
                f"{parameters / 1e6:.2f}",
                f"{cost / 1e9:.2f}",
                f"{speed:.3g}",
                f"{mean:.3g}",
                f"{speed / first[2]:.2f}",
                f"{row.fps:.2f}",
                f"{row.fps / group[0].fps:.2f}",
                f"{first[1] / cost:.2f}",
            )
            _print_cells(cells, widths)


def _print_cells(cells: tuple[str, ...], widths: list[int]) -> None:
    line = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    print(line, flush=True)


def _measure(
    group: Sequence[Row], batch_size: int, rounds: int
) -> list[tuple[int, int, float, float]]:
    """(parameters, multiply-adds per image, images per second: median and mean) of each row."""
    import keras
    import numpy as np

    from deeplab_tf.layers.multiply_adds import multiply_adds

    image = np.random.default_rng(0).uniform(0, 255, (batch_size, *IMAGE_SIZE, 3))
    image = keras.ops.convert_to_tensor(image.astype("float32"))
    models = [row.model.build(NUM_CLASSES, auxiliary=True) for row in group]
    calls = [compiled(model, image) for model in models]
    for call in calls:
        for _ in range(max(_LEAST_WARM_UP_CALLS, min(rounds, _WARM_UP_CALLS))):
            call()
    seconds: list[list[float]] = [[] for _ in group]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [
        (
            sum(math.prod(weight.shape) for weight in model.trainable_weights),
            multiply_adds(model, IMAGE_SIZE),
            batch_size / statistics.median(taken),
            mean_speed(taken, batch_size),
        )
        for model, taken in zip(models, seconds, strict=True)
    ]


def mean_speed(seconds: Sequence[float], batch_size: int) -> float:
    """Images per second as the released code averages them (code: its FPS test).

    Args:
      seconds: of each call.
      batch_size: images a call.

    Returns:
      The mean of the speeds of ten calls each.
    """
    parts = [seconds[i : i + _CALLS_OF_A_MEAN] for i in range(0, len(seconds), _CALLS_OF_A_MEAN)]
    return statistics.mean(batch_size * len(part) / sum(part) for part in parts)


def compiled(model: Any, image: Any) -> Callable[[], None]:
    """A call of a network that returns when the device has made it.

    Args:
      model: a keras.Model on any backend.
      image: a tensor of that backend, [N, H, W, 3].

    Returns:
      () -> None; compiled, but not on PyTorch.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        state = [[v.value for v in vs] for vs in
                 (model.trainable_variables, model.non_trainable_variables)]  # fmt: skip
        predict = jax.jit(lambda state, x: model.stateless_call(*state, x, training=False)[0])
        return lambda: jax.block_until_ready(predict(state, image))
    if backend == "torch":
        import torch

        def call() -> None:
            with torch.inference_mode():
                model(image, training=False)
            if image.is_cuda:
                torch.cuda.synchronize()

        return call
    import tensorflow as tf

    predict = tf.function(lambda x: model(x, training=False), autograph=False)
    predict = predict.get_concrete_function(image)

    def call() -> None:
        predict(image)
        tf.test.experimental.sync_devices()

    return call
