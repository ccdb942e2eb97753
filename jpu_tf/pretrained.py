"""Released checkpoints as models: the file says which network it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import keras
import numpy as np

from deeplab_tf.weights import fit_weights, weights_by_name
from jpu_tf import weights
from jpu_tf.model import FastFCN


def from_checkpoint(
    path: str,
    *,
    output_stride: Literal[8, 16, 32] | None = None,
    upsampler: Literal["none", "bilinear"] | None = None,
    num_classes: int | None = None,
    auxiliary: bool = False,
    say: Callable[[str], None] | None = None,
) -> keras.Model:
    """Builds and fills the network that a released file of weights belongs to.

    Backbone, upsampler, head, classes, auxiliary head and semantic encoding are recognised from
    names and shapes. What has no weights is not: `output_stride` and `upsampler` say it.

    Args:
      path: of a .pth or .pth.tar file; see `deeplab_tf.weights.torch_file`.
      output_stride: of the backbone; None: 32 before an upsampler, 8, by dilation, without.
      upsampler: of a file without JPU; None: none.
      num_classes: None: the file's. Another number makes new classifiers; a file without any, as
        of ImageNet, needs a number and gets a FastFCN with JPU and encoding head, both new.
      auxiliary: return a dict of outputs; see `FastFCN.build`.
      say: takes the report of what was loaded.

    Returns:
      A keras.Model: image [N, H, W, 3] RGB 0..255 -> logits [N, H, W, K] float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is unreadable or of no known network, a weight is missing or of another
        shape, an argument contradicts the file, or num_classes is needed.
    """
    from deeplab_tf.weights.torch_file import read_torch_file

    return from_state_dict(
        read_torch_file(path),
        source=path,
        output_stride=output_stride,
        upsampler=upsampler,
        num_classes=num_classes,
        auxiliary=auxiliary,
        say=say,
    )


def from_state_dict(
    state_dict: Mapping[str, np.ndarray],
    *,
    source: str = "the state_dict",
    output_stride: Literal[8, 16, 32] | None = None,
    upsampler: Literal["none", "bilinear"] | None = None,
    num_classes: int | None = None,
    auxiliary: bool = False,
    say: Callable[[str], None] | None = None,
) -> keras.Model:
    """`from_checkpoint` of arrays by their released names; `source` names them in messages."""
    config, released_classes, released = recognise(
        state_dict, output_stride=output_stride, upsampler=upsampler
    )
    if num_classes is None and released_classes is None:
        raise ValueError(
            f"{source} holds a backbone alone; say num_classes, and its head starts anew."
        )
    # Filled with everything the file has, so that one with anything amiss is refused.
    model = config.build(released_classes or num_classes, auxiliary=True)
    arrays = weights.to_our_names(released, model, config.head)
    report = fit_weights(model, arrays, partial=released_classes is None)
    if num_classes not in (None, model.output["logits"].shape[-1]):
        filled = {name: weight.numpy() for name, weight in weights_by_name(model).items()}
        model = config.build(num_classes, auxiliary=True)
        report = fit_weights(model, filled, partial=True)
    if say is not None:
        say(report.text())
    return model if auxiliary else keras.Model(model.input, model.output["logits"], name=model.name)


def recognise(
    state_dict: Mapping[str, np.ndarray],
    *,
    output_stride: Literal[8, 16, 32] | None = None,
    upsampler: Literal["none", "bilinear"] | None = None,
) -> tuple[FastFCN, int | None, dict[str, np.ndarray]]:
    """What `from_checkpoint` would build; arguments and errors as there.

    Returns:
      (the network's options, its number of classes or None, the arrays it reads by their names
      on one device).
    """
    released = weights.normalize_names(state_dict)
    arguments, num_classes = weights.recognise({n: tuple(a.shape) for n, a in released.items()})
    if upsampler is not None:
        found = arguments.get("upsampler", "none")
        if upsampler not in ("none", "bilinear", found) or found not in ("none", upsampler):
            raise ValueError(
                f"upsampler {upsampler} contradicts these weights, which have {found}; leave it"
                " out, or choose none or bilinear for weights without JPU."
            )
        arguments["upsampler"] = upsampler
    return FastFCN(output_stride=output_stride, **arguments), num_classes, released
