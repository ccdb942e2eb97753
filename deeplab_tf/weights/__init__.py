"""Weights from elsewhere, by source."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from deeplab_tf.recipe.options import lookup
from deeplab_tf.weights import deeplab_tf1
from deeplab_tf.weights.fit import (
    FitReport,
    adapt_input_channels,
    fit_weights,
    weights_by_name,
)

__all__ = [
    "WEIGHT_SOURCES",
    "FitReport",
    "adapt_input_channels",
    "fit_released",
    "fit_weights",
    "load_weights",
    "read_weights",
    "weights_by_name",
]

# source -> reader of a file: arrays by the source's own names
WEIGHT_SOURCES: dict[str, Callable[[str], Mapping[str, np.ndarray]]] = {
    "deeplab_tf1": deeplab_tf1.read_checkpoint,
    "deeplab_tf1_pb": deeplab_tf1.read_frozen_graph,
    "deeplab_tf1_npz": deeplab_tf1.read_npz,
}


def read_weights(path: str, source: str) -> Mapping[str, np.ndarray]:
    """Reads a file of `source`: array by the source's own name.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the source is unknown, or the file is not of that kind.
    """
    return lookup(WEIGHT_SOURCES, source, "weight source")(path)


def load_weights(model: keras.Model, path: str, *, source: str, partial: bool = False) -> FitReport:
    """Fills a model with weights from elsewhere.

    Args:
      model: of this project's builders.
      path: the file.
      source: a key of WEIGHT_SOURCES.
      partial: see `fit_weights`.

    Returns:
      What was loaded and what was not.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the source is unknown, the file unreadable, or the weights do not fit.
    """
    return fit_released(model, read_weights(path, source), partial=partial)


def fit_released(
    model: keras.Model, released: Mapping[str, np.ndarray], *, partial: bool = False
) -> FitReport:
    """`load_weights` of arrays that `read_weights` gave."""
    arrays, left_over = deeplab_tf1.to_our_names(released, model)
    # Under their own names they fit nothing, and so are reported or refused.
    return fit_weights(model, {**arrays, **{n: released[n] for n in left_over}}, partial=partial)
