"""The user's own images and labels, read where they are."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import ClassVar

from PIL import Image

from deeplab_tf.data.datasets.without_release import WithoutRelease
from deeplab_tf.data.decoding import decode_image, decode_label
from deeplab_tf.data.labels.colors import ColorClasses, read_colors_file
from deeplab_tf.data.labels.counting import counted_classes
from deeplab_tf.data.labels.pairs import Pair, find_pairs
from deeplab_tf.data.sources import read_file
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset, distinct_palette
from deeplab_tf.recipe.files import read_class_names, read_lines
from deeplab_tf.recipe.lazy import tf
from deeplab_tf.recipe.messages import shortened
from deeplab_tf.recipe.options import option

# ours: names of folders that do not tell one dataset from another
_GENERIC = ("", "image", "images", "img", "imgs", "train", "training")
_NEXT_LINE = "\n  "


class FolderSource:
    """Pairs of files as an ExampleSource."""

    def __init__(self, pairs: Mapping[str, Pair], colors: ColorClasses | None = None):
        """Reads nothing yet.

        Args:
          pairs: stem -> (path of the image, path of the label), one or more.
          colors: the classes of the labels' colors; None: labels are class indices.
        """
        self.colors = colors
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
            "image": decode_image(read_file(image)),
            "label": decode_label(read_file(label), self.colors),
            "name": name,
        }

    def name(self, index: int) -> str:
        """Both paths."""
        image, label = self._pairs[index]
        return f"{image} with {label}"

    def paths(self, index: int) -> Pair:
        """The paths of an example's image and label."""
        return self._pairs[index]


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
    colors_file: str | None = option(
        None,
        "text file with one line 'R G B name' per color, for labels whose colors are the classes;"
        " the name void is for colors without a class",
        may_change=True,
    )
    label_suffix: str = option(
        "",
        "what the name of a label has after that of its image, such as _mask; files without it"
        " are not labels",
        may_change=True,
    )
    ignore_label: int = option(255, "label value of pixels without a class")

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Pairs images and labels by their paths below the two folders, without endings.

        'val' is val_images_dir with val_labels_dir; or else the stems that val_list names; or else
        a share val_fraction, which the hashes of the stems choose. So new photos do not move old
        ones from one split to the other, with one exception: where the hashes put all photos into
        one split, as happens with a few, the photo with the smallest hash is 'val', or the one
        with the largest hash 'train', until photos are added whose hashes put them there.

        With colors_file, a label is what a viewer shows, gray, with a palette or RGB, and each of
        its colors is a class.

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
        if self.colors_file is not None and self.class_names_file is not None:
            raise ValueError(
                "give --dataset.colors_file or --dataset.class_names_file, not both: the file of"
                " colors also names the classes."
            )
        splits = self._splits(find_pairs(self.images_dir, self.labels_dir, self.label_suffix))
        everything = [label for split in splits.values() for _, label in split.values()]
        colors, palette = None, None
        if self.colors_file is not None:
            colors = read_colors_file(self.colors_file, self.ignore_label)
            names, palette = colors.names, colors.palette
        elif self.class_names_file is not None:
            names = read_class_names(self.class_names_file, "--dataset.class_names_file")
        else:
            names = counted_classes(everything, self.ignore_label)
        spec = DatasetSpec(
            name=dataset_name(self.images_dir),
            class_names=names,
            ignore_label=self.ignore_label,
            palette=palette or _palette(everything[0], len(names)),
            splits={split: len(rows) for split, rows in splits.items()},
        )
        sources = {split: FolderSource(rows, colors) for split, rows in splits.items()}
        return OpenDataset(spec=spec, sources=sources)

    def _splits(self, pairs: Mapping[str, Pair]) -> dict[str, Mapping[str, Pair]]:
        if (self.val_images_dir is None) != (self.val_labels_dir is None):
            raise ValueError(
                "give both or neither of --dataset.val_images_dir and --dataset.val_labels_dir."
            )
        if self.val_images_dir is not None:
            if self.val_list is not None:
                raise ValueError("give --dataset.val_list or --dataset.val_images_dir, not both.")
            val = find_pairs(self.val_images_dir, self.val_labels_dir, self.label_suffix)
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


def _check_apart(train: Mapping[str, Pair], val: Mapping[str, Pair]) -> None:
    paths = {os.path.realpath(image) for image, _ in train.values()}
    shared = [image for image, _ in val.values() if os.path.realpath(image) in paths]
    if shared:
        raise ValueError(
            "--dataset.val_images_dir must have no image that is also in --dataset.images_dir; got"
            f" {shortened(shared)}."
        )


def _listed(path: str, pairs: Mapping[str, Pair]) -> set[str]:
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


def _hashed(fraction: float, pairs: Mapping[str, Pair]) -> set[str]:
    if fraction == 0 or len(pairs) < 2:
        return set()

    def share(stem: str) -> float:
        return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8]) / 2**64

    # Of a few photos the hashes may choose none or all; both splits need one.
    least, *others, _ = sorted(pairs, key=share)
    return {least, *(stem for stem in others if share(stem) < fraction)}


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
    return distinct_palette(num_classes)
