"""A recipe is everything that determines a result, as a list of parts.

Each part is one of several frozen dataclasses, its kinds, and builds itself. The protocols here
say what a kind must do; tables such as `training.schedules.SCHEDULES` name the kinds of a part,
and `zoo.PARTS` has all tables. The engine calls these methods and knows no kinds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from deeplab_tf.recipe.options import Options, option

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from deeplab_tf.recipe.dataset_spec import DatasetSpec, OpenDataset

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
    """Makes label maps of single images of any size.

    Attributes:
      num_classes: outputs of the network.
    """

    num_classes: int

    def label_map(self, image: np.ndarray | tf.Tensor) -> tf.Tensor:
        """[H, W, 3] RGB 0..255 -> int32 [H, W]."""
        ...

    def update(self) -> None:
        """Reads the weights of the network again, after they were trained on."""
        ...


class Metric(Protocol):
    """A score.

    Attributes:
      title: its name in print.
    """

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Options):
    """How long to train, and what the run keeps and reports."""

    steps: int | None = option(None, "length of training in optimizer steps", minimum=1)
    epochs: float | None = option(None, "length of training in passes over the split", above=0)
    # cited: DeepLabv3 Sec. 4.1
    batch_size: int = option(16, "global batch size, over all replicas", minimum=1)
    split: str = option("train", "split to train on")
    seed: int = option(
        1,
        "seed of initial weights, order, augmentation and dropout",
        minimum=0,
        maximum=2**32 - 1,  # of keras.utils.set_random_seed
    )
    loss_normalization: Literal["global", "replica"] = option(
        "global", "mean over valid pixels of the global batch (ours), or of each replica's (code)"
    )
    on_bad_example: Literal["fail", "skip"] = option(
        "fail",
        "an unreadable training example ends the run, or another one takes its place",
        may_change=True,
    )
    devices: tuple[str, ...] = option(
        (),
        "devices to train on, e.g. GPU:0,GPU:1; default: every GPU, else the CPU",
        may_change=True,
    )
    strategy: Literal["auto", "mirrored", "multi_worker", "one_device"] = option(
        "auto",
        "how devices share a batch; auto: multi_worker where TF_CONFIG is set, else mirrored",
        may_change=True,
    )
    accumulation_steps: int = option(
        1,
        "parts of a batch that are processed one after another, to save memory; batch"
        " normalization sees one part at a time",
        minimum=1,
    )
    scale_lr: bool = option(False, "multiply the learning rate by batch_size / 16 (FastFCN's code)")
    ema_decay: float | None = option(
        None,
        "score a moving average of the weights, with this decay, and keep the best of these; none:"
        " the weights themselves",
        above=0,
        below=1,
    )
    precision: Literal["float32", "bfloat16", "float16"] = option(
        "float32", "type of the network's layers; weights, logits and statistics are float32"
    )
    remat: bool = option(
        False,
        "save memory: compute parts of the backbone again in the backward pass",
        may_change=True,
    )
    jit_compile: bool = option(
        False, "compile the training step with XLA; on one GPU only", may_change=True
    )
    recover: bool = option(
        False,
        "after ten steps in a row without a finite gradient, return to the last checkpoint and"
        " take the examples in another order; false: stop",
        may_change=True,
    )
    patience: int | None = option(
        None,
        "stop after this many evaluations without a better score; none: train to the end",
        minimum=1,
        may_change=True,
    )
    # ours: this and the three after it
    log_every: int = option(20, "steps between two rows of metrics.csv", minimum=1, may_change=True)
    save_every: int = option(500, "steps between two checkpoints", minimum=1, may_change=True)
    eval_every: int = option(1000, "steps between two evaluations", minimum=1, may_change=True)
    max_to_keep: int = option(
        3, "checkpoints kept, besides the best one", minimum=1, may_change=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                f"steps or epochs must be set, and not both; got steps={self.steps} and"
                f" epochs={self.epochs}."
            )

    def replace(self, **changes: Any) -> Train:
        """A copy with some options changed; one length of training replaces the other."""
        if len(changes.keys() & {"steps", "epochs"}) == 1:
            changes = {"steps": None, "epochs": None, **changes}
        return super().replace(**changes)

    @property
    def learning_rate_factor(self) -> float:
        """What the schedule's rate is multiplied by."""
        return self.batch_size / 16 if self.scale_lr else 1.0  # code: FastFCN's

    def total_steps(self, num_examples: int) -> int:
        """Optimizer steps of the whole training; the only place that turns epochs into steps."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * num_examples / self.batch_size))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval(Options):
    """What is scored, and which classes count."""

    split: str = option("val", "split to evaluate", may_change=True)
    best_metric: str = option("mean_iou", "score that decides which weights are the best")
    excluded_classes: tuple[int, ...] = option(
        (), "classes left out of the mean IoU", minimum=0, may_change=True
    )
    absent_classes: Literal["exclude", "zero"] = option(
        "exclude",
        "classes in neither labels nor predictions: left out of the mean IoU (DeepLab's code), or"
        " counted as 0 (FastFCN's)",
        may_change=True,
    )
    trimap_widths: tuple[int, ...] = option(
        (),
        "widths of bands around void that are scored too, pixels, e.g. 1,2,5,10,20,40",
        minimum=1,
        maximum=1000,  # ours: Fig. 4 of the paper ends at 40
        may_change=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a result."""

    model: ModelConfig
    dataset: Dataset
    augment: tuple[Augmentation, ...]
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    train: Train
    predict: Predict = dataclasses.field(metadata={"may_change": True})
    eval: Eval = Eval()
    expected_mean_iou: float | None = None  # percent, as the source prints it

    def __post_init__(self) -> None:
        if isinstance(self.augment, list):
            object.__setattr__(self, "augment", tuple(self.augment))
        if not isinstance(self.augment, tuple):
            raise ValueError(f"augment must be a tuple of augmentations; got {self.augment!r}.")
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del parts["augment"], parts["expected_mean_iou"]
        for name, part in [*parts.items(), *(("augment", item) for item in self.augment)]:
            if not isinstance(part, Options):
                raise ValueError(
                    f"{name} must be made by the class of a part, as SGD() or RandomFlip();"
                    f" got {part!r}."
                )
