"""Learning-rate schedules."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

from deeplab_tf.recipe.options import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Options):
    """A warm-up, and a decay after it.

    DeepLab's code calls the warm-up "slow start", and the linear one "burn-in".
    """

    base_lr: float = option(0.007, "learning rate after the warm-up", minimum=0)
    warmup_steps: int = option(0, "steps before the decay begins (DeepLab: slow start)", minimum=0)
    # code: DeepLab's
    warmup_lr: float = option(1e-4, "learning rate of the warm-up", minimum=0)
    warmup: Literal["constant", "linear"] = option(
        "constant", "stay at warmup_lr, or rise from it to base_lr"
    )

    def __call__(self, step: int, *, total_steps: int, steps_per_epoch: float) -> float:
        """The learning rate.

        Args:
          step: optimizer steps already made.
          total_steps: length of training.
          steps_per_epoch: optimizer steps in one pass over the training split.
        """
        if step < self.warmup_steps:
            rise = step / self.warmup_steps if self.warmup == "linear" else 0.0
            return self.warmup_lr + (self.base_lr - self.warmup_lr) * rise
        return self.decayed(
            step - self.warmup_steps, total_steps - self.warmup_steps, steps_per_epoch
        )

    def decayed(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """The rate `step` steps after the warm-up, of the `total_steps` that follow it."""
        raise NotImplementedError

    def check(self, total_steps: int) -> None:
        """Checks that training is longer than the warm-up.

        Raises:
          ValueError: it is not.
        """
        if self.warmup_steps >= total_steps:
            raise ValueError(
                f"schedule.warmup_steps must be below the length of training, {total_steps} steps;"
                f" got {self.warmup_steps}."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Poly(Schedule):
    """end_lr + (base_lr - end_lr) * (1 - step / steps)^power, as in both papers.

    DeepLabv3+ Sec. 4 and FastFCN Sec. 4.1; warm-up and end_lr: DeepLab's code.
    """

    kind: ClassVar[str] = "poly"

    # paper: FastFCN Sec. 4.1; DeepLabv3+ by citation
    power: float = option(0.9, "power of the decay", minimum=0)
    end_lr: float = option(0.0, "learning rate at the end of the decay", minimum=0)
    decay_steps: int | None = option(
        None, "length of the decay; none: all steps after the warm-up", minimum=1
    )

    def decayed(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """See `Schedule.decayed`; past `decay_steps` the rate is `end_lr`."""
        left = max(0.0, 1.0 - step / (self.decay_steps or total_steps))
        return self.end_lr + (self.base_lr - self.end_lr) * left**self.power


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from base_lr down to end_lr.

    Cited: Loshchilov and Hutter 2017, Eq. 5.
    """

    kind: ClassVar[str] = "cosine"

    end_lr: float = option(0.0, "learning rate at the end of the decay", minimum=0)

    def decayed(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """See `Schedule.decayed`."""
        progress = min(1.0, step / total_steps)
        return self.end_lr + (self.base_lr - self.end_lr) * (1 + math.cos(math.pi * progress)) / 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """base_lr times a factor at regular intervals.

    DeepLabv3+ Sec. 4.3 trains Xception on ImageNet with 0.94 every 2 epochs.
    """

    kind: ClassVar[str] = "step"

    factor: float = option(0.94, "factor of the rate at each interval", above=0)
    every_epochs: float = option(2.0, "length of an interval in epochs", above=0)

    def decayed(self, step: int, total_steps: int, steps_per_epoch: float) -> float:
        """See `Schedule.decayed`."""
        return self.base_lr * self.factor ** int(step / (self.every_epochs * steps_per_epoch))


SCHEDULES: dict[str, type[Schedule]] = {"poly": Poly, "cosine": Cosine, "step": Step}
