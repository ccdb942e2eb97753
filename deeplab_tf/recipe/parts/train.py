"""The part of a recipe that says how long to train."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from deeplab_tf.recipe.options import Options, option


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
        False, "save memory: recompute parts of the backbone in the backward pass", may_change=True
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
