"""Weights from files: formats, namings, and how they get into a model."""

from deeplab_tf.weights.fit import (
    FitReport,
    adapt_input_channels,
    fit_weights,
    weights_by_name,
)
from deeplab_tf.weights.formats import FORMATS, find_format, read_arrays
from deeplab_tf.weights.naming import Naming, Recognized
from deeplab_tf.weights.pretrained import (
    Pretrained,
    description,
    from_checkpoint,
    load_weights,
    recognize,
)

__all__ = [
    "FORMATS",
    "FitReport",
    "Naming",
    "Pretrained",
    "Recognized",
    "adapt_input_channels",
    "description",
    "find_format",
    "fit_weights",
    "from_checkpoint",
    "load_weights",
    "read_arrays",
    "recognize",
    "weights_by_name",
]
