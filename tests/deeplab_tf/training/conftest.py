"""A few photos, and recipes that train on them in seconds."""

import dataclasses
from typing import ClassVar

import keras
import pytest
from PIL import Image

from deeplab_tf.data.augment import RandomCrop, RandomFlip, RandomScale
from deeplab_tf.data.datasets import Folder, shapes
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.options import Options
from deeplab_tf.recipe.parts import Recipe, Train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly

_MODEL = DeepLabV3PlusConfig(
    backbone="mobilenet_v2_tiny",
    atrous_rates=(1, 2),
    aspp_channels=8,
    low_level_channels=4,
    decoder_convs=((3, 8), (3, 8)),
    batch_norm_momentum=0.9,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pointwise(Options):
    """A network of one layer that trains on logits of a quarter of the image's size."""

    kind: ClassVar[str] = "pointwise"
    batch_norm: ClassVar[str] = "frozen"  # it has none

    def build(self, num_classes, input_shape=(None, None, 3), *, auxiliary=False):
        image = keras.Input(input_shape)
        layer = keras.layers.Conv2D(num_classes, 1, strides=4, dtype="float32", name="logits")
        logits = layer(image / 255)
        return keras.Model(image, {"logits": logits} if auxiliary else logits)

    def losses(self, pixel_loss):
        return {"logits": (pixel_loss, 1.0)}


@pytest.fixture(scope="session")
def model_config():
    """A small DeepLabv3+."""
    return _MODEL


@pytest.fixture(scope="session")
def pointwise():
    """A network of one layer."""
    return _Pointwise()


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Eight photos and labels, two of them for validation."""
    directory = tmp_path_factory.mktemp("photos")
    for split, number in (("train", 6), ("val", 2)):
        for index in range(number):
            image, label = shapes.draw(split, index)
            for kind, picture in (("images", image), ("labels", label)):
                path = directory / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture[:64, :80]).save(path)
    (directory / "classes.txt").write_text("\n".join(shapes.CLASS_NAMES))
    return directory


def _recipe_of(photos, *, steps=4, base_lr=0.05, train=None, **parts) -> Recipe:
    """A recipe for a directory of photos.

    Args:
      photos: the directory.
      steps: length of training.
      base_lr: of the schedule.
      train: further options of `Train`.
      **parts: of the recipe, in place of those here.
    """
    often = {"batch_size": 4, "log_every": 1, "save_every": 2, "eval_every": 2}
    recipe = Recipe(
        model=_MODEL,
        dataset=Folder(
            images_dir=str(photos / "train" / "images"),
            labels_dir=str(photos / "train" / "labels"),
            val_images_dir=str(photos / "val" / "images"),
            val_labels_dir=str(photos / "val" / "labels"),
            class_names_file=str(photos / "classes.txt"),
        ),
        augment=(RandomScale(low=0.5, high=2.0), RandomCrop(size=33), RandomFlip()),
        optimizer=SGD(),
        schedule=Poly(base_lr=base_lr),
        loss=CrossEntropy(),
        train=Train(steps=steps, **{**often, **(train or {})}),
        predict=WholeImage(),
    )
    return dataclasses.replace(recipe, **parts)


@pytest.fixture(scope="session")
def recipe_of():
    """`_recipe_of`."""
    return _recipe_of
