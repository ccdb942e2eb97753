"""Networks whose weights take no memory, to compare with a file before the real one is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from deeplab_tf.recipe.lazy import keras, tf

T = TypeVar("T")


def without_memory(build: Callable[[], T]) -> T | None:
    """Calls `build` where variables have names and shapes, but no values.

    Returns:
      What it returns; None on other backends than TensorFlow, where there is no such place.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    with tf.Graph().as_default():
        return build()


def exceeds(value: Any, default: Any) -> bool:
    """Whether an option that a file chose has a number above the default's, or more numbers."""
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) > len(default) or any(map(exceeds, value, default))
    numbers = isinstance(value, int) and isinstance(default, int)
    return numbers and value > default
