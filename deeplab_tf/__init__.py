"""DeepLabv3+ and what it shares with other segmentation networks, on TensorFlow and Keras.

The names below are loaded when they are first used, so that `import deeplab_tf` is quick and the
parts that need no TensorFlow load without it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "Checkpointer": "checkpoints",
    "DATASETS": "data",
    "DataConfig": "config",
    "DeepLabV3Plus": "model",
    "EvalConfig": "config",
    "RECIPES": "recipes",
    "RELEASED": "released",
    "Recipe": "config",
    "TrainConfig": "config",
    "at_trained_sizes": "inference",
    "colorize": "visualization",
    "evaluate": "evaluation",
    "from_checkpoint": "pretrained",
    "load_model": "checkpoints",
    "load_weights": "weights",
    "make_predictor": "inference",
    "open_dataset": "data",
    "overlay": "visualization",
    "predict_probabilities": "inference",
    "train": "training",
    "write_saved_model": "export",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
