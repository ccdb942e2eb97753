"""DeepLabv3+ and FastFCN's shared engine for semantic segmentation, on TensorFlow and Keras.

The public names below load when they are first used, so that `import deeplab_tf` is quick and the
parts that need no TensorFlow load without it.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing

from deeplab_tf.layers_registration import register_layers_with_keras as _register

if _typing.TYPE_CHECKING:
    from deeplab_tf.classifier import ClassifierConfig as ClassifierConfig
    from deeplab_tf.data.augment import RandomColor as RandomColor
    from deeplab_tf.data.augment import RandomCrop as RandomCrop
    from deeplab_tf.data.augment import RandomFlip as RandomFlip
    from deeplab_tf.data.augment import RandomResizedCrop as RandomResizedCrop
    from deeplab_tf.data.augment import RandomScale as RandomScale
    from deeplab_tf.data.augment import ResizeToRange as ResizeToRange
    from deeplab_tf.data.datasets import DrawnClasses as DrawnClasses
    from deeplab_tf.data.datasets import Folder as Folder
    from deeplab_tf.data.datasets import ImageClasses as ImageClasses
    from deeplab_tf.data.datasets import Release as Release
    from deeplab_tf.data.datasets import Shapes as Shapes
    from deeplab_tf.data.datasets import TfdsCatalog as TfdsCatalog
    from deeplab_tf.data.datasets import TfdsClasses as TfdsClasses
    from deeplab_tf.data.photos import read_photo as read_photo
    from deeplab_tf.evaluation.classify import Classify as Classify
    from deeplab_tf.evaluation.evaluate import evaluate as evaluate
    from deeplab_tf.evaluation.keras_api import CrossEntropyLoss as CrossEntropyLoss
    from deeplab_tf.evaluation.keras_api import MeanIoU as MeanIoU
    from deeplab_tf.evaluation.whole_image import WholeImage as WholeImage
    from deeplab_tf.evaluation.whole_image import predict_label_map as predict_label_map
    from deeplab_tf.evaluation.whole_image import predict_probabilities as predict_probabilities
    from deeplab_tf.export import write_saved_model as write_saved_model
    from deeplab_tf.inference import inference_model as inference_model
    from deeplab_tf.model import DeepLabV3Plus as DeepLabV3Plus
    from deeplab_tf.model import DeepLabV3PlusConfig as DeepLabV3PlusConfig
    from deeplab_tf.pictures.visualization import colorize as colorize
    from deeplab_tf.pictures.visualization import legend as legend
    from deeplab_tf.pictures.visualization import overlay as overlay
    from deeplab_tf.recipe.parts import Eval as Eval
    from deeplab_tf.recipe.parts import Recipe as Recipe
    from deeplab_tf.recipe.parts import Train as Train
    from deeplab_tf.released import RELEASED as RELEASED
    from deeplab_tf.training.loop import train as train
    from deeplab_tf.training.losses import CrossEntropy as CrossEntropy
    from deeplab_tf.training.losses import Focal as Focal
    from deeplab_tf.training.losses import Lovasz as Lovasz
    from deeplab_tf.training.optimizers import SGD as SGD
    from deeplab_tf.training.optimizers import AdamW as AdamW
    from deeplab_tf.training.schedules import Cosine as Cosine
    from deeplab_tf.training.schedules import Poly as Poly
    from deeplab_tf.training.schedules import Step as Step
    from deeplab_tf.zoo import RECIPES as RECIPES
    from deeplab_tf.zoo import from_checkpoint as from_checkpoint
    from deeplab_tf.zoo import load_model as load_model
    from deeplab_tf.zoo import load_recipe as load_recipe
    from deeplab_tf.zoo import load_weights as load_weights

__version__ = "0.8.0"

# Public name -> its module; editors read the imports above, which a test compares with this.
_MODULES = {
    "AdamW": "training.optimizers",
    "ClassifierConfig": "classifier",
    "Classify": "evaluation.classify",
    "Cosine": "training.schedules",
    "CrossEntropy": "training.losses",
    "CrossEntropyLoss": "evaluation.keras_api",
    "DeepLabV3Plus": "model",
    "DeepLabV3PlusConfig": "model",
    "DrawnClasses": "data.datasets",
    "Eval": "recipe.parts",
    "Focal": "training.losses",
    "Folder": "data.datasets",
    "ImageClasses": "data.datasets",
    "Lovasz": "training.losses",
    "MeanIoU": "evaluation.keras_api",
    "Poly": "training.schedules",
    "RECIPES": "zoo",
    "RELEASED": "released",
    "RandomColor": "data.augment",
    "RandomCrop": "data.augment",
    "RandomFlip": "data.augment",
    "RandomResizedCrop": "data.augment",
    "RandomScale": "data.augment",
    "Recipe": "recipe.parts",
    "Release": "data.datasets",
    "ResizeToRange": "data.augment",
    "SGD": "training.optimizers",
    "Shapes": "data.datasets",
    "Step": "training.schedules",
    "TfdsCatalog": "data.datasets",
    "TfdsClasses": "data.datasets",
    "Train": "recipe.parts",
    "WholeImage": "evaluation.whole_image",
    "colorize": "pictures.visualization",
    "evaluate": "evaluation.evaluate",
    "from_checkpoint": "zoo",
    "inference_model": "inference",
    "legend": "pictures.visualization",
    "load_model": "zoo",
    "load_recipe": "zoo",
    "load_weights": "zoo",
    "overlay": "pictures.visualization",
    "predict_label_map": "evaluation.whole_image",
    "predict_probabilities": "evaluation.whole_image",
    "read_photo": "data.photos",
    "train": "training.loop",
    "write_saved_model": "export",
}

__all__ = sorted(_MODULES)

_register(("deeplab_tf.layers", "jpu_tf.layers", "deeplab_tf.evaluation.keras_api"))


def __getattr__(name: str) -> _typing.Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
