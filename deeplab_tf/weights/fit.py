"""Loads named arrays into a model and accounts for every one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from deeplab_tf.recipe.lazy import keras
from deeplab_tf.recipe.messages import shortened

_MOST_NAMES = 12  # ours: names that a message lists; of more it has the number


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What was loaded and what was not, as 'layer/weight' names.

    Attributes:
      loaded: weights of the model that have the array's values.
      missing: weights of the model without an array, which stay as initialized.
      misfit: weights of the model whose array has another shape, which stay as initialized.
      unused: arrays that no weight of the model is for.
      adapted: weights loaded from an array for another number of input channels.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    misfit: tuple[str, ...]
    unused: tuple[str, ...]
    adapted: tuple[str, ...] = ()

    def text(self) -> str:
        """The report in a few lines."""
        lines = [f"loaded {len(self.loaded)} weights"]
        for what, names in (
            ("adapted to the images' number of channels", self.adapted),
            ("randomly initialized, not in the source", self.missing),
            ("randomly initialized, of another shape in the source", self.misfit),
            ("in the source, but not in the network", self.unused),
        ):
            if names:
                lines.append(f"{what} ({len(names)}): {shortened(names, most=_MOST_NAMES)}")
        return "\n".join(lines)


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """'layer/weight' -> variable, for every weight of the model. Random states are not weights."""
    return {
        f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights
    }


def fit_weights(
    model: keras.Model, arrays: Mapping[str, np.ndarray], *, partial: bool = False
) -> FitReport:
    """Assigns each array to the weight of its name. If one does not fit, nothing is assigned.

    `adapt_input_channels` adapts the first kernel for RGB to a model whose images have another
    number of channels.

    Args:
      model: to fill.
      arrays: 'layer/weight' -> array.
      partial: load what fits, as long as the whole backbone does. For fine-tuning, where the
        classifier has other classes and the heads may differ.

    Returns:
      What was loaded and what was not.

    Raises:
      ValueError: a weight of the model is missing or has another shape, an array is unused (with
        `partial`: in the backbone), or a variance is negative. The message lists them.
    """
    report = check_fit(model, arrays, partial=partial)
    arrays, _ = _with_stem_of(model, arrays)
    weights = weights_by_name(model)
    for name in report.loaded:
        weights[name].assign(arrays[name])
    return report


def check_fit(
    model: keras.Model, arrays: Mapping[str, np.ndarray], *, partial: bool = False
) -> FitReport:
    """What `fit_weights` would report or raise. The values of the model are not read."""
    # Imported here since its package imports Keras.
    from deeplab_tf.layers.names import BACKBONE_PREFIX

    weights = weights_by_name(model)
    arrays, adapted = _with_stem_of(model, arrays)
    missing = tuple(sorted(weights.keys() - arrays.keys()))
    unused = tuple(sorted(arrays.keys() - weights.keys()))
    shared = sorted(weights.keys() & arrays.keys())
    misfit = tuple(n for n in shared if tuple(weights[n].shape) != arrays[n].shape)
    report = FitReport(
        loaded=tuple(name for name in shared if name not in misfit),
        missing=missing,
        misfit=misfit,
        unused=unused,
        adapted=adapted,
    )
    problems = missing + misfit + (() if partial else unused)
    if partial:
        problems = tuple(name for name in problems if name.startswith(BACKBONE_PREFIX))
    if problems:
        shapes = [f"{n} {arrays[n].shape}, model {tuple(weights[n].shape)}" for n in misfit]
        raise ValueError(
            f"weights do not fit{' the backbone' if partial else ''}:"
            f" {len(missing)} missing (- {shortened(missing, most=_MOST_NAMES)}),"
            f" {len(misfit)} of another shape ({shortened(shapes, most=_MOST_NAMES)}),"
            f" {len(unused)} unused (+ {shortened(unused, most=_MOST_NAMES)})."
        )
    negative = [
        name
        for name in report.loaded
        if name.endswith("/moving_variance") and np.min(arrays[name]) < 0
    ]
    if negative:
        raise ValueError(
            f"variances must not be negative; {shortened(negative, most=_MOST_NAMES)} are. The file"
            " is damaged."
        )
    return report


def adapt_input_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Adapts a kernel for RGB to images of another number of channels (ours).

    Each of fewer than 3 channels gets an equal share of the sum over RGB. A gray image then gives
    the result that it gave as three equal channels, if the network scales all three alike. Of more
    than 3 channels, the first three are RGB. The kernel of the others is 0, and the network
    computes at first what it computed from RGB alone.

    Args:
      kernel: [kh, kw, 3, filters].
      channels: of the images, at least 1.

    Returns:
      [kh, kw, channels, filters].
    """
    if channels < 3:
        return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    return np.pad(kernel, [(0, 0), (0, 0), (0, channels - 3), (0, 0)])


def _with_stem_of(
    model: keras.Model, arrays: Mapping[str, np.ndarray]
) -> tuple[Mapping[str, np.ndarray], tuple[str, ...]]:
    """The arrays with the first kernel adapted to the model's input, and the adapted names."""
    channels = model.input_shape[-1]
    stem = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    name = f"{stem.name}/kernel"
    if channels == 3 or name not in arrays or arrays[name].shape[2:3] != (3,):
        return arrays, ()
    return {**arrays, name: adapt_input_channels(arrays[name], channels)}, (name,)
