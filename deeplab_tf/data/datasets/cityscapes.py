"""Cityscapes, fine labels (Cordts et al. 2016)."""

from __future__ import annotations

import os

import numpy as np

from deeplab_tf.data.release.archives import Archive, ReleaseFiles, by_stem, paired
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample
from deeplab_tf.data.release.labels import read_png, relabeled

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
_IMAGE_END, _LABEL_END = "_leftImg8bit.png", "_gtFine_labelIds.png"

_IMAGES = Archive(
    file="leftImg8bit_trainvaltest.zip",
    base="",
    holds="leftImg8bit",
    source="https://www.cityscapes-dataset.com/downloads, after registration, 11 GB",
)
_LABELS = Archive(
    file="gtFine_trainvaltest.zip",
    base="",
    holds="gtFine",
    source="https://www.cityscapes-dataset.com/downloads, after registration, 241 MB",
)


def _list(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    images = by_stem(os.path.join(files.folder(_IMAGES), "leftImg8bit", split), _IMAGE_END)
    labels = by_stem(os.path.join(files.folder(_LABELS), "gtFine", split), _LABEL_END)
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
    ),
    joined={"trainval": ("train", "val")},
)
