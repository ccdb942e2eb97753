"""A LiteRT file (TensorFlow Lite): pixels of one size in, label map out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from deeplab_tf.export.agreement import Check, batches_of_size, check_agreement
from deeplab_tf.export.checksums import write_sums
from deeplab_tf.export.directory import new_directory
from deeplab_tf.export.model_card import Origin, write_card
from deeplab_tf.export.opened import SPEC_NAME, open_export, without_notice
from deeplab_tf.export.serving import native_atrous_convolutions, serving_model
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_text
from deeplab_tf.recipe.lazy import keras, tf

if TYPE_CHECKING:
    import numpy as np

# Precision -> share of the pixels that must get the model's class. ours
LEAST_AGREEMENT = {"float32": 1.0, "float16": 0.999, "int8": 0.98}
_NAME = "model.tflite"
_LONGEST = 8192  # ours: of an image, pixels; a tensor of LiteRT has at most 2 GiB
_MOST_BYTES = 2**31 - 1


def write_litert(
    model: keras.Model,
    spec: DatasetSpec,
    directory: str,
    check: Check | None = None,
    *,
    precision: str = "float32",
    height: int = 513,
    width: int = 513,
    allow_inexact: bool = False,
    origin: Origin | None = None,
) -> None:
    """Writes model.tflite, runs it with LiteRT's interpreter and compares it with the model.

    Signature serving_default: image uint8 [1, height, width, 3] RGB -> label_map int32
    [1, height, width]. Batch normalization is folded; atrous convolutions are one operation each.
    The classes are in labels.txt, with their colors in dataset.json, the checksums
    in sha256.txt.

    Args:
      model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K].
      spec: of the dataset whose classes the model predicts.
      directory: to write to; must be empty or absent. It appears when all is written.
      check: what the file is compared on; None: drawn images. With int8, the ranges of the
        activations are measured on its other images, resized, or on all if there are few.
      precision: a key of LEAST_AGREEMENT. float16: of the weights, half the size. int8: of weights
        and activations, a quarter of the size.
      height: of the images, pixels.
      width: likewise.
      allow_inexact: keep a float16 or int8 file that agrees less than LEAST_AGREEMENT says.
      origin: where the weights come from, for the model card; None: not known.

    Raises:
      ValueError: an option is wrong, the model does not have one output per class of `spec`, or a
        float16 or int8 file agrees too little; nothing is kept.
      FileExistsError: the directory is not empty.
      OSError: it cannot be written.
      RuntimeError: a float32 file does not give the model's predictions, or the model needs
        operations that LiteRT does not have; nothing is kept.
    """
    check_options(precision=precision, height=height, width=width, allow_inexact=allow_inexact)
    logits = 4 * height * width * spec.num_classes
    if logits > _MOST_BYTES:
        raise ValueError(
            f"--height and --width must be smaller: the logits of {height}x{width} pixels have"
            f" {logits:,} bytes, and a tensor of LiteRT has at most {_MOST_BYTES:,}."
        )
    check = check or Check()
    with new_directory(directory, model, spec) as temporary:
        path = os.path.join(temporary, _NAME)
        with native_atrous_convolutions(), without_notice():
            serving = serving_model(model, probabilities=False)
            ranges = functools.partial(batches_of_size, check.measured, height, width)
            _convert(serving, path, (1, height, width, 3), ranges, precision)
        write_text(os.path.join(temporary, SPEC_NAME), spec.to_json())
        write_sums(temporary, (_NAME, SPEC_NAME))
        agreement = check_agreement(
            model,
            open_export(path).run,
            batches_of_size(check.compared, height, width),
            what=f"{_NAME} ({precision})",
            least=0.0 if allow_inexact else LEAST_AGREEMENT[precision],
            check=check,
            advice=_advice(precision),
        )
        if precision == "int8":
            agreement += f". Ranges of int8 were measured {_measured_text(check)}"
        write_card(
            temporary,
            "litert",
            spec,
            agreement,
            size=(height, width),
            precision=precision,
            origin=origin,
        )


def check_options(*, precision: str, height: int, width: int, allow_inexact: bool) -> None:
    """Checks the options of `write_litert`.

    Raises:
      ValueError: one is wrong; the message names its flag.
    """
    if precision not in LEAST_AGREEMENT:
        raise ValueError(
            f"--precision must be one of {', '.join(LEAST_AGREEMENT)}; got {precision!r}."
        )
    for name, side in (("height", height), ("width", width)):
        if not 1 <= side <= _LONGEST:
            raise ValueError(f"--{name} must be 1 to {_LONGEST} pixels; got {side}.")
    if allow_inexact and LEAST_AGREEMENT[precision] == 1:
        raise ValueError(
            f"--allow_inexact is for --precision=float16 and int8; a {precision} file that does not"
            " agree is wrong. Leave it out."
        )


def _measured_text(check: Check) -> str:
    if not check.images:
        return "on the same shapes; photos may need others"
    number = len(check.measured)
    if number < len(check.images):
        return f"on {number} others"
    return "on the same" if number == len(check.compared) else f"on {number}, with these among them"


def _advice(precision: str) -> str:
    if precision == "float32":
        return "Please report this with the versions of TensorFlow and Keras."
    more = " More of your own photos as --images may help." if precision == "int8" else ""
    return f"--allow_inexact keeps it nevertheless.{more}"


def _convert(
    serving: Any,
    path: str,
    shape: tuple[int, ...],
    batches: Callable[[], Iterator[np.ndarray]],
    precision: str,
) -> None:
    """Keras' export by way of a SavedModel, which LiteRT's converter reads."""
    options: dict[str, Any] = {}
    # Keras adds TensorFlow's own operations, which plain interpreters do not run.
    target = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    if precision != "float32":
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        target["supported_types"] = [tf.float16]
    if precision == "int8":
        options["representative_dataset"] = lambda: ({"image": images} for images in batches())
    spec = keras.InputSpec(shape=shape, dtype="uint8", name="image")
    serving.export(
        path,
        format="litert",
        verbose=False,
        input_signature=[spec],
        target_spec=target,
        **options,
    )
