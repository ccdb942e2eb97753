"""The kinds of the `dataset` part of a recipe."""

from __future__ import annotations

from deeplab_tf.data.datasets.drawn_classes import DrawnClasses
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.datasets.image_classes import ImageClasses
from deeplab_tf.data.datasets.release import Release
from deeplab_tf.data.datasets.shapes import Shapes
from deeplab_tf.data.datasets.tfds_catalog import TfdsCatalog
from deeplab_tf.data.datasets.tfds_classes import TfdsClasses
from deeplab_tf.recipe.options import Options

__all__ = ["DATASETS"]

DATASETS: dict[str, type[Options]] = {
    "folder": Folder,
    "shapes": Shapes,
    "release": Release,
    "tfds": TfdsCatalog,
    "image_classes": ImageClasses,
    "tfds_classes": TfdsClasses,
    "drawn_classes": DrawnClasses,
}
