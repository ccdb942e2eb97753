"""ADE20K in the form of the scene parsing benchmark, 150 classes (Zhou et al. 2017)."""

from __future__ import annotations

import os

import numpy as np

from deeplab_tf.data.release.archives import Archive, ReleaseFiles, by_stem, paired
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample
from deeplab_tf.data.release.labels import read_png
from deeplab_tf.data.release.server_files import ServerFormat

# The first name that objectInfo150.txt of the release gives each class.
CLASS_NAMES = tuple(
    (
        "wall;building;sky;floor;tree;ceiling;road;bed;windowpane;grass;cabinet;sidewalk;person;"
        "earth;door;table;mountain;plant;curtain;chair;car;water;painting;sofa;shelf;house;sea;"
        "mirror;rug;field;armchair;seat;fence;desk;rock;wardrobe;lamp;bathtub;railing;cushion;"
        "base;box;column;signboard;chest of drawers;counter;sand;sink;skyscraper;fireplace;"
        "refrigerator;grandstand;path;stairs;runway;case;pool table;pillow;screen door;stairway;"
        "river;bridge;bookcase;blind;coffee table;toilet;flower;book;hill;bench;countertop;stove;"
        "palm;kitchen island;computer;swivel chair;boat;bar;arcade machine;hovel;bus;towel;light;"
        "truck;tower;chandelier;awning;streetlight;booth;television receiver;airplane;dirt track;"
        "apparel;pole;land;bannister;escalator;ottoman;bottle;buffet;poster;stage;van;ship;"
        "fountain;conveyer belt;canopy;washer;plaything;swimming pool;stool;barrel;basket;"
        "waterfall;tent;bag;minibike;cradle;oven;ball;food;step;tank;trade name;microwave;pot;"
        "animal;bicycle;lake;dishwasher;screen;blanket;sculpture;hood;sconce;vase;traffic light;"
        "tray;ashcan;fan;pier;crt screen;plate;monitor;bulletin board;shower;radiator;glass;"
        "clock;flag"
    ).split(";")
)
# Six hexadecimal digits per class. cited: Zhou et al. 2017, color150.mat of the benchmark's code.
_COLORS = bytes.fromhex(
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d787846"
    "08ff33ff06528fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdc"
    "ff095c7009ff08ffd607ffe0ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14"
    "ff0829ff05990633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ff"
    "ff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00"
    "008fff33ff000052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014"
    "ffb8b8001fff00ff3d0047ffff00cc00ffc200ff52000aff0070ff3300ff00c2ff007aff00ffa3ff9900"
    "00ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ffff001f00b8ff00d6ffff0070"
    "5cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ff"
    "ff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff"
    "4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff005c00ff"
)
_PALETTE = tuple(tuple(_COLORS[3 * index : 3 * index + 3]) for index in range(len(CLASS_NAMES)))
# 0 is everything else, which is not scored. code: FastFCN's and the benchmark's.
_STORED = {0: IGNORE_LABEL, **{index + 1: index for index in range(len(CLASS_NAMES))}}
_FOLDERS = {"train": "training", "val": "validation"}

_TRAINVAL = Archive(
    file="ADEChallengeData2016.zip",
    base="ADEChallengeData2016",
    holds="annotations",
    source="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, 923 MB",
)
_TEST = Archive(
    file="release_test.zip",
    base="release_test",
    holds="testing",
    source="http://data.csail.mit.edu/places/ADEchallenge/release_test.zip, 202 MB",
)


def _list(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    folder = files.folder(_TRAINVAL)
    images = by_stem(os.path.join(folder, "images", _FOLDERS[split]), ".jpg")
    labels = by_stem(os.path.join(folder, "annotations", _FOLDERS[split]), ".png")
    return [
        ReleasedExample(name=stem, image=image, label=label, read_label=_read)
        for stem, (image, label) in paired(images, labels).items()
    ]


def _list_test(files: ReleaseFiles, split: str) -> list[ReleasedExample]:
    images = by_stem(os.path.join(files.folder(_TEST), f"{split}ing"), ".jpg")
    return [ReleasedExample(name=stem, image=image) for stem, image in images.items()]


def _read(example: ReleasedExample) -> np.ndarray:
    return read_png(example.label, _STORED)


DATASET = ReleasedDataset(
    name="ade20k",
    class_names=CLASS_NAMES,
    palette=_PALETTE,
    parts=(
        Part(
            name="scene_parsing",
            splits={"train": 20210, "val": 2000},  # paper: FastFCN, Sec. 4.3, rounded; code: exact
            needs=((_TRAINVAL,),),
            list_examples=_list,
        ),
        Part(
            name="test",
            splits={"test": 3352},  # paper: FastFCN, Sec. 4.3, rounded; code: exact
            needs=((_TEST,),),
            list_examples=_list_test,
        ),
    ),
    joined={"trainval": ("train", "val")},
    # cited: Zhou et al. 2017, the benchmark's development kit: names and archive; 0 is not scored.
    # code: FastFCN writes class + 1 and a palette.
    server=ServerFormat(
        values=tuple(range(1, len(CLASS_NAMES) + 1)),
        palette=((0, 0, 0), *_PALETTE),
        archive="zip",
    ),
)
