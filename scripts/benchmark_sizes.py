"""What predicting images of several sizes costs: time per megapixel, and memory."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

import benchmark_speed
from benchmark_engines import FreshProcess

from deeplab_tf.recipe.parts import ModelConfig

_TURN_SECONDS = 0.5  # ours: long against the clock and the start of a call
_LINE = "{:>11}{:>14}{:>14}{:>20}{:>16}{:>16}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What one size costs in a process of its own."""

    seconds: tuple[float, ...]  # per call, for each round
    peak_memory: int  # bytes
    memory_before: int  # bytes that the process had held before the network was built
    device: str


def print_sizes(
    config: ModelConfig,
    sizes: Sequence[int],
    *,
    num_classes: int,
    batch_size: int,
    rounds: int,
    precision: str,
) -> None:
    """Measures the network for inference at each size, the smallest first, and prints a line each.

    Args:
      config: the network.
      sizes: height and width of the images, pixels.
      num_classes: background counted, void not.
      batch_size: images a call.
      rounds: timed rounds.
      precision: Keras' dtype policy.

    Raises:
      MemoryError: a size does not fit into memory.
    """
    print(f"{config}\nnetwork for inference, {num_classes} classes, batch {batch_size}\n")
    heads = (
        "pixels",
        "ms per image",
        "images/s",
        "ms per megapixel",
        "peak memory",
        "of it before",
    )
    print(_LINE.format(*heads), flush=True)
    device = ""
    for size in sorted(sizes):
        with FreshProcess() as process:  # the peak of a process never falls
            cost = process.call(
                cost_of_size,
                config,
                size,
                num_classes=num_classes,
                batch_size=batch_size,
                rounds=rounds,
                precision=precision,
            )
        per_image = statistics.median(cost.seconds) / batch_size
        cells = (
            f"{size}x{size}",
            f"{1e3 * per_image:.4g}",
            f"{1 / per_image:.3g}",
            f"{1e3 * per_image / (size**2 / 1e6):.4g}",
            f"{cost.peak_memory / 1e9:.2f} GB",
            f"{cost.memory_before / 1e9:.2f} GB",
        )
        print(_LINE.format(*cells), flush=True)
        device = cost.device
    print(
        f"\n{device}; each size in a process of its own; median of {rounds} rounds"
        "\npeak memory: of the GPU if there is one, else of the process; before: of the process,"
        " without a network"
    )


def cost_of_size(
    config: ModelConfig,
    size: int,
    *,
    num_classes: int,
    batch_size: int,
    rounds: int,
    precision: str,
) -> Cost:
    """Measures one size; call it in a fresh process. See `print_sizes` for the arguments."""
    import cli

    cli.import_tensorflow()
    import keras
    import tensorflow as tf

    from deeplab_tf.inference import inference_model
    from deeplab_tf.training.report.meter import peak_resident_memory

    keras.config.set_dtype_policy(precision)
    before = peak_resident_memory()
    model = inference_model(config.build(num_classes))
    image = tf.random.uniform([batch_size, size, size, 3], 0.0, 255.0)
    call = benchmark_speed.compiled(model, image)
    peak = benchmark_speed.warm_up(call)
    calls = max(1, math.ceil(_TURN_SECONDS / benchmark_speed.seconds(call, 1)))
    return Cost(
        seconds=tuple(benchmark_speed.seconds(call, calls) / calls for _ in range(rounds)),
        peak_memory=peak,
        memory_before=before,
        device=f"TensorFlow {tf.__version__} on {benchmark_speed.device_text()}",
    )
