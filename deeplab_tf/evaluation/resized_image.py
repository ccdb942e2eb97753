"""Prediction and scoring of images that are resized first, as DeepLab's code does for ADE20K."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from deeplab_tf.data.augment.resize import resize, size_in_range
from deeplab_tf.evaluation import whole_image
from deeplab_tf.evaluation.predict import (
    LARGEST_SIDE,
    ScaledPredict,
    check_network_size,
    checked_image,
    checked_images,
)
from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.options import option

if TYPE_CHECKING:
    import numpy as np

    from deeplab_tf.evaluation.report import EvalResult
    from deeplab_tf.recipe.dataset_spec import DatasetSpec
    from deeplab_tf.recipe.parts import Eval


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResizedImage(ScaledPredict):
    """The image resized to a range; scored at this size (DeepLab's code, ADE20K)."""

    kind: ClassVar[str] = "resized_image"

    # code: DeepLab's, for ADE20K, as in `ResizeToRange`
    min_side: int = option(
        513, "the shorter side, pixels", minimum=1, maximum=LARGEST_SIDE, may_change=True
    )
    max_side: int | None = option(
        513,
        "limit of the longer side, pixels, even where min_side is then not reached; none: no limit",
        minimum=1,
        maximum=LARGEST_SIDE,
        may_change=True,
    )
    factor: int | None = option(
        16,
        "both sides become multiples of this, plus 1; none: no rounding",
        minimum=1,
        may_change=True,
    )
    pad: bool = option(
        True,
        "pad resized images to a square of max_side, as DeepLab's code does to its crop size",
        may_change=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_side is not None and self.max_side < self.min_side:
            raise ValueError(
                f"max_side must be none or at least min_side, {self.min_side}; got {self.max_side}."
            )
        if self.pad and self.max_side is None:
            raise ValueError("pad must be false where max_side is none; got true.")

    def resized_size(self, size: Any) -> tf.Tensor:
        """The size that an image is resized to.

        Args:
          size: int32 [2], (H, W).

        Returns:
          int32 [2].
        """
        return size_in_range(
            size, min_side=self.min_side, max_side=self.max_side, factor=self.factor
        )

    def predictor(self, model: keras.Model) -> ResizedPredictor:
        """A predictor with the model's weights as they are now."""
        return ResizedPredictor(model, self)

    def evaluate(
        self,
        predictor: ResizedPredictor,
        examples: tf.data.Dataset,
        spec: DatasetSpec,
        options: Eval,
        *,
        progress: Callable[[int, int | None], None] | None = None,
        name_of: Callable[[int], str] | None = None,
    ) -> EvalResult:
        """Scores a predictor at the size that images and labels are resized to (code).

        Arguments, result and errors are those of `evaluation.evaluate.evaluate`.
        """

        def with_resized_label(example):
            image, label = example["image"], example["label"]
            # Labels of two sizes may be resized to the same one.
            tf.debugging.assert_equal(
                tf.shape(label), tf.shape(image)[:2], "label and image must have the same size"
            )
            _, label = resize(image, label, self.resized_size(tf.shape(label)))
            return {**example, "label": label}

        labeled = examples.map(with_resized_label, tf.data.AUTOTUNE, deterministic=True)
        return super().evaluate(
            _AtResizedSize(predictor), labeled, spec, options, progress=progress, name_of=name_of
        )

    def export_model(self, model: keras.Model) -> keras.Model:
        """The model itself: an export has one scale and images at their own size."""
        return model


class ResizedPredictor:
    """A model behind one graph for images of every size, which it sees resized.

    Keep it as long as there are images to predict: the model is traced once, at the first image.
    It has the weights as they were when it was made, until `update` reads them again.

    Attributes:
      num_classes: K, outputs of the model.
    """

    def __init__(self, model: keras.Model, options: ResizedImage):
        """Traces nothing yet; arguments and errors as of `whole_image.Predictor`."""
        side = options.max_side
        self._of_resized = whole_image.Predictor(
            model,
            whole_image.WholeImage(
                scales=options.scales,
                flip=options.flip,
                pad_size=(side, side) if options.pad else None,
            ),
        )
        self._options = options
        self.num_classes = self._of_resized.num_classes

    def update(self) -> None:
        """Reads the model's weights again, after they were trained on."""
        self._of_resized.update()

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The most probable class of each pixel.

        Predicted at the size that the image is resized to, and resized back by nearest neighbor
        with `align_corners=True` (code: DeepLab's export).

        Args:
          image: [H, W, 3] RGB 0..255, any numeric type.

        Returns:
          int32 [H, W].

        Raises:
          ValueError: the image is not [H, W, 3] with at least one pixel, has floats in 0..1, or
            has a side above 65535 at one of the scales.
        """
        return self._predict(checked_image(image)[None])["label_map"][0]

    def predict(
        self, images: np.ndarray | tf.Tensor, *, probabilities: bool = False
    ) -> dict[str, tf.Tensor]:
        """Predictions of a batch, [N, H, W, 3] RGB 0..255, which the network sees at once.

        Arguments and result are those of `whole_image.Predictor.predict`. Probabilities are resized
        back by nearest neighbor too, so that they fit the label map.

        Raises:
          ValueError: as `label_map` does.
        """
        return self._predict(checked_images(images), probabilities)

    def resized_label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """The label map at the size that the image is resized to.

        Returns:
          int32 [h, w], of `ResizedImage.resized_size`.
        """
        return self._resized(checked_image(image)[None])["label_map"][0]

    def _predict(self, images: tf.Tensor, probabilities: bool = False) -> dict[str, tf.Tensor]:
        size = images.shape[1:3]
        found = self._resized(images, probabilities)
        found["label_map"] = found["label_map"][..., None]
        found = {
            name: tf.raw_ops.ResizeNearestNeighbor(images=values, size=size, align_corners=True)
            for name, values in found.items()
        }
        return {**found, "label_map": found["label_map"][..., 0]}

    def _resized(self, images: tf.Tensor, probabilities: bool = False) -> dict[str, tf.Tensor]:
        """The predictions at the size that the images are resized to."""
        size = self._options.resized_size(images.shape[1:3])
        check_network_size([*map(int, size)], "predict.min_side or predict.max_side")
        images = tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=True)
        return self._of_resized.predict_checked(images, probabilities)


@dataclasses.dataclass(frozen=True)
class _AtResizedSize:
    """The predictor that `evaluate` calls; it has no more than what that needs."""

    predictor: ResizedPredictor

    @property
    def num_classes(self) -> int:
        return self.predictor.num_classes

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        return self.predictor.resized_label_map(image)

    def update(self) -> None:
        self.predictor.update()
