"""What a run carries from step to step, besides weights and the optimizer's slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deeplab_tf.recipe.lazy import tf

# ours: between the largest float16, 65504, and the smallest gradients that matter
_FIRST_LOSS_SCALE = 2.0**15
# cited: Micikevicius et al. 2018, Sec. 3.2: grow after 2000 steps without overflow
_STEPS_UNTIL_GROWTH = 2000


def replicated(value: Any, name: str) -> tf.Variable:
    """A variable that is no weight: a copy on each replica, which replicas change alike.

    Call it in the scope of their strategy. Nothing sums the copies; each replica assigns its own.
    """
    return tf.Variable(
        value,
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_WRITE,
        aggregation=tf.VariableAggregation.NONE,
    )


class LossScale:
    """The factor of the loss that keeps float16 gradients from becoming 0.

    It halves after a step whose gradient is not finite, and doubles after 2000 others in a row.

    Attributes:
      variables: name -> variable, of a checkpoint.
    """

    def __init__(self):
        """Makes the variables; call it in the scope of the strategy."""
        self._scale = replicated(tf.constant(_FIRST_LOSS_SCALE), "loss_scale")
        self._good_steps = replicated(tf.constant(0, tf.int64), "steps_at_loss_scale")
        self.variables = {"scale": self._scale, "good_steps": self._good_steps}

    def value(self) -> tf.Tensor:
        """The factor; float32 scalar."""
        return tf.convert_to_tensor(self._scale)

    def update(self, finite: tf.Tensor) -> None:
        """Follows a step, whose gradient was finite or not."""
        good = self._good_steps + 1
        grows = good >= _STEPS_UNTIL_GROWTH
        grown = tf.where(grows, 2.0 * self._scale, self._scale)
        self._scale.assign(tf.where(finite, grown, tf.maximum(self._scale / 2.0, 1.0)))
        kept = tf.where(tf.logical_and(finite, tf.logical_not(grows)), good, 0)
        self._good_steps.assign(kept)


class MovingAverage:
    """An exponential moving average of all weights, moving statistics included.

    The decay is min(decay, (1 + updates) / (10 + updates)): the first weights are soon forgotten
    (cited: tf.train.ExponentialMovingAverage's num_updates).

    Attributes:
      variables: name of a weight -> its average.
    """

    def __init__(self, weights: Mapping[str, Any], decay: float):
        """Starts at the weights; call it in the scope of the strategy.

        Args:
          weights: name -> Keras variable.
          decay: share of the average that remains at an update.
        """
        self._decay = decay
        self._weights = weights
        self.updates = replicated(tf.constant(0, tf.int64), "average_updates")
        self.variables = {
            name: replicated(tf.convert_to_tensor(weight.value), f"average_{i}")
            for i, (name, weight) in enumerate(weights.items())
        }

    def restart(self) -> None:
        """Sets the averages to the weights."""
        for name, average in self.variables.items():
            average.assign(self._weights[name].value)

    def update(self) -> None:
        """Follows an update of the weights."""
        made = tf.cast(self.updates, tf.float32)
        self.updates.assign_add(1)
        decay = tf.minimum(self._decay, (1.0 + made) / (10.0 + made))
        for name, average in self.variables.items():
            weight = tf.convert_to_tensor(self._weights[name].value)
            average.assign_add(tf.cast(1.0 - decay, average.dtype) * (weight - average))


class RunState:
    """Counters, and what `precision` and `ema_decay` need.

    Attributes:
      skipped_steps: int64, steps whose gradient was not finite.
      skipped_in_a_row: int64, how many of them are the last ones.
      recoveries: int64, how often training returned to an earlier checkpoint.
      loss_scale: for float16; else None.
      average: of the weights; None if none is kept.
    """

    def __init__(
        self,
        weights: Mapping[str, Any] | None = None,
        *,
        scale_loss: bool = False,
        ema_decay: float | None = None,
    ):
        """Makes the variables; call it in the scope of the strategy.

        Args:
          weights: name -> Keras variable; needed for a moving average only.
          scale_loss: whether the loss is scaled, for float16.
          ema_decay: of the moving average; None: none is kept.
        """
        self.skipped_steps = replicated(tf.constant(0, tf.int64), "skipped_steps")
        self.skipped_in_a_row = replicated(tf.constant(0, tf.int64), "skipped_in_a_row")
        self.recoveries = replicated(tf.constant(0, tf.int64), "recoveries")
        self.loss_scale = LossScale() if scale_loss else None
        self.average = None if ema_decay is None else MovingAverage(weights, ema_decay)

    def follow(self, finite: tf.Tensor) -> None:
        """Counts a step, whose gradient was finite or not."""
        skipped = 1 - tf.cast(finite, tf.int64)
        self.skipped_steps.assign_add(skipped)
        self.skipped_in_a_row.assign((self.skipped_in_a_row + 1) * skipped)
        if self.loss_scale is not None:
            self.loss_scale.update(finite)

    def checkpointed(self) -> dict[str, Any]:
        """What a checkpoint holds: names -> variables, or dicts of them."""
        parts = {
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "recoveries": self.recoveries,
        }
        if self.loss_scale is not None:
            parts["loss_scale"] = self.loss_scale.variables
        if self.average is not None:
            parts |= {"average": self.average.variables, "average_updates": self.average.updates}
        return parts
