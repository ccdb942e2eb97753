"""PASCAL VOC 2012 segmentation (Everingham et al. 2015), with the labels of SBD as 'trainaug'."""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from deeplab_tf.data.release.archives import Archive, ReleaseFiles, by_stem, lines
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample
from deeplab_tf.data.release.labels import read_mat, read_png
from deeplab_tf.data.release.server_files import ServerFormat
from deeplab_tf.recipe.dataset_spec import bit_palette

CLASS_NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
PALETTE = bit_palette(len(CLASS_NAMES))
# cited: Chen et al. 2017 (DeepLabv3), Sec. 4.3, whose "table" is diningtable
HARD_CLASSES = ("bicycle", "chair", "diningtable", "pottedplant", "sofa")
_HARD = [CLASS_NAMES.index(name) for name in HARD_CLASSES]
_STORED = {**{index: index for index in range(len(CLASS_NAMES))}, IGNORE_LABEL: IGNORE_LABEL}
_FILE_PALETTE = dict(enumerate(bit_palette(256)))  # void is (224, 224, 192)
_SEGMENTATION = "ImageSets/Segmentation"

_TRAINVAL = Archive(
    file="VOCtrainval_11-May-2012.tar",
    base="VOCdevkit/VOC2012",
    holds="SegmentationClass",
    source="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar, 1.9 GB",
)
_TEST = Archive(
    file="VOC2012test.tar",
    base="VOCdevkit/VOC2012",
    holds=f"{_SEGMENTATION}/test.txt",
    source="http://host.robots.ox.ac.uk:8080/eval/downloads/VOC2012test.tar, after registration",
)
_SBD = Archive(
    file="benchmark.tgz",
    base="benchmark_RELEASE/dataset",
    holds="cls",
    source="http://home.bharathh.info/pubs/codes/SBD/download.html, 1.4 GB",
)
_SBD_AS_PNG = Archive(
    file="SegmentationClassAug.zip",
    base="VOCdevkit/VOC2012",
    holds="SegmentationClassAug",
    source="the same labels as PNG files, as several projects distribute them",
)


def _list_voc(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    folder = files.folder(_TRAINVAL)
    return [
        ReleasedExample(
            name=name,
            image=os.path.join(folder, "JPEGImages", f"{name}.jpg"),
            label=os.path.join(folder, "SegmentationClass", f"{name}.png"),
            read_label=_read,
        )
        for name in lines(os.path.join(folder, _SEGMENTATION, f"{split}.txt"))
    ]


def _list_hard(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    """All of train and val; `_read_hard` leaves most of them out."""
    return [
        dataclasses.replace(example, read_label=_read_hard)
        for own_split in ("train", "val")
        for example in _list_voc(files, own_split)
    ]


def _list_test(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    folder = files.folder(_TEST)
    return [
        ReleasedExample(name=name, image=os.path.join(folder, "JPEGImages", f"{name}.jpg"))
        for name in lines(os.path.join(folder, _SEGMENTATION, f"{split}.txt"))
    ]


def _list_sbd(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    """What SBD adds: all of its labels except those of VOC's own train and val."""
    voc, sbd = files.folder(_TRAINVAL), files.find(_SBD)
    if sbd is not None:
        labels = by_stem(os.path.join(sbd, "cls"), ".mat")
    else:
        as_png = os.path.join(files.folder(_SBD_AS_PNG), "SegmentationClassAug")
        labels = by_stem(as_png, ".png")
    own = {
        name
        for own_split in ("train", "val")
        for name in lines(os.path.join(voc, _SEGMENTATION, f"{own_split}.txt"))
    }
    return [
        ReleasedExample(
            name=name,
            image=os.path.join(voc, "JPEGImages", f"{name}.jpg"),
            label=label,
            read_label=_read_sbd if sbd is not None else _read,
        )
        for name, label in labels.items()
        if name not in own
    ]


def _read(example: ReleasedExample) -> np.ndarray:
    return read_png(example.label, _STORED, _FILE_PALETTE)


def _read_hard(example: ReleasedExample) -> np.ndarray | None:
    label = _read(example)
    return label if np.isin(label, _HARD).any() else None


def _read_sbd(example: ReleasedExample) -> np.ndarray:
    return read_mat(example.label, ("GTcls", "Segmentation"), _STORED)


DATASET = ReleasedDataset(
    name="voc2012",
    class_names=CLASS_NAMES,
    palette=PALETTE,
    parts=(
        Part(
            name="segmentation",
            splits={"train": 1464, "val": 1449},  # paper: DeepLabv3+, Sec. 4
            needs=((_TRAINVAL,),),
            list_examples=_list_voc,
        ),
        Part(
            name="sbd",
            # paper: DeepLabv3+, Sec. 4: 10582 in 'trainaug'. The others of these are VOC's train,
            # with VOC's own labels, which are finer.
            splits={"sbd": 10582 - 1464},
            needs=((_TRAINVAL,), (_SBD, _SBD_AS_PNG)),
            list_examples=_list_sbd,
        ),
        Part(
            name="test",
            splits={"test": 1456},  # paper: DeepLabv3+, Sec. 4
            needs=((_TEST,),),
            list_examples=_list_test,
        ),
        Part(
            name="hard",
            splits={"hard": 1464 + 1449},  # all of train and val, before most are left out
            needs=((_TRAINVAL,),),
            list_examples=_list_hard,
            expected_kept={"hard": "DeepLabv3, Sec. 4.3, states no number"},
        ),
    ),
    joined={
        "trainval": ("train", "val"),
        "trainaug": ("train", "sbd"),
        # cited: Chen et al. 2017 (DeepLabv3), Sec. 4.3: images with hard classes a second time
        "trainval_hard": ("train", "val", "hard"),
    },
    # cited: Everingham and Winn 2012 (the development kit), Sec. 5: folders, names and palette
    server=ServerFormat(
        values=tuple(range(len(CLASS_NAMES))),
        palette=bit_palette(256),
        archive="tgz",
        folder="results/VOC2012/Segmentation/{competition}_{split}_cls",
        competitions={
            "comp6": "trained on anything but the test images, such as ImageNet, SBD or COCO",
            "comp5": "trained on VOC's own train and val alone, without pretraining on other data",
        },
    ),
)
