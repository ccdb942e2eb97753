"""Everything there is, by name: the kinds of every part, and the recipes of both papers.

The only module that knows both architectures. It loads without TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deeplab_tf import camvid_recipes, imagenet_recipes, small_tables
from deeplab_tf import recipes as deeplab_recipes
from deeplab_tf import tables as deeplab_tables
from deeplab_tf.classifier import ClassifierConfig
from deeplab_tf.data import augment as deeplab_augment
from deeplab_tf.data.datasets import DATASETS
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.evaluation.classify import Classify
from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.inference import inference_model
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.flags import Parts
from deeplab_tf.recipe.options import lookup
from deeplab_tf.recipe.parts import Eval, Recipe, Train
from deeplab_tf.tables import Table
from deeplab_tf.training.losses import LOSSES
from deeplab_tf.training.optimizers import OPTIMIZERS
from deeplab_tf.training.schedules import SCHEDULES
from jpu_tf import augment as jpu_augment
from jpu_tf import camvid_recipes as jpu_camvid_recipes
from jpu_tf import recipes as jpu_recipes
from jpu_tf import tables as jpu_tables
from jpu_tf.model import FastFCNConfig
from jpu_tf.sliding_window import SlidingWindow

if TYPE_CHECKING:
    import keras

    from deeplab_tf.weights import FitReport, Naming

MODELS = {
    "deeplabv3plus": DeepLabV3PlusConfig,
    "fastfcn": FastFCNConfig,
    "classifier": ClassifierConfig,
}

PREDICTS = {
    "whole_image": WholeImage,
    "resized_image": ResizedImage,
    "sliding_window": SlidingWindow,
    "classify": Classify,
}

PARTS: Parts = {
    "model": MODELS,
    "dataset": DATASETS,
    "augment": {**deeplab_augment.AUGMENTATIONS, **jpu_augment.AUGMENTATIONS},
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "train": Train,
    "predict": PREDICTS,
    "eval": Eval,
}

RECIPES: dict[str, Recipe] = {
    **deeplab_recipes.RECIPES,
    **jpu_recipes.RECIPES,
    **imagenet_recipes.RECIPES,
    **camvid_recipes.RECIPES,
    **jpu_camvid_recipes.RECIPES,
}

# Recipe -> the recipe, or the network in `RELEASED`, whose weights it starts from.
STARTS: dict[str, str] = {
    **deeplab_recipes.STARTS,
    **jpu_recipes.STARTS,
    **camvid_recipes.STARTS,
    **jpu_camvid_recipes.STARTS,
}

TABLES: dict[str, Table] = {
    **deeplab_tables.TABLES,
    **jpu_tables.TABLES,
    **small_tables.TABLES,
}


def load_recipe(workdir: str) -> Recipe:
    """Reads what a workdir trains.

    Args:
      workdir: of a training run or of convert_weights.py.

    Raises:
      FileNotFoundError: the workdir is not one of a run.
      ValueError: its recipe.json is damaged; the message names the key.
    """
    from deeplab_tf.training.workdir import contents as workdirs

    return workdirs.load_recipe(workdir, PARTS)


def load_model(
    workdir: str,
    *,
    checkpoint: Literal["best", "last", "ema"] | int = "best",
    output_stride: int | None = None,
    auxiliary: bool = False,
    for_inference: bool = False,
) -> keras.Model:
    """Builds the network of a workdir and loads its weights, whatever the architecture.

    Args:
      workdir: of a training run or of convert_weights.py.
      checkpoint: "best" (the last, if the run has not evaluated), "last", "ema" (the moving average
        of the weights in the last; the run needs train.ema_decay), or a step.
      output_stride: to run the network at; None: the recipe's.
      auxiliary: with the outputs that only training needs, in a dict.
      for_inference: fold batch normalization into the convolutions, see `inference_model`. The
        network is faster then, and cannot be trained further.

    Returns:
      A keras.Model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K] float32. Its
      `dataset_spec` has the classes and their colors, its `checkpoint_step` is when the weights
      were saved.

    Raises:
      FileNotFoundError: the workdir is not one of a run, or has no such checkpoint.
      ValueError: a checkpoint is damaged, of another model, or has weights that are not finite.
    """
    from deeplab_tf.training.workdir.checkpoints import Checkpointer
    from deeplab_tf.training.workdir.contents import load_spec

    config = load_recipe(workdir).model
    if output_stride is not None:
        config = config.at_output_stride(output_stride)
    spec = load_spec(workdir)
    model = config.build(spec.num_classes, auxiliary=auxiliary)
    model.dataset_spec = spec
    checkpointer = Checkpointer(workdir, model)
    step = checkpointer.restore_best() if checkpoint == "best" else 0
    if not step:
        chosen = None if checkpoint in ("best", "last", "ema") else int(checkpoint)
        step = checkpointer.restore(chosen, average=checkpoint == "ema")
        if not step:
            raise FileNotFoundError(f"no checkpoint in {workdir} yet; train for longer.")
    for weight in model.weights:  # such a network would give every pixel the first class
        if not np.isfinite(weight.numpy()).all():
            raise ValueError(
                f"weights must be finite; {weight.path} of step {step} in {workdir} is not: the run"
                " has diverged. Use an earlier checkpoint."
            )
    model.checkpoint_step = step
    return inference_model(model) if for_inference else model


# Outputs of a released network -> the release whose classes they are (code: both papers' files).
CLASSES_OF = {21: "voc2012", 59: "pascal_context", 150: "ade20k"}


def released_spec(name: str) -> DatasetSpec:
    """The classes of an official release, which need not be prepared.

    Raises:
      ValueError: there is no such release.
    """
    release = lookup(RELEASES, name, "dataset")
    return DatasetSpec(
        name=name,
        class_names=release.class_names,
        ignore_label=255,
        palette=release.palette,
        splits={},
    )


def from_checkpoint(
    path: str,
    *,
    num_classes: int | None = None,
    output_stride: Literal[8, 16, 32] | None = None,
    input_channels: int = 3,
    auxiliary: bool = False,
    print_fn: Callable[[str], None] | None = None,
    **options: Any,
) -> keras.Model:
    """Builds the network that a released file of weights belongs to and loads the weights.

    The format is recognized by the file's content, the network by the names and shapes in it.

    Args:
      path: DeepLab's TensorFlow 1 checkpoint (its prefix, one of its files or its directory),
        frozen graph (.pb) or .npz file; FastFCN's .pth or .pth.tar; or a .keras file.
      num_classes: None: the file's. Another number makes a new classifier. A file with a backbone
        alone, trained on ImageNet, needs a number and gets a new head.
      output_stride: input pixels per pixel of the encoder's output, which is not part of the
        weights. None: the default of the architecture.
      input_channels: of the images. The first kernel is adapted to any number but 3.
      auxiliary: return a dict of outputs, with those that only training needs.
      print_fn: prints what was recognized and what was loaded.
      **options: of the model's config, those that the weights leave open, e.g. multi_grid,
        atrous_rates, dropout; the upsampler of a FastFCN without JPU.

    Returns:
      A keras.Model: image [N, H, W, input_channels] 0..255 -> logits [N, H, W, K] float32. Its
      `dataset_spec` has the classes and their colors, or is None where they are not known.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is unreadable or of no known network, a weight is missing or of another
        shape, an option is unknown or contradicts the weights, or num_classes is needed.
    """
    from deeplab_tf.weights import pretrained

    return pretrained.from_checkpoint(
        path,
        namings=namings(),
        model_configs=MODELS,
        dataset_specs={number: released_spec(name) for number, name in CLASSES_OF.items()},
        num_classes=num_classes,
        output_stride=output_stride,
        input_channels=input_channels,
        auxiliary=auxiliary,
        print_fn=print_fn,
        **options,
    )


def load_weights(model: keras.Model, path: str, *, partial: bool = False) -> FitReport:
    """Loads a file of weights into a network that is built already.

    Args:
      model: of this package.
      path: see `from_checkpoint`.
      partial: load what fits, as long as the whole backbone does. For fine-tuning, where the
        classifier has other classes and the heads may differ.

    Returns:
      What was loaded and what was not.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is unreadable or of no known network, or the weights do not fit. Nothing
        is loaded then.
    """
    from deeplab_tf.weights import pretrained

    return pretrained.load_weights(model, path, namings=namings(), partial=partial)


def namings() -> tuple[Naming, ...]:
    """Whose names the weights in a file may have."""
    from deeplab_tf.weights.deeplab_tf1 import NAMING as DEEPLAB
    from jpu_tf.weights import NAMING as FASTFCN

    return DEEPLAB, FASTFCN
