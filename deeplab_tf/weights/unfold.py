"""Gives folded batch normalizations the statistics of real images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from deeplab_tf.recipe.lazy import keras, tf


def unfold_batch_norm(
    model: keras.Model,
    images: np.ndarray,
    layer_names: Collection[str],
    print_fn: Callable[[str], None] = print,
) -> list[str]:
    """Sets moving statistics to those of `images`, without changing what the model computes.

    In weights released for deployment, normalization is folded into the convolutions. Read back, it
    has mean 0 and variance 1, which no batch has, and training with batch statistics would begin by
    destroying the network. Here gamma and beta make up for the new statistics: with x the input of
    a normalization, gamma * (x - 0) / sqrt(1 + epsilon) + beta stays the same function.

    Args:
      model: with its weights loaded.
      images: [N, H, W, 3] RGB 0..255, as training sees them; one batch is enough.
      layer_names: normalizations that may change. Those with mean 0 and variance 1 do.
      print_fn: prints how many these are, before the network sees the images.

    Returns:
      Names of the changed layers.
    """
    folded = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.name in layer_names
        and np.all(layer.moving_mean.numpy() == 0)
        and np.all(layer.moving_variance.numpy() == 1)
    ]
    if not folded:
        return []
    print_fn(f"restoring {len(folded)} folded batch normalizations from the first batch")
    # The network computes the same after each change, so one pass is enough.
    for layer, (mean, variance) in zip(folded, _moments(model, images, folded), strict=True):
        slope = layer.gamma.numpy() / np.sqrt(1 + layer.epsilon)
        layer.gamma.assign(slope * np.sqrt(variance + layer.epsilon))
        layer.beta.assign(layer.beta.numpy() + slope * mean)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return [layer.name for layer in folded]


def _moments(
    model: keras.Model, images: np.ndarray, layers: Sequence[keras.layers.Layer]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of each channel of the layers' inputs; float32 [C]."""
    inputs = keras.Model(model.input, [layer.input for layer in layers])

    # In a graph, a feature map is freed after its last use. All of them together take GBs.
    @tf.function(autograph=False)
    def moments(images):
        maps = [tf.cast(x, tf.float32) for x in inputs(images, training=False)]
        return [tf.nn.moments(x, axes=[0, 1, 2]) for x in maps]

    return [(mean.numpy(), variance.numpy()) for mean, variance in moments(images)]
