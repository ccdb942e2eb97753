"""The user's own images and labels, read where they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from PIL import Image

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data.decoding import decode_image, decode_label, label_from_bytes
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset, bit_palette
from deeplab_tf.recipe.files import read_lines

_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")
_MOST_NAMES = 20  # ours: names listed in a message before it says how many more there are

_Pair = tuple[str, str]  # paths of image and label


class FolderSource:
    """Pairs of files as an ExampleSource."""

    def __init__(self, pairs: Mapping[str, _Pair]):
        """Reads nothing yet.

        Args:
          pairs: stem -> (path of the image, path of the label), one or more.
        """
        self._pairs = list(pairs.values())
        # A row each of names, images, labels: made once, for it may be long.
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


def open_folder(data: DataConfig, data_dir: str | None) -> OpenDataset:
    """Pairs images and labels by their paths below the two folders, without endings.

    'val' is data.val_images_dir with data.val_labels_dir; or else the stems that data.val_list
    names; or else a share data.val_fraction, chosen by the stems' hashes, so that new photos do
    not move old ones from one split to the other.

    Args:
      data: says where the files are.
      data_dir: not used; the files stay where they are.

    Returns:
      The dataset, with a split 'train' and, unless nothing is held out, 'val'.

    Raises:
      FileNotFoundError: a folder or list is not there, or has nothing in it.
      ValueError: an image or label lacks its counterpart, or something in `data` does not fit.
    """
    del data_dir
    if data.images_dir is None or data.labels_dir is None:
        raise ValueError(
            "the folder dataset needs --data.images_dir and --data.labels_dir;"
            f" got {data.images_dir} and {data.labels_dir}."
        )
    pairs = _pairs(data.images_dir, data.labels_dir)
    splits = {"train": pairs}
    if (data.val_images_dir is None) != (data.val_labels_dir is None):
        raise ValueError("give both or neither of --data.val_images_dir and --data.val_labels_dir.")
    if data.val_images_dir is not None:
        if data.val_list is not None:
            raise ValueError("give --data.val_list or --data.val_images_dir, not both.")
        splits["val"] = _pairs(data.val_images_dir, data.val_labels_dir)
        _check_apart(pairs, splits["val"])
    else:
        chosen = _listed(data.val_list, pairs) if data.val_list else _hashed(data, pairs)
        if chosen:
            splits = {
                "train": {stem: pair for stem, pair in pairs.items() if stem not in chosen},
                "val": {stem: pair for stem, pair in pairs.items() if stem in chosen},
            }
    if not splits["train"]:
        raise ValueError(
            f"nothing is left to train on: all {len(pairs)} examples of {data.images_dir} are in"
            " 'val'. Lower --data.val_fraction or shorten --data.val_list."
        )
    everything = [label for split in splits.values() for _, label in split.values()]
    names = _class_names(data, everything)
    spec = DatasetSpec(
        name=os.path.basename(os.path.normpath(data.images_dir)),
        class_names=names,
        ignore_label=data.ignore_label,
        palette=_palette(everything[0], len(names)),
        splits={split: len(rows) for split, rows in splits.items()},
    )
    sources = {split: FolderSource(rows) for split, rows in splits.items()}
    return OpenDataset(spec=spec, sources=sources)


def _pairs(images_dir: str, labels_dir: str) -> dict[str, _Pair]:
    if os.path.realpath(images_dir) == os.path.realpath(labels_dir):
        raise ValueError(f"images and labels must be in different folders; both are {images_dir}.")
    images, labels = _files(images_dir, _IMAGE_ENDINGS), _files(labels_dir, (".png",))
    alone = [f"no label for {images[s]}" for s in sorted(images.keys() - labels.keys())]
    alone += [f"no image for {labels[s]}" for s in sorted(labels.keys() - images.keys())]
    if alone:
        raise ValueError(
            f"each image ({', '.join(_IMAGE_ENDINGS)}) in {images_dir} must have a label of the"
            f" same name with the ending .png in {labels_dir}, and the reverse:"
            f"\n  {_shortened(alone, separator=chr(10) + '  ')}"
        )
    return {stem: (images[stem], labels[stem]) for stem in sorted(images)}


def _files(directory: str, endings: tuple[str, ...]) -> dict[str, str]:
    """Path below the directory without its ending -> whole path."""
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
                raise ValueError(f"the name of {path!r} is no UTF-8; rename the file.")
            if stem in found:
                raise ValueError(
                    f"{found[stem]} and {path} have the same name but for the ending; remove one."
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
        raise ValueError(f"{folder} is a link to a folder that it is in; remove it.")


def _is_unicode(path: str) -> bool:
    # What cannot be decoded is in the string as lone surrogates.
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _check_apart(train: Mapping[str, _Pair], val: Mapping[str, _Pair]) -> None:
    paths = {os.path.realpath(image) for image, _ in train.values()}
    shared = [image for image, _ in val.values() if os.path.realpath(image) in paths]
    if shared:
        raise ValueError(
            "--data.val_images_dir must have no image that is in --data.images_dir too; got"
            f" {_shortened(shared)}."
        )


def _listed(path: str, pairs: Mapping[str, _Pair]) -> set[str]:
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}; --data.val_list must name one.")
    lines = read_lines(path)
    if not lines:
        raise ValueError(f"{path} must name one or more examples; it is empty.")
    stems = {line if line in pairs else os.path.splitext(line)[0] for line in lines}
    unknown = sorted(stems - pairs.keys())
    if unknown:
        raise ValueError(f"{path} names examples that are not there: {_shortened(unknown)}.")
    return stems


def _hashed(data: DataConfig, pairs: Mapping[str, _Pair]) -> set[str]:
    if data.val_fraction == 0 or len(pairs) < 2:
        return set()

    def share(stem: str) -> float:
        return int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8]) / 2**64

    # Of a few photos the hashes may choose none or all; either split needs one.
    least, *others, _ = sorted(pairs, key=share)
    return {least, *(stem for stem in others if share(stem) < data.val_fraction)}


def _class_names(data: DataConfig, labels: Iterable[str]) -> tuple[str, ...]:
    if data.class_names_file is not None:
        if not os.path.exists(data.class_names_file):
            raise FileNotFoundError(f"there is no file {data.class_names_file}.")
        names = tuple(read_lines(data.class_names_file))
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(
                f"{data.class_names_file} must name two or more different classes, one a line;"
                f" got {', '.join(names) or 'none'}."
            )
        return names
    found, unreadable = [], []
    for path in labels:
        try:
            found.append((_largest_class(path, data.ignore_label), path))
        except ValueError as error:
            unreadable.append(f"{path}: {error}")
    if unreadable:
        raise ValueError(
            "the classes cannot be counted; labels that cannot be read:"
            f"\n  {_shortened(sorted(unreadable), separator=chr(10) + '  ')}"
        )
    largest, path = max(found)
    if largest > 255:
        raise ValueError(
            f"{path} has the label value {largest}; where no --data.class_names_file names the"
            " classes, values must be 0..255."
        )
    if largest < 1:
        raise ValueError(
            "the labels must show at least two classes; all of their pixels are 0 or"
            f" {data.ignore_label}. Name the classes in --data.class_names_file if this is right."
        )
    return tuple(f"class_{i}" for i in range(largest + 1))


def _largest_class(path: str, ignore_label: int) -> int:
    with open(path, "rb") as file:
        label = label_from_bytes(file.read())
    return int(np.max(label, where=label != ignore_label, initial=0))


def _palette(label: str, num_classes: int) -> tuple[Color, ...]:
    """The labels' own colours, where they have a palette that tells the classes apart."""
    try:
        with Image.open(label) as picture:
            channels = picture.getpalette() if picture.mode == "P" else None
    except (OSError, SyntaxError):  # the check says so, beside all other faults
        channels = None
    colors = list(zip(*[iter(channels or ())] * 3, strict=True))[:num_classes]
    if len(set(colors)) == num_classes:
        return tuple(colors)
    return bit_palette(num_classes)


def _shortened(names: list[str], separator: str = ", ") -> str:
    more = len(names) - _MOST_NAMES
    rest = [f"and {more} more"] if more > 0 else []
    return separator.join(names[:_MOST_NAMES] + rest)
