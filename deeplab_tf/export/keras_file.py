"""A .keras file: the network as it is trained, which opens after `import deeplab_tf`."""

from __future__ import annotations

import os

from deeplab_tf.export.agreement import Check, check_agreement
from deeplab_tf.export.directory import new_directory
from deeplab_tf.export.model_card import Origin, write_card
from deeplab_tf.export.opened import open_export
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.lazy import keras

_NAME = "model.keras"


def write_keras(
    model: keras.Model,
    spec: DatasetSpec,
    directory: str,
    check: Check | None = None,
    *,
    origin: Origin | None = None,
) -> None:
    """Writes model.keras, reads it back and compares it with the model.

    It holds the network for training. `inference_model` makes the one for inference of it at any
    time, but normalization that has been folded cannot be trained again, and its weights no longer
    have the names under which `load_weights` looks for them.

    After `import deeplab_tf`, `keras.saving.load_model` opens it in Keras' safe mode. The names and
    colors of the classes are its `dataset_spec`.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K]; functional.
      spec: of the dataset whose classes the model predicts.
      directory: to write to; must be empty or absent. It appears when all is written.
      check: what the file is compared on; None: drawn images.
      origin: where the weights come from, for the model card; None: not known.

    Raises:
      ValueError: the model does not have one output per class of `spec`, or is not functional.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
      RuntimeError: the file does not give the model's predictions; it is removed.
    """
    from deeplab_tf.layers import SegmentationModel

    check = check or Check()
    with new_directory(directory, model, spec) as temporary:
        # A model of its own: the caller's keeps the classes that it has.
        whole = SegmentationModel(model.input, model.output, name=model.name)
        whole.dataset_spec = spec
        path = os.path.join(temporary, _NAME)
        whole.save(path)
        read = open_export(path)
        if read.spec != spec:
            raise RuntimeError(f"{_NAME} must hold the classes of {spec.name}; it does not.")
        agreement = check_agreement(model, read.run, check.batches(), what=_NAME, check=check)
        write_card(temporary, "keras", spec, agreement, origin=origin)
