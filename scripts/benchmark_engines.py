"""Networks on other engines: ONNX Runtime, and Keras' PyTorch backend in a process of its own."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from reproduce_speed import compiled

if TYPE_CHECKING:
    import keras
    import numpy as np


def onnx_call(
    model: keras.Model, image: np.ndarray, directory: str, threads: int
) -> Callable[[], np.ndarray]:
    """Exports a network for images of one size.

    Args:
      model: image [N, H, W, C] -> logits [N, H, W, K].
      image: float32 [N, H, W, C] 0..255, which is predicted.
      directory: where the file is written.
      threads: that ONNX Runtime uses.

    Returns:
      () -> logits, float32 [N, H, W, K], on the CPU.
    """
    import keras
    import onnxruntime

    path = os.path.join(directory, "network.onnx")
    # One size: ONNX Runtime does not pad atrous convolutions for sizes that it learns later.
    spec = keras.InputSpec(shape=image.shape, dtype="float32", name="image")
    with warnings.catch_warnings():  # Keras looks for names that numpy 2 no longer has
        warnings.filterwarnings("ignore", "In the future `np", FutureWarning)
        model.export(path, format="onnx", verbose=False, input_signature=[spec])
    _round_scales_up(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, inputs)[0]


def _round_scales_up(path: str) -> None:
    """Makes resizes give the sizes that they had in TensorFlow.

    tf2onnx writes the ratio of the sizes as float32, and ONNX rounds the size that follows down:
    5 * float32(9 / 5) is 8. With `align_corners=True` the ratio has no other effect.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    constants = {constant.name: constant for constant in model.graph.initializer}
    for name in {node.input[2] for node in model.graph.node if node.op_type == "Resize"}:
        scales = numpy_helper.to_array(constants[name])
        above = np.nextafter(scales, np.float32(np.inf))
        rounded = np.where(scales == np.rint(scales), scales, above)
        constants[name].CopyFrom(numpy_helper.from_array(rounded, name))
    onnx.save(model, path)


class FreshProcess:
    """A new Python process that calls functions, one after another."""

    def __init__(self):
        # Spawned: a fork of a process with TensorFlow hangs.
        self._pool = concurrent.futures.ProcessPoolExecutor(
            1, mp_context=multiprocessing.get_context("spawn")
        )

    def __enter__(self) -> FreshProcess:
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown()

    def call(self, function: Callable, *args: Any, **options: Any) -> Any:
        """What a function of a module returns or raises there.

        Raises:
          MemoryError: the process ended, as happens where memory is short.
        """
        try:
            return self._pool.submit(function, *args, **options).result()
        except BrokenProcessPool:
            raise MemoryError("a process ended without an answer") from None


_torch_call: Callable[[], Any] | None = None  # of the process in which `load_torch` was called


def load_torch(path: str, image: np.ndarray, threads: int) -> np.ndarray:
    """Loads a network on Keras' PyTorch backend; to be called in a fresh process.

    Args:
      path: of a .keras file.
      image: float32 [N, H, W, C] 0..255, which `torch_seconds` predicts.
      threads: that PyTorch uses.

    Returns:
      Its logits, float32 [N, H, W, K].
    """
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    import deeplab_tf  # noqa: F401  registers the layers with Keras
    import jpu_tf  # noqa: F401

    torch.set_num_threads(threads)
    model = keras.models.load_model(path, compile=False)
    image = keras.ops.convert_to_tensor(image)
    global _torch_call
    _torch_call = compiled(model, image)
    with torch.inference_mode():
        return keras.ops.convert_to_numpy(model(image, training=False))


def torch_seconds(calls: int) -> float:
    """Seconds that the network loaded last takes for so many calls."""
    start = time.perf_counter()
    for _ in range(calls):
        _torch_call()
    return time.perf_counter() - start
