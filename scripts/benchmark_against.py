"""The speed of a network beside the same one from stock layers or on another engine.

Both take turns, so that a machine that is slow for a while is slow for both. A ratio is that of two
turns in a row; the one that is stated is the median of all.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import benchmark_engines
import benchmark_speed
import numpy as np

from deeplab_tf.recipe.parts import ModelConfig

# What can be compared with -> the packages that it needs besides the project's own.
OTHERS: dict[str, tuple[str, ...]] = {
    "stock_keras": (),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "torch": ("torch",),
}
LARGEST_DIFFERENCE = 1e-3  # ours: rounding gives about 1e-6; a layer that differs gives 1e-1
_HEADS = ("ours ms", "theirs ms", "theirs / ours", "quartiles", "range", "pairs", "difference")
_WIDTHS = (9, 11, 15, 16, 16, 7, 12)
_NAME_WIDTH = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Two ways to compute the same.

    Attributes:
      name: what is computed.
      ours: clock of ours.
      theirs: clock of the other one.
      difference: of what they compute, see `difference`.
    """

    name: str
    ours: benchmark_speed.Clock
    theirs: benchmark_speed.Clock
    difference: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds per call of both, a pair for each round."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Theirs / ours of each pair; above 1, ours is faster."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def cells(self) -> tuple[str, ...]:
        """Median of both in ms; median, quartiles and range of the ratios; number of pairs."""
        low, median, high = np.percentile(self.ratios, [25, 50, 75])
        return (
            f"{1e3 * statistics.median(self.ours):.1f}",
            f"{1e3 * statistics.median(self.theirs):.1f}",
            f"{median:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{min(self.ratios):.2f} to {max(self.ratios):.2f}",
            f"{len(self.ratios)}",
        )


def check_installed(other: str) -> None:
    """Checks that the packages are there that a comparison needs.

    Args:
      other: a key of `OTHERS`.

    Raises:
      ValueError: one is not; the message says how to install it.
    """
    missing = [name for name in OTHERS[other] if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"--against={other} needs {', '.join(missing)}. Run pip install {' '.join(missing)}, or"
            " for all engines pip install -e '.[backends]'."
        )


def print_against(
    other: str,
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    batch_size: int,
    rounds: int,
) -> None:
    """Builds both, checks that they compute the same, and prints a line for each way to use them.

    Args:
      other: a key of `OTHERS`, whose packages are installed.
      config: the network.
      num_classes: background counted, void not.
      image_size: height and width, pixels.
      batch_size: images a call.
      rounds: turns of each, about half a second long.

    Raises:
      ValueError: they do not compute the same.
      tf.errors.ResourceExhaustedError: they do not fit into memory.
    """
    import tensorflow as tf

    if other == "onnx":
        tf.config.set_visible_devices([], "GPU")  # ONNX Runtime's package runs on the CPU
    rng = np.random.default_rng(0)
    label = rng.integers(0, num_classes, (batch_size, *image_size))
    label[:, : image_size[0] // 8] = benchmark_speed.IGNORE_LABEL
    batch = {
        "image": tf.constant(rng.integers(0, 256, (batch_size, *image_size, 3)), tf.float32),
        "label": tf.constant(label, tf.int32),
    }
    print(
        f"{config}\n{image_size[0]}x{image_size[1]} pixels, {num_classes} classes, batch"
        f" {batch_size}; TensorFlow {tf.__version__} on {benchmark_speed.device_text()},"
        f" {_threads()} threads\n\n{_line('', _HEADS)}",
        flush=True,
    )
    for row in _ROWS[other](config, num_classes, batch):
        if not row.difference <= LARGEST_DIFFERENCE:  # nor where it is not a number
            raise ValueError(
                f"{row.name}: both must compute the same to be timed, within"
                f" {LARGEST_DIFFERENCE:g} of the largest value; got {row.difference:.2g}."
            )
        clocks = {"ours": row.ours, "theirs": row.theirs}
        timing = Timing(**benchmark_speed.in_turns(clocks, rounds))
        cells = (*timing.cells(), f"{row.difference:.1e}")
        print(_line(row.name, cells), flush=True)
    print(
        f"\n{_NOTES[other]}"
        "\ntheirs / ours: the median of the pairs' ratios; above 1, ours is faster"
        "\ndifference: the largest between their logits, relative to the largest logit; of label"
        " maps the share of pixels"
        "\nweights: random, moving statistics other than 0 and 1"
    )


def difference(ours: Any, theirs: Any) -> float:
    """How much two results differ.

    Args:
      ours: float logits or integer labels of any shape, or a dict of them.
      theirs: the same.

    Returns:
      Of logits the largest difference, relative to the largest of theirs; of labels the share that
      differs; of a dict the largest of its values'.
    """
    if isinstance(ours, Mapping):
        return max(difference(ours[name], theirs[name]) for name in ours)
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if np.issubdtype(ours.dtype, np.integer):
        return float((ours != theirs).mean())
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def random_network(config: ModelConfig, num_classes: int, *, auxiliary: bool = False) -> Any:
    """Builds a network whose activations and moving statistics are like those of a trained one.

    With the statistics of a new network, 0 and 1, activations fade from layer to layer, and logits
    hardly depend on what a layer computes.

    Args:
      config: the network.
      num_classes: background counted, void not.
      auxiliary: return a dict of outputs, the form that training reads.

    Returns:
      The keras.Model, the same at every call.
    """
    import keras

    keras.utils.set_random_seed(0)
    model = config.build(num_classes, auxiliary=auxiliary)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    rng = np.random.default_rng(0)
    for norm in norms:
        norm.gamma.assign(rng.uniform(0.5, 1.5, norm.gamma.shape))
        norm.beta.assign(rng.normal(0.0, 0.1, norm.beta.shape))
    # Images of different brightness, so that image pooling has a variance too.
    images = rng.uniform(0, 255, (4, 1, 1, 3)) * rng.uniform(0, 1, (4, 65, 65, 3))
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images.astype("float32"), training=True)
    for norm, old in zip(norms, momentum, strict=True):
        norm.momentum = old
    return model


def _stock_rows(config: ModelConfig, num_classes: int, batch: Any) -> Iterator[Row]:
    import tensorflow as tf
    from benchmark_stock import stock_network, stock_training_step

    from deeplab_tf.evaluation.whole_image import WholeImage
    from deeplab_tf.inference import inference_model

    image = batch["image"]
    model = random_network(config, num_classes)
    stock = stock_network(model)
    trained, theirs = benchmark_speed.compiled(model, image), benchmark_speed.compiled(stock, image)
    yield _row("trained network", trained, theirs)
    inference = benchmark_speed.compiled(inference_model(model), image)
    yield _row("network for inference", inference, theirs)
    predictor = WholeImage().predictor(model)
    picture = tf.cast(image[0], tf.uint8)  # as files have them
    one = benchmark_speed.compiled(stock, image[:1])
    labels = tf.function(lambda: tf.argmax(one()[0], axis=-1, output_type=tf.int32))
    yield _row("label map of an image", lambda: predictor.label_map(picture), labels)
    pixels = image.numpy()
    options = {"batch_size": len(pixels), "verbose": 0}
    predict = functools.partial(model.predict, pixels, **options)
    yield _row("model.predict / tf.function, both ours", trained, predict)

    model = random_network(config, num_classes, auxiliary=True)
    stock = stock_network(model)
    ours = benchmark_speed.training_step(config, model)
    theirs = stock_training_step(config, stock, ignore_label=benchmark_speed.IGNORE_LABEL)
    yield Row(
        name="training step",
        ours=_clock(lambda: ours(batch)),
        theirs=_clock(lambda: theirs(batch)),
        difference=difference(
            benchmark_speed.compiled(model, image)(), benchmark_speed.compiled(stock, image)()
        ),
    )


def _onnx_rows(config: ModelConfig, num_classes: int, batch: Any) -> Iterator[Row]:
    from deeplab_tf.inference import inference_model

    image = batch["image"]
    model = inference_model(random_network(config, num_classes))
    with tempfile.TemporaryDirectory() as directory:
        theirs = benchmark_engines.onnx_call(model, image.numpy(), directory, _threads())
        yield _row("network for inference", benchmark_speed.compiled(model, image), theirs)


def _torch_rows(config: ModelConfig, num_classes: int, batch: Any) -> Iterator[Row]:
    from deeplab_tf.inference import inference_model

    image = batch["image"]
    model = random_network(config, num_classes)
    networks = {
        "trained network": model,
        "network for inference": inference_model(model),
    }
    with (
        tempfile.TemporaryDirectory() as directory,
        benchmark_engines.FreshProcess() as process,
    ):
        for name, network in networks.items():
            path = os.path.join(directory, "network.keras")
            network.save(path)
            ours = benchmark_speed.compiled(network, image)
            theirs = process.call(benchmark_engines.load_torch, path, image.numpy(), _threads())
            yield Row(
                name=name,
                ours=_clock(ours),
                theirs=functools.partial(process.call, benchmark_engines.torch_seconds),
                difference=difference(ours(), theirs),
            )


_ROWS: dict[str, Callable[[ModelConfig, int, Any], Iterator[Row]]] = {
    "stock_keras": _stock_rows,
    "onnx": _onnx_rows,
    "torch": _torch_rows,
}
_NOTES = {
    "stock_keras": (
        "theirs: stock Keras layers, traced for this size; the step is a gradient tape,"
        " cross-entropy without void, and keras.optimizers.SGD\nlabel map: ours by the predictor"
        " of evaluate.py and predict.py, which takes every size"
    ),
    "onnx": "theirs: ONNX Runtime on the CPU, as many threads, the same network exported",
    "torch": (
        "theirs: the same network on Keras' PyTorch backend, as many threads, not compiled, in a"
        " process of its own"
    ),
}


def _row(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Row:
    """A row of two calls in this process, whose results are compared."""
    found = difference(ours(), theirs())
    return Row(name=name, ours=_clock(ours), theirs=_clock(theirs), difference=found)


def _clock(call: Callable[[], Any]) -> benchmark_speed.Clock:
    return functools.partial(benchmark_speed.seconds, call)


def _threads() -> int:
    """Threads that TensorFlow runs an operation with."""
    import tensorflow as tf

    chosen = tf.config.threading.get_intra_op_parallelism_threads()
    if chosen:
        return chosen
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _line(name: str, cells: tuple[str, ...]) -> str:
    return f"{name:<{_NAME_WIDTH}}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)
    )
