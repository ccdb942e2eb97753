"""FastFCN: segmentation with Joint Pyramid Upsampling in place of a dilated backbone.

The names below are loaded when they are first used, as in `deeplab_tf`.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "FastFCN": "model",
    "from_checkpoint": "pretrained",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
