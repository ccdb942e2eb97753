"""Cityscapes, fine and coarse labels (Cordts et al. 2016)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from deeplab_tf.data.release.archives import Archive, ReleaseFiles, by_stem, paired
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample
from deeplab_tf.data.release.labels import read_png, relabeled
from deeplab_tf.data.release.server_files import ServerFormat

# name -> (number in the labelIds files, color). cited: Cordts et al. 2016, its labels.py.
CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_NUM_LABELS = 34
# Number in the files -> class. 255 is -1, the number of license plates, as a byte.
CLASS_OF_NUMBER = {
    **dict.fromkeys([*range(_NUM_LABELS), 255], IGNORE_LABEL),
    **{number: index for index, (number, _) in enumerate(CLASSES.values())},
}
_IMAGE_END = "_leftImg8bit.png"
_FINE_END, _COARSE_END = "_gtFine_labelIds.png", "_gtCoarse_labelIds.png"
# ours: left out. In the release this image of train_extra is black, and its label has one value.
_DAMAGED = "troisdorf/troisdorf_000000_000073"

_IMAGES = Archive(
    file="leftImg8bit_trainvaltest.zip",
    base="",
    holds="leftImg8bit/train",
    source="https://www.cityscapes-dataset.com/downloads, after registration, 11 GB",
)
_LABELS = Archive(
    file="gtFine_trainvaltest.zip",
    base="",
    holds="gtFine",
    source="https://www.cityscapes-dataset.com/downloads, after registration, 241 MB",
)
_EXTRA_IMAGES = Archive(
    file="leftImg8bit_trainextra.zip",
    base="",
    holds="leftImg8bit/train_extra",
    source="https://www.cityscapes-dataset.com/downloads, after registration, 44 GB",
)
_COARSE_LABELS = Archive(
    file="gtCoarse.zip",
    base="",
    holds="gtCoarse",
    source="https://www.cityscapes-dataset.com/downloads, after registration, 1.3 GB",
)


def _list(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    images = by_stem(os.path.join(files.folder(_IMAGES), "leftImg8bit", split), _IMAGE_END)
    labels = by_stem(os.path.join(files.folder(_LABELS), "gtFine", split), _FINE_END)
    return _examples(images, labels)


def _list_coarse(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    images = by_stem(os.path.join(files.folder(_EXTRA_IMAGES), "leftImg8bit", split), _IMAGE_END)
    labels = by_stem(os.path.join(files.folder(_COARSE_LABELS), "gtCoarse", split), _COARSE_END)
    for paths in (images, labels):
        paths.pop(_DAMAGED, None)  # some remove the image themselves
    return _examples(images, labels)


def _examples(images: Mapping[str, str], labels: Mapping[str, str]) -> list[ReleasedExample]:
    return [
        ReleasedExample(name=os.path.basename(stem), image=image, label=label, read_label=_read)
        for stem, (image, label) in paired(images, labels).items()
    ]


def _list_test(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    images = by_stem(os.path.join(files.folder(_IMAGES), "leftImg8bit", split), _IMAGE_END)
    return [
        ReleasedExample(name=os.path.basename(stem), image=image) for stem, image in images.items()
    ]


def _read(example: ReleasedExample) -> np.ndarray:
    numbers = read_png(example.label, {number: number for number in CLASS_OF_NUMBER})
    # 0..18 and 255 for void: all of these are labelIds too, but of other things.
    present = np.unique(numbers)
    if present[-1] == 255 and (present[:-1] < len(CLASSES)).all():
        raise ValueError(
            f"{example.label} has the numbers of a labelTrainIds file, and must have the official"
            " labelIds."
        )
    return relabeled(numbers, CLASS_OF_NUMBER)


DATASET = ReleasedDataset(
    name="cityscapes",
    class_names=tuple(CLASSES),
    palette=tuple(color for _, color in CLASSES.values()),
    parts=(
        Part(
            name="fine",
            splits={"train": 2975, "val": 500},  # cited: Cordts et al. 2016
            needs=((_IMAGES,), (_LABELS,)),
            list_examples=_list,
        ),
        Part(
            name="test",
            splits={"test": 1525},  # cited: Cordts et al. 2016
            needs=((_IMAGES,),),
            list_examples=_list_test,
        ),
        Part(
            name="coarse",
            # cited: Cordts et al. 2016: 20000, rounded; the release has 19998. One is left out.
            splits={"train_extra": 19998 - 1},
            needs=((_EXTRA_IMAGES,), (_COARSE_LABELS,)),
            list_examples=_list_coarse,
        ),
    ),
    joined={
        "trainval": ("train", "val"),
        # cited: Chen et al. 2017 (DeepLabv3), App. C: 3475 fine and the extra 20000 coarse labels,
        # "trainval_coarse". code: DeepLab's has 23473, which is 3475 + 19998.
        "trainval_extra": ("train", "val", "train_extra"),
    },
    # cited: Cordts et al. 2016, its evaluation code and site: one <city>_<sequence>_<frame>*.png
    # with labelIds for each image, in a zip file. code: both papers' code writes these numbers.
    server=ServerFormat(
        values=tuple(number for number, _ in CLASSES.values()), palette=None, archive="zip"
    ),
)
