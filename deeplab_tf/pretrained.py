"""Released checkpoints as models: the file says which network it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import keras

from deeplab_tf import weights
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.weights import deeplab_tf1


def from_checkpoint(
    path: str,
    *,
    source: str = "deeplab_tf1",
    output_stride: Literal[8, 16, 32] = 16,
    multi_grid: tuple[int, int, int] | None = None,
    atrous_rates: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    input_channels: int = 3,
    say: Callable[[str], None] | None = None,
) -> keras.Model:
    """Builds and fills the network that a released file of weights belongs to.

    Backbone, ASPP, decoder and classes are recognised from the variables' names and shapes.

    Args:
      path: of the file; for a checkpoint see `weights.deeplab_tf1.read_checkpoint`.
      source: what it is, a key of `weights.WEIGHT_SOURCES`.
      output_stride: input pixels per pixel of the encoder's output; not part of the weights.
      multi_grid: likewise; None: the released code's for the backbone.
      atrous_rates: likewise, of the branches that the file has; None: tied to the output stride.
      num_classes: None: the file's. Another number makes a new classifier; a file without one,
        as of ImageNet, needs a number and gets a new head.
      input_channels: of the images. The first kernel is adapted to any number but the 3 of RGB, see
        `weights.adapt_input_channels`.
      say: takes the report of what was loaded.

    Returns:
      A keras.Model: image [N, H, W, input_channels] 0..255 -> logits [N, H, W, K] float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the source is unknown, the file unreadable or of no known network, a variable is
        missing or of another shape, or num_classes is needed.
    """
    config, released_classes, released = recognise(
        path,
        source=source,
        output_stride=output_stride,
        multi_grid=multi_grid,
        atrous_rates=atrous_rates,
    )
    input_shape = (None, None, input_channels)
    if num_classes is None and released_classes is None:
        raise ValueError(
            f"{path} holds a backbone alone; say num_classes, and its head starts anew."
        )
    if num_classes in (None, released_classes):
        model = config.build(released_classes, input_shape)
        report = weights.fit_released(model, released)
    elif released_classes is None:
        model = config.build(num_classes, input_shape)
        report = weights.fit_released(model, released, partial=True)
    else:
        # Filled whole first, so that a file with anything but its classifier amiss is refused.
        whole = config.build(released_classes, input_shape)
        weights.fit_released(whole, released)
        model = config.build(num_classes, input_shape)
        arrays = {name: weight.numpy() for name, weight in weights.weights_by_name(whole).items()}
        report = weights.fit_weights(model, arrays, partial=True)
    if say is not None:
        say(report.text())
    return model


def recognise(
    path: str,
    *,
    source: str = "deeplab_tf1",
    output_stride: Literal[8, 16, 32] = 16,
    multi_grid: tuple[int, int, int] | None = None,
    atrous_rates: tuple[int, ...] | None = None,
) -> tuple[DeepLabV3Plus, int | None, dict]:
    """What `from_checkpoint` would build; arguments and errors as there.

    Returns:
      (the network's options, its number of classes or None, its arrays by released name).
    """
    released = weights.read_weights(path, source)
    arguments, num_classes = deeplab_tf1.recognise(released, atrous_rates=atrous_rates)
    config = DeepLabV3Plus(output_stride=output_stride, multi_grid=multi_grid, **arguments)
    return config, num_classes, released
