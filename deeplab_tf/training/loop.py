"""The training loop of both architectures."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.evaluation.evaluate import evaluate
from deeplab_tf.evaluation.metrics import METRICS, check_options
from deeplab_tf.layers.names import LOGITS
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.parts import Predictor, Recipe
from deeplab_tf.training.checkpoints import Checkpointer, has_checkpoints
from deeplab_tf.training.initial_weights import outside_strategy, start_from
from deeplab_tf.training.progress import Progress
from deeplab_tf.training.run_log import RunLog
from deeplab_tf.training.step import train_step
from deeplab_tf.training.strategy import check_batch_size, make_strategy
from deeplab_tf.training.workdir import check_recipe, save_recipe, save_spec

_PICTURES = 3  # ours: validation examples drawn at each evaluation


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

    Args:
      recipe: what to train.
      workdir: where results go; see checkpoints.py, workdir.py and run_log.py.
      data_dir: where prepared datasets are; None: TFDS' default place.
      init_model: start from its weights, wherever name and shape agree; the whole backbone must.
      strategy: None: `make_strategy(recipe.train.devices)`.
      check_data: read every example before step 0 and refuse a dataset with faults.
      print_fn: prints each line of the report.

    Returns:
      The trained network, built outside the strategy, with the last weights.

    Raises:
      ValueError: the recipe, the dataset, the workdir or a checkpoint does not fit; the message
        says which and what to do.
      OSError: something could not be written. The last checkpoint is intact.
      FloatingPointError: the loss became infinite or NaN. The last checkpoint is intact.
    """
    config = recipe.train
    strategy = strategy or make_strategy(config.devices)
    check_batch_size(config.batch_size, strategy)

    # Dataset
    check_recipe(workdir, recipe)
    dataset = recipe.dataset.open(data_dir)
    spec, source = dataset.spec, dataset.source(config.split)
    scored = recipe.eval.split in dataset.sources
    if not scored and recipe.eval.split != "val":  # a dataset may have no 'val'
        dataset.source(recipe.eval.split)  # raises, with the splits that it has
    total_steps = config.total_steps(len(source))
    pipeline.check_one_size(recipe.augment)
    recipe.loss.check(spec.num_classes)
    recipe.schedule.check(total_steps)
    check_options(recipe.eval, spec.num_classes)

    # Model and optimizer
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = recipe.model.build(spec.num_classes, auxiliary=True)
        optimizer = recipe.optimizer.build(model)
    if check_data and not has_checkpoints(workdir):  # which takes long, so all else comes first
        _check_data(recipe, dataset, print_fn)

    # Initial weights or resume: 1. a checkpoint in the workdir  2. init_model  3. random weights
    save_recipe(workdir, recipe)
    save_spec(workdir, spec)
    checkpointer = Checkpointer(workdir, model, optimizer, config.max_to_keep)
    start_step = checkpointer.restore()
    batch_options = {
        "batch_size": config.batch_size,
        "ignore_label": spec.ignore_label,
        "num_classes": spec.num_classes,
        "seed": config.seed,
        "on_bad_example": config.on_bad_example,
    }
    if start_step:
        print_fn(f"resuming at step {start_step} of {total_steps}")
    elif init_model is not None:
        first = next(iter(pipeline.train_batches(source, recipe.augment, **batch_options)))
        start_from(init_model, model, first["image"].numpy(), print_fn)
    if start_step >= total_steps:
        print_fn(f"{workdir} is complete: it is trained to step {start_step}")
        return outside_strategy(recipe.model, spec, model)

    # Compiled step
    learning_rate_at = functools.partial(
        recipe.schedule,
        total_steps=total_steps,
        steps_per_epoch=len(source) / config.batch_size,
    )

    @tf.function
    def distributed_step(batch, step, learning_rate):
        pixel_loss = functools.partial(recipe.loss, ignore_label=spec.ignore_label, step=step)
        results = strategy.run(
            train_step,
            args=(model, optimizer, recipe.model.losses(pixel_loss), batch),
            kwargs={
                "learning_rate": learning_rate,
                "loss_normalization": config.loss_normalization,
            },
        )
        return tf.nest.map_structure(lambda r: strategy.experimental_local_results(r)[0], results)

    # Loop: step, log every n, stop on a non-finite loss, evaluate every k, save every m
    skipped: set[int] = set()
    batches = pipeline.distributed_batches(
        strategy, source, recipe.augment, **batch_options, start_step=start_step, skipped=skipped
    )
    predictor = recipe.predict.predictor(keras.Model(model.input, model.output[LOGITS]))
    log = RunLog(workdir, resume_step=start_step)
    progress = Progress("training", total_steps, start=start_step)
    print_fn(
        f"training {recipe.model.kind} on {len(source)} examples of {spec.name}: {total_steps}"
        f" steps of batch {config.batch_size} on {strategy.num_replicas_in_sync} replica(s)"
    )
    if not scored:
        print_fn(f"nothing is scored: {spec.name} has no {recipe.eval.split!r} split")
    print_fn("compiling the first step")
    reported_skipped = 0
    unchecked: tuple[int, dict[str, tf.Tensor]] | None = None
    for step in range(start_step + 1, total_steps + 1):
        learning_rate = learning_rate_at(step - 1)
        results = distributed_step(
            next(batches), tf.constant(step - 1), tf.constant(learning_rate, tf.float32)
        )
        # One step late, so that an accelerator never waits for this check.
        if unchecked is not None:
            _check_finite(*unchecked, checkpointer)
        unchecked = (step, results)
        last = step == total_steps
        if step % config.log_every == 0 or last:
            values = {name: float(value) for name, value in results.items()}
            log.scalars(step, {**values, "learning_rate": learning_rate})
            progress.update(step, {"loss": values["loss"], "rate": learning_rate})
        evaluating = step % config.eval_every == 0 or last
        saving = step % config.save_every == 0 or last
        if evaluating or saving:
            _check_finite(*unchecked, checkpointer)
        if evaluating and scored:
            progress.close()
            scores = _evaluate(recipe, dataset, predictor, step, log)
            best = checkpointer.save_best(step, scores["mean_iou"])
            listed = ", ".join(f"{METRICS[n].title} {100 * v:.2f} %" for n, v in scores.items())
            print_fn(
                f"step {step}: {recipe.eval.split} {listed}" + (", the best so far" if best else "")
            )
        if saving:  # after the evaluation, so that a run that resumes here has its rows
            checkpointer.save(step)
            log.curve()
            if len(skipped) > reported_skipped or (skipped and last):
                reported_skipped = len(skipped)
                print_fn(pipeline.skipped_text(source, skipped))
    log.close()
    return outside_strategy(recipe.model, spec, model)


def _check_data(recipe: Recipe, dataset: OpenDataset, print_fn: Callable[[str], None]) -> None:
    examples = sum(map(len, dataset.sources.values()))
    print_fn(f"checking {examples} examples of {dataset.spec.name}")
    report = check_dataset(dataset)
    # With 'skip', faults in the training split are reported and do not stop the run.
    skip = recipe.train.on_bad_example == "skip"
    report.raise_if_bad(forgiven=recipe.train.split if skip else None)
    print_fn(report.text())


def _check_finite(step: int, results: Mapping[str, tf.Tensor], checkpointer: Checkpointer) -> None:
    values = {name: float(value) for name, value in results.items()}
    if all(map(math.isfinite, values.values())):
        return
    saved = checkpointer.last_step()
    intact = f"checkpoint ckpt-{saved} is intact in" if saved else "no checkpoint was saved yet in"
    raise FloatingPointError(
        f"loss or gradient is not finite at step {step} ({values}); {intact}"
        f" {checkpointer.directory}. Try a lower --schedule.base_lr."
    )


def _evaluate(
    recipe: Recipe, dataset: OpenDataset, predictor: Predictor, step: int, log: RunLog
) -> Mapping[str, float]:
    """Scores the weights of this step and draws some of their predictions."""
    spec, split = dataset.spec, recipe.eval.split
    examples = pipeline.eval_examples(dataset.source(split))
    bar = Progress(f"evaluating {split}", len(dataset.source(split)))
    scores = evaluate(
        predictor, examples, spec, recipe.eval, progress=lambda done, _: bar.update(done)
    ).scores
    log.scalars(step, {f"{split}_{name}": value for name, value in scores.items()})
    for i, example in enumerate(examples.take(_PICTURES)):
        image, label = example["image"].numpy(), example["label"].numpy()
        label_map = predictor.label_map(image).numpy()
        strip = visualization.strip(image, label, label_map, spec.palette, spec.ignore_label)
        log.picture(step, f"{split}-{i}", strip)
    return scores
