"""TensorFlow, TFDS and Keras, imported when something of them is first used.

The parts of a recipe hold options and know how to build themselves. With these names in place of
an import statement, their options load in a tenth of a second, for `--help` and for JSON, and
networks build on Keras' other backends.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import tensorflow_datasets as tfds
else:

    class _Lazy(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module(self.__name__), name)

    keras, tf, tfds = map(_Lazy, ("keras", "tensorflow", "tensorflow_datasets"))

__all__ = ["keras", "tf", "tfds"]
