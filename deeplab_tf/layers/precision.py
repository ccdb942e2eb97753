"""In which type layers compute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import keras


def full_precision() -> str:
    """The dtype where half precision is too coarse: float32, or float64 under a float64 policy.

    Networks run in float64 to be compared with others to the last digits.
    """
    return keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")


@contextlib.contextmanager
def layers_compute_in(precision: Literal["float32", "bfloat16", "float16"]) -> Iterator[None]:
    """Layers made in this context compute in `precision`; their weights are float32.

    With float32, the policy stays as the caller has set it.
    """
    if precision == "float32":
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
