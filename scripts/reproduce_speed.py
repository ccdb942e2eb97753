"""Images per second of networks that take turns, on any backend of Keras.

KERAS_BACKEND=jax and torch work too. Calls are compiled (not on PyTorch) and waited for.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from deeplab_tf.recipe.parts import ModelConfig

_WARM_UP_CALLS = 10  # code; at most as many as there are rounds, since a CPU needs seconds for each
_LEAST_WARM_UP_CALLS = 2  # ours: the first one compiles
_CALLS_OF_A_MEAN = 10  # code: its figure is the mean of the FPS of ten calls each, 100 in all


def speeds_of(
    configs: Sequence[ModelConfig],
    *,
    image_size: tuple[int, int],
    num_classes: int,
    batch_size: int,
    rounds: int,
) -> list[dict[str, float]]:
    """Measures networks with random weights, one after the other in each round.

    Args:
      configs: the networks; ratios are to the first. All outputs of training are computed (code).
      image_size: height and width, pixels.
      num_classes: outputs of the networks.
      batch_size: images a call.
      rounds: calls of each network, after those that warm it up. With 100, the mean is that of the
        released code, whose networks, though, neither take turns nor are waited for.

    Returns:
      For each network "parameters" (millions, trainable), "multiply_adds" (billions, the true
      count), "speed" and "mean_speed" (images per second, median and the released code's mean),
      "speed_ratio" (of medians) and "cost_ratio" (of multiply-adds, the first one's to this one's).
    """
    import keras
    import numpy as np

    from deeplab_tf.layers.multiply_adds import multiply_adds

    image = np.random.default_rng(0).uniform(0, 255, (batch_size, *image_size, 3))
    image = keras.ops.convert_to_tensor(image.astype("float32"))
    models = [config.build(num_classes, auxiliary=True) for config in configs]
    calls = [compiled(model, image) for model in models]
    for call in calls:
        for _ in range(max(_LEAST_WARM_UP_CALLS, min(rounds, _WARM_UP_CALLS))):
            call()
    seconds: list[list[float]] = [[] for _ in configs]
    for _ in range(rounds):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    costs = [multiply_adds(model, image_size) for model in models]
    medians = [batch_size / statistics.median(taken) for taken in seconds]
    return [
        {
            "parameters": sum(math.prod(w.shape) for w in model.trainable_weights) / 1e6,
            "multiply_adds": cost / 1e9,
            "speed": median,
            "mean_speed": mean_speed(taken, batch_size),
            "speed_ratio": median / medians[0],
            "cost_ratio": costs[0] / cost,
        }
        for model, cost, median, taken in zip(models, costs, medians, seconds, strict=True)
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
