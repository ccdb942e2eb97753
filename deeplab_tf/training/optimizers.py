"""Learning rate, weight decay and SGD as in both papers' released code."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


def poly_learning_rate(
    step: int,
    *,
    base_lr: float,
    total_steps: int,
    power: float,
    end_lr: float = 0.0,
    decay_steps: int | None = None,
    slow_start_steps: int = 0,
    slow_start_lr: float = 0.0,
    burn_in: str = "constant",
) -> float:
    """end_lr + (base_lr - end_lr) * (1 - step / total_steps)^power.

    (DeepLabv3+ Sec. 4, FastFCN Sec. 4.1; slow start and end_lr: DeepLab's code.)

    Args:
      step: optimizer steps already made; past the decay the rate is `end_lr`.
      base_lr: rate where the decay begins.
      total_steps: length of training.
      power: 0.9 in both papers.
      end_lr: rate where the decay ends.
      decay_steps: length of the decay; None: what a slow start leaves of `total_steps`.
      slow_start_steps: steps before the decay begins.
      slow_start_lr: rate of the slow start.
      burn_in: "constant": at `slow_start_lr` throughout; "linear": from there up to `base_lr`.
    """
    if step < slow_start_steps:
        rise = step / slow_start_steps if burn_in == "linear" else 0.0
        return slow_start_lr + (base_lr - slow_start_lr) * rise
    if decay_steps is None:
        decay_steps = total_steps - slow_start_steps
    left = max(0.0, 1.0 - (step - slow_start_steps) / decay_steps)
    return end_lr + (base_lr - end_lr) * left**power


def decayed_weights(model: keras.Model, weight_decay_on: str) -> list[keras.Variable]:
    """The trainable variables that L2 weight decay applies to.

    Args:
      model: the network.
      weight_decay_on: "kernels": kernels of convolutions but not of depthwise ones (code:
        DeepLab's); "all": every trainable variable (code: FastFCN's).
    """
    if weight_decay_on == "all":
        return list(model.trainable_variables)
    return [
        layer.kernel
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.trainable
    ]


def learning_rate_factors(
    model: keras.Model, lr_multipliers: Sequence[tuple[str, float]]
) -> list[float]:
    """A factor for each of `model.trainable_variables`, 1 unless a prefix of its name is listed.

    Args:
      model: the network.
      lr_multipliers: (prefix of 'layer/weight', factor), e.g. ("decoder_", 10.0) or, as released
        for DeepLab, ("logits/bias", 2.0); the longest prefix that fits counts.

    Raises:
      ValueError: a prefix fits no trainable weight.
    """
    names = {id(w): f"{layer.name}/{w.name}" for layer in model.layers for w in layer.weights}
    factors, unused = [], {prefix for prefix, _ in lr_multipliers}
    for variable in model.trainable_variables:
        fitting = [(p, f) for p, f in lr_multipliers if names[id(variable)].startswith(p)]
        unused -= {prefix for prefix, _ in fitting}
        factors.append(max(fitting, key=lambda row: len(row[0]))[1] if fitting else 1.0)
    if unused:
        parts = sorted({name.split("/")[0].split("_")[0] for name in names.values()})
        raise ValueError(
            f"train.lr_multipliers: no trainable weight begins with {sorted(unused)};"
            f" weights begin with {', '.join(parts)}."
        )
    return factors


class Momentum:
    """SGD with momentum: v <- momentum * v + g, w <- w - rate * v.

    Both papers' released code keeps the rate out of v (TensorFlow 1's MomentumOptimizer, torch's
    SGD); Keras' SGD multiplies it in, which differs as soon as the rate changes. `apply` is
    called in replica context with gradients that are already reduced, so every replica makes
    the same update and nothing is summed twice.

    Attributes:
      slots: v, a tf.Variable for each of the variables: the state that a checkpoint holds.
    """

    def __init__(self, variables: Sequence[keras.Variable], momentum: float):
        """Makes a slot for each variable; call it in the scope of the variables' strategy."""
        self._momentum = momentum
        self._variables = [variable.value for variable in variables]
        self.slots = [
            tf.Variable(
                tf.zeros_like(variable),
                trainable=False,
                name=f"slot_{i}",
                synchronization=tf.VariableSynchronization.ON_WRITE,
                aggregation=tf.VariableAggregation.NONE,
            )
            for i, variable in enumerate(self._variables)
        ]

    def apply(
        self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor, factors: Sequence[float]
    ) -> None:
        """One update.

        Args:
          gradients: one for each variable, weight decay included, summed over replicas.
          learning_rate: float32 scalar.
          factors: of the rate, one for each variable.
        """
        rows = zip(self._variables, self.slots, gradients, factors, strict=True)
        for variable, slot, gradient, factor in rows:
            velocity = self._momentum * slot + gradient
            slot.assign(velocity)
            variable.assign_sub(learning_rate * factor * velocity)
