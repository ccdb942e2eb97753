"""Weights to start from, and weights to end with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import ModelConfig
from deeplab_tf.weights import fit_weights, weights_by_name
from deeplab_tf.weights.unfold import unfold_batch_norm


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
    unfolded = unfold_batch_norm(model, first_images, loaded_layers)
    if unfolded:
        print_fn(f"restored {len(unfolded)} folded batch normalizations from the first batch")


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
