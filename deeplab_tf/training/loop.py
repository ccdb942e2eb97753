"""The training loop of all networks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.layers import full_precision
from deeplab_tf.layers.names import LOGITS
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
from deeplab_tf.recipe.messages import shortened
from deeplab_tf.recipe.parts import Loss, Predictor, Recipe
from deeplab_tf.training.devices import strategy as strategies
from deeplab_tf.training.report.reports import Reports
from deeplab_tf.training.run import (
    Network,
    batch_options,
    batches,
    build_network,
    build_step,
    copy_weights,
    outside_strategy,
    start_from,
)
from deeplab_tf.training.step import check_jit_compile
from deeplab_tf.training.workdir.checkpoints import Checkpointer, has_checkpoints
from deeplab_tf.training.workdir.class_weights import class_weights
from deeplab_tf.training.workdir.contents import check_path, check_recipe, save_recipe, save_spec
from deeplab_tf.weights import weights_by_name

_MOST_SKIPPED = 10  # ours: steps in a row without a finite gradient
_MOST_RECOVERIES = 3  # ours


def train(
    recipe: Recipe,
    *,
    workdir: str,
    data_dir: str | None = None,
    init_model: keras.Model | None = None,
    strategy: tf.distribute.Strategy | None = None,
    check_data: bool = True,
    print_fn: Callable[[str], None] = print,
) -> keras.Model:
    """Trains a recipe; called again with the same workdir, it resumes.

    Over several machines, each calls it with the same arguments. The first one, the chief, writes
    the workdir; all of them read it.

    Args:
      recipe: what to train.
      workdir: where results go; see checkpoints.py, workdir.py and report/run_log.py.
      data_dir: where prepared datasets are; None: TFDS' default place.
      init_model: start from its weights, wherever name and shape agree; the whole backbone must.
      strategy: None: `make_strategy(recipe.train.strategy, recipe.train.devices)`.
      check_data: read every example before step 0 and refuse a dataset with faults.
      print_fn: prints each line of the report.

    Returns:
      The trained network, built outside the strategy, with the last weights.

    Raises:
      ValueError: the recipe, the dataset, the workdir or a checkpoint does not fit; the message
        says which and what to do.
      OSError: something could not be written, or another machine is gone. The last checkpoint is
        intact.
      FloatingPointError: ten steps in a row had no finite gradient. The last checkpoint is intact.
    """
    check_path(workdir)
    config = recipe.train
    strategy = strategy or strategies.make_strategy(config.strategy, config.devices)
    strategies.check_batch_size(config.batch_size, strategy, config.accumulation_steps)
    check_jit_compile(recipe, strategy)
    with strategies.lost_worker_as_error(strategy):
        strategies.check_agreement(strategy, as_json.to_json(recipe), "recipe")
        strategies.check_agreement(strategy, workdir, "workdir")
        check_recipe(workdir, recipe)
        dataset = _open_dataset(recipe, data_dir)
        strategies.check_agreement(strategy, dataset.spec.to_json(), "dataset")
        run = _prepare(recipe, workdir, dataset, strategy, print_fn)
        up_to_date_predictor = _predictor_to_score(run)
        if run.chief:
            if check_data and not has_checkpoints(workdir):  # long, so all else comes first
                _check_data(run)
            save_spec(workdir, run.spec)  # first: it refuses other classes
            save_recipe(workdir, recipe)
        step = _restore_or_initialize(run, init_model)
        if step >= run.total_steps or (step and _is_patience_over(run, step)):
            run.print_fn(f"{workdir} is complete: it is trained to step {step}")
        else:
            _train_from(run, step, up_to_date_predictor)
            strategies.wait_for_workers(strategy)
    trained = outside_strategy(recipe.model, run.spec)
    copy_weights(weights_by_name(run.network.model), trained)
    return trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """What the steps of one run share."""

    recipe: Recipe
    workdir: str
    dataset: OpenDataset
    strategy: tf.distribute.Strategy
    network: Network
    checkpointer: Checkpointer
    chief: bool  # whether this process writes and prints
    print_fn: Callable[[str], None]

    @property
    def spec(self) -> DatasetSpec:
        return self.dataset.spec

    @property
    def source(self) -> ExampleSource:
        """The examples to train on."""
        return self.dataset.source(self.recipe.train.split)

    @property
    def scored(self) -> bool:
        """Whether there is a split to evaluate."""
        return self.recipe.eval.split in self.dataset.sources

    @property
    def recoveries(self) -> int:
        """How often training returned to a checkpoint."""
        return int(self.network.state.recoveries.numpy())

    @property
    def total_steps(self) -> int:
        return self.recipe.train.total_steps(len(self.source))


def _train_from(run: _Run, step: int, up_to_date_predictor: Callable[[], Predictor]) -> None:
    """The loop, from `step` to the end."""
    recipe, config = run.recipe, run.recipe.train
    make_step = build_step(
        recipe, run.network, _pixel_loss(run), run.spec.ignore_label, run.strategy
    )
    learning_rate_at = functools.partial(
        recipe.schedule,
        total_steps=run.total_steps,
        steps_per_epoch=len(run.source) / config.batch_size,
    )
    skipped_examples: set[int] = set()
    batch_parts = _batches(run, step, skipped_examples)
    reports = Reports(
        recipe,
        run.dataset,
        run.workdir,
        run.total_steps,
        run.print_fn,
        functools.partial(strategies.check_workers, run.strategy),
    )
    if run.chief:
        reports.start(step)
        reports.announce(run.strategy.num_replicas_in_sync)
    run.print_fn("compiling the first step")

    # Step, log every n, evaluate every k, save every m; stop without finite gradients
    reported_examples = 0
    late: Mapping[str, tf.Tensor] | None = None
    finished = False
    while not finished:
        learning_rate = learning_rate_at(step) * config.learning_rate_factor
        results = make_step(
            next(batch_parts), tf.constant(step), tf.constant(learning_rate, full_precision())
        )
        step += 1
        finished = step == run.total_steps
        logging = step % config.log_every == 0 or finished
        evaluating = run.scored and (step % config.eval_every == 0 or finished)
        saving = step % config.save_every == 0 or finished

        # Else those of the step before, so that an accelerator never waits for this check.
        known, late = (results if evaluating or saving else late), results
        in_a_row = 0 if known is None else int(known["skipped_in_a_row"])
        if in_a_row >= _MOST_SKIPPED:
            step = _return_to_checkpoint(run, step)
            batch_parts = _batches(run, step, skipped_examples)
            if run.chief:
                reports.close()
                reports.start(step)
            late, finished = None, False
            continue
        if logging and run.chief:
            reports.training(step, _to_log(results, learning_rate))
        if evaluating:
            if run.chief:
                scores = reports.evaluation(step, up_to_date_predictor())
                best = in_a_row == 0 and run.checkpointer.save_best(
                    step, scores[recipe.eval.best_metric]
                )
                reports.scores(step, scores, best)
            if _is_patience_over(run, step):
                saving = finished = True
                run.print_fn(f"stopping: no better score in {config.patience} evaluations")
        # Not while steps are skipped: a recovery must find weights from before them.
        if saving and run.chief and (in_a_row == 0 or finished):
            # After the evaluation, so that a run that resumes here has its rows.
            run.checkpointer.save(step)
            reports.curve()
            if len(skipped_examples) > reported_examples or (skipped_examples and finished):
                reported_examples = len(skipped_examples)
                run.print_fn(pipeline.skipped_text(run.source, skipped_examples))
    if run.chief:
        reports.close()


def _prepare(
    recipe: Recipe,
    workdir: str,
    dataset: OpenDataset,
    strategy: tf.distribute.Strategy,
    print_fn: Callable[[str], None],
) -> _Run:
    """Builds what the steps need; nothing is written yet."""
    config, chief = recipe.train, strategies.is_chief(strategy)
    network = build_network(recipe, dataset.spec.num_classes, strategy)
    return _Run(
        recipe=recipe,
        workdir=workdir,
        dataset=dataset,
        strategy=strategy,
        network=network,
        checkpointer=Checkpointer(
            workdir,
            network.model,
            network.optimizer,
            network.state,
            max_to_keep=config.max_to_keep,
            best_metric=recipe.eval.best_metric,
        ),
        chief=chief,
        print_fn=print_fn if chief else _print_nothing,
    )


def _open_dataset(recipe: Recipe, data_dir: str | None) -> OpenDataset:
    """Opens the dataset and checks that the parts of the recipe fit it."""
    dataset = recipe.dataset.open(data_dir)
    source, num_classes = dataset.source(recipe.train.split), dataset.spec.num_classes
    if recipe.eval.split not in dataset.sources and recipe.eval.split != "val":
        dataset.source(recipe.eval.split)  # raises, with the splits that it has
    pipeline.check_one_size(recipe.augment)
    recipe.loss.check(num_classes)
    recipe.schedule.check(recipe.train.total_steps(len(source)))
    recipe.predict.check(dataset.spec, recipe.eval)
    return dataset


def _check_data(run: _Run) -> None:
    examples = sum(map(len, run.dataset.sources.values()))
    run.print_fn(f"checking {examples} examples of {run.spec.name}")
    report = check_dataset(run.dataset)
    # With 'skip', faults in the training split are reported and do not stop the run.
    skip = run.recipe.train.on_bad_example == "skip"
    report.raise_if_bad(forgiven=run.recipe.train.split if skip else None)
    run.print_fn(report.text())


def _restore_or_initialize(run: _Run, init_model: keras.Model | None) -> int:
    """Restores the last checkpoint, or else copies `init_model`; returns the step."""
    step = run.checkpointer.restore()
    strategies.check_agreement(run.strategy, str(step), "last checkpoint")
    if step:
        run.print_fn(f"resuming at step {step} of {run.total_steps}")
        return step
    if init_model is not None:
        options = batch_options(run.recipe, run.spec)
        first = next(iter(pipeline.train_batches(run.source, run.recipe.augment, **options)))
        start_from(init_model, run.network.model, first["image"].numpy(), run.print_fn)
    strategies.copy_from_chief(run.strategy, run.network.model.weights)
    if run.network.state.average is not None:
        run.network.state.average.restart()
    return 0


def _batches(run: _Run, step: int, skipped: set[int]) -> Iterator[list[Any]]:
    """The batches from `step` on."""
    return batches(
        run.recipe,
        run.dataset,
        run.strategy,
        start_step=step,
        recoveries=run.recoveries,
        skipped=skipped,
    )


def _pixel_loss(run: _Run) -> Loss:
    """The loss with its class weights, which may have to be counted."""

    def find() -> tuple[float, ...]:
        found = class_weights(
            run.workdir,
            run.source,
            run.spec,
            on_bad_example=run.recipe.train.on_bad_example,
            save=run.chief,
        )
        strategies.check_agreement(run.strategy, str(found), "class weights")
        return found

    return run.recipe.loss.with_class_weights(find)


def _predictor_to_score(run: _Run) -> Callable[[], Predictor]:
    """A function that returns a predictor with the weights as they are, or their average."""
    predict, average = run.recipe.predict, run.network.state.average
    if average is None and run.recipe.train.precision == "float32":
        predictor = predict.predictor(
            keras.Model(run.network.model.input, run.network.model.output[LOGITS])
        )
        return lambda: predictor
    copy = outside_strategy(run.recipe.model, run.spec)
    predictor = predict.predictor(copy)
    weights = weights_by_name(run.network.model) if average is None else average.variables

    def up_to_date():
        copy_weights(weights, copy)
        return predictor

    return up_to_date


def _to_log(results: Mapping[str, tf.Tensor], learning_rate: float) -> dict[str, float]:
    values = {name: float(value) for name, value in results.items()}
    del values["skipped_in_a_row"]
    if not values["skipped_steps"]:
        del values["skipped_steps"]
    return {**values, "learning_rate": learning_rate}


def _is_patience_over(run: _Run, step: int) -> bool:
    """Whether there was no better score for too long; all workers get the chief's answer."""
    config = run.recipe.train
    if config.patience is None or not run.scored:
        return False
    # The chief may be writing best.json; the others do not read it.
    steps = strategies.from_chief(
        run.strategy, step - run.checkpointer.best()[0] if run.chief else 0
    )
    return steps >= config.patience * config.eval_every


def _return_to_checkpoint(run: _Run, step: int) -> int:
    """After too many steps without a finite gradient: restores the last checkpoint.

    Returns:
      Its step.

    Raises:
      FloatingPointError: that is not asked for, or did not help.
    """
    config = run.recipe.train
    saved = int(strategies.from_chief(run.strategy, run.checkpointer.last_step()))
    recoveries = run.recoveries
    if not config.recover or recoveries >= _MOST_RECOVERIES or not saved:
        indices = pipeline.batch_indices(
            len(run.source), config.batch_size, seed=config.seed + recoveries, step=step - 1
        )
        names = shortened([run.source.name(int(index)) for index in indices])
        if not saved:
            hint = "No checkpoint was saved yet; a lower --train.save_every saves one earlier."
        elif recoveries:
            hint = f"Training had returned to a checkpoint {recoveries} times, which did not help."
        else:
            hint = (
                f"Checkpoint ckpt-{saved} is intact in {run.checkpointer.directory}; the same"
                " command with --train.recover=true continues from it with the examples in another"
                " order."
            )
        raise FloatingPointError(
            f"the gradients of {_MOST_SKIPPED} steps in a row, the last of them {step}, were not"
            f" finite. The examples of step {step}: {names}. {hint} Or train again, in another"
            " workdir, with a lower --schedule.base_lr or with --optimizer.clip_norm=1."
        )
    run.checkpointer.restore(saved)
    run.network.state.recoveries.assign(recoveries + 1)
    run.print_fn(
        f"step {step}: {_MOST_SKIPPED} steps in a row without a finite gradient; returning to step"
        f" {saved}, with the examples in another order"
    )
    return saved


def _print_nothing(line: str) -> None:
    """In place of `print_fn` where the chief prints."""
