"""Export formats by name: (model, spec, directory) -> a checked export in the directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from deeplab_tf.export.saved_model import write_saved_model
from deeplab_tf.recipe.dataset_spec import DatasetSpec

if TYPE_CHECKING:
    import keras

EXPORTERS: dict[str, Callable[[keras.Model, DatasetSpec, str], None]] = {
    "saved_model": write_saved_model,
}
