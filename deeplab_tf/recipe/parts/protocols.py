"""What a kind of each part must do. The engine calls these methods and knows no kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from deeplab_tf.recipe.dataset_spec import DatasetSpec, OpenDataset
    from deeplab_tf.recipe.parts.eval import Eval

# (label int32 [N, H, W], an output of the network) -> (sum of the losses, number of terms)
LossFn = Callable[["tf.Tensor", "tf.Tensor"], tuple["tf.Tensor", "tf.Tensor"]]


class ModelConfig(Protocol):
    """A network.

    Attributes:
      batch_norm: whose statistics training normalizes with: of the global batch, of each replica's
        part, or the moving ones.
    """

    kind: ClassVar[str]
    batch_norm: Literal["synchronized", "per_replica", "frozen"]

    def build(
        self,
        num_classes: int,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        *,
        auxiliary: bool = False,
    ) -> keras.Model:
        """Builds image [N, H, W, 3] RGB 0..255 -> logits float32 [N, H, W, num_classes].

        With `auxiliary` the output is a dict with "logits" and whatever else is trained.
        """
        ...

    def at_output_stride(self, output_stride: int) -> Self:
        """The network of the same weights at another output stride."""
        ...

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Output name -> (its loss, its weight)."""
        ...


class Dataset(Protocol):
    """Where examples come from."""

    kind: ClassVar[str]

    def open(self, data_dir: str | None) -> OpenDataset:
        """Opens it; `data_dir` is where prepared datasets are, None: TFDS' default place."""
        ...


class Augmentation(Protocol):
    """A pure function of an example and a seed."""

    kind: ClassVar[str]

    def __call__(
        self, image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(uint8 or float32 [H, W, 3], int32 [H, W], int [2]) -> the changed image and label."""
        ...


class BuiltOptimizer(Protocol):
    """An optimizer over the variables of a network."""

    @property
    def slots(self) -> Sequence[tf.Variable]:
        """The variables that a checkpoint holds, in a fixed order."""
        ...

    def prepared(self, gradients: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """(Gradients of the loss, with those of the L2 term and clipped; their norm before)."""
        ...

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """One update by gradients as from `prepared`."""
        ...


class Optimizer(Protocol):
    """How weights follow from gradients."""

    kind: ClassVar[str]

    def build(self, model: keras.Model) -> BuiltOptimizer:
        """Makes the state for `model.trainable_variables`; call it in their strategy's scope."""
        ...


class Schedule(Protocol):
    """The learning rate."""

    kind: ClassVar[str]

    def __call__(self, step: int, *, total_steps: int, steps_per_epoch: float) -> float:
        """The rate after `step` optimizer steps."""
        ...

    def check(self, total_steps: int) -> None:
        """Raises ValueError if the schedule does not fit a training of this length."""
        ...


class Loss(Protocol):
    """The loss of a pixel."""

    kind: ClassVar[str]

    def __call__(
        self, label: tf.Tensor, logits: tf.Tensor, *, ignore_label: int, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss of a batch after `step` optimizer steps.

        Args:
          label: int32 [N, H, W].
          logits: float32 [N, h, w, K].
          ignore_label: value of the pixels that do not count.
          step: int32 scalar, optimizer steps already made.

        Returns:
          (sum of the losses, number of terms), float32 scalars.
        """
        ...

    def check(self, num_classes: int) -> None:
        """Raises ValueError if the loss does not fit this number of classes."""
        ...

    @property
    def changes_size(self) -> bool:
        """Whether the sizes in the loss follow from the step, so that XLA compiles every step."""
        ...

    def with_class_weights(self, find: Callable[[], tuple[float, ...]]) -> Loss:
        """The loss as it is trained with; `find` counts the classes in the training split."""
        ...


class Predictor(Protocol):
    """Makes label maps of images of any size.

    Attributes:
      num_classes: outputs of the network.
    """

    num_classes: int

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """[H, W, 3] RGB 0..255 -> int32 [H, W]."""
        ...

    def predict(
        self, images: np.ndarray | tf.Tensor, *, probabilities: bool = False
    ) -> dict[str, tf.Tensor]:
        """Predictions of images of one size.

        Args:
          images: [N, H, W, 3] RGB 0..255.
          probabilities: whether to return them too.

        Returns:
          "label_map", int32 [N, H, W], and "probabilities", float32 [N, H, W, K].
        """
        ...

    def update(self) -> None:
        """Reads the weights of the network again, after they were trained on."""
        ...


class Metric(Protocol):
    """A score; `title` is its name in print."""

    title: str


class Result(Protocol):
    """What an evaluation found.

    Attributes:
      scores: name -> fraction, of the kind's `metrics`; NaN where there is no score.
      all_scores: these and those of each class, as "<metric>/<class name>".
      alarms: what is suspicious in the predictions, a line each.
    """

    scores: Mapping[str, float]
    all_scores: Mapping[str, float]
    alarms: tuple[str, ...]

    def text(self) -> str:
        """A table to print."""
        ...

    def to_json(self) -> str:
        """All of it as indented JSON."""
        ...

    def to_csv(self) -> str:
        """A row for each class."""
        ...


class Predict(Protocol):
    """How a network's logits become a label map."""

    kind: ClassVar[str]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Name -> metric, of the scores of `evaluate`."""
        ...

    @property
    def output_stride(self) -> int | None:
        """To run the network at; None: the one it was trained at."""
        ...

    def predictor(self, model: keras.Model) -> Predictor:
        """A predictor with the model's weights as they are now."""
        ...

    def check(self, spec: DatasetSpec, options: Eval) -> None:
        """Raises ValueError if a dataset cannot be scored in this way with these options."""
        ...

    def evaluate(
        self,
        predictor: Predictor,
        examples: tf.data.Dataset,
        spec: DatasetSpec,
        options: Eval,
        *,
        progress: Callable[[int, int | None], None] | None = None,
        name_of: Callable[[int], str] | None = None,
    ) -> Result:
        """Scores a predictor of this kind; see `evaluation.evaluate.evaluate`."""
        ...

    def export_model(self, model: keras.Model) -> keras.Model:
        """The model as it is exported, where there is nothing but one call of it."""
        ...
