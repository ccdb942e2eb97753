"""Who named the arrays in a file, and which network they belong to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deeplab_tf.recipe.messages import shortened

if TYPE_CHECKING:
    import keras
    import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recognized:
    """The network that arrays belong to.

    Attributes:
      kind: of its model config.
      known: options of the config that follow from the names and shapes.
      assumed: options that they leave open, where the default is not the config's.
      num_classes: outputs of its classifier; None: the arrays are a backbone's alone.
    """

    kind: str
    known: Mapping[str, Any]
    assumed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    num_classes: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Naming:
    """The names that one code base gives to the weights of its networks.

    Attributes:
      title: of the code base, for messages.
      examples: names that are always among them, for messages.
      recognize: (array by name, options that the user chose) -> the network; None: these are not
        its names. Raises ValueError if they are but belong to no network here, or if an option
        does not suit them.
      to_our_names: (array by name, a model) -> array by 'layer/weight' of the model, in its layout.
        What the model has no weight for keeps its name.
    """

    title: str
    examples: str
    recognize: Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], Recognized | None]
    to_our_names: Callable[[Mapping[str, np.ndarray], keras.Model], dict[str, np.ndarray]]


# How the names of weights begin -> whose they are (code: the scopes of DeepLab's feature extractors
# and of its dense prediction cell, the modules of torchvision). Networks not of these two papers.
_UNSUPPORTED = {
    r"MobilenetV3/": "MobileNetV3",
    r"MobilenetEdgeTPU/": "EdgeTPU-DeepLab (MobilenetEdgeTPU)",
    r"meta_architecture/": "DeepLab with a dense prediction cell (DPC)",
    r"(pnasnet|hnasnet)/": "a network found by architecture search (NAS)",
    r"resnet_v1_(18|34|152|200)/": "a ResNet other than ResNet-50 and ResNet-101",
    r"(module\.)?backbone\.(conv1|0)\.": "a segmentation network of torchvision",
    r"(module\.)?conv1\.weight$": "a plain ResNet of torchvision, with one 7x7 convolution as stem",
}
_MOST_NAMES = 8  # ours: listed in a message
_OF_A_TRAINING_RUN = "/.ATTRIBUTES/VARIABLE_VALUE"  # ends names in tf.train.Checkpoint's files


def find_naming(
    arrays: Mapping[str, np.ndarray],
    namings: Sequence[Naming],
    options: Mapping[str, Any] | None = None,
) -> tuple[Naming, Recognized]:
    """Finds out who named the arrays.

    Args:
      arrays: array by name.
      namings: the namings to try, in this order.
      options: of the model config, chosen by the user.

    Returns:
      (the naming, the network).

    Raises:
      ValueError: no naming has these names, or they are those of a network that is not supported.
    """
    for name in arrays:
        for pattern, network in _UNSUPPORTED.items():
            if re.match(pattern, name):
                raise ValueError(
                    f"its arrays are those of {network}, which this package does not have; one is"
                    f" {name}."
                )
        if name.endswith(_OF_A_TRAINING_RUN):
            raise ValueError(
                "its arrays are those of a training run. Open the run's workdir with"
                " deeplab_tf.load_model, or name it with --workdir or --init_weights."
            )
    for naming in namings:
        recognized = naming.recognize(arrays, options or {})
        if recognized is not None:
            return naming, recognized
    known = " or ".join(f"{naming.title} ({naming.examples})" for naming in namings)
    names = shortened(sorted(arrays), most=_MOST_NAMES)
    raise ValueError(f"its arrays must have the names of {known}; got {names}.")
