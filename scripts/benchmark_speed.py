"""Measures a network and its training step: speed and memory."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from deeplab_tf.recipe.parts import ModelConfig

Clock = Callable[[int], float]  # number of calls -> the seconds that they take

_TURN_SECONDS = 0.5  # ours: long against what wakes up and cools down when another one stops
_ROUND_SECONDS = 1.0  # ours: long against the clock and the start of a call
_WARM_UP_CALLS = 3  # ours: the first one traces, the second may still choose algorithms
IGNORE_LABEL = 255  # of pixels without a class


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one use of a network costs."""

    name: str
    parameters: int  # moving statistics included
    multiply_adds: int  # of one image's forward pass, true count
    images_per_second: tuple[float, ...]  # a round each
    peak_memory: int  # bytes

    def speed_text(self) -> str:
        """The median, and the slowest and the fastest round."""
        speeds = self.images_per_second
        return f"{statistics.median(speeds):.3g} ({min(speeds):.3g} to {max(speeds):.3g})"


def measure(
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    batch_size: int,
    rounds: int,
) -> list[Measurement]:
    """Builds a network with random weights and measures it on one device.

    Inference is the network on a batch, logits at the image's size. A training step is the one of
    `deeplab_tf.training`, with whatever outputs training has besides the logits. The two take
    turns, so that a machine that is slow for a while is slow for both.

    Args:
      config: the network.
      num_classes: background counted, void not.
      image_size: height and width, pixels.
      batch_size: images a call.
      rounds: how often both are timed, about a second each time.

    Returns:
      Inference and training step.

    Raises:
      tf.errors.ResourceExhaustedError: they do not fit into memory.
    """
    import keras
    import tensorflow as tf

    from deeplab_tf.layers.multiply_adds import multiply_adds

    keras.utils.set_random_seed(0)
    trained = config.build(num_classes, auxiliary=True)
    model = keras.Model(trained.input, trained.output["logits"])
    image = tf.random.uniform([batch_size, *image_size, 3], 0.0, 255.0)
    label = tf.random.uniform([batch_size, *image_size], 0, num_classes, tf.int32)
    predict = tf.function(functools.partial(model, training=False))
    step = training_step(config, trained)
    uses: dict[str, tuple[Any, Callable[[], Any]]] = {
        "inference": (model, lambda: predict(image)),
        "training step": (trained, lambda: step({"image": image, "label": label})),
    }
    counts = {name: multiply_adds(network, image_size) for name, (network, _) in uses.items()}
    # Least memory first: the peak of a process never falls.
    peaks = {name: warm_up(call) for name, (_, call) in uses.items()}
    calls = {
        name: max(1, math.ceil(_ROUND_SECONDS / seconds(call, 1)))
        for name, (_, call) in uses.items()
    }
    speeds = {name: [] for name in uses}
    for _ in range(rounds):
        for name, (_, call) in uses.items():
            speeds[name].append(batch_size * calls[name] / seconds(call, calls[name]))
    return [
        Measurement(
            name=name,
            parameters=network.count_params(),
            multiply_adds=counts[name],
            images_per_second=tuple(speeds[name]),
            peak_memory=peaks[name],
        )
        for name, (network, _) in uses.items()
    ]


def training_step(config: ModelConfig, model: Any) -> Callable[[Any], Any]:
    """The training step of `deeplab_tf.training` on one device, compiled.

    Args:
      config: of the network.
      model: built by it with auxiliary=True.

    Returns:
      {"image": float32 [N, H, W, 3], "label": int32 [N, H, W]} -> the results of `train_step`. The
      learning rate is 0.
    """
    import tensorflow as tf

    from deeplab_tf.training.losses import CrossEntropy
    from deeplab_tf.training.optimizers import SGD
    from deeplab_tf.training.state import RunState
    from deeplab_tf.training.step import train_step

    output_losses = config.losses(functools.partial(CrossEntropy(), ignore_label=IGNORE_LABEL))
    optimizer, state = SGD().build(model), RunState()
    # With a rate above 0, training on noise soon gives weights that are not finite.
    learning_rate = tf.constant(0.0)
    return tf.function(
        lambda batch: train_step(
            model, optimizer, state, output_losses, batch, learning_rate=learning_rate
        )
    )


def compiled(model: Any, image: Any) -> Callable[[], Any]:
    """The call of a network in inference, traced for the size of an image.

    Args:
      model: image [N, H, W, 3] -> logits.
      image: float32 [N, H, W, 3].

    Returns:
      () -> the logits of the image.
    """
    import tensorflow as tf

    signature = [tf.TensorSpec(image.shape, image.dtype)]
    predict = tf.function(lambda x: model(x, training=False), input_signature=signature)
    return lambda: predict(image)


def warm_up(call: Callable[[], Any]) -> int:
    """Makes the first calls; returns the peak of memory after them, bytes."""
    import tensorflow as tf

    from deeplab_tf.training.report.meter import peak_memory

    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        tf.config.experimental.reset_memory_stats(gpus[0].name)
    seconds(call, _WARM_UP_CALLS)
    return peak_memory()


def seconds(call: Callable[[], Any], calls: int) -> float:
    """Wall-clock time of so many calls, until the device has made them."""
    import tensorflow as tf

    tf.test.experimental.sync_devices()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    tf.test.experimental.sync_devices()
    return time.perf_counter() - start


def in_turns(clocks: Mapping[str, Clock], rounds: int) -> dict[str, tuple[float, ...]]:
    """Times several ways in turns of half a second, so that a slow while is slow for all.

    Args:
      clocks: by name; in every other round they take their turns the other way round.
      rounds: turns of each.

    Returns:
      Name -> seconds per call in each round.
    """
    calls, taken = {}, {name: [] for name in clocks}
    for name, clock in clocks.items():
        clock(_WARM_UP_CALLS)
        calls[name] = max(1, math.ceil(_TURN_SECONDS / clock(1)))
    for i in range(rounds):
        for name in clocks if i % 2 == 0 else reversed(clocks):
            taken[name].append(clocks[name](calls[name]) / calls[name])
    return {name: tuple(each) for name, each in taken.items()}


def device_text() -> str:
    """The device that is measured."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0])["device_name"]
    return f"CPU with {os.cpu_count()} cores"
