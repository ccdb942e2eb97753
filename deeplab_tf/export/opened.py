"""Opens an export of any format; what it is, its content says."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deeplab_tf.export.checksums import check_sum, read_sums
from deeplab_tf.export.saved_model import SavedModel
from deeplab_tf.export.serving import predictions
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.json_files import read_json
from deeplab_tf.recipe.lazy import keras, tf

SPEC_NAME = "dataset.json"  # beside a LiteRT or ONNX file; the other formats hold it

# Kind -> its name in the directory that export.py writes.
_NAMES = {
    "saved_model": "saved_model.pb",
    "keras": "model.keras",
    "litert": "model.tflite",
    "onnx": "model.onnx",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenedExport:
    """An export that is ready to predict; a predictor that `evaluate` takes.

    Attributes:
      kind: "saved_model", "keras", "litert" or "onnx".
      spec: of the dataset whose classes it predicts.
      size: height and width of the images in pixels; None: any size.
      run: uint8 [N, H, W, 3] -> outputs by name; `predict` checks both.
    """

    kind: str
    spec: DatasetSpec
    size: tuple[int, int] | None
    run: Callable[[np.ndarray], Mapping[str, Any]] = dataclasses.field(repr=False)

    def predict(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The predictions of a batch.

        Args:
          images: uint8 [N, H, W, 3] RGB.

        Returns:
          "label_map", int32 [N, H, W], and of the formats that give them "probabilities", float32
          [N, H, W, K].

        Raises:
          ValueError: the images are of another type, shape or size than the export takes, the
            export fails on them, or its label map has values that are not classes.
          MemoryError: the images take too much memory.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
            raise ValueError(
                f"images must be uint8 [N, H, W, 3]; got {images.dtype} {list(images.shape)}."
            )
        if self.size not in (None, images.shape[1:3]):
            raise ValueError(
                f"this {self.kind} export takes images of {self.size[0]}x{self.size[1]} pixels;"
                f" got {images.shape[1]}x{images.shape[2]}. Resize them, or export the model with"
                " other values of --height and --width."
            )
        try:
            outputs = {name: np.asarray(value) for name, value in self.run(images).items()}
        except (MemoryError, ValueError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # whatever the engine raises
            raise ValueError(
                f"this {self.kind} export fails on images of {images.shape[1]}x{images.shape[2]}"
                f" pixels: {_reason(error)}"
            ) from error
        label_map = outputs["label_map"]
        if label_map.shape != images.shape[:3]:
            raise ValueError(
                f"the label maps must have the shape {list(images.shape[:3])}; the export gives"
                f" {list(label_map.shape)}."
            )
        if label_map.min() < 0 or label_map.max() >= self.spec.num_classes:
            raise ValueError(
                f"the label maps must have values of 0..{self.spec.num_classes - 1}; the export"
                f" gives {label_map.min()}..{label_map.max()}."
            )
        return {**outputs, "label_map": label_map.astype(np.int32)}

    @property
    def num_classes(self) -> int:
        """K."""
        return self.spec.num_classes

    def label_map(self, image: Any) -> np.ndarray:
        """uint8 [H, W, 3] RGB -> int32 [H, W]; see `predict_resized`."""
        return self.predict_resized(np.asarray(image)[None])["label_map"][0]

    def predict_resized(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """`predict` of images of any size, at their size.

        Where the export has one size, images are resized to it bilinearly, and predictions are
        resized back by nearest neighbor.

        Args:
          images: uint8 [N, H, W, 3] RGB.
        """
        if self.size in (None, images.shape[1:3]):
            return self.predict(images)
        # With corners aligned, as everywhere in the project.
        resized = tf.raw_ops.ResizeBilinear(images=images, size=self.size, align_corners=True)
        outputs = self.predict(np.rint(resized.numpy()).astype(np.uint8))
        return {
            name: tf.raw_ops.ResizeNearestNeighbor(
                images=values.reshape(*values.shape[:3], -1),
                size=images.shape[1:3],
                align_corners=True,
            )
            .numpy()
            .reshape(*images.shape[:3], *values.shape[3:])
            for name, values in outputs.items()
        }


def is_export(path: str) -> bool:
    """Whether a path is an export, or a directory of export.py with one in it."""
    return bool(_found(path))


def open_export(path: str, *, allow_any_op: bool = False) -> OpenedExport:
    """Opens an export.

    Args:
      path: a SavedModel, a .keras, .tflite or .onnx file of export.py, or the directory of one.
      allow_any_op: open it also if it has operations that may do more than predict, such as write
        files.

    Raises:
      FileNotFoundError: there is no such file or directory, or dataset.json is missing.
      ValueError: it is not an export, is damaged, or has such operations; packages are missing.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file or directory {path}; it must be an export.")
    found = _found(path)
    if len(found) != 1:
        several = f"; it has {', '.join(_NAMES[kind] for kind in found)}. Name one" if found else ""
        raise ValueError(
            f"{path} must be an export: a SavedModel, a .keras, .tflite or .onnx file, or a"
            f" directory with one of them{several}."
        )
    ((kind, file),) = found.items()
    if kind == "saved_model":
        loaded = SavedModel(file, allow_any_op=allow_any_op)
        return OpenedExport(kind=kind, spec=loaded.spec, size=None, run=loaded.predict)
    if kind == "keras":
        return _open_keras(file)
    spec_path = os.path.join(os.path.dirname(file), SPEC_NAME)
    if not os.path.exists(spec_path):
        raise FileNotFoundError(
            f"no {SPEC_NAME} beside {file}; it has the classes. Keep the files of an export in one"
            " directory."
        )
    listed = read_sums(os.path.dirname(file)) or {}
    for each in (file, spec_path):
        if os.path.basename(each) in listed:  # a file may have another name now
            check_sum(each, listed[os.path.basename(each)])
    spec = read_json(spec_path, DatasetSpec.from_tree)
    if kind == "onnx":
        return _open_onnx(file, spec)
    return _open_litert(file, spec, allow_any_op=allow_any_op)


def _found(path: str) -> dict[str, str]:
    """Kind -> path of the file, or of the directory of a SavedModel."""
    if os.path.isdir(path):
        inside = {kind: os.path.join(path, name) for kind, name in _NAMES.items()}
        inside = {kind: file for kind, file in inside.items() if os.path.isfile(file)}
        return {kind: path if kind == "saved_model" else file for kind, file in inside.items()}
    if not os.path.isfile(path):
        return {}
    with open(path, "rb") as file:
        start = file.read(64)
    if start[:4] == b"PK\3\4":  # a zip archive; Keras writes this file first
        return {"keras": path} if b"metadata.json" in start else {}
    if start[4:8] == b"TFL3":  # cited: schema.fbs of LiteRT (file_identifier)
        return {"litert": path}
    # cited: onnx.proto (ir_version = 1, which is above 2 since 2017), saved_model.proto
    # (saved_model_schema_version = 1, which is 1)
    if len(start) > 2 and start[0] == 0x08 and 3 <= start[1] < 0x80:
        return {"onnx": path}
    if start[:2] == b"\x08\x01" and os.path.basename(path) == _NAMES["saved_model"]:
        return {"saved_model": os.path.dirname(path) or "."}
    return {}


def _open_keras(path: str) -> OpenedExport:
    """A .keras file, in Keras' safe mode."""
    try:
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            # Keras goes by the name, and only warns where weights are missing.
            link = os.path.join(place, _NAMES["keras"])
            os.symlink(os.path.abspath(path), link)
            warnings.filterwarnings("error", "(?s).*freshly-initialized weights")
            model = keras.saving.load_model(link, compile=False, safe_mode=True)
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # whatever Keras raises on a file that is damaged
        raise _unreadable(path, error) from error
    spec = getattr(model, "dataset_spec", None)
    if spec is None:
        raise ValueError(
            f"{path} must hold the classes of a dataset, as export.py writes them; it has none."
        )
    if (model.input_shape, model.output_shape) != (
        (None, None, None, 3),
        (None, None, None, spec.num_classes),
    ):
        raise ValueError(
            f"{path} must be a network of image [N, H, W, 3] -> logits [N, H, W,"
            f" {spec.num_classes}]; got {model.input_shape} -> {model.output_shape}."
        )

    @tf.function(autograph=False)
    def run(images):
        return predictions(model(tf.cast(images, tf.float32), training=False))

    shape = tf.TensorSpec([None, None, None, 3], tf.uint8)
    concrete = run.get_concrete_function(shape)
    return OpenedExport(
        kind="keras", spec=spec, size=None, run=lambda images: concrete(tf.constant(images))
    )


def _open_litert(path: str, spec: DatasetSpec, *, allow_any_op: bool) -> OpenedExport:
    """A LiteRT file in TensorFlow's interpreter."""
    with open(path, "rb") as file:
        # TensorFlow's own operations, which its interpreter would run, have such names.
        foreign = sorted(set(re.findall(rb"Flex[A-Z][A-Za-z0-9]{3,}", file.read())))
    if foreign and not allow_any_op:
        raise ValueError(
            f"{path} has operations that may do more than predict:"
            f" {', '.join(name.decode() for name in foreign[:12])}. It was not loaded."
            " --allow_any_op runs them, if you trust its source."
        )
    try:
        with without_notice():
            # By default it runs in one thread.
            interpreter = tf.lite.Interpreter(model_path=path, num_threads=os.cpu_count())
            run = interpreter.get_signature_runner("serving_default")
            inputs = run.get_input_details()
            image = inputs["image"]
            outputs = run.get_output_details()
    except (ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    except KeyError:
        raise ValueError(
            f"{path} must have the input that export.py writes, image; got {', '.join(inputs)}."
        ) from None
    _, height, width, _ = image["shape"] if len(image["shape"]) == 4 else (0, 0, 0, 0)
    if (image["dtype"], list(image["shape"])) != (np.uint8, [1, height, width, 3]) or (
        "label_map" not in outputs
    ):
        raise ValueError(
            f"{path} must have the signature that export.py writes: image uint8 [1, height, width,"
            f" 3] -> label_map; got {np.dtype(image['dtype'])} {list(image['shape'])} ->"
            f" {', '.join(outputs)}."
        )

    def run_each(images):
        each = [run(image=images[i : i + 1])["label_map"] for i in range(len(images))]
        return {"label_map": np.concatenate(each)}

    return OpenedExport(kind="litert", spec=spec, size=(int(height), int(width)), run=run_each)


def _open_onnx(path: str, spec: DatasetSpec) -> OpenedExport:
    """An ONNX file in ONNX Runtime, on the CPU."""
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package onnxruntime. Run pip install -e '.[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised too
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], enable_fallback=False
        )
    except Exception as error:  # its own classes, of which none is public
        raise _unreadable(path, error) from error
    names = [output.name for output in session.get_outputs()]
    inputs = [(each.name, each.type, len(each.shape)) for each in session.get_inputs()]
    if inputs != [("image", "tensor(uint8)", 4)] or "label_map" not in names:
        raise ValueError(
            f"{path} must have the input and output that export.py writes: image uint8"
            f" [N, H, W, 3] -> label_map; got {inputs} -> {', '.join(names)}."
        )

    def run(images):
        return dict(zip(names, session.run(names, {"image": images}), strict=True))

    return OpenedExport(kind="onnx", spec=spec, size=None, run=run)


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(f"{path} is not a readable export: {_reason(error)}")


def _reason(error: Exception) -> str:
    return " ".join(str(error)[:300].split()) or type(error).__name__


@contextlib.contextmanager
def without_notice() -> Iterator[None]:
    """Without the notice that TensorFlow's interpreter will move to another package."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated")
        yield
