"""Optimizers: SGD as in both papers' released code, and AdamW."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from deeplab_tf.recipe.lazy import keras, tf
from deeplab_tf.recipe.options import Options, option
from deeplab_tf.training.state import replicated

if TYPE_CHECKING:
    from deeplab_tf.recipe.parts import BuiltOptimizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Options):
    """What all optimizers share: which weights decay, and rates of their own."""

    slots: ClassVar[tuple[str, ...]]  # what is kept for each weight, 0 before the first update
    counts_updates: ClassVar[bool] = False
    decoupled: ClassVar[bool] = False  # decay: of the weights; false: the gradient of an L2 term

    # code: DeepLab's
    weight_decay: float = option(4e-5, "factor of the weight decay", minimum=0)
    decay_on: Literal["kernels", "all"] = option(
        "kernels",
        "what decays: convolution kernels without the depthwise ones (DeepLab's code), or every"
        " parameter (FastFCN's code)",
    )
    clip_norm: float | None = option(
        None,
        "largest global norm of the gradient, that of the L2 term included; larger ones are scaled"
        " down; none: no limit",
        above=0,
    )
    lr_multipliers: tuple[tuple[str, float], ...] = option(
        (), "rate factors by prefix of layer/weight, e.g. decoder_:10,logits/bias:2", minimum=0
    )

    def build(self, model: keras.Model) -> BuiltOptimizer:
        """Makes the slots of each trainable variable; call it in their strategy's scope.

        Raises:
          ValueError: a prefix of `lr_multipliers` fits no trainable weight.
        """
        return _Built(self, model)

    def change(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], updates: tf.Tensor | None
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """How one weight changes.

        Args:
          gradient: of the loss, with that of the L2 term unless `decoupled`.
          slots: their values, in the order of `slots`.
          updates: number of updates, this one included; None unless `counts_updates`.

        Returns:
          (what is subtracted from the weight at a rate of 1, new values of the slots).
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """SGD with momentum; weight decay is the gradient of an L2 term.

    v <- momentum * v + g, w <- w - rate * v. Both papers' released code keeps the rate out of v
    (TensorFlow 1's MomentumOptimizer, torch's SGD). Keras' SGD multiplies it in, which differs as
    soon as the rate changes.
    """

    kind: ClassVar[str] = "sgd"
    slots: ClassVar[tuple[str, ...]] = ("slot",)

    # paper: FastFCN Sec. 4.1; code: DeepLab's
    momentum: float = option(0.9, "momentum", minimum=0, below=1)
    nesterov: bool = option(False, "Nesterov momentum: w <- w - rate * (g + momentum * v)")

    def change(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], updates: tf.Tensor | None
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """See `Optimizer.change`."""
        velocity = self.momentum * slots[0] + gradient
        change = gradient + self.momentum * velocity if self.nesterov else velocity
        return change, [velocity]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay.

    Cited: Loshchilov and Hutter 2019, Alg. 2. The learning rate is a factor of the decay too.
    """

    kind: ClassVar[str] = "adamw"
    slots: ClassVar[tuple[str, ...]] = ("mean", "square")
    counts_updates: ClassVar[bool] = True
    decoupled: ClassVar[bool] = True

    # cited: Kingma and Ba 2015, Alg. 1, for this and the two after it
    beta_1: float = option(0.9, "decay of the mean of the gradients", minimum=0, below=1)
    beta_2: float = option(0.999, "decay of the mean of their squares", minimum=0, below=1)
    epsilon: float = option(1e-8, "added to the root of that mean", above=0)

    def change(
        self, gradient: tf.Tensor, slots: Sequence[tf.Tensor], updates: tf.Tensor | None
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """See `Optimizer.change`."""
        mean = self.beta_1 * slots[0] + (1 - self.beta_1) * gradient
        square = self.beta_2 * slots[1] + (1 - self.beta_2) * gradient**2
        # Both means start at 0; dividing by these shares makes them unbiased.
        share_1, share_2 = 1 - self.beta_1**updates, 1 - self.beta_2**updates
        return (mean / share_1) / (tf.sqrt(square / share_2) + self.epsilon), [mean, square]


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adamw": AdamW,
}


class _Built:
    def __init__(self, options: Optimizer, model: keras.Model):
        self._options = options
        self._variables = [variable.value for variable in model.trainable_variables]
        self._factors = learning_rate_factors(model, options.lr_multipliers)
        self._decays = decay_factors(model, options)
        self._slots = [
            [replicated(tf.zeros_like(v), f"{name}_{i}") for i, v in enumerate(self._variables)]
            for name in options.slots
        ]
        self._updates = [replicated(tf.zeros([]), "updates")] if options.counts_updates else []
        self.slots = [*itertools.chain(*self._slots), *self._updates]

    def prepared(self, gradients: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Adds the gradient of weight_decay * sum(w^2) / 2 and clips the sum.

        Both happen once, not once per replica.

        Args:
          gradients: of the loss, summed over the replicas.

        Returns:
          (gradients for `apply`, their global norm before clipping).
        """
        options, gradients = self._options, list(gradients)
        if not options.decoupled:
            rows = zip(gradients, self._variables, self._decays, strict=True)
            gradients = [g + decay * v if decay else g for g, v, decay in rows]
        norm = tf.linalg.global_norm(gradients)
        if options.clip_norm is not None:
            factor = options.clip_norm / tf.maximum(norm, options.clip_norm)
            gradients = [factor * gradient for gradient in gradients]
        return gradients, norm

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """One update; every replica makes the same one."""
        updates = None
        for count in self._updates:
            updates = count + 1.0
            count.assign(updates)
            updates = tf.cast(updates, self._variables[0].dtype)  # of a float64 network too
        rows = zip(
            self._variables, gradients, self._factors, self._decays, *self._slots, strict=True
        )
        for variable, gradient, factor, decay, *slots in rows:
            change, values = self._options.change(gradient, slots, updates)
            for slot, value in zip(slots, values, strict=True):
                slot.assign(value)
            if self._options.decoupled:
                change += decay * variable
            variable.assign_sub(learning_rate * factor * change)


def decay_factors(model: keras.Model, options: Optimizer) -> list[float]:
    """The weight decay of each of `model.trainable_variables`; 0 for those that do not decay."""
    if options.decay_on == "all":
        decayed = {id(variable) for variable in model.trainable_variables}
    else:
        decayed = {
            id(layer.kernel) for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
        }
    return [options.weight_decay * (id(v) in decayed) for v in model.trainable_variables]


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
            f"optimizer.lr_multipliers: no trainable weight begins with {sorted(unused)};"
            f" weights begin with {', '.join(parts)}."
        )
    return factors
