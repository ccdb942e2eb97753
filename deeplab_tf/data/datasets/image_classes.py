"""Photos in one folder per class, as ImageNet is distributed.

An example of a classification dataset is that of a segmentation dataset whose label has the image's
class at every pixel. Augmentations, batches, losses and checks then need nothing of their own.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import ClassVar

from deeplab_tf.data.datasets.folder import dataset_name
from deeplab_tf.data.datasets.without_release import WithoutRelease
from deeplab_tf.data.decoding import decode_image, label_everywhere
from deeplab_tf.data.labels.pairs import IMAGE_ENDINGS, find_files
from deeplab_tf.data.sources import read_file
from deeplab_tf.recipe.dataset_spec import DatasetSpec, OpenDataset, distinct_palette
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.messages import shortened
from deeplab_tf.recipe.options import option

# ours: of added pixels and of images without a class. It is below every class, so the class of an
# image is the largest value in its label. 255 is a class of ImageNet.
IGNORE_LABEL = -1


class ImageClassSource:
    """Files of photos with a class each, as an ExampleSource."""

    def __init__(self, files: Sequence[tuple[str, int]]):
        """Reads nothing yet.

        Args:
          files: (path, class) of each photo, one or more.
        """
        self._paths = [path for path, _ in files]
        # There may be a million, so they are converted once.
        self._path_table = tf.constant(self._paths)
        self._class_table = tf.constant([index for _, index in files])

    def __len__(self) -> int:
        """Number of photos."""
        return len(self._paths)

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read; the name is the path."""
        path = self._path_table[index]
        image = decode_image(read_file(path))
        label = label_everywhere(image, self._class_table[index])
        return {"image": image, "label": label, "name": path}

    def name(self, index: int) -> str:
        """The path."""
        return self._paths[index]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageClasses(WithoutRelease):
    """Photos for classification, one folder per class, read where they are."""

    kind: ClassVar[str] = "image_classes"

    train_dir: str | None = option(
        None, "directory with one folder of JPEG or PNG photos per class", may_change=True
    )
    val_dir: str | None = option(
        None, "the same for 'val'; none: there is no 'val'", may_change=True
    )

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Finds the photos; the classes are the names of the folders in train_dir, sorted.

        Photos may be deeper in a class's folder. 'val' need not have all classes.

        Args:
          data_dir: has no effect; the files stay where they are.

        Returns:
          The dataset, with a split 'train' and, with val_dir, 'val'.

        Raises:
          FileNotFoundError: a directory does not exist or has no photo.
          ValueError: train_dir is not given or has fewer than two classes, a folder in it has no
            photos, a photo is in no class's folder, val_dir has other classes, or both are the same
            directory.
        """
        if self.train_dir is None:
            raise ValueError("the dataset image_classes needs --dataset.train_dir; got none.")
        if self.val_dir and os.path.realpath(self.train_dir) == os.path.realpath(self.val_dir):
            raise ValueError(
                "--dataset.val_dir must have other photos than --dataset.train_dir; both are"
                f" {self.train_dir}."
            )
        train = _by_class(self.train_dir)
        names = tuple(sorted(train))
        empty = sorted(
            entry.name
            for entry in os.scandir(self.train_dir)
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in train
        )
        if empty:
            raise ValueError(
                "each folder in --dataset.train_dir must have photos of its class; none are in"
                f" {shortened(empty)}. Remove these folders."
            )
        if len(names) < 2:
            raise ValueError(
                f"--dataset.train_dir must have photos in two or more folders, one per class;"
                f" {self.train_dir} has them in {names[0]!r} alone."
            )
        splits = {"train": train}
        if self.val_dir is not None:
            splits["val"] = _by_class(self.val_dir)
            unknown = sorted(splits["val"].keys() - set(names))
            if unknown:
                raise ValueError(
                    "--dataset.val_dir must have no class that --dataset.train_dir lacks; got"
                    f" {shortened(unknown)}."
                )
        numbers = {name: i for i, name in enumerate(names)}
        sources = {
            split: ImageClassSource(
                [(path, numbers[name]) for name, paths in found.items() for path in paths]
            )
            for split, found in splits.items()
        }
        spec = DatasetSpec(
            name=dataset_name(self.train_dir),
            class_names=names,
            ignore_label=IGNORE_LABEL,
            palette=distinct_palette(len(names)),
            splits={split: len(source) for split, source in sources.items()},
        )
        return OpenDataset(spec=spec, sources=sources)


def _by_class(directory: str) -> dict[str, list[str]]:
    """Name of each folder in the directory -> sorted paths of the photos in it."""
    found: dict[str, list[str]] = {}
    loose = []
    for stem, path in sorted(find_files(directory, IMAGE_ENDINGS).items()):
        name, _, rest = stem.partition(os.sep)
        if rest:
            found.setdefault(name, []).append(path)
        else:
            loose.append(path)
    if loose:
        raise ValueError(
            f"{directory} must have its photos in folders, one per class; these are in none:"
            f" {shortened(loose)}."
        )
    return found
