"""TensorFlow SavedModel: pixels in, label map and probabilities out, any image size."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from deeplab_tf.export.agreement import Check, check_agreement
from deeplab_tf.export.directory import new_directory
from deeplab_tf.export.graph_check import check_saved_model
from deeplab_tf.inference import inference_model
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import read_lines, write_text
from deeplab_tf.recipe.json_files import read_json
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.messages import shortened

# The SavedModel format's place for files that TensorFlow does not read.
_SPEC_PATH = os.path.join("assets.extra", "dataset.json")
_SUMS_PATH = os.path.join("assets.extra", "sha256.txt")  # as `sha256sum` writes it
_GRAPH = "saved_model.pb"


def write_saved_model(
    model: keras.Model, spec: DatasetSpec, directory: str, check: Check | None = None
) -> None:
    """Writes a SavedModel, reads it back and compares it with the model.

    Batch normalization is folded into the convolutions; see `inference_model`.

    Signature serving_default: image uint8 [N, H, W, 3] RGB, any size ->
    {"label_map": int32 [N, H, W], "probabilities": float32 [N, H, W, K]}. The names and colors
    of the classes are in assets.extra/dataset.json, the checksums of the files in
    assets.extra/sha256.txt, the names alone also in labels.txt.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K]; built outside any strategy.
      spec: of the dataset whose classes the model predicts.
      directory: to write to; must be empty or absent. It appears when all is written.
      check: what the SavedModel is compared on; None: drawn images.

    Raises:
      ValueError: the model does not have one output per class of `spec`.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
      RuntimeError: the export does not give the model's predictions; it is removed.
    """
    check = check or Check()
    try:
        with new_directory(directory, model, spec) as temporary:
            _write(inference_model(model), temporary)
            write_text(os.path.join(temporary, _SPEC_PATH), spec.to_json())
            _write_sums(temporary)
            check_agreement(
                model,
                SavedModel(temporary).predict,
                check.batches(),
                what="the SavedModel",
                print_fn=check.print_fn,
            )
    except tf.errors.OpError as error:
        raise OSError(f"could not write {directory}: {error.message}") from error


class SavedModel:
    """A SavedModel that `write_saved_model` wrote.

    Attributes:
      spec: of the dataset whose classes it predicts.
    """

    def __init__(self, directory: str, *, allow_any_op: bool = False):
        """Loads it, after a check of its files, its operations and its sizes.

        Args:
          directory: of the SavedModel.
          allow_any_op: load it also if its operations may do more than predict, such as write
            files.

        Raises:
          FileNotFoundError: the directory has none.
          ValueError: it is damaged, of another signature, claims more than it holds, or has such
            operations; the message names them.
        """
        for name in (_GRAPH, _SPEC_PATH):
            if not os.path.exists(os.path.join(directory, name)):
                raise FileNotFoundError(
                    f"no {name} in {directory}; it must be a SavedModel that export.py wrote."
                )
        _check_kinds(directory)
        self._directory = directory
        self.spec = read_json(os.path.join(directory, _SPEC_PATH), DatasetSpec.from_tree)
        _check_sums(directory)
        check_saved_model(directory, allow_any_op=allow_any_op)
        try:
            # Kept: the variables live no longer than the loaded object.
            self._loaded = tf.saved_model.load(directory)
            self._serve = self._loaded.signatures["serving_default"]
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # whatever TensorFlow raises on a graph that is damaged
            reason = " ".join(str(error)[:300].split()) or type(error).__name__
            raise ValueError(f"{directory} is not a readable SavedModel: {reason}") from error
        _check_signature(directory, self._serve, self.spec.num_classes)

    def predict(self, images: Any) -> dict[str, tf.Tensor]:
        """The signature: uint8 [N, H, W, 3] -> {"label_map", "probabilities"}.

        Raises:
          ValueError: the graph fails, or its label map has values that are not classes.
        """
        try:
            outputs = self._serve(image=tf.constant(images, tf.uint8))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            raise ValueError(
                f"{self._directory} fails on images of the shape {tuple(np.shape(images))}:"
                f" {error.message.splitlines()[0][:300]}"
            ) from error
        label_map = outputs["label_map"].numpy()
        if label_map.size and (label_map.min() < 0 or label_map.max() >= self.spec.num_classes):
            raise ValueError(
                f"{self._directory} must give label maps of 0..{self.spec.num_classes - 1}; got"
                f" {label_map.min()}..{label_map.max()}."
            )
        return outputs


def _check_kinds(directory: str) -> None:
    """Checks that all files are files: of a pipe or a device, reading may never end.

    Raises:
      ValueError: something else has the name of a file.
    """
    found = (os.path.join(top, name) for top, _, names in os.walk(directory) for name in names)
    for path in (os.path.join(directory, _GRAPH), os.path.join(directory, _SPEC_PATH), *found):
        if not os.path.isfile(path):
            raise ValueError(f"{path} must be a regular file. Export the model again.")


def _check_signature(directory: str, serve: Any, num_classes: int) -> None:
    """Checks the inputs and outputs of serving_default.

    Raises:
      ValueError: they are others than `write_saved_model` writes.
    """
    positional, named = serve.structured_input_signature
    outputs = serve.structured_outputs
    found = {**{str(i): spec for i, spec in enumerate(positional)}, **named}
    found |= outputs if isinstance(outputs, dict) else {"output": outputs}
    wanted = {
        "image": (tf.uint8, [None, None, None, 3]),
        "label_map": (tf.int32, [None, None, None]),
        "probabilities": (tf.float32, [None, None, None, num_classes]),
    }
    fits = found.keys() == wanted.keys() and all(
        found[name].dtype == dtype
        and found[name].shape.rank == len(shape)
        and found[name].shape.is_compatible_with(shape)
        for name, (dtype, shape) in wanted.items()
    )
    if not fits:
        listed = (f"{name} {s.dtype.name} {s.shape}" for name, s in found.items())
        raise ValueError(
            f"{directory} must have the signature serving_default that export.py writes: image"
            f" uint8 [N, H, W, 3] -> label_map int32 [N, H, W] and probabilities float32"
            f" [N, H, W, {num_classes}]; got {shortened(listed, most=8)}."
        )


def _write_sums(directory: str) -> None:
    lines = [f"{_sha256(os.path.join(directory, name))}  {name}\n" for name in _files(directory)]
    write_text(os.path.join(directory, _SUMS_PATH), "".join(lines))


def _check_sums(directory: str) -> None:
    """Compares the files with assets.extra/sha256.txt, which earlier versions did not write.

    A changed bit in a graph can be another graph that TensorFlow loads without an error.
    """
    path = os.path.join(directory, _SUMS_PATH)
    if not os.path.exists(path):
        return
    listed = dict(line.split("  ", 1)[::-1] for line in read_lines(path) if "  " in line)
    for name in _files(directory):
        if listed.pop(name, None) != _sha256(os.path.join(directory, name)):
            raise ValueError(
                f"{os.path.join(directory, name)} is not the file that export.py wrote: it must"
                f" have the SHA-256 that {_SUMS_PATH} lists. Export the model again."
            )
    if listed:
        raise ValueError(
            f"{directory} must have all files that {_SUMS_PATH} lists; {shortened(listed)} is"
            " missing. Export the model again."
        )


def _files(directory: str) -> list[str]:
    """The files that TensorFlow reads, with / in their names."""
    folder = os.path.join(directory, "variables")
    variables = os.listdir(folder) if os.path.isdir(folder) else []
    return [_GRAPH, *(f"variables/{name}" for name in sorted(variables))]


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(model: keras.Model, directory: str) -> None:
    def serve(image):
        logits = tf.cast(model(tf.cast(image, tf.float32), training=False), tf.float32)
        return {
            # Of the logits: softmax rounds nearly equal ones to equal probabilities.
            "label_map": tf.argmax(logits, axis=-1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(logits),
        }

    # Not tf.saved_model.save of a tf.Module: converters do not freeze Keras' variables in one.
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", serve, [tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")]
    )
    archive.write_out(directory, verbose=False)
