"""What the kinds of prediction share: scales, flip, output stride, and the check of an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from deeplab_tf.evaluation.metrics import METRICS, Metric, check_options
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.machine import gigabytes, machine_memory
from deeplab_tf.recipe.options import Options, option

if TYPE_CHECKING:
    from deeplab_tf.evaluation.report import EvalResult
    from deeplab_tf.recipe.dataset_spec import DatasetSpec
    from deeplab_tf.recipe.parts import Eval, Predictor


_SURE_TO_FIT = 1024**2  # ours: pixels; to find out what they need takes part of a second
LARGEST_SIDE = 2**16 - 1  # of a JPEG file; the bytes of larger squares overflow 32 bits


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaledPredict(Options):
    """Base of the kinds that predict an image at several scales, mirrored or not."""

    scales: tuple[float, ...] = option(
        (1.0,),
        "image scales whose predictions are combined",
        above=0,
        maximum=16,  # ours: far above the papers' 2.2
        may_change=True,
    )
    flip: bool = option(
        False, "combine with the predictions of the mirrored image", may_change=True
    )
    output_stride: Literal[8, 16, 32] | None = option(
        None,
        "output stride to run the network at; none: the model's, which training uses",
        may_change=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales:
            raise ValueError("scales must be one or more numbers; got ().")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Name -> metric, of the scores of `evaluate`."""
        return METRICS

    def check(self, spec: DatasetSpec, options: Eval) -> None:
        """Checks that a dataset can be scored with these options; see `metrics.check_options`."""
        check_options(options, spec.num_classes, self.metrics)

    def evaluate(
        self,
        predictor: Predictor,
        examples: tf.data.Dataset,
        spec: DatasetSpec,
        options: Eval,
        *,
        progress: Callable[[int, int | None], None] | None = None,
        name_of: Callable[[int], str] | None = None,
    ) -> EvalResult:
        """Scores a predictor that these options made; see `evaluation.evaluate.evaluate`."""
        from deeplab_tf.evaluation.evaluate import evaluate

        result = evaluate(predictor, examples, spec, options, progress=progress, name_of=name_of)
        return dataclasses.replace(result, predict=self)


def checked_image(image: Any) -> tf.Tensor:
    """An image as a tensor.

    Args:
      image: [H, W, 3] RGB 0..255, any numeric type.

    Returns:
      float32 [H, W, 3].

    Raises:
      ValueError: the image has another shape, no pixel, or floats in 0..1.
    """
    image = tf.convert_to_tensor(image)
    if image.shape.rank != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"image must be [H, W, 3] with at least one pixel; got {tuple(image.shape)}."
        )
    return _checked_values(image)


def checked_images(images: Any) -> tf.Tensor:
    """Images of one size as a tensor.

    Args:
      images: [N, H, W, 3] RGB 0..255, any numeric type.

    Returns:
      float32 [N, H, W, 3].

    Raises:
      ValueError: they have another shape, no pixel, or floats in 0..1.
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(
            f"images must be [N, H, W, 3] with at least one pixel; got {tuple(images.shape)}."
        )
    return _checked_values(images)


def _checked_values(images: tf.Tensor) -> tf.Tensor:
    from deeplab_tf.layers.segmentation_model import check_values

    check_values(images)
    return tf.cast(images, tf.float32)


def one_by_one(
    predict: Callable[[tf.Tensor], dict[str, tf.Tensor]], images: tf.Tensor
) -> dict[str, tf.Tensor]:
    """`Predictor.predict` by way of a function of one image.

    Args:
      predict: float32 [H, W, 3] -> {name: [H, W, ...]}.
      images: float32 [N, H, W, 3].

    Returns:
      Name -> [N, H, W, ...].
    """
    each = [predict(image) for image in tf.unstack(images)]
    return {name: tf.stack([outputs[name] for outputs in each]) for name in each[0]}


def check_network_size(
    size: Sequence[int],
    options: str,
    needed_bytes: Callable[[int, int], int] | None = None,
    *,
    in_tiles: bool = False,
) -> None:
    """Checks the height and width that a network is to run at, before anything is that large.

    Args:
      size: height and width, pixels.
      options: that lead to this size, for the message.
      needed_bytes: (height, width) -> memory that an image takes at least; None: it does not
        depend on the image's size.
      in_tiles: whether the network runs in tiles already.

    Raises:
      ValueError: a side is too large, or the machine has less memory than an image takes.
    """
    remedy = f"Use smaller images, or lower {options}."
    if max(size) > LARGEST_SIDE:
        raise ValueError(
            f"the network must see at most {LARGEST_SIDE} pixels in height and width; got"
            f" {size[0]}x{size[1]}. {remedy}"
        )
    if needed_bytes is None or size[0] * size[1] < _SURE_TO_FIT:
        return
    memory = machine_memory()
    if memory is None:
        return
    needed = needed_bytes(*size)
    if needed > memory[0]:
        if not in_tiles:
            remedy = f"Set --predict.tile=1024, use smaller images, or lower {options}."
        raise ValueError(
            f"an image must fit into memory; the network needs at least {gigabytes(needed)} for"
            f" {size[0]}x{size[1]} pixels, and this machine has {gigabytes(memory[0])}. {remedy}"
        )


def check_classes_of_pixels(model: keras.Model) -> None:
    """Checks that a model gives a class to each pixel.

    Raises:
      ValueError: it gives one to the whole image.
    """
    if len(model.output_shape) != 4:
        raise ValueError(
            "the network must give logits for each pixel, [N, H, W, K]; its output has the shape"
            f" {model.output_shape}. One class per image is scored by --predict=classify."
        )
