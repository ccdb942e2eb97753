"""PASCAL VOC 2012 segmentation (Everingham et al. 2015), with the labels of SBD as 'trainaug'."""

from __future__ import annotations

import os

import numpy as np

from deeplab_tf.data.release import labels as raw_labels
from deeplab_tf.data.release.builder import IGNORE_LABEL, RawExample
from deeplab_tf.data.release.dataset import Part, RawDataset
from deeplab_tf.data.release.archives import Archive, RawFiles, by_stem, lines
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


def _list_voc(raw: RawFiles, split: str) -> list[RawExample]:
    folder = raw.folder(_TRAINVAL)
    return [
        RawExample(
            name=name,
            image=os.path.join(folder, "JPEGImages", f"{name}.jpg"),
            label=os.path.join(folder, "SegmentationClass", f"{name}.png"),
            read_label=_read,
        )
        for name in lines(os.path.join(folder, _SEGMENTATION, f"{split}.txt"))
    ]


def _list_test(raw: RawFiles, split: str) -> list[RawExample]:
    folder = raw.folder(_TEST)
    return [
        RawExample(name=name, image=os.path.join(folder, "JPEGImages", f"{name}.jpg"))
        for name in lines(os.path.join(folder, _SEGMENTATION, f"{split}.txt"))
    ]


def _list_sbd(raw: RawFiles, split: str) -> list[RawExample]:
    """What SBD adds: all of its labels but those of VOC's own train and val."""
    del split
    voc, sbd = raw.folder(_TRAINVAL), raw.find(_SBD)
    if sbd is not None:
        labels = by_stem(os.path.join(sbd, "cls"), ".mat")
    else:
        as_png = os.path.join(raw.folder(_SBD_AS_PNG), "SegmentationClassAug")
        labels = by_stem(as_png, ".png")
    own = {
        name
        for split in ("train", "val")
        for name in lines(os.path.join(voc, _SEGMENTATION, f"{split}.txt"))
    }
    return [
        RawExample(
            name=name,
            image=os.path.join(voc, "JPEGImages", f"{name}.jpg"),
            label=label,
            read_label=_read_sbd if sbd is not None else _read,
        )
        for name, label in labels.items()
        if name not in own
    ]


def _read(example: RawExample) -> np.ndarray:
    return raw_labels.read_png(example.label, _STORED, _FILE_PALETTE)


def _read_sbd(example: RawExample) -> np.ndarray:
    return raw_labels.read_mat(example.label, ("GTcls", "Segmentation"), _STORED)


DATASET = RawDataset(
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
            # paper: DeepLabv3+, Sec. 4: 10582 in 'trainaug'; the rest of that is VOC's train,
            # with VOC's own labels, which are the finer ones.
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
    ),
    joined={"trainval": ("train", "val"), "trainaug": ("train", "sbd")},
)
