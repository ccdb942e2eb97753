"""Runs that diverge: which states are worth returning to, and how a run returns to one.

A state is proven by the loss of the next step that is not skipped: the loss of the step before says
nothing of that step's update. See `is_diverging` for the rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.recipe.dataset_spec import ExampleSource
from deeplab_tf.recipe.messages import shortened
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.training.devices import strategy as strategies
from deeplab_tf.training.state import RunState
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import (
    check_recipe,
    has_gone_back,
    keep_recipe_until,
    save_recipe,
)

MOST_SKIPPED = 10  # ours: steps in a row without a finite gradient
_MOST_RECOVERIES = 3  # ours
_DIVERGED = 10  # ours: the loss of a network that guesses varies by far less


def is_diverging(loss: float, first_loss: float | None) -> bool:
    """Whether the weights that a step begins with have diverged.

    The rule: its loss is not finite, or above 10 and above ten times the loss of the first step.

    Args:
      loss: of the step.
      first_loss: of the first step of the run; None: not known.
    """
    if not math.isfinite(loss):
        return True
    return first_loss is not None and loss > _DIVERGED * max(1.0, first_loss)


def way_back(recipe: Recipe, checkpointer: Checkpointer) -> str:
    """How to continue from the last good state at a lower rate, as a sentence."""
    good, lower = checkpointer.last_proven_step(), recipe.schedule.base_lr / 10
    what = f"continues from step {good}, the last good state," if good else "starts again"
    return (
        f"The same command with --resume_from={good} --schedule.base_lr={lower:g} {what} at a lower"
        " rate."
    )


def go_back(workdir: str, step: int, recipe: Recipe, checkpointer: Checkpointer) -> None:
    """Makes a workdir continue from an earlier step, with other settings for the steps to come.

    Later checkpoints and best weights are removed. The recipe of before is kept as
    recipe-until-<step>.json. If the run has continued from this step with this recipe before,
    nothing changes, so that the same command resumes it.

    Args:
      workdir: of the run.
      step: of a checkpoint, or 0 to start again.
      recipe: for the steps to come.
      checkpointer: of the run.

    Raises:
      ValueError: there is no checkpoint of this step, or the recipe does not fit it.
      OSError: the workdir cannot be written.
    """
    check_recipe(workdir, recipe, resume_from=step)
    if has_gone_back(workdir, step, recipe):
        return
    if step:
        checkpointer.check_step(step)
    keep_recipe_until(workdir, step)
    checkpointer.forget_after(step)
    checkpointer.forget_best_after(step)
    save_recipe(workdir, recipe)


def return_to_good_state(
    recipe: Recipe,
    source: ExampleSource,
    strategy: tf.distribute.Strategy,
    checkpointer: Checkpointer,
    state: RunState,
    step: int,
    print_fn: Callable[[str], None],
) -> int:
    """After too many steps without a finite gradient: restores the last good checkpoint.

    Args:
      recipe: that is trained.
      source: the examples to train on.
      strategy: the devices.
      checkpointer: of the run.
      state: of the run.
      step: the last of the steps.
      print_fn: prints a line.

    Returns:
      The step of the checkpoint.

    Raises:
      FloatingPointError: that is not asked for, or did not help.
    """
    config = recipe.train
    good = int(strategies.from_chief(strategy, checkpointer.last_proven_step()))
    recoveries = int(state.recoveries.numpy())
    if not config.recover or recoveries >= _MOST_RECOVERIES or not good:
        indices = pipeline.batch_indices(
            len(source), config.batch_size, seed=config.seed + recoveries, step=step - 1
        )
        names = shortened([source.name(int(index)) for index in indices])
        if not good:
            hint = " No good state was saved; a lower --train.save_every saves one earlier."
        elif recoveries:
            hint = f" Training had returned to a checkpoint {recoveries} times, which did not help."
        else:
            hint = (
                " With --train.recover=true the same command returns to it and takes the examples"
                " in another order."
            )
        raise FloatingPointError(
            f"the gradients of {MOST_SKIPPED} steps in a row, the last of them {step}, were not"
            f" finite. The examples of step {step}: {names}. {way_back(recipe, checkpointer)}{hint}"
            " --optimizer.clip_norm=1 may help too."
        )
    strategies.wait_for_workers(strategy)  # all know the step before the chief removes others
    if strategies.is_chief(strategy):
        checkpointer.forget_after(good)
    checkpointer.restore(good)
    state.recoveries.assign(recoveries + 1)
    print_fn(
        f"step {step}: {MOST_SKIPPED} steps in a row without a finite gradient; returning to step"
        f" {good}, with the examples in another order"
    )
    return good
