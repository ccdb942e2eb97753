"""The training loop of both models: one step function and one function around it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

from deeplab_tf.training import checkpoints
from deeplab_tf.training import losses
from deeplab_tf.training import optimizers as optimization
from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.options import LossFn, Recipe, lookup
from deeplab_tf.data import open_dataset, pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
from deeplab_tf.evaluation.evaluate import EvalResult, evaluate
from deeplab_tf.evaluation.whole_image import AnyPredictor, make_predictor
from deeplab_tf.training.run_log import Progress, RunLog
from deeplab_tf.weights import fit_weights, weights_by_name
from deeplab_tf.weights.unfold import unfold_batch_norm

_PICTURES = 3  # ours: validation examples drawn at each evaluation


@functools.cache
def make_strategy(devices: tuple[str, ...] = ()) -> tf.distribute.Strategy:
    """A MirroredStrategy over `devices`; by default over every GPU, else the CPU.

    Asked again for the same devices it is the same strategy: in one process a second one over
    them takes the first one's collective operations for its own and fails (TensorFlow 2.21).

    Raises:
      ValueError: a device is not there.
    """
    known = [device.name for device in tf.config.list_logical_devices()]
    for device in devices:
        if not any(name.endswith(device.removeprefix("/")) for name in known):
            raise ValueError(f"train.devices: no device {device!r}; there are {', '.join(known)}.")
    if not devices:
        devices = tuple(d.name for d in tf.config.list_logical_devices("GPU")) or ("CPU:0",)
    return tf.distribute.MirroredStrategy(list(devices))


def train_step(
    model: keras.Model,
    optimizer: optimization.Momentum,
    output_losses: Mapping[str, tuple[LossFn, float]],
    batch: Mapping[str, tf.Tensor],
    *,
    learning_rate: tf.Tensor,
    factors: Sequence[float],
    decayed: Sequence[keras.Variable],
    weight_decay: float,
    loss_normalization: str = "global",
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
      factors: of the rate, one for each trainable variable.
      decayed: variables under L2 weight decay.
      weight_decay: factor of their sum(w^2) / 2.
      loss_normalization: "global", or "replica": by the replica's own number of valid pixels,
        averaged over replicas (code: both references).

    Returns:
      float32 scalars, the same on all replicas: "loss" (without the L2 term), each output's
      loss as "loss_<output>" where there are several, and "gradient_norm" (L2 term included).
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    with tf.GradientTape() as tape:
        outputs = model(batch["image"], training=True)
        values = {}
        for name, (loss_fn, weight) in output_losses.items():
            total, count = loss_fn(batch["label"], outputs[name])
            if loss_normalization == "global":
                count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
            else:
                count *= replicas
            values[name] = weight * tf.math.divide_no_nan(total, count)
        loss = tf.add_n(list(values.values()))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    gradients, values, loss = context.all_reduce(
        tf.distribute.ReduceOp.SUM, (gradients, values, loss)
    )
    # The gradient of weight_decay * sum(w^2) / 2, added where it is whole: once, not per replica.
    decayed_ids = {id(variable) for variable in decayed}
    gradients = [
        g + weight_decay * v.value if id(v) in decayed_ids else g
        for g, v in zip(gradients, variables, strict=True)
    ]
    optimizer.apply(gradients, learning_rate, factors)
    result = {"loss": loss, "gradient_norm": tf.linalg.global_norm(gradients)}
    if len(values) > 1:
        result.update({f"loss_{name}": value for name, value in values.items()})
    return result


def train(
    recipe: Recipe,
    *,
    workdir: str,
    data_dir: str | None = None,
    init_model: keras.Model | None = None,
    strategy: tf.distribute.Strategy | None = None,
    check_data: bool = True,
    say: Callable[[str], None] = print,
) -> keras.Model:
    """Trains a recipe; called again with the same workdir it goes on where it was.

    Args:
      recipe: what to train.
      workdir: where results go; see checkpoints.py, and run_log.py for metrics and pictures.
      data_dir: where prepared datasets are; None: the default place.
      init_model: start from its weights, wherever name and shape agree; the whole backbone must.
      strategy: None: `make_strategy(recipe.train.devices)`.
      check_data: read every example before step 0 and refuse a dataset with faults.
      say: takes each line of the report.

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
    replicas = strategy.num_replicas_in_sync
    if recipe.data.batch_size % replicas:
        near = recipe.data.batch_size // replicas * replicas
        raise ValueError(
            f"global batch {recipe.data.batch_size} does not divide over {replicas} replicas;"
            f" use {f'{near} or ' if near else ''}{near + replicas}."
        )
    pixel_loss = lookup(losses.LOSSES, config.loss, "loss")
    kept_fraction = functools.partial(
        losses.kept_fraction,
        top_k_percent_pixels=config.top_k_percent_pixels,
        hard_example_mining_step=config.hard_example_mining_step,
    )

    # Dataset
    dataset = open_dataset(recipe.data, data_dir)
    spec, source = dataset.spec, dataset.source(recipe.data.train_split)
    total_steps = config.total_steps(len(source), recipe.data.batch_size)
    if config.class_weights and len(config.class_weights) != spec.num_classes:
        raise ValueError(
            f"train.class_weights must be a number for each of {spec.num_classes} classes of"
            f" {spec.name}; got {len(config.class_weights)}."
        )
    pixel_loss = functools.partial(
        pixel_loss, ignore_label=spec.ignore_label, class_weights=config.class_weights
    )
    if check_data and not checkpoints.has_checkpoints(workdir):
        say(f"checking {sum(map(len, dataset.sources.values()))} examples of {spec.name}")
        report = check_dataset(dataset)
        # Under 'skip' the faults of what is trained on are told and do not stop the run.
        skip = recipe.data.on_bad_example == "skip"
        report.raise_if_bad(forgiven=recipe.data.train_split if skip else None)
        say(report.text())

    # Model and optimizer
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = recipe.model.build(spec.num_classes, auxiliary=True)
        optimizer = optimization.Momentum(model.trainable_variables, config.momentum)
    factors = optimization.learning_rate_factors(model, config.lr_multipliers)

    # Initial weights or resume: 1. a checkpoint in the workdir  2. init_model  3. from scratch
    checkpoints.save_recipe(workdir, recipe)
    checkpoints.save_spec(workdir, spec)
    checkpointer = checkpoints.Checkpointer(workdir, model, optimizer, config.max_to_keep)
    start_step = checkpointer.restore()
    if start_step:
        say(f"resuming at step {start_step} of {total_steps}")
    elif init_model is not None:
        _start_from(recipe, spec, source, model, init_model, say)
    if start_step >= total_steps:
        say(f"{workdir} is trained to its end, step {start_step}")
        return _outside_strategy(recipe, spec.num_classes, model)

    # Compiled step
    decayed = optimization.decayed_weights(model, config.weight_decay_on)
    learning_rate_at = functools.partial(
        optimization.poly_learning_rate,
        base_lr=config.base_lr,
        total_steps=total_steps,
        power=config.poly_power,
        end_lr=config.end_lr,
        decay_steps=config.decay_steps,
        slow_start_steps=config.slow_start_steps,
        slow_start_lr=config.slow_start_lr,
        burn_in=config.burn_in,
    )

    @tf.function
    def distributed_step(batch, learning_rate, kept):
        output_losses = recipe.model.losses(functools.partial(pixel_loss, kept_fraction=kept))
        results = strategy.run(
            train_step,
            args=(model, optimizer, output_losses, batch),
            kwargs={
                "learning_rate": learning_rate,
                "factors": factors,
                "decayed": decayed,
                "weight_decay": config.weight_decay,
                "loss_normalization": config.loss_normalization,
            },
        )
        return tf.nest.map_structure(lambda r: strategy.experimental_local_results(r)[0], results)

    # Loop: step, log every n, stop on a non-finite loss, evaluate every k, save every m
    skipped: set[int] = set()
    batches = pipeline.distributed_batches(
        strategy,
        source,
        recipe.data,
        ignore_label=spec.ignore_label,
        num_classes=spec.num_classes,
        seed=config.seed,
        start_step=start_step,
        skipped=skipped,
    )
    predictor = make_predictor(keras.Model(model.input, model.output["logits"]), recipe.eval)
    log = RunLog(workdir, resume_step=start_step)
    progress = Progress("training", total_steps, start=start_step)
    say(
        f"training {recipe.model.kind} on {len(source)} examples of {spec.name}:"
        f" {total_steps} steps of batch {recipe.data.batch_size} on {replicas} replica(s)"
    )
    scored = recipe.eval.split in dataset.sources
    if not scored:
        say(f"nothing is scored: {spec.name} has no {recipe.eval.split!r} split")
    told_skipped = 0
    unchecked: tuple[int, dict[str, tf.Tensor]] | None = None
    for step in range(start_step + 1, total_steps + 1):
        learning_rate, kept = learning_rate_at(step - 1), kept_fraction(step - 1)
        results = distributed_step(
            next(batches),
            tf.constant(learning_rate, tf.float32),
            None if kept is None else tf.constant(kept, tf.float32),
        )
        # One step late, so that an accelerator is never left waiting for this check.
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
            result = _evaluate(recipe, dataset, predictor, step, log)
            best = checkpointer.save_best(step, result.mean_iou)
            say(
                f"step {step}: {recipe.eval.split} mean IoU {100 * result.mean_iou:.2f} %,"
                f" pixel accuracy {100 * result.pixel_accuracy:.2f} %"
                + (", the best so far" if best else "")
            )
        if saving:  # after the evaluation: what resumes here has its rows
            checkpointer.save(step)
            log.curve()
            if len(skipped) > told_skipped or (skipped and last):
                told_skipped = len(skipped)
                say(pipeline.skipped_text(source, skipped))
    log.close()
    return _outside_strategy(recipe, spec.num_classes, model)


def _check_finite(
    step: int, results: Mapping[str, tf.Tensor], checkpointer: checkpoints.Checkpointer
) -> None:
    values = {name: float(value) for name, value in results.items()}
    if all(map(math.isfinite, values.values())):
        return
    saved = checkpointer.last_step()
    intact = f"checkpoint ckpt-{saved} is intact in" if saved else "no checkpoint was saved yet in"
    raise FloatingPointError(
        f"loss or gradient is not finite at step {step} ({values}); {intact}"
        f" {checkpointer.directory}. Try a lower train.base_lr."
    )


def _start_from(
    recipe: Recipe,
    spec: DatasetSpec,
    source: ExampleSource,
    model: keras.Model,
    init_model: keras.Model,
    say: Callable[[str], None],
) -> None:
    """Takes over the weights that fit, ready to be trained with batch statistics."""
    arrays = {name: w.numpy() for name, w in weights_by_name(init_model).items()}
    report = fit_weights(model, arrays, partial=True)
    say(report.text())
    loaded_layers = {name.split("/")[0] for name in report.loaded}
    batches = pipeline.train_batches(
        source,
        recipe.data,
        ignore_label=spec.ignore_label,
        num_classes=spec.num_classes,
        seed=recipe.train.seed,
    )
    batch = next(iter(batches))
    unfolded = unfold_batch_norm(model, batch["image"].numpy(), loaded_layers)
    if unfolded:
        say(f"gave {len(unfolded)} folded normalizations the statistics of the first batch")


def _outside_strategy(recipe: Recipe, num_classes: int, trained: keras.Model) -> keras.Model:
    model = recipe.model.build(num_classes)
    # What was there for training alone, such as an auxiliary head, stays behind.
    needed = weights_by_name(model).keys()
    arrays = {name: w.numpy() for name, w in weights_by_name(trained).items() if name in needed}
    fit_weights(model, arrays)
    return model


def _evaluate(
    recipe: Recipe, dataset: OpenDataset, predictor: AnyPredictor, step: int, log: RunLog
) -> EvalResult:
    """Scores the weights of this step and draws some of their predictions."""
    spec, split = dataset.spec, recipe.eval.split
    examples = pipeline.eval_examples(dataset.source(split))
    bar = Progress(f"evaluating {split}", len(dataset.source(split)))
    result = evaluate(predictor, examples, spec, recipe.eval, lambda done, _: bar.update(done))
    log.scalars(
        step,
        {f"{split}_mean_iou": result.mean_iou, f"{split}_pixel_accuracy": result.pixel_accuracy},
    )
    for i, example in enumerate(examples.take(_PICTURES)):
        image, label = example["image"].numpy(), example["label"].numpy()
        label_map = predictor.label_map(image).numpy()
        strip = visualization.strip(image, label, label_map, spec.palette, spec.ignore_label)
        log.picture(step, f"{split}-{i}", strip)
    return result
