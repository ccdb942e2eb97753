"""PASCAL-Context (Mottaghi et al. 2014): VOC 2010 with a label of every pixel."""

from __future__ import annotations

import os

import numpy as np

from deeplab_tf.data.release.archives import Archive, ReleaseFiles, lines
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample
from deeplab_tf.data.release.labels import read_mat
from deeplab_tf.data.release.server_files import ServerFormat
from deeplab_tf.recipe.dataset_spec import bit_palette

# Class -> its number among the 459 of the label files. code: FastFCN's list.
CLASSES = {
    "aeroplane": 2,
    "bag": 9,
    "bed": 18,
    "bedclothes": 19,
    "bench": 22,
    "bicycle": 23,
    "bird": 25,
    "boat": 31,
    "book": 33,
    "bottle": 34,
    "building": 44,
    "bus": 45,
    "cabinet": 46,
    "car": 59,
    "cat": 65,
    "ceiling": 68,
    "chair": 72,
    "cloth": 80,
    "computer": 85,
    "cow": 98,
    "cup": 104,
    "curtain": 105,
    "dog": 113,
    "door": 115,
    "fence": 144,
    "floor": 158,
    "flower": 159,
    "food": 162,
    "grass": 187,
    "ground": 189,
    "horse": 207,
    "keyboard": 220,
    "light": 232,
    "motorbike": 258,
    "mountain": 259,
    "mouse": 260,
    "person": 284,
    "plate": 295,
    "platform": 296,
    "pottedplant": 308,
    "road": 324,
    "rock": 326,
    "sheep": 347,
    "shelves": 349,
    "sidewalk": 354,
    "sign": 355,
    "sky": 360,
    "snow": 366,
    "sofa": 368,
    "table": 397,
    "track": 415,
    "train": 416,
    "tree": 420,
    "truck": 424,
    "tvmonitor": 427,
    "wall": 440,
    "water": 445,
    "window": 454,
    "wood": 458,
}
_NUM_LABELS = 459
# All other labels are background, which is not among the 59 classes. code: FastFCN, as EncNet.
_STORED = {
    **dict.fromkeys(range(_NUM_LABELS + 1), IGNORE_LABEL),
    **{number: index for index, number in enumerate(CLASSES.values())},
}

_IMAGES = Archive(
    file="VOCtrainval_03-May-2010.tar",
    base="VOCdevkit/VOC2010",
    holds="JPEGImages",
    source="http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar, 1.3 GB",
)
_LABELS = Archive(
    file="trainval.tar.gz",
    base="",
    holds="trainval",
    source="https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz, 31 MB",
)


def _list(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    images, labels = files.folder(_IMAGES), files.folder(_LABELS)
    return [
        ReleasedExample(
            name=name,
            image=os.path.join(images, "JPEGImages", f"{name}.jpg"),
            label=os.path.join(labels, "trainval", f"{name}.mat"),
            read_label=_read,
        )
        # The release's splits are those of VOC 2010's classification task.
        for name in lines(os.path.join(images, "ImageSets/Main", f"{split}.txt"))
    ]


def _read(example: ReleasedExample) -> np.ndarray:
    return read_mat(example.label, ("LabelMap",), _STORED)


DATASET = ReleasedDataset(
    name="pascal_context",
    class_names=tuple(CLASSES),
    palette=bit_palette(len(CLASSES) + 1)[1:],  # ours: the release has none
    parts=(
        Part(
            name="labels59",
            # paper: FastFCN, Sec. 4.1, and the release. code: FastFCN's reads the labels from the
            # file of another API, which lacks three of these images and has 4996 and 5104.
            splits={"train": 4998, "val": 5105},
            needs=((_IMAGES,), (_LABELS,)),
            list_examples=_list,
        ),
    ),
    # code: FastFCN's file of a prediction has class + 1. There is no server; the archive is ours.
    server=ServerFormat(
        values=tuple(range(1, len(CLASSES) + 1)),
        palette=bit_palette(len(CLASSES) + 1),
        archive="zip",
    ),
)

# The same files, with background as a class: the 60 classes of several papers.
DATASET_60 = ReleasedDataset(
    name="pascal_context60",
    class_names=("background", *CLASSES),
    palette=bit_palette(len(CLASSES) + 1),
    parts=DATASET.parts,
    stored_as=DATASET.name,
    relabel={IGNORE_LABEL: 0, **{index: index + 1 for index in range(len(CLASSES))}},
    # ours: the same values, and 0 for background
    server=ServerFormat(
        values=tuple(range(len(CLASSES) + 1)),
        palette=bit_palette(len(CLASSES) + 1),
        archive="zip",
    ),
)
