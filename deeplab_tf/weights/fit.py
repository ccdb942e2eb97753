"""Puts named arrays into a model and accounts for every one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

_MOST_NAMES = 12  # ours: names listed in a message before it says how many more there are


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What became of the arrays and of the model's weights, as 'layer/weight' names."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]  # weights of the model without an array: left as initialized
    misfit: tuple[str, ...]  # weights whose array has another shape: left as initialized
    unused: tuple[str, ...]  # arrays without a weight
    adapted: tuple[str, ...] = ()  # loaded into another number of input channels

    def text(self) -> str:
        """A few lines for the console."""
        lines = [f"loaded {len(self.loaded)} weights"]
        for what, names in (
            ("adapted to the images' number of channels", self.adapted),
            ("newly initialized, not in the source", self.missing),
            ("newly initialized, other shape in the source", self.misfit),
            ("left over in the source", self.unused),
        ):
            if names:
                lines.append(f"{what} ({len(names)}): {_listed(names)}")
        return "\n".join(lines)


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """'layer/weight' -> variable, for every weight of the model (random states left out)."""
    return {
        f"{layer.name}/{weight.name}": weight for layer in model.layers for weight in layer.weights
    }


def fit_weights(
    model: keras.Model, arrays: Mapping[str, np.ndarray], *, partial: bool = False
) -> FitReport:
    """Assigns each array to the weight of its name. Nothing is assigned if the fit is bad.

    The first kernel of a model for images of other than 3 channels is made from the RGB one by
    `adapt_input_channels`.

    Args:
      model: to fill.
      arrays: 'layer/weight' -> array.
      partial: what fits is enough, as long as the whole backbone does: for fine-tuning, where
        the classifier has other classes and heads may differ.

    Returns:
      What was loaded and what was not.

    Raises:
      ValueError: a weight of the model is missing or has another shape, or an array is unused
        (with `partial`: only if that concerns the backbone). The message has both lists.
    """
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
        problems = tuple(name for name in problems if name.startswith("backbone_"))
    if problems:
        shapes = [f"{n} {arrays[n].shape}, model {tuple(weights[n].shape)}" for n in misfit]
        raise ValueError(
            f"weights do not fit{' the backbone' if partial else ''}:"
            f" {len(missing)} missing (- {_listed(missing)}),"
            f" {len(misfit)} of another shape ({_listed(shapes)}),"
            f" {len(unused)} unused (+ {_listed(unused)})."
        )
    for name in report.loaded:
        weights[name].assign(arrays[name])
    return report


def adapt_input_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel for RGB as one for images of another number of channels (ours).

    Fewer than 3 channels get an equal share of the sum over RGB each, so that a grey image gives
    what it gave as three equal channels (where the network scales all three alike). More than 3:
    the first three are RGB, and the kernel of the others starts at 0, so that the network starts
    as the one it was.

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
    """(the arrays with the first kernel adapted to the model's input, names of what was)."""
    channels = model.input_shape[-1]
    stem = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    name = f"{stem.name}/kernel"
    if channels == 3 or name not in arrays or arrays[name].shape[2:3] != (3,):
        return arrays, ()
    return {**arrays, name: adapt_input_channels(arrays[name], channels)}, (name,)


def _listed(names) -> str:
    shown = ", ".join(names[:_MOST_NAMES]) or "none"
    more = len(names) - _MOST_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
