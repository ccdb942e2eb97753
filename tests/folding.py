"""What tests of the network for inference share."""

import keras
import numpy as np


def as_trained(model, seed=0):
    """Gives every weight a value that no initializer leaves, statistics and biases included."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        values = 0.1 * generator.standard_normal(weight.shape)
        if weight.name == "moving_variance":
            values = generator.uniform(0.5, 1.5, weight.shape)
        elif weight.name == "gamma":
            values = generator.uniform(0.5, 2.0, weight.shape)
        elif "kernel" in weight.name:
            values *= 10 / np.sqrt(np.prod(weight.shape[:-1]))
        elif weight.dtype not in ("float32", "float64"):
            continue
        weight.assign(values)
    return model


def norms(model):
    return [x.name for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]


def check_equal(model, network, size=(65, 97)):
    image = np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype(np.float32)
    expected = model(image, training=False)
    found = network(image, training=False)
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(found), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(a).max() > 1e-3
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())
        if a.ndim == 4:
            first, second = np.sort(a, axis=-1)[..., -1], np.sort(a, axis=-1)[..., -2]
            clear = first - second > 1e-4 * np.abs(a).max()
            np.testing.assert_array_equal(b.argmax(-1)[clear], a.argmax(-1)[clear])
