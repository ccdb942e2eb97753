"""Gives batch normalizations whose statistics were folded away the statistics of real images."""

from __future__ import annotations

from collections.abc import Collection

import keras
import numpy as np


def unfold_batch_norm(
    model: keras.Model, images: np.ndarray, layer_names: Collection[str]
) -> list[str]:
    """Sets moving statistics to those that `images` have, without changing what is computed.

    Released weights for deployment have their normalization folded into the convolutions; read
    back, it has mean 0 and variance 1, which no batch has, so that training with batch statistics
    would begin by destroying the network. Here gamma and beta take up the difference: with x the
    input of a normalization, gamma * (x - 0) / sqrt(1 + epsilon) + beta stays the same function.

    Args:
      model: filled.
      images: [N, H, W, 3] RGB 0..255, as training shows them; a batch is enough.
      layer_names: normalizations that may be changed; of these the ones that have mean 0 and
        variance 1 are.

    Returns:
      Names of the layers changed.
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
    # The network computes the same after each change, so one pass serves for all of them.
    inputs = keras.Model(model.input, [layer.input for layer in folded])(images, training=False)
    for layer, x in zip(folded, inputs, strict=True):
        x = np.asarray(x)
        mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        slope = layer.gamma.numpy() / np.sqrt(1 + layer.epsilon)
        layer.gamma.assign(slope * np.sqrt(variance + layer.epsilon))
        layer.beta.assign(layer.beta.numpy() + slope * mean)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    return [layer.name for layer in folded]
