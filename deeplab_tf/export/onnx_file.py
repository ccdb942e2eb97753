"""An ONNX file: pixels in, label map and probabilities out, any image size."""

from __future__ import annotations

import importlib.util
import os
import warnings
from typing import Any

from deeplab_tf.export.agreement import Check, check_agreement
from deeplab_tf.export.checksums import write_sums
from deeplab_tf.export.directory import new_directory
from deeplab_tf.export.model_card import Origin, write_card
from deeplab_tf.export.opened import SPEC_NAME, open_export
from deeplab_tf.export.serving import native_atrous_convolutions, serving_model
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_text
from deeplab_tf.recipe.lazy import keras

_NAME = "model.onnx"
_PACKAGES = ("tf2onnx", "onnx", "onnxruntime")


def write_onnx(
    model: keras.Model,
    spec: DatasetSpec,
    directory: str,
    check: Check | None = None,
    *,
    origin: Origin | None = None,
) -> None:
    """Writes model.onnx, runs it with ONNX Runtime and compares it with the model.

    image uint8 [N, H, W, 3] RGB, any size -> label_map int32 [N, H, W] and probabilities float32
    [N, H, W, K]. Batch normalization is folded; atrous convolutions are one operation each. The
    classes are in labels.txt, with their colors in dataset.json, the checksums
    in sha256.txt.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      spec: of the dataset whose classes the model predicts.
      directory: to write to; must be empty or absent. It appears when all is written.
      check: what the file is compared on; None: drawn images.
      origin: where the weights come from, for the model card; None: not known.

    Raises:
      ValueError: packages are missing, or the model does not have one output per class of `spec`.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
      RuntimeError: the file does not give the model's predictions; it is removed.
    """
    check_packages()
    check = check or Check()
    with new_directory(directory, model, spec) as temporary:
        path = os.path.join(temporary, _NAME)
        image = keras.InputSpec(shape=(None, None, None, 3), dtype="uint8", name="image")
        with native_atrous_convolutions(), warnings.catch_warnings():
            # Keras looks for names that numpy 2 no longer has.
            warnings.filterwarnings("ignore", "In the future `np", FutureWarning)
            serving = serving_model(model, probabilities=True)
            serving.export(path, format="onnx", verbose=False, input_signature=[image])
        _finish(path)
        write_text(os.path.join(temporary, SPEC_NAME), spec.to_json())
        write_sums(temporary, (_NAME, SPEC_NAME))
        agreement = check_agreement(
            model, open_export(path).run, check.batches(), what=_NAME, check=check
        )
        write_card(temporary, "onnx", spec, agreement, origin=origin)


def check_packages() -> None:
    """Checks that the packages are there.

    Raises:
      ValueError: they are not.
    """
    missing = missing_packages()
    if missing:
        raise ValueError(
            f"--format=onnx needs {', '.join(_PACKAGES)}; missing: {', '.join(missing)}. Run pip"
            " install -e '.[onnx]'."
        )


def missing_packages() -> list[str]:
    """Names of the packages that writing an ONNX file takes and that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def _finish(path: str) -> None:
    """Gives convolutions explicit pads, softmax the last axis, and the outer axes names."""
    onnx = importlib.import_module("onnx")  # of an extra, as below
    file = onnx.load(path)
    for node in file.graph.node:
        if node.op_type == "Conv":
            _pad_explicitly(node)
    _take_softmax_over_the_last_axis(file.graph)
    for value in (*file.graph.input, *file.graph.output):
        axes = value.type.tensor_type.shape.dim
        for name, axis in zip("NHW", axes, strict=False):
            axis.dim_param = name
    onnx.checker.check_model(file)
    onnx.save(file, path)


def _pad_explicitly(node: Any) -> None:
    """Writes the pads of SAME, which do not depend on the size where the stride is 1.

    ONNX Runtime refuses atrous convolutions with SAME_UPPER.
    """
    helper = importlib.import_module("onnx.helper")
    known = {attribute.name: attribute for attribute in node.attribute}
    values = {name: helper.get_attribute_value(known[name]) for name in known}
    kernel = values["kernel_shape"]
    strides, rates = (values.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    if values.get("auto_pad") != b"SAME_UPPER" or max(strides) > 1:
        return
    totals = [rate * (side - 1) for rate, side in zip(rates, kernel, strict=True)]
    pads = [total // 2 for total in totals] + [total - total // 2 for total in totals]
    for name in ("auto_pad", "pads"):
        if name in known:
            node.attribute.remove(known[name])
    node.attribute.append(helper.make_attribute("pads", pads))


def _take_softmax_over_the_last_axis(graph: Any) -> None:
    """Moves softmax behind the transposition to channels last that tf2onnx puts after it.

    Over the second axis of four, ONNX Runtime 1.23 takes several times as long for it as for the
    rest of the network.
    """
    helper = importlib.import_module("onnx.helper")
    for node in graph.node:
        if node.op_type != "Softmax":
            continue
        readers = [other for other in graph.node if node.output[0] in other.input]
        if [each.op_type for each in readers] != ["Transpose"]:
            continue
        (transpose,) = readers
        axis, order = (helper.get_attribute_value(each.attribute[0]) for each in (node, transpose))
        if (axis, list(order)) != (1, [0, 2, 3, 1]):
            continue
        channels_last, name = transpose.output[0], node.output[0]
        node.CopyFrom(helper.make_node("Transpose", [node.input[0]], [name], perm=order))
        transpose.CopyFrom(helper.make_node("Softmax", [name], [channels_last], axis=3))
