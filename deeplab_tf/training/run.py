"""What a recipe describes, made: dataset, network, optimizer, weights, step, batches; a run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.layers import layers_compute_in
from deeplab_tf.layers.names import LOGITS
from deeplab_tf.layers.remat import rematerialized
from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
from deeplab_tf.recipe.parts import BuiltOptimizer, Loss, ModelConfig, Predictor, Recipe
from deeplab_tf.training.devices import strategy as strategies
from deeplab_tf.training.state import RunState
from deeplab_tf.training.step import compiled_step
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.class_weights import class_weights
from deeplab_tf.weights import fit_weights, weights_by_name
from deeplab_tf.weights.unfold import unfold_batch_norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What a training changes."""

    model: keras.Model
    optimizer: BuiltOptimizer
    state: RunState


def build_network(recipe: Recipe, num_classes: int, strategy: tf.distribute.Strategy) -> Network:
    """Builds the network with random weights, its optimizer and its state.

    Args:
      recipe: of the training.
      num_classes: background counted, void not.
      strategy: the devices.

    Returns:
      All three, made in the strategy's scope. The model has auxiliary outputs.
    """
    config = recipe.train
    keras.utils.set_random_seed(config.seed)
    with strategy.scope(), layers_compute_in(config.precision):
        model = recipe.model.build(num_classes, auxiliary=True)
        optimizer = recipe.optimizer.build(model)
        state = RunState(
            weights_by_name(model),
            scale_loss=config.precision == "float16",
            ema_decay=config.ema_decay,
        )
    return Network(model=model, optimizer=optimizer, state=state)


def start_from(
    init_model: keras.Model,
    model: keras.Model,
    first_images: np.ndarray,
    print_fn: Callable[[str], None],
) -> None:
    """Copies the weights that fit, ready to be trained with batch statistics.

    Args:
      init_model: to copy from; every weight of its backbone must fit.
      model: to fill.
      first_images: float32 [N, H, W, 3] of the first batch. Batch normalization that was folded
        into the convolutions takes its statistics from them.
      print_fn: prints the report.

    Raises:
      ValueError: a weight of the backbone does not fit.
    """
    arrays = {name: w.numpy() for name, w in weights_by_name(init_model).items()}
    report = fit_weights(model, arrays, partial=True)
    print_fn(report.text())
    loaded_layers = {name.split("/")[0] for name in report.loaded}
    unfold_batch_norm(model, first_images, loaded_layers, print_fn)


def outside_strategy(config: ModelConfig, spec: DatasetSpec) -> keras.Model:
    """A network that lives outside the strategy, without auxiliary outputs, in float32."""
    model = config.build(spec.num_classes)
    model.dataset_spec = spec
    return model


def copy_weights(source: Mapping[str, Any], model: keras.Model) -> None:
    """Copies weights into a network that has the same ones, or some of them.

    Args:
      source: name -> variable.
      model: to fill.
    """
    arrays = {name: source[name].numpy() for name in weights_by_name(model)}
    fit_weights(model, arrays)


def build_step(
    recipe: Recipe,
    network: Network,
    loss: Loss,
    ignore_label: int,
    strategy: tf.distribute.Strategy,
) -> Callable[..., dict[str, tf.Tensor]]:
    """The optimizer step of a recipe; see `compiled_step`.

    Args:
      recipe: of the training.
      network: from `build_network`.
      loss: of the recipe, with its class weights.
      ignore_label: label value of void.
      strategy: the devices.
    """
    config = recipe.train
    return compiled_step(
        strategy,
        network.model,
        network.optimizer,
        network.state,
        lambda step: recipe.model.losses(
            functools.partial(loss, ignore_label=ignore_label, step=step)
        ),
        seed=config.seed,
        parts=config.accumulation_steps,
        loss_normalization=config.loss_normalization,
        forward=rematerialized(network.model) if config.remat else None,
        jit_compile=config.jit_compile,
    )


def batch_options(recipe: Recipe, spec: DatasetSpec, recoveries: int = 0) -> dict[str, Any]:
    """What determines the batches of a recipe: arguments of `pipeline.train_batches`.

    Args:
      recipe: of the training.
      spec: of the dataset.
      recoveries: how often training returned to a checkpoint; each time gives another order.
    """
    config = recipe.train
    return {
        "batch_size": config.batch_size,
        "ignore_label": spec.ignore_label,
        "num_classes": spec.num_classes,
        "seed": config.seed + recoveries,
        "on_bad_example": config.on_bad_example,
    }


def batches(
    recipe: Recipe,
    dataset: OpenDataset,
    strategy: tf.distribute.Strategy,
    *,
    start_step: int = 0,
    recoveries: int = 0,
    skipped: set[int] | None = None,
) -> Iterator[list[Any]]:
    """The batches from a step on, each in parts, which are split over the replicas.

    Args:
      recipe: of the training.
      dataset: the opened `recipe.dataset`.
      strategy: the devices.
      start_step: step of the first batch.
      recoveries: see `batch_options`.
      skipped: the indices of examples that were replaced are added to it.

    Returns:
      An endless iterator over lists of {"image": float32 [b, H, W, 3], "label": int32 [b, H, W]},
      one for each part.
    """
    return pipeline.distributed_batches(
        strategy,
        dataset.source(recipe.train.split),
        recipe.augment,
        **batch_options(recipe, dataset.spec, recoveries),
        start_step=start_step,
        skipped=set() if skipped is None else skipped,
        parts=recipe.train.accumulation_steps,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What the steps of one run share.

    Attributes:
      recipe: that is trained.
      workdir: where results go.
      dataset: the opened `recipe.dataset`.
      strategy: the devices.
      network: what training changes.
      checkpointer: of the workdir.
      chief: whether this process writes and prints.
      print_fn: prints a line; nothing unless this process is the chief.
    """

    recipe: Recipe
    workdir: str
    dataset: OpenDataset
    strategy: tf.distribute.Strategy
    network: Network
    checkpointer: Checkpointer
    chief: bool
    print_fn: Callable[[str], None]

    @property
    def spec(self) -> DatasetSpec:
        """The classes."""
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
        """Length of training in optimizer steps."""
        return self.recipe.train.total_steps(len(self.source))


def prepare(
    recipe: Recipe,
    workdir: str,
    dataset: OpenDataset,
    strategy: tf.distribute.Strategy,
    print_fn: Callable[[str], None],
) -> Run:
    """Builds what the steps need; nothing is written yet."""
    config, chief = recipe.train, strategies.is_chief(strategy)
    print_fn = print_fn if chief else _print_nothing
    print_fn(f"building {recipe.model.kind}")
    network = build_network(recipe, dataset.spec.num_classes, strategy)
    return Run(
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
        print_fn=print_fn,
    )


def open_dataset(recipe: Recipe, data_dir: str | None) -> OpenDataset:
    """Opens the dataset of a recipe.

    Raises:
      ValueError: it has faults, lacks a split, or a part of the recipe does not fit it.
    """
    dataset = recipe.dataset.open(data_dir)
    source, num_classes = dataset.source(recipe.train.split), dataset.spec.num_classes
    if recipe.eval.split not in dataset.sources and recipe.eval.split != "val":
        dataset.source(recipe.eval.split)  # raises, with the splits that it has
    pipeline.check_one_size(recipe.augment)
    recipe.loss.check(num_classes)
    recipe.schedule.check(recipe.train.total_steps(len(source)))
    recipe.predict.check(dataset.spec, recipe.eval)
    return dataset


def pixel_loss(run: Run) -> Loss:
    """The loss of a run with its class weights, which may have to be counted.

    Raises:
      ValueError: workers count other weights, or class_weights.json is damaged.
    """

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


def predictor_to_score(run: Run) -> Callable[[], Predictor]:
    """A function that returns a predictor with the weights as they are, or their average.

    It predicts as evaluate.py does, at the output stride of `recipe.predict`.
    """
    recipe, trained, average = run.recipe, run.network.model, run.network.state.average
    stride = recipe.predict.output_stride
    config = recipe.model if stride is None else recipe.model.at_output_stride(stride)
    is_scored_itself = (
        average is None and recipe.train.precision == "float32" and config == recipe.model
    )
    if is_scored_itself:
        model = keras.Model(trained.input, trained.output[LOGITS])
    else:
        model = outside_strategy(config, run.spec)
    weights = weights_by_name(trained) if average is None else average.variables
    predictor = recipe.predict.predictor(model)

    def up_to_date():
        if not is_scored_itself:
            copy_weights(weights, model)
        predictor.update()
        return predictor

    return up_to_date


def _print_nothing(line: str) -> None:
    """In place of `print_fn` where the chief prints."""
