"""Export formats by name: (model, spec, directory, check) -> a checked export in the directory."""

from __future__ import annotations

from collections.abc import Callable

from deeplab_tf.export.keras_file import write_keras
from deeplab_tf.export.litert import write_litert
from deeplab_tf.export.onnx_file import write_onnx
from deeplab_tf.export.saved_model import write_saved_model

EXPORTERS: dict[str, Callable[..., None]] = {
    "saved_model": write_saved_model,
    "keras": write_keras,
    "litert": write_litert,
    "onnx": write_onnx,
}
