"""The flag that chooses among the weights of a workdir."""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from deeplab_tf import zoo

if TYPE_CHECKING:
    import keras

CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "best",
    "best, last, ema (the moving average of the weights in the last), or the step of one",
)
flags.register_validator(
    "checkpoint",
    lambda value: value in ("best", "last", "ema") or (value.isdecimal() and len(value) < 19),
    message="must be best, last, ema or a step",
)


def load_model(workdir: str, output_stride: int | None, choice: str | None = None) -> keras.Model:
    """The network of a workdir with chosen weights; prints whose it is.

    Args:
      workdir: of a training run or of convert_weights.py.
      output_stride: see `zoo.load_model`.
      choice: of the weights; None: that of --checkpoint.
    """
    choice = choice or CHECKPOINT.value
    print(f"building the network of {workdir}")
    return zoo.load_model(
        workdir,
        checkpoint=int(choice) if choice.isdecimal() else choice,
        output_stride=output_stride,
    )
