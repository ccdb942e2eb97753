"""Workdirs of networks with random weights, and scripts as a user starts them."""

import dataclasses
import os
import pathlib
import subprocess
import sys

from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Recipe, Train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.contents import save_recipe, save_spec

ROOT = pathlib.Path(__file__).parent.parent


def run(script: str, *flags: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Runs a script in a process of its own; `options` are the interpreter's."""
    command = [sys.executable, *options, str(ROOT / "scripts" / f"{script}.py"), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT
    )


def spec_of(class_names: tuple[str, ...]) -> DatasetSpec:
    """The spec of a folder with these classes."""
    return DatasetSpec(
        name="folder",
        class_names=class_names,
        ignore_label=255,
        palette=bit_palette(len(class_names)),
        splits={},
    )


def write_run(
    place: pathlib.Path, name: str, spec: DatasetSpec, *, val_fraction: float = 0.34, **changes
) -> None:
    """Writes a workdir, whose photos, labels and classes.txt are in `place`.

    Args:
      place: folder of the workdir.
      name: of the workdir.
      spec: with the classes of the network.
      val_fraction: of the photos.
      **changes: parts of the recipe that differ.
    """
    recipe = Recipe(
        model=DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", atrous_rates=(1,), aspp_channels=8),
        dataset=Folder(
            images_dir=str(place / "images"),
            labels_dir=str(place / "labels"),
            class_names_file=str(place / "classes.txt"),
            val_fraction=val_fraction,
        ),
        augment=(),
        optimizer=SGD(),
        schedule=Poly(),
        loss=CrossEntropy(),
        train=Train(steps=1),
        predict=WholeImage(),
    )
    recipe = dataclasses.replace(recipe, **changes)
    workdir = str(place / name)
    save_recipe(workdir, recipe)
    save_spec(workdir, spec)
    Checkpointer(workdir, recipe.model.build(spec.num_classes)).save(7)
