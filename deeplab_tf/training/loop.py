"""The training loop of all networks."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.layers import full_precision
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe.files import check_local
from deeplab_tf.recipe.parts import Predictor, Recipe
from deeplab_tf.training import recovery
from deeplab_tf.training.devices import strategy as strategies
from deeplab_tf.training.devices.memory import check_memory, what_would_fit
from deeplab_tf.training.report.progress import Progress
from deeplab_tf.training.report.reports import Reports
from deeplab_tf.training.report.run_log import has_scores
from deeplab_tf.training.run import (
    Run,
    batch_options,
    batches,
    build_step,
    copy_weights,
    open_dataset,
    outside_strategy,
    pixel_loss,
    predictor_to_score,
    prepare,
    start_from,
)
from deeplab_tf.training.signals import Stopped, StopRequest, raise_if_stopped, stop_requests
from deeplab_tf.training.step import check_jit_compile
from deeplab_tf.training.workdir.checkpoints import has_checkpoints
from deeplab_tf.training.workdir.contents import check_recipe, save_recipe, save_spec
from deeplab_tf.training.workdir.lock import held
from deeplab_tf.weights import weights_by_name


def train(
    recipe: Recipe,
    *,
    workdir: str,
    data_dir: str | None = None,
    init_model: keras.Model | None = None,
    strategy: tf.distribute.Strategy | None = None,
    check_data: bool = True,
    resume_from: int | None = None,
    print_fn: Callable[[str], None] = print,
) -> keras.Model:
    """Trains a recipe; called again with the same workdir, it resumes.

    Ctrl-C and SIGTERM end the run after the step that it is at, or in an evaluation, and the state
    is saved. A second signal ends it at once.

    Over several machines, each calls it with the same arguments. The first one, the chief, writes
    the workdir; all of them read it.

    Args:
      recipe: what to train.
      workdir: where results go; see workdir/ and report/run_log.py.
      data_dir: where prepared datasets are; None: TFDS' default place.
      init_model: start from its weights, wherever name and shape agree; the whole backbone must.
      strategy: None: `make_strategy(recipe.train.strategy, recipe.train.devices)`.
      check_data: read every example before step 0 and refuse a dataset with faults.
      resume_from: go back to the checkpoint of this step, or to the start with 0, and continue with
        the recipe's augmentation, loss, optimizer and schedule, which may differ from those of
        before; see `recovery.go_back`.
      print_fn: prints each line of the report.

    Returns:
      The trained network, built outside the strategy, with the last weights.

    Raises:
      ValueError: the recipe, the dataset, the workdir or a checkpoint does not fit; the message
        says which and what to do.
      OSError: something could not be written, or another machine is gone. The last checkpoint is
        intact.
      MemoryError: a step does not fit into memory; the message says what would.
      FloatingPointError: ten steps in a row had no finite gradient. The checkpoints are intact.
      KeyboardInterrupt, SystemExit: a signal stopped the run, whose state is saved.
    """
    check_local(workdir)
    config = recipe.train
    strategy = strategy or strategies.make_strategy(config.strategy, config.devices)
    strategies.check_batch_size(config.batch_size, strategy, config.accumulation_steps)
    check_jit_compile(recipe, strategy)
    chief = strategies.is_chief(strategy)
    with (
        held(workdir) if chief else contextlib.nullcontext(),
        strategies.lost_worker_as_error(strategy),
    ):
        strategies.check_agreement(strategy, as_json.to_json(recipe), "recipe")
        strategies.check_agreement(strategy, workdir, "workdir")
        check_recipe(workdir, recipe, resume_from=resume_from)
        if chief:
            print_fn(f"opening the dataset: {recipe.dataset.kind}")
        dataset = open_dataset(recipe, data_dir)
        strategies.check_agreement(strategy, dataset.spec.to_json(), "dataset")
        run = prepare(recipe, workdir, dataset, strategy, print_fn)
        check_memory(recipe, run.network, strategy, run.print_fn)
        up_to_date_predictor = predictor_to_score(run)
        if chief:
            run.checkpointer.best()  # refuses a damaged record now rather than after an evaluation
            if check_data and not has_checkpoints(workdir):  # long, so all else comes first
                _check_data(run)
            if resume_from is not None:
                recovery.go_back(workdir, resume_from, recipe, run.checkpointer)
            save_spec(workdir, run.spec)  # first: it refuses other classes
            save_recipe(workdir, recipe)
        strategies.wait_for_workers(strategy)
        step = _restore_or_initialize(run, init_model)
        to_score = _is_score_missing(run, step)
        if not to_score and (step >= run.total_steps or _is_patience_over(run, step)):
            run.print_fn(f"{workdir} is complete: it is trained to step {step}")
        else:
            stopped_by = _train_from(run, step, to_score, up_to_date_predictor)
            strategies.wait_for_workers(strategy)
            raise_if_stopped(stopped_by)
    trained = outside_strategy(recipe.model, run.spec)
    copy_weights(weights_by_name(run.network.model), trained)
    return trained


def _train_from(
    run: Run, step: int, to_score: bool, up_to_date_predictor: Callable[[], Predictor]
) -> int:
    """The loop, from `step` to the end, or until a signal stops it.

    Args:
      run: that is trained.
      step: optimizer steps already made.
      to_score: score the weights first, which the run was stopped from doing at this step.
      up_to_date_predictor: see `run.predictor_to_score`.

    Returns:
      The number of the signal; 0: none stopped it.
    """
    recipe, config = run.recipe, run.recipe.train
    make_step = build_step(
        recipe, run.network, pixel_loss(run), run.spec.ignore_label, run.strategy
    )
    learning_rate_at = functools.partial(
        recipe.schedule,
        total_steps=run.total_steps,
        steps_per_epoch=len(run.source) / config.batch_size,
    )
    skipped_examples: set[int] = set()
    reported_examples = 0
    batch_parts = _batches(run, step, skipped_examples)
    late: Mapping[str, tf.Tensor] | None = None
    with stop_requests() as stop:
        reports = _start_reports(run, step, stop)

        def score(step, good):
            """(Whether a signal asked to stop, whether there was no better score for too long)."""
            if run.chief:
                with contextlib.suppress(Stopped):
                    scores = reports.evaluation(step, up_to_date_predictor())
                    best = good and run.checkpointer.save_best(
                        step, scores[recipe.eval.best_metric]
                    )
                    reports.scores(step, scores, best)
            stopping = _is_stopping(run, stop)
            return stopping, not stopping and _is_patience_over(run, step)

        stopping, finished = score(step, good=True) if to_score else (False, False)
        finished = finished or step >= run.total_steps
        unproven = step or None  # the checkpoint of the weights that the next step begins with

        # Step, log every n, evaluate every k, save every m; stop without finite gradients
        while not finished and not stopping:
            learning_rate = learning_rate_at(step) * config.learning_rate_factor
            scalars = tf.constant(step), tf.constant(learning_rate, full_precision())
            with _out_of_memory_with_remedy(run):
                results = make_step(next(batch_parts), *scalars)
            step += 1
            finished = step == run.total_steps
            logging = step == 1 or step % config.log_every == 0 or finished
            evaluating = _is_evaluation_due(run, step)
            saving = step % config.save_every == 0 or finished
            # Workers tell each other only now and then, since they wait for each other to do it.
            telling = logging or evaluating or saving or not strategies.has_workers(run.strategy)
            stopping = telling and _is_stopping(run, stop)

            # Else those of the step before, so that an accelerator never waits for this check.
            prompt = evaluating or saving or stopping or unproven is not None
            known, late = (results if prompt else late), results
            in_a_row = 0 if known is None else int(known["skipped_in_a_row"])
            if in_a_row >= recovery.MOST_SKIPPED:
                step = _return_to_good_state(run, step)
                batch_parts = _batches(run, step, skipped_examples)
                if run.chief:
                    reports.close()
                    reports.start(step)
                late, finished, unproven = None, False, step
                continue
            if logging and run.chief:
                reports.training(step, _to_log(results, learning_rate))
            if unproven is not None and in_a_row == 0:
                _prove(run, reports, unproven, float(results["loss"]))
                unproven = None
            if evaluating and not stopping:
                stopping, patience_is_over = score(step, good=in_a_row == 0)
                if patience_is_over:
                    saving = finished = True
                    run.print_fn(f"stopping: no better score in {config.patience} evaluations")
            # Not while steps are skipped: a recovery must find weights from before them.
            if (saving or stopping) and (in_a_row == 0 or finished):
                # After the evaluation, so that a run that resumes here has its rows.
                _save(run, reports, step, finished, float(results["loss"]))
                unproven = step
                if len(skipped_examples) > reported_examples or (skipped_examples and finished):
                    reported_examples = len(skipped_examples)
                    run.print_fn(pipeline.skipped_text(run.source, skipped_examples))
        if run.chief:
            reports.close()
            if stopping:
                saved = run.checkpointer.last_step()
                run.print_fn(f"stopped at step {step}; the last checkpoint is of step {saved}")
    return stop.number if stopping else 0


def _start_reports(run: Run, step: int, stop: StopRequest) -> Reports:
    def between_images():
        stop.check()
        strategies.check_workers(run.strategy)

    reports = Reports(
        run.recipe, run.dataset, run.workdir, run.total_steps, run.print_fn, between_images
    )
    if run.chief:
        reports.start(step)
        reports.announce(run.network.model, run.strategy.num_replicas_in_sync)
    run.print_fn("compiling the first step")
    return reports


def _save(run: Run, reports: Reports, step: int, finished: bool, loss: float) -> None:
    """Saves the state after a step with this loss."""
    if run.chief:
        # There is no next step that could prove the last state.
        proven = finished and not recovery.is_diverging(loss, reports.first_loss)
        run.checkpointer.save(step, proven=proven)
        reports.curve()


def _prove(run: Run, reports: Reports, step: int, next_loss: float) -> None:
    """Notes whether the state of `step` is worth returning to, by the loss of the next step."""
    if not run.chief:
        return
    first_loss = reports.first_loss  # the chief's alone
    if not recovery.is_diverging(next_loss, first_loss):
        run.checkpointer.prove(step)
        return
    run.print_fn(
        f"warning: the run diverges: the loss after step {step} is {next_loss:.4g}, that of the"
        f" first step was {first_loss:.4g}. {recovery.way_back(run.recipe, run.checkpointer)}"
    )


@contextlib.contextmanager
def _out_of_memory_with_remedy(run: Run) -> Iterator[None]:
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(what_would_fit(run.recipe, run.network, run.strategy)) from error


def _is_stopping(run: Run, stop: StopRequest) -> bool:
    """Whether a signal asked one of the workers to stop; each worker calls it."""
    stop.number = int(strategies.largest(run.strategy, stop.number))
    return stop.number != 0


def _is_evaluation_due(run: Run, step: int) -> bool:
    """Whether the weights after this step are scored."""
    return run.scored and (step % run.recipe.train.eval_every == 0 or step == run.total_steps)


def _is_score_missing(run: Run, step: int) -> bool:
    """Whether the run was stopped between this step and the end of its evaluation."""
    missing = step > 0 and _is_evaluation_due(run, step) and not has_scores(run.workdir, step)
    # The chief's answer: another worker may read while the chief writes.
    return bool(strategies.from_chief(run.strategy, missing))


def _check_data(run: Run) -> None:
    examples = sum(map(len, run.dataset.sources.values()))
    run.print_fn(f"checking {examples} examples of {run.spec.name}")
    progress = Progress("checking", examples)
    report = check_dataset(run.dataset, progress=lambda done, _: progress.update(done))
    # With 'skip', faults in the training split are reported and do not stop the run.
    skip = run.recipe.train.on_bad_example == "skip"
    report.raise_if_bad(forgiven=run.recipe.train.split if skip else None)
    scored = run.recipe.eval.split
    if run.scored and not report.pixels[scored][:-1].any():  # 'test', whose labels are not public
        raise ValueError(
            f"eval.split must have labels; all pixels of {scored!r} are void. Choose another split."
        )
    run.print_fn(report.text())


def _restore_or_initialize(run: Run, init_model: keras.Model | None) -> int:
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


def _batches(run: Run, step: int, skipped: set[int]) -> Iterator[list[Any]]:
    """The batches from `step` on."""
    return batches(
        run.recipe,
        run.dataset,
        run.strategy,
        start_step=step,
        recoveries=run.recoveries,
        skipped=skipped,
    )


def _to_log(results: Mapping[str, tf.Tensor], learning_rate: float) -> dict[str, float]:
    values = {name: float(value) for name, value in results.items()}
    del values["skipped_in_a_row"]
    if not values["skipped_steps"]:
        del values["skipped_steps"]
    return {**values, "learning_rate": learning_rate}


def _is_patience_over(run: Run, step: int) -> bool:
    """Whether there was no better score for too long; all workers get the chief's answer."""
    config = run.recipe.train
    if config.patience is None or not run.scored:
        return False
    # The chief may be writing best.json; the others do not read it.
    steps = strategies.from_chief(
        run.strategy, step - run.checkpointer.best()[0] if run.chief else 0
    )
    return steps >= config.patience * config.eval_every


def _return_to_good_state(run: Run, step: int) -> int:
    return recovery.return_to_good_state(
        run.recipe,
        run.source,
        run.strategy,
        run.checkpointer,
        run.network.state,
        step,
        run.print_fn,
    )
