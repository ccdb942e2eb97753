"""TensorFlow SavedModel: pixels in, label map and probabilities out, any image size."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np

from deeplab_tf.export.agreement import Check, check_agreement
from deeplab_tf.export.checksums import NAME, check_sum, read_sums, write_sums
from deeplab_tf.export.directory import new_directory
from deeplab_tf.export.graph_check import check_saved_model
from deeplab_tf.export.model_card import Origin, write_card
from deeplab_tf.export.serving import native_atrous_convolutions, predictions
from deeplab_tf.inference import inference_model
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_text
from deeplab_tf.recipe.json_files import read_json
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.messages import shortened

# The SavedModel format's place for files that TensorFlow does not read.
_EXTRA = "assets.extra"
_SPEC_PATH = os.path.join(_EXTRA, "dataset.json")
_GRAPH = "saved_model.pb"
_DEFAULT, _BYTES = "serving_default", "serving_bytes"

# own: image -> label_map, probabilities. released: code, ImageTensor -> SemanticPredictions.
SIGNATURE_NAMES = ("own", "released")


def write_saved_model(
    model: keras.Model,
    spec: DatasetSpec,
    directory: str,
    check: Check | None = None,
    *,
    signature_names: str = "own",
    origin: Origin | None = None,
) -> None:
    """Writes a SavedModel, reads it back and compares it with the model.

    Batch normalization is folded into the convolutions; see `inference_model`. Atrous convolutions
    are one operation each.

    Signatures `serve` and `serving_default`: image uint8 [N, H, W, 3] RGB, any size ->
    {"label_map": int32 [N, H, W], "probabilities": float32 [N, H, W, K]}. Signature
    `serving_bytes`: image_bytes string [1], a JPEG or PNG file -> the same of its image. The names
    and colors of the classes are in assets.extra/dataset.json, the checksums of the files in
    assets.extra/sha256.txt, the names alone also in labels.txt.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K]; built outside any strategy.
      spec: of the dataset whose classes the model predicts.
      directory: to write to; must be empty or absent. It appears when all is written.
      check: what the SavedModel is compared on; None: drawn images.
      signature_names: "released": `serving_default` has the names of the models that DeepLab's
        authors released, ImageTensor uint8 [1, H, W, 3] -> SemanticPredictions int32 [1, H, W].
      origin: where the weights come from, for the model card; None: not known.

    Raises:
      ValueError: the model does not have one output per class of `spec`, or there are no such
        names.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
      RuntimeError: the export does not give the model's predictions; it is removed.
    """
    if signature_names not in SIGNATURE_NAMES:
        raise ValueError(
            f"--signature_names must be one of {', '.join(SIGNATURE_NAMES)}; got"
            f" {signature_names!r}."
        )
    check = check or Check()
    with new_directory(directory, model, spec) as temporary:
        network = inference_model(model)
        try:
            with native_atrous_convolutions():
                _write(network, temporary, signature_names)
        except tf.errors.OpError as error:  # such as that of a full disk
            reason = re.sub(r"\{\{.*?\}\} ", "", error.message)
            raise OSError(f"could not write {directory}: {reason}") from error
        write_text(os.path.join(temporary, _SPEC_PATH), spec.to_json())
        write_sums(temporary, _files(temporary), _EXTRA)
        batches = check.batches()
        exported = SavedModel(temporary)
        agreement = check_agreement(
            model, exported.predict, batches, what="the SavedModel", check=check
        )
        exported.check_other_signatures(batches[0][:1])
        extra = " Signature `serving_bytes` takes `image_bytes`, string [1], a JPEG or PNG file."
        if signature_names == "released":
            extra += (
                " Signature `serving_default` takes `ImageTensor`, uint8 [1, H, W, 3], and"
                " gives `SemanticPredictions`, int32 [1, H, W]."
            )
        write_card(temporary, "saved_model", spec, agreement, extra=extra, origin=origin)


def _write(network: keras.Model, directory: str, signature_names: str) -> None:
    """Writes the graph, in which all signatures call one function, and the weights."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")],
        autograph=False,
    )
    def predict(image):
        return predictions(network(tf.cast(image, tf.float32), training=False))

    def serve(image):
        return predict(image)

    def serve_bytes(image_bytes):
        # The pixels as they are stored: a graph cannot read a camera's orientation.
        one = tf.reshape(image_bytes, [])  # of several it would predict the first alone
        image = tf.io.decode_image(one, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        return predict(image[None])

    def serve_released(ImageTensor):  # noqa: N803 (the name of the input)
        return {"SemanticPredictions": predict(ImageTensor)["label_map"]}

    # Not tf.saved_model.save of a tf.Module: converters do not freeze Keras' variables in one. No
    # `track`, which would store the weights a second time.
    archive = keras.export.ExportArchive()
    # The first one is serving_default too, if there is no other.
    archive.add_endpoint(
        "serve", serve, [tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")]
    )
    archive.add_endpoint(_BYTES, serve_bytes, [tf.TensorSpec([1], tf.string, name="image_bytes")])
    if signature_names == "released":
        image = tf.TensorSpec([1, None, None, 3], tf.uint8, name="ImageTensor")
        archive.add_endpoint(_DEFAULT, serve_released, [image])
    # Gradients of our own, which have space-to-batch, would be stored as functions nobody calls.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(directory, options=options, verbose=False)


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
            signatures = self._loaded.signatures
            # `serve` has these names of inputs and outputs also where serving_default has others.
            # Earlier versions of export.py wrote serving_default alone.
            name = "serve" if "serve" in signatures else _DEFAULT
            self._serve = signatures[name]
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # whatever TensorFlow raises on a graph that is damaged
            reason = " ".join(str(error)[:300].split()) or type(error).__name__
            raise ValueError(f"{directory} is not a readable SavedModel: {reason}") from error
        _check_signature(directory, name, self._serve, self.spec.num_classes)

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

    def check_other_signatures(self, image: np.ndarray) -> None:
        """Checks that the signatures beside `serve` give the same label map.

        Args:
          image: uint8 [1, H, W, 3].

        Raises:
          RuntimeError: one does not.
        """
        expected = self.predict(image)["label_map"].numpy()
        signatures = self._loaded.signatures
        inputs = {_BYTES: {"image_bytes": tf.io.encode_png(image[0])[None]}}
        is_released = "ImageTensor" in signatures[_DEFAULT].structured_input_signature[1]
        inputs[_DEFAULT] = {"ImageTensor" if is_released else "image": tf.constant(image)}
        for name, values in inputs.items():
            outputs = signatures[name](**values)
            found = outputs["SemanticPredictions" if "ImageTensor" in values else "label_map"]
            if not np.array_equal(found.numpy(), expected):
                raise RuntimeError(
                    f"the signature {name} must give the label map of `serve`; it does not. Nothing"
                    " was kept. Please report this with the versions of TensorFlow and Keras."
                )


def _check_kinds(directory: str) -> None:
    """Checks that all files are files: of a pipe or a device, reading may never end.

    Raises:
      ValueError: something else has the name of a file.
    """
    found = (os.path.join(top, name) for top, _, names in os.walk(directory) for name in names)
    for path in (os.path.join(directory, _GRAPH), os.path.join(directory, _SPEC_PATH), *found):
        if not os.path.isfile(path):
            raise ValueError(f"{path} must be a regular file. Export the model again.")


def _check_signature(directory: str, name: str, serve: Any, num_classes: int) -> None:
    """Checks the inputs and outputs of the signature that predicts.

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
        found[key].dtype == dtype
        and found[key].shape.rank == len(shape)
        and found[key].shape.is_compatible_with(shape)
        for key, (dtype, shape) in wanted.items()
    )
    if not fits:
        listed = (f"{key} {value.dtype.name} {value.shape}" for key, value in found.items())
        raise ValueError(
            f"{directory} must have the signature {name} that export.py writes: image"
            f" uint8 [N, H, W, 3] -> label_map int32 [N, H, W] and probabilities float32"
            f" [N, H, W, {num_classes}]; got {shortened(listed, most=8)}."
        )


def _check_sums(directory: str) -> None:
    """Compares the files with assets.extra/sha256.txt, which earlier versions did not write.

    A changed bit in a graph can be another graph that TensorFlow loads without an error.
    """
    listed = read_sums(directory, _EXTRA)
    if listed is None:
        return
    for name in _files(directory):
        check_sum(os.path.join(directory, name), listed.pop(name, None))
    if listed:
        raise ValueError(
            f"{directory} must have all files that {_EXTRA}/{NAME} lists; {shortened(listed)} is"
            " missing. Export the model again."
        )


def _files(directory: str) -> list[str]:
    """The files that TensorFlow reads, with / in their names."""
    folder = os.path.join(directory, "variables")
    variables = os.listdir(folder) if os.path.isdir(folder) else []
    return [_GRAPH, *(f"variables/{name}" for name in sorted(variables))]
