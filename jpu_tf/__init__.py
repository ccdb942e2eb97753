"""FastFCN: segmentation with Joint Pyramid Upsampling in place of a dilated backbone.

The public names below load when they are first used, as in `deeplab_tf`.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

import deeplab_tf as _deeplab_tf  # noqa: F401  registers the layers of both with Keras

if _typing.TYPE_CHECKING:
    from deeplab_tf.zoo import from_checkpoint as from_checkpoint
    from jpu_tf.augment import CenterCrop as CenterCrop
    from jpu_tf.augment import RandomBlur as RandomBlur
    from jpu_tf.augment import RandomRotation as RandomRotation
    from jpu_tf.augment import RandomShortSide as RandomShortSide
    from jpu_tf.heads import ASPP as ASPP
    from jpu_tf.heads import FCN as FCN
    from jpu_tf.heads import PSP as PSP
    from jpu_tf.heads import DeepLab as DeepLab
    from jpu_tf.heads import Encoding as Encoding
    from jpu_tf.model import FastFCN as FastFCN
    from jpu_tf.model import FastFCNConfig as FastFCNConfig
    from jpu_tf.recipes import RECIPES as RECIPES
    from jpu_tf.sliding_window import SlidingWindow as SlidingWindow
    from jpu_tf.sliding_window import at_trained_sizes as at_trained_sizes
    from jpu_tf.upsamplers import FPN as FPN
    from jpu_tf.upsamplers import JPU as JPU
    from jpu_tf.upsamplers import JPUX as JPUX
    from jpu_tf.upsamplers import Bilinear as Bilinear
    from jpu_tf.upsamplers import NoUpsampling as NoUpsampling

# Public name -> its module; editors read the imports above, which a test compares with this.
_MODULES = {
    "ASPP": "jpu_tf.heads",
    "Bilinear": "jpu_tf.upsamplers",
    "CenterCrop": "jpu_tf.augment",
    "DeepLab": "jpu_tf.heads",
    "Encoding": "jpu_tf.heads",
    "FCN": "jpu_tf.heads",
    "FPN": "jpu_tf.upsamplers",
    "FastFCN": "jpu_tf.model",
    "FastFCNConfig": "jpu_tf.model",
    "JPU": "jpu_tf.upsamplers",
    "JPUX": "jpu_tf.upsamplers",
    "NoUpsampling": "jpu_tf.upsamplers",
    "PSP": "jpu_tf.heads",
    "RECIPES": "jpu_tf.recipes",
    "RandomBlur": "jpu_tf.augment",
    "RandomRotation": "jpu_tf.augment",
    "RandomShortSide": "jpu_tf.augment",
    "SlidingWindow": "jpu_tf.sliding_window",
    "at_trained_sizes": "jpu_tf.sliding_window",
    "from_checkpoint": "deeplab_tf.zoo",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> _typing.Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
