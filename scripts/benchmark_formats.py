"""Every export format of a trained network: its size, its predictions and its speed.

All take turns, so that a machine that is slow for a while is slow for all.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import benchmark_speed
import numpy as np

from deeplab_tf.export import EXPORTERS
from deeplab_tf.export.agreement import Check, resized
from deeplab_tf.export.litert import LEAST_AGREEMENT
from deeplab_tf.export.onnx_file import missing_packages
from deeplab_tf.export.opened import open_export

if TYPE_CHECKING:
    import keras

_REFERENCE = "model.predict"
_WIDTHS = (19, 10, 15, 10, 15, 16)
_HEADS = ("format", "MB", "same pixels %", "ms", "of predict", "quartiles")


def formats() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name of a row -> the format and its options; of ONNX only if its packages are there."""
    plain = {name: (name, {}) for name in EXPORTERS if name != "litert"}
    if missing_packages():
        del plain["onnx"]
    options = {
        precision: {"precision": precision, "allow_inexact": LEAST_AGREEMENT[precision] < 1}
        for precision in LEAST_AGREEMENT
    }
    return plain | {f"litert {name}": ("litert", value) for name, value in options.items()}


def print_formats(
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    image_size: tuple[int, int],
    rounds: int,
) -> None:
    """Exports a network in every format, and prints a line for each.

    Args:
      model: of `zoo.load_model`.
      images: uint8 [H, W, 3] each, of the kind that it is for.
      image_size: height and width that they are resized to, pixels.
      rounds: turns of each format, about half a second long.

    Raises:
      RuntimeError: an export does not give the model's predictions.
    """
    import tensorflow as tf

    batches = [resized(image, *image_size)[None] for image in images]
    expected = [_label_map(model, batch) for batch in batches]
    print(
        f"{image_size[0]}x{image_size[1]} pixels, {len(images)} images, one at a time; TensorFlow"
        f" {tf.__version__} on {benchmark_speed.device_text()}\n"
    )
    calls: dict[str, Callable[[], Any]] = {_REFERENCE: lambda: model.predict(batches[0], verbose=0)}
    found = {_REFERENCE: ("-", "100")}
    with tempfile.TemporaryDirectory() as place:
        for name, (kind, options) in formats().items():
            directory = os.path.join(place, name)
            if kind == "litert":
                options = {**options, "height": image_size[0], "width": image_size[1]}
            EXPORTERS[kind](model, model.dataset_spec, directory, Check(images=images), **options)
            opened = open_export(directory)
            same = [
                np.mean(opened.predict(batch)["label_map"] == label_map)
                for batch, label_map in zip(batches, expected, strict=True)
            ]
            found[name] = (f"{_bytes(directory) / 1e6:.1f}", f"{100 * np.mean(same):.4g}")
            calls[name] = functools.partial(opened.predict, batches[0])
        clocks = {
            name: functools.partial(benchmark_speed.seconds, call) for name, call in calls.items()
        }
        turns = benchmark_speed.in_turns(clocks, rounds)
    print(_line(_HEADS))
    for name, taken in turns.items():
        print(_line((name, *found[name], *cells(taken, turns[_REFERENCE]))), flush=True)
    print(
        "\nMB: of the directory of the export"
        "\nsame pixels: with the class that model.predict gives, ties included"
        "\nms: one image, pixels in and everything out that the format gives; median"
        f"\nof predict: time in relation to {_REFERENCE} in the same round, median of {rounds}"
        " rounds; below 1, the export is faster"
    )
    if missing_packages():
        print(f"no row for onnx, which needs {', '.join(missing_packages())}")


def cells(seconds: Sequence[float], reference: Sequence[float]) -> tuple[str, str, str]:
    """What is printed of a format.

    Args:
      seconds: per call, in each round.
      reference: likewise, of what it is compared with.

    Returns:
      Median in ms; median and quartiles of the ratios to the reference of the same round.
    """
    low, median, high = np.percentile(np.divide(seconds, reference), [25, 50, 75])
    return f"{1e3 * np.median(seconds):.1f}", f"{median:.2f}", f"{low:.2f} to {high:.2f}"


def _label_map(model: keras.Model, batch: np.ndarray) -> np.ndarray:
    return model.predict(batch, verbose=0).argmax(-1)


def _bytes(directory: str) -> int:
    """Of all files in a directory."""
    paths = (os.path.join(top, name) for top, _, names in os.walk(directory) for name in names)
    return sum(map(os.path.getsize, paths))


def _line(cells: Sequence[str]) -> str:
    first, *rest = cells
    return f"{first:<{_WIDTHS[0]}}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(rest, _WIDTHS[1:], strict=True)
    )
