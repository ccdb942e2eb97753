"""What a user configures: one frozen dataclass per thing, recipes made of four of them.

Standard library only, so that ``--help`` and recipes load without TensorFlow. Every field
carries its help text; `recipe_flags` turns each into one command-line flag.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol, TypeVar

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns `table[name]`.

    Raises:
      ValueError: `name` is unknown; the message lists the known names and the closest one.
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}.{hint}")


def option(default: Any, help_text: str, *, may_change: bool = False) -> Any:
    """A field with its help text; `may_change`: a resumed run may have another value."""
    metadata = {"help": help_text, "may_change": may_change}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which examples are read, and how training crops are made of them."""

    dataset: str = option(
        "shapes", "its name, see docs/datasets.md; tfds:NAME is one of TFDS' catalogue"
    )
    images_dir: str | None = option(
        None, "folder dataset: directory of JPEG or PNG images", may_change=True
    )
    labels_dir: str | None = option(
        None,
        "folder dataset: directory of PNG labels with the images' file stems",
        may_change=True,
    )
    val_images_dir: str | None = option(
        None,
        "folder dataset: images of 'val', if they are in a directory of their own",
        may_change=True,
    )
    val_labels_dir: str | None = option(
        None,
        "folder dataset: labels of 'val', if they are in a directory of their own",
        may_change=True,
    )
    val_list: str | None = option(
        None,
        "folder dataset: text file naming the 'val' examples, a file stem a line",
        may_change=True,
    )
    # ours
    val_fraction: float = option(
        0.2, "folder dataset: share held out as 'val' where nothing else says which"
    )
    class_names_file: str | None = option(
        None,
        "folder dataset: text file, a class name a line in label order; without it the classes"
        " are 0..largest label found",
        may_change=True,
    )
    ignore_label: int = option(255, "folder dataset: label value of pixels without a class")
    # ours
    num_examples: int = option(
        600, "shapes dataset: images drawn for 'train'; 'val' gets a quarter of that"
    )
    train_split: str = option("train", "split to train on")
    # paper: DeepLabv3+ Sec. 4
    crop_size: int = option(513, "side of the square training crop, pixels")
    # cited: DeepLabv3 Sec. 4.1
    batch_size: int = option(16, "global batch size, over all replicas")
    augmentations: tuple[str, ...] = option(
        ("random_scale", "random_crop", "random_flip"), "augmentations, in this order"
    )
    # paper: both, DeepLabv3+ by citation
    scale_range: tuple[float, float] = option(
        (0.5, 2.0), "smallest and largest factor of random_scale and random_short_side"
    )
    # code: DeepLab's
    scale_step: float = option(0.25, "random_scale draws multiples of this; 0: continuous")
    on_bad_example: Literal["fail", "skip"] = option(
        "fail",
        "an unreadable training example ends the run, or another stands in for it",
        may_change=True,
    )
    # code: FastFCN's
    base_size: int = option(
        520, "random_short_side: the shorter side becomes scale_range times this, pixels"
    )
    # code: DeepLab's mean pixel
    pad_color: float = option(
        127.5, "grey, 0..255, of what random_crop and random_rotation add to an image"
    )
    pad_label: int | None = option(
        None, "class of what random_crop and random_rotation add to a label; none: void"
    )
    # ours
    color_jitter: float = option(
        0.25, "random_color: by how much brightness, contrast, saturation may change, 0..1"
    )
    # code: DeepLab's, for ADE20K
    resize_min_side: int = option(513, "resize_to_range: the shorter side, pixels")
    resize_max_side: int | None = option(
        513, "resize_to_range: no longer side than this, whatever the shorter becomes; none: any"
    )
    resize_factor: int | None = option(
        16, "resize_to_range: both sides become multiples of this, plus 1; none: any"
    )

    def __post_init__(self) -> None:
        if self.crop_size < 1:
            raise ValueError(f"data.crop_size must be at least 1 pixel; got {self.crop_size}.")
        if self.batch_size < 1:
            raise ValueError(f"data.batch_size must be at least 1; got {self.batch_size}.")
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(
                "data.scale_range must be (smallest, largest) with 0 < smallest <= largest;"
                f" got {self.scale_range}."
            )
        if self.scale_step < 0:
            raise ValueError(f"data.scale_step must not be negative; got {self.scale_step}.")
        if int(low * self.base_size) < 1:
            raise ValueError(
                "data.base_size times the smallest of data.scale_range must be at least 1 pixel;"
                f" got {self.base_size} and {low}."
            )
        if not 0 <= self.pad_color <= 255:
            raise ValueError(f"data.pad_color must be in 0..255; got {self.pad_color}.")
        if not 0 <= self.color_jitter <= 1:
            raise ValueError(f"data.color_jitter must be in 0..1; got {self.color_jitter}.")
        if self.resize_min_side < 1:
            raise ValueError(
                f"data.resize_min_side must be at least 1 pixel; got {self.resize_min_side}."
            )
        if self.resize_max_side is not None and self.resize_max_side < self.resize_min_side:
            raise ValueError(
                "data.resize_max_side must be none or at least data.resize_min_side,"
                f" {self.resize_min_side}; got {self.resize_max_side}."
            )
        if self.resize_factor is not None and self.resize_factor < 1:
            raise ValueError(f"data.resize_factor must be at least 1; got {self.resize_factor}.")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be in [0, 1); got {self.val_fraction}.")
        if self.num_examples < 4:
            raise ValueError(f"data.num_examples must be at least 4; got {self.num_examples}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the weights are fitted. Exactly one of `steps` and `epochs` is set."""

    steps: int | None = option(None, "length of training in optimizer steps")
    epochs: float | None = option(None, "length of training in passes over the split")
    # paper: DeepLabv3+ Sec. 4
    base_lr: float = option(0.007, "learning rate at step 0")
    # paper: FastFCN Sec. 4.1; DeepLabv3+ by citation
    poly_power: float = option(0.9, "power of the poly schedule base_lr * (1 - step/steps)^power")
    end_lr: float = option(0.0, "learning rate that the poly schedule ends at")
    decay_steps: int | None = option(
        None, "length of the poly schedule; none: the steps after the slow start"
    )
    slow_start_steps: int = option(0, "steps before the poly schedule begins")
    # code: DeepLab's
    slow_start_lr: float = option(1e-4, "learning rate of the slow start")
    burn_in: Literal["constant", "linear"] = option(
        "constant", "slow start at slow_start_lr, or rising from it to base_lr"
    )
    # paper: FastFCN Sec. 4.1; code: DeepLab's
    momentum: float = option(0.9, "momentum of SGD")
    # code: DeepLab's
    weight_decay: float = option(4e-5, "factor of the L2 term sum(w^2) / 2")
    weight_decay_on: Literal["kernels", "all"] = option(
        "kernels",
        "kernels: convolution kernels without the depthwise ones (DeepLab's code);"
        " all: every parameter (FastFCN's code)",
    )
    lr_multipliers: tuple[tuple[str, float], ...] = option(
        (), "rate factors by prefix of layer/weight, e.g. decoder_:10,logits/bias:2"
    )
    loss: str = option("cross_entropy", "loss of a pixel")
    class_weights: tuple[float, ...] = option(
        (), "factor of the loss of each class's pixels; default: 1"
    )
    top_k_percent_pixels: float = option(
        1.0, "hard example mining: share of the pixels, in 0..1, whose loss counts, the largest"
    )
    hard_example_mining_step: int = option(
        0, "hard example mining: steps in which that share falls from 1; 0: at once"
    )
    loss_normalization: Literal["global", "replica"] = option(
        "global", "mean over the valid pixels of the global batch, or of each replica's part"
    )
    seed: int = option(1, "seed of initial weights, order, augmentation and dropout")
    devices: tuple[str, ...] = option(
        (),
        "devices to train on, e.g. GPU:0,GPU:1; default: every GPU, else the CPU",
        may_change=True,
    )
    # ours: this and the three after it
    log_every: int = option(20, "steps between two rows of metrics.csv", may_change=True)
    save_every: int = option(500, "steps between two checkpoints", may_change=True)
    eval_every: int = option(1000, "steps between two evaluations", may_change=True)
    max_to_keep: int = option(3, "checkpoints kept, besides the best one", may_change=True)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                "set exactly one of train.steps and train.epochs;"
                f" got steps={self.steps} and epochs={self.epochs}."
            )
        length = self.steps if self.steps is not None else self.epochs
        if length <= 0:
            raise ValueError(f"the length of training must be positive; got {length}.")
        for name in ("log_every", "save_every", "eval_every", "max_to_keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1; got {getattr(self, name)}.")
        for name in (
            "base_lr",
            "end_lr",
            "slow_start_lr",
            "slow_start_steps",
            "weight_decay",
            "momentum",
            "hard_example_mining_step",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must not be negative; got {getattr(self, name)}.")
        if self.decay_steps is not None and self.decay_steps < 1:
            raise ValueError(f"train.decay_steps must be at least 1; got {self.decay_steps}.")
        if min(self.class_weights, default=0) < 0:
            raise ValueError(f"train.class_weights must not be negative; got {self.class_weights}.")
        if not 0 < self.top_k_percent_pixels <= 1:
            raise ValueError(
                "train.top_k_percent_pixels must be in (0, 1], 1 for every pixel;"
                f" got {self.top_k_percent_pixels}."
            )
        if self.hard_example_mining_step and self.top_k_percent_pixels == 1:
            raise ValueError(
                "train.hard_example_mining_step needs train.top_k_percent_pixels below 1;"
                f" got {self.hard_example_mining_step} steps and every pixel."
            )

    def total_steps(self, num_examples: int, batch_size: int) -> int:
        """Optimizer steps of the whole training; the only place that turns epochs into steps.

        Raises:
          ValueError: the slow start would take all of them.
        """
        steps = self.steps
        if steps is None:
            steps = max(1, round(self.epochs * num_examples / batch_size))
        if self.slow_start_steps >= steps:
            raise ValueError(
                f"train.slow_start_steps must be below the length of training, {steps} steps;"
                f" got {self.slow_start_steps}."
            )
        return steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How predictions are made and scored."""

    split: str = option("val", "split to evaluate", may_change=True)
    scales: tuple[float, ...] = option(
        (1.0,), "image scales whose predictions are joined", may_change=True
    )
    flip: bool = option(False, "join with the left-right flipped image's too", may_change=True)
    protocol: Literal["whole_image", "sliding_window"] = option(
        "whole_image",
        "whole_image: the image at its own size, probabilities averaged (DeepLab's code);"
        " sliding_window: windows of a resized image, exponentials of logits summed (FastFCN's)",
        may_change=True,
    )
    pad_size: tuple[int, int] | None = option(
        None,
        "whole_image: height and width that images are padded to, as DeepLab's code does; 513,513"
        " for PASCAL VOC, 1025,2049 for Cityscapes; default: none",
        may_change=True,
    )
    # code: FastFCN's
    base_size: int = option(
        520, "sliding_window: longer side of the image at scale 1, pixels", may_change=True
    )
    # paper: FastFCN Sec. 4.1
    crop_size: int = option(480, "sliding_window: side of the windows, pixels", may_change=True)
    output_stride: int | None = option(
        None,
        "output stride to evaluate at; default: the model's, which training always uses",
        may_change=True,
    )
    excluded_classes: tuple[int, ...] = option(
        (), "classes left out of the mean IoU", may_change=True
    )
    absent_classes: Literal["exclude", "zero"] = option(
        "exclude",
        "classes in neither labels nor predictions: left out of the mean IoU, or counted as 0",
        may_change=True,
    )

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(
                f"eval.scales must be one or more positive numbers; got {self.scales}."
            )
        if self.pad_size is not None and min(self.pad_size) < 1:
            raise ValueError(
                f"eval.pad_size must be two positive numbers of pixels; got {self.pad_size}."
            )
        if min(self.base_size, self.crop_size) < 1:
            raise ValueError(
                "eval.base_size and eval.crop_size must be at least 1 pixel;"
                f" got {self.base_size} and {self.crop_size}."
            )


def scaled_side(side: int, scale: float) -> int:
    """Height or width of an image at a scale, pixels."""
    # code: scale_dimension. Corner pixels stay on corner pixels, so it is the gaps that scale.
    return max(1, int((side - 1) * scale + 1))


# (label int32 [N,H,W], output of the network) -> (sum of the losses, number of valid terms)
LossFn = Callable[[Any, Any], tuple[Any, Any]]


class ModelConfig(Protocol):
    """A network that can build itself; implemented by each architecture's dataclass."""

    kind: ClassVar[str]  # key in recipe.json

    def build(
        self,
        num_classes: int,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        *,
        auxiliary: bool = False,
    ) -> Any:
        """A keras.Model: image [N,H,W,3] RGB 0..255 -> logits float32 [N,H,W,num_classes].

        With `auxiliary` the output is a dict with "logits" and whatever else is trained.
        """
        ...

    def losses(self, pixel_loss: LossFn) -> Mapping[str, tuple[LossFn, float]]:
        """Output name -> (its loss, its weight)."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a result. Where files are is not part of it."""

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    eval: EvalConfig = EvalConfig()
    expected_mean_iou: float | None = None  # percent, as the source prints it


SECTIONS: dict[str, type] = {"data": DataConfig, "train": TrainConfig, "eval": EvalConfig}


def field_types(cls: type) -> dict[str, Any]:
    """Field name -> type, with Optional removed (None is then a value of every such field)."""
    hints = typing.get_type_hints(cls)
    return {field.name: _without_none(hints[field.name]) for field in dataclasses.fields(cls)}


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint
