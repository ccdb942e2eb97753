"""One optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import keras
import tensorflow as tf

from deeplab_tf.recipe.parts import BuiltOptimizer, LossFn


def train_step(
    model: keras.Model,
    optimizer: BuiltOptimizer,
    output_losses: Mapping[str, tuple[LossFn, float]],
    batch: Mapping[str, tf.Tensor],
    *,
    learning_rate: tf.Tensor,
    loss_normalization: Literal["global", "replica"] = "global",
) -> dict[str, tf.Tensor]:
    """One optimizer step of one replica; call it through `strategy.run`.

    A loss is the sum over the valid pixels divided by their number in the global batch, so k
    replicas equal one exactly, wherever the void is. Gradients are summed over the replicas
    before anything looks at them.

    Args:
      model: built with auxiliary=True: image -> dict of outputs.
      optimizer: over `model.trainable_variables`.
      output_losses: output name -> (loss, weight), from the model config's `losses`.
      batch: {"image": float32 [b, S, S, 3], "label": int32 [b, S, S]}, this replica's part.
      learning_rate: float32 scalar.
      loss_normalization: "global", or "replica": divide by the replica's own number of valid
        pixels and average over replicas (code: both references).

    Returns:
      float32 scalars, the same on all replicas: "loss" (without the L2 term), each output's
      loss as "loss_<output>" where there are several, and "gradient_norm" (L2 term included).
    """
    context = tf.distribute.get_replica_context()
    with tf.GradientTape() as tape:
        outputs = model(batch["image"], training=True)
        values = {}
        for name, (loss_fn, weight) in output_losses.items():
            total, count = loss_fn(batch["label"], outputs[name])
            if loss_normalization == "global":
                count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
            else:
                count *= context.num_replicas_in_sync
            values[name] = weight * tf.math.divide_no_nan(total, count)
        loss = tf.add_n(list(values.values()))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    gradients, values, loss = context.all_reduce(
        tf.distribute.ReduceOp.SUM, (gradients, values, loss)
    )
    gradients = optimizer.with_decay(gradients)
    optimizer.apply(gradients, learning_rate)
    result = {"loss": loss, "gradient_norm": tf.linalg.global_norm(gradients)}
    if len(values) > 1:
        result.update({f"loss_{name}": value for name, value in values.items()})
    return result
