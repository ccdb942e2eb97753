"""PASCAL-Context from the official archives, with 59 and with 60 classes."""

import json

import numpy as np
import pytest

from deeplab_tf.data.datasets import pascal_context

VOC = "VOCdevkit/VOC2010"
# aeroplane, accordion (no class), unlabeled, wood, zebra (no class), person, bag, sky
NUMBERS = np.array([[2, 1, 0, 458, 459, 284, 9, 360]] * 6, np.uint16)
CLASSES = [0, 255, 255, 58, 255, 36, 1, 46]


@pytest.fixture
def context(release, mat_file):
    for name in ("2008_000001", "2008_000002"):
        release.image(f"{VOC}/JPEGImages/{name}.jpg")
        release.write(f"trainval/{name}.mat", mat_file(LabelMap=NUMBERS))
    release.write(f"{VOC}/ImageSets/Main/train.txt", "2008_000001\n")
    release.write(f"{VOC}/ImageSets/Main/val.txt", "2008_000002\n")
    return release


def test_classes_are_those_of_the_released_code(shared_dir):
    reference = shared_dir / "reference" / "fastfcn" / "extras_small.json"
    ids = json.loads(reference.read_text())["pascal_context_459_ids_sorted"]
    assert [0, *pascal_context.CLASSES.values()] == ids


def test_classes_and_numbers():
    assert len(pascal_context.CLASSES) == 59
    assert list(pascal_context.CLASSES) == sorted(pascal_context.CLASSES)
    assert pascal_context.DATASET.parts[0].splits == {"train": 4998, "val": 5105}
    assert pascal_context.DATASET_60.class_names[:2] == ("background", "aeroplane")


def test_459_labels_become_59_classes(context, labels):
    context.pack("VOCtrainval_03-May-2010.tar", "VOCdevkit")
    context.pack("trainval.tar.gz", "trainval")
    dataset = context.prepare("pascal_context")
    assert dataset.spec.num_classes == 59
    assert labels(dataset, "train")["2008_000001"][0].tolist() == CLASSES
    assert [dataset.spec.class_names[c] for c in CLASSES if c != 255] == [
        "aeroplane",
        "wood",
        "person",
        "bag",
        "sky",
    ]


def test_the_same_files_are_read_with_60_classes(context, labels):
    context.prepare("pascal_context")
    before = context.prepared()
    dataset = context.open("pascal_context60")
    assert dataset.spec.num_classes == 60
    expected = [0 if c == 255 else c + 1 for c in CLASSES]
    assert labels(dataset, "val")["2008_000002"][0].tolist() == expected
    context.prepare("pascal_context60")
    assert context.prepared() == before


def test_numbers_above_459_are_refused(context, mat_file):
    context.write("trainval/2008_000002.mat", mat_file(LabelMap=NUMBERS + 1))
    with pytest.raises(ValueError, match=r"2008_000002\.mat: .*among 0\.\.459; got 460"):
        context.prepare("pascal_context")
    assert context.prepared() == []
