"""The user's own images and labels, read where they are."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from PIL import Image

from deeplab_tf.data.datasets.without_release import WithoutRelease
from deeplab_tf.data.decoding import decode_image, decode_label, label_from_bytes
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset, bit_palette
from deeplab_tf.recipe.files import read_class_names, read_lines
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.messages import shortened
from deeplab_tf.recipe.options import option

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
# ours: names of folders that do not tell one dataset from another
_GENERIC = ("", "image", "images", "img", "imgs", "train", "training")
_NEXT_LINE = "\n  "

_Pair = tuple[str, str]  # paths of image and label


class FolderSource:
    """Pairs of files as an ExampleSource."""

    def __init__(self, pairs: Mapping[str, _Pair]):
        """Reads nothing yet.

        Args:
          pairs: stem -> (path of the image, path of the label), one or more.
        """
        self._pairs = list(pairs.values())
        # One row (name, image, label) per pair; there may be many, so they are converted once.
        self._table = tf.constant([[stem, *pair] for stem, pair in pairs.items()])

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self._pairs)

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read."""
        name, image, label = tf.unstack(self._table[index])
        return {
            "image": decode_image(tf.io.read_file(image)),
            "label": decode_label(tf.io.read_file(label)),
            "name": name,
        }

    def name(self, index: int) -> str:
        """Both paths."""
        image, label = self._pairs[index]
        return f"{image} with {label}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder(WithoutRelease):
    """Your own images and labels, read where they are."""

    kind: ClassVar[str] = "folder"

    images_dir: str | None = option(None, "directory of JPEG or PNG images", may_change=True)
    labels_dir: str | None = option(
        None, "directory of PNG labels with the images' file stems", may_change=True
    )
    val_images_dir: str | None = option(
        None, "images of 'val', if they are in a directory of their own", may_change=True
    )
    val_labels_dir: str | None = option(
        None, "labels of 'val', if they are in a directory of their own", may_change=True
    )
    val_list: str | None = option(
        None, "text file with the 'val' examples, one file stem per line", may_change=True
    )
    # ours
    val_fraction: float = option(
        0.2,
        "share held out as 'val', unless val_images_dir or val_list is given",
        minimum=0,
        below=1,
    )
    class_names_file: str | None = option(
        None,
        "text file with one class name per line, in label order; without it the classes of a"
        " folder are 0..largest label found",
        may_change=True,
    )
    ignore_label: int = option(255, "label value of pixels without a class")

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Pairs images and labels by their paths below the two folders, without endings.

        'val' is val_images_dir with val_labels_dir; or else the stems that val_list names; or else
        a share val_fraction. The hashes of the stems choose that share, so new photos do not move
        old ones from one split to the other.

        The name of the dataset is the last folder in the path of images_dir that is not called
        images, image, imgs, img, train or training: "streets" for streets/train/images.

        Args:
          data_dir: has no effect; the files stay where they are.

        Returns:
          The dataset, with a split 'train' and, unless nothing is held out, 'val'.

        Raises:
          FileNotFoundError: a folder or list does not exist or is empty.
          ValueError: an image or label lacks its counterpart, or options do not fit.
        """
        if self.images_dir is None or self.labels_dir is None:
            raise ValueError(
                "the folder dataset needs --dataset.images_dir and --dataset.labels_dir;"
                f" got {self.images_dir} and {self.labels_dir}."
            )
        splits = self._splits(_pairs(self.images_dir, self.labels_dir))
        everything = [label for split in splits.values() for _, label in split.values()]
        if self.class_names_file is not None:
            names = read_class_names(self.class_names_file, "--dataset.class_names_file")
        else:
            names = _counted_classes(everything, self.ignore_label)
        spec = DatasetSpec(
            name=dataset_name(self.images_dir),
            class_names=names,
            ignore_label=self.ignore_label,
            palette=_palette(everything[0], len(names)),
            splits={split: len(rows) for split, rows in splits.items()},
        )
        sources = {split: FolderSource(rows) for split, rows in splits.items()}
        return OpenDataset(spec=spec, sources=sources)

    def _splits(self, pairs: Mapping[str, _Pair]) -> dict[str, Mapping[str, _Pair]]:
        if (self.val_images_dir is None) != (self.val_labels_dir is None):
            raise ValueError(
                "give both or neither of --dataset.val_images_dir and --dataset.val_labels_dir."
            )
        if self.val_images_dir is not None:
            if self.val_list is not None:
                raise ValueError("give --dataset.val_list or --dataset.val_images_dir, not both.")
            val = _pairs(self.val_images_dir, self.val_labels_dir)
            _check_apart(pairs, val)
            return {"train": pairs, "val": val}
        if self.val_list is not None:
            chosen = _listed(self.val_list, pairs)
        else:
            chosen = _hashed(self.val_fraction, pairs)
        if len(chosen) == len(pairs):
            raise ValueError(
                f"nothing is left to train on: all {len(pairs)} examples of {self.images_dir} are"
                " in 'val'. Lower --dataset.val_fraction or shorten --dataset.val_list."
            )
        if not chosen:
            return {"train": pairs}
        return {
            "train": {stem: pair for stem, pair in pairs.items() if stem not in chosen},
            "val": {stem: pair for stem, pair in pairs.items() if stem in chosen},
        }


def dataset_name(images_dir: str) -> str:
    """The last folder in the path that tells one dataset from another; see `Folder.open`."""
    names = os.path.abspath(images_dir).split(os.sep)
    return next((name for name in reversed(names) if name.lower() not in _GENERIC), "folder")


def _pairs(images_dir: str, labels_dir: str) -> dict[str, _Pair]:
    if os.path.realpath(images_dir) == os.path.realpath(labels_dir):
        raise ValueError(f"images and labels must be in different folders; both are {images_dir}.")
    images, labels = find_files(images_dir, IMAGE_ENDINGS), find_files(labels_dir, (".png",))
    alone = [f"no label for {images[s]}" for s in sorted(images.keys() - labels.keys())]
    alone += [f"no image for {labels[s]}" for s in sorted(labels.keys() - images.keys())]
    if alone:
        raise ValueError(
            f"each image ({', '.join(IMAGE_ENDINGS)}) in {images_dir} must have a label in"
            f" {labels_dir} with the same name and the ending .png, and each label an image:"
            f"\n  {shortened(alone, separator=_NEXT_LINE)}"
        )
    return {stem: (images[stem], labels[stem]) for stem in sorted(images)}


def find_files(directory: str, endings: tuple[str, ...]) -> dict[str, str]:
    """Finds the files in a directory and in the folders below it; hidden ones are left out.

    Args:
      directory: to search.
      endings: of the files, in lower case.

    Returns:
      Path below the directory, without its ending -> whole path.

    Raises:
      FileNotFoundError: there is no such directory, or no such file in it.
      ValueError: two files differ in the ending alone, a name is not UTF-8, or a link leads to a
        folder that contains it.
    """
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"there is no directory {directory}.")
    found: dict[str, str] = {}
    for folder, subfolders, names in os.walk(directory, onerror=_raise, followlinks=True):
        # Notebooks and viewers keep copies of pictures in hidden folders.
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            _check_no_loop(os.path.join(folder, name))
        for name in sorted(names):
            path = os.path.join(folder, name)
            stem, ending = os.path.splitext(os.path.relpath(path, directory))
            if ending.lower() not in endings or name.startswith("."):
                continue
            if not _is_unicode(path):
                raise ValueError(f"the name of {path!r} is not UTF-8; rename the file.")
            if stem in found:
                raise ValueError(
                    f"{found[stem]} and {path} differ only in the ending; remove one of them."
                )
            found[stem] = path
    if not found:
        raise FileNotFoundError(f"{directory} has no file that ends in {', '.join(endings)}.")
    return found


def _raise(error: OSError) -> None:
    raise error


def _check_no_loop(folder: str) -> None:
    inside = os.path.realpath(os.path.dirname(folder))
    if os.path.islink(folder) and f"{inside}/".startswith(f"{os.path.realpath(folder)}/"):
        raise ValueError(f"{folder} is a link to a folder that contains it; remove the link.")


def _is_unicode(path: str) -> bool:
    # Bytes that cannot be decoded are lone surrogates in the string.
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _check_apart(train: Mapping[str, _Pair], val: Mapping[str, _Pair]) -> None:
    paths = {os.path.realpath(image) for image, _ in train.values()}
    shared = [image for image, _ in val.values() if os.path.realpath(image) in paths]
    if shared:
        raise ValueError(
            "--dataset.val_images_dir must have no image that is also in --dataset.images_dir; got"
            f" {shortened(shared)}."
        )


def _listed(path: str, pairs: Mapping[str, _Pair]) -> set[str]:
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}; --dataset.val_list must name one.")
    lines = read_lines(path)
    if not lines:
        raise ValueError(f"{path} must name one or more examples; it is empty.")
    stems = {line if line in pairs else os.path.splitext(line)[0] for line in lines}
    unknown = sorted(stems - pairs.keys())
    if unknown:
        raise ValueError(f"{path} names examples that do not exist: {shortened(unknown)}.")
    return stems


def _hashed(fraction: float, pairs: Mapping[str, _Pair]) -> set[str]:
    if fraction == 0 or len(pairs) < 2:
        return set()

    def share(stem: str) -> float:
        return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8]) / 2**64

    # Of a few photos the hashes may choose none or all; both splits need one.
    least, *others, _ = sorted(pairs, key=share)
    return {least, *(stem for stem in others if share(stem) < fraction)}


def _counted_classes(labels: Iterable[str], ignore_label: int) -> tuple[str, ...]:
    """Names for the classes 0..largest label value in the files."""
    found, unreadable = [], []
    for path in labels:
        try:
            found.append((_largest_class(path, ignore_label), path))
        except ValueError as error:
            unreadable.append(f"{path}: {error}")
    if unreadable:
        raise ValueError(
            "the classes cannot be counted, because labels cannot be read:"
            f"\n  {shortened(sorted(unreadable), separator=_NEXT_LINE)}"
        )
    largest, path = max(found)
    if largest > 255:
        raise ValueError(
            f"{path} has the label value {largest}; without --dataset.class_names_file, values"
            " must be 0..255."
        )
    if largest < 1:
        raise ValueError(
            "the labels must show at least two classes; all of their pixels are 0 or"
            f" {ignore_label}. If this is right, name the classes in --dataset.class_names_file."
        )
    return tuple(f"class_{i}" for i in range(largest + 1))


def _largest_class(path: str, ignore_label: int) -> int:
    with open(path, "rb") as file:
        label = label_from_bytes(file.read())
    return int(np.max(label, where=label != ignore_label, initial=0))


def _palette(label: str, num_classes: int) -> tuple[Color, ...]:
    """The labels' own colors, if they have a palette with a different color for each class."""
    try:
        with Image.open(label) as picture:
            channels = picture.getpalette() if picture.mode == "P" else None
    except (OSError, SyntaxError):  # the check reports it with all other faults
        channels = None
    colors = list(zip(*[iter(channels or ())] * 3, strict=True))[:num_classes]
    if len(set(colors)) == num_classes:
        return tuple(colors)
    return bit_palette(num_classes)
