"""One optimizer step, of a whole batch or of its parts one after another.

The order of things: gradients of each replica, their sum over the replicas, the factor of float16
taken out, the check that they are finite, weight decay, clipping, the update. All that follows the
sum is the same on every replica.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from deeplab_tf.layers import full_precision
from deeplab_tf.layers.dropout import masks_follow
from deeplab_tf.recipe.parts import BuiltOptimizer, LossFn, Recipe
from deeplab_tf.training.state import RunState, replicated

Batch = Mapping[str, tf.Tensor]
OutputLosses = Mapping[str, tuple[LossFn, float]]


def train_step(
    model: keras.Model,
    optimizer: BuiltOptimizer,
    state: RunState,
    output_losses: OutputLosses,
    batch: Batch,
    *,
    learning_rate: tf.Tensor,
    seed: int = 0,
    step: tf.Tensor | int = 0,
    loss_normalization: Literal["global", "replica"] = "global",
    forward: Callable[[tf.Tensor], Mapping[str, tf.Tensor]] | None = None,
) -> dict[str, tf.Tensor]:
    """One optimizer step of one replica; call it through `strategy.run`.

    A loss is the sum over the valid pixels divided by their number in the global batch, so k
    replicas equal one exactly, wherever the void is. If the loss or the gradient is not finite,
    weights, moving statistics and slots stay as they are and the step counts as skipped.

    Args:
      model: built with auxiliary=True: image -> dict of outputs.
      optimizer: over `model.trainable_variables`.
      state: of the run.
      output_losses: output name -> (loss, weight), from the model config's `losses`.
      batch: {"image": float32 [b, S, S, 3], "label": int32 [b, S, S]}, this replica's part.
      learning_rate: float32 scalar.
      seed: of the run, from which the masks of dropout follow; see layers/dropout.py.
      step: optimizer steps already made, from which they follow too; int32 scalar.
      loss_normalization: "global", or "replica": divide by the replica's own number of valid
        pixels and average over replicas (code: both references).
      forward: image -> outputs in training; None: the model's own call.

    Returns:
      Scalars, the same on all replicas: float32 "loss" (without the L2 term), each output's loss
      as "loss_<output>" where there are several, and "gradient_norm" (L2 term included, before
      clipping); int64 "skipped_steps" and "skipped_in_a_row", this step included.
    """
    before = _moving_statistics(model)
    gradients, values = _gradients(
        model,
        forward,
        state,
        output_losses,
        batch,
        seed=seed,
        step=step,
        loss_normalization=loss_normalization,
    )
    return _update(model, optimizer, state, gradients, values, before, learning_rate)


def compiled_step(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: BuiltOptimizer,
    state: RunState,
    losses_at: Callable[[tf.Tensor], OutputLosses],
    *,
    seed: int,
    parts: int = 1,
    loss_normalization: Literal["global", "replica"] = "global",
    forward: Callable[[tf.Tensor], Mapping[str, tf.Tensor]] | None = None,
    jit_compile: bool = False,
) -> Callable[[Sequence[Any], tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """The optimizer step over all replicas, as a function that is traced once.

    Args:
      strategy: in whose scope model, optimizer and state were made.
      model: see `train_step`, like `optimizer`, `state`, `loss_normalization` and `forward`.
      optimizer: see there.
      state: see there.
      losses_at: optimizer steps already made -> what `train_step` calls output_losses.
      seed: see `train_step`.
      parts: of a batch, processed one after another.
      loss_normalization: see `train_step`.
      forward: see `train_step`.
      jit_compile: compile with XLA.

    Returns:
      (the parts of a batch, each split over the replicas; int32 scalar, steps already made;
      float32 scalar, the learning rate) -> the results of `train_step`. The loss and the gradient
      are those of the whole batch: every part is divided by the number of terms in all of them.
    """
    function = functools.partial(tf.function, jit_compile=jit_compile, autograph=False)

    def of_first_replica(results):
        return tf.nest.map_structure(lambda r: strategy.experimental_local_results(r)[0], results)

    @function
    def whole(batch, step, learning_rate):
        args = (model, optimizer, state, losses_at(step), batch)
        options = {
            "learning_rate": learning_rate,
            "seed": seed,
            "step": step,
            "loss_normalization": loss_normalization,
            "forward": forward,
        }
        return of_first_replica(strategy.run(train_step, args, options))

    if parts == 1:
        return lambda batch_parts, *scalars: whole(batch_parts[0], *scalars)

    variables = [variable.value for variable in model.trainable_variables]
    dtype = full_precision()  # here: replicas run in threads, which do not see the dtype policy
    with strategy.scope():
        sums = [replicated(tf.zeros_like(v), f"gradient_{i}") for i, v in enumerate(variables)]
        losses = {
            name: replicated(tf.zeros([], dtype), f"loss_{name}")
            for name in losses_at(tf.constant(0))
        }

    def start(batch_parts, step):
        counts = [_numbers_of_terms(model, losses_at(step), part, dtype) for part in batch_parts]
        totals = {name: tf.add_n([each[name] for each in counts]) for name in losses}
        for variable in [*sums, *losses.values()]:
            variable.assign(tf.zeros_like(variable))
        return _moving_statistics(model), _over_replicas(totals, loss_normalization)

    def add(batch, part, totals, step):
        gradients, values = _gradients(
            model,
            forward,
            state,
            losses_at(step),
            batch,
            seed=seed,
            step=step,
            part=part,
            divisors=totals,
        )
        for total, gradient in zip(sums, gradients, strict=True):
            total.assign_add(gradient)
        for name, value in values.items():
            losses[name].assign_add(value)

    def finish(before, learning_rate):
        # identity: an all-reduce needs tensors with a device, which those of variables lack.
        gradients = [tf.identity(total) for total in sums]
        values = {name: tf.identity(value) for name, value in losses.items()}
        return _update(model, optimizer, state, gradients, values, before, learning_rate)

    start_all, add_all, finish_all = (
        function(lambda *args, part=part: strategy.run(part, args)) for part in (start, add, finish)
    )

    def in_parts(batch_parts, step, learning_rate):
        before, totals = start_all(list(batch_parts), step)
        for i, part in enumerate(batch_parts):
            add_all(part, tf.constant(i), totals, step)
        return of_first_replica(finish_all(before, learning_rate))

    return in_parts


def check_jit_compile(recipe: Recipe, strategy: tf.distribute.Strategy) -> None:
    """Checks that XLA can compile the step of a recipe, if it asks for that (TensorFlow 2.21).

    Raises:
      ValueError: it cannot; the message says why.
    """
    replicas = strategy.num_replicas_in_sync
    reasons = [
        (replicas > 1, f"on {replicas} replicas: XLA cannot read a variable of another device"),
        (recipe.train.remat, "with train.remat, which XLA undoes"),
        (recipe.loss.changes_size, "with a loss that changes its size: each step would compile"),
    ]
    for applies, reason in reasons:
        if recipe.train.jit_compile and applies:
            raise ValueError(f"train.jit_compile must be false {reason}; got true.")


def _gradients(
    model,
    forward,
    state,
    output_losses,
    batch,
    *,
    seed,
    step,
    part=0,
    loss_normalization="global",
    divisors=None,
):
    """This replica's gradients, times the factor of float16, and the value of each loss.

    Without `divisors`, the numbers of terms that the losses are divided by are the batch's own.
    """
    forward = forward or functools.partial(model, training=True)
    scale = state.loss_scale.value() if state.loss_scale is not None else None
    with tf.GradientTape() as tape:
        first = _position_of_first_example(batch, part)
        with masks_follow(seed=seed, step=step, first_example=first):
            outputs = forward(batch["image"])
        values = {}
        for name, (loss_fn, weight) in output_losses.items():
            total, count = loss_fn(batch["label"], outputs[name])
            if divisors is None:
                count = _over_replicas(count, loss_normalization)
            else:
                count = divisors[name]
            values[name] = weight * tf.math.divide_no_nan(total, count)
        loss = tf.add_n(list(values.values()))
        if scale is not None:
            loss *= scale
    return tape.gradient(loss, [variable.value for variable in model.trainable_variables]), values


def _position_of_first_example(batch, part):
    """The position of this replica's first example in the global batch; its others follow it."""
    context = tf.distribute.get_replica_context()
    place = part * context.num_replicas_in_sync + context.replica_id_in_sync_group
    return place * tf.shape(batch["image"])[0]


def _over_replicas(counts, loss_normalization):
    """What losses are divided by: their number of terms in the global batch."""
    context = tf.distribute.get_replica_context()
    if loss_normalization == "global":
        return context.all_reduce("SUM", counts)
    return tf.nest.map_structure(lambda count: count * context.num_replicas_in_sync, counts)


def _numbers_of_terms(model, output_losses, batch, dtype):
    """Output name -> number of terms of its loss, which follows from the labels.

    With hard example mining it is the number of pixels that are kept.
    """
    shapes = model.compute_output_shape(batch["image"].shape)
    return {
        name: loss_fn(batch["label"], tf.zeros(shapes[name], dtype))[1]
        for name, (loss_fn, _) in output_losses.items()
    }


def _update(model, optimizer, state, gradients, values, before, learning_rate):
    """Sums over the replicas and updates the weights, or skips the step."""
    context = tf.distribute.get_replica_context()
    gradients, values, loss = context.all_reduce(
        "SUM", (gradients, values, tf.add_n(list(values.values())))
    )
    if state.loss_scale is not None:
        scale = state.loss_scale.value()
        gradients = [gradient / scale for gradient in gradients]
    gradients, norm = optimizer.prepared(gradients)
    finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)

    def apply():
        optimizer.apply(gradients, learning_rate)
        if state.average is not None:
            state.average.update()
        return finite

    def skip():
        for weight, value in zip(model.non_trainable_weights, before, strict=True):
            weight.value.assign(value)
        return finite

    state.follow(tf.cond(finite, apply, skip))
    result = {
        "loss": loss,
        "gradient_norm": norm,
        "skipped_steps": tf.convert_to_tensor(state.skipped_steps),
        "skipped_in_a_row": tf.convert_to_tensor(state.skipped_in_a_row),
    }
    if len(values) > 1:
        result.update({f"loss_{name}": value for name, value in values.items()})
    return result


def _moving_statistics(model):
    """The moving statistics as they are, to be restored if the step is skipped."""
    return [tf.identity(weight.value) for weight in model.non_trainable_weights]
