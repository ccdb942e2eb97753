"""ADE20K from the official archives."""

import numpy as np
import pytest

from deeplab_tf.data.datasets import ade20k

TOP = "ADEChallengeData2016"
LABEL = np.arange(48, dtype=np.uint8).reshape(6, 8) * 3 + 9  # 9..150
LABEL[0] = 0


@pytest.fixture
def ade(release):
    for folder, name in {
        "training": "ADE_train_00000001",
        "validation": "ADE_val_00000001",
    }.items():
        release.image(f"{TOP}/images/{folder}/{name}.jpg")
        release.label(f"{TOP}/annotations/{folder}/{name}.png", LABEL)
    release.write(f"{TOP}/objectInfo150.txt", "Idx Ratio")
    return release


def test_classes_and_numbers():
    dataset = ade20k.DATASET
    numbers = {split: n for part in dataset.parts for split, n in part.splits.items()}
    assert numbers == {"train": 20210, "val": 2000, "test": 3352}
    assert len(dataset.class_names) == 150
    assert dataset.class_names[:3] == ("wall", "building", "sky")
    assert dataset.class_names[-1] == "flag"
    assert dataset.palette[2] == (6, 230, 230) and dataset.palette[-1] == (92, 0, 255)


def test_zero_is_void_and_all_others_move_down(ade, labels):
    ade.pack(f"{TOP}.zip", TOP)
    dataset = ade.prepare("ade20k")
    assert dataset.spec.splits == {"train": 1, "val": 1, "trainval": 2}
    expected = np.where(LABEL == 0, 255, LABEL.astype(int) - 1)
    np.testing.assert_array_equal(labels(dataset, "train")["ADE_train_00000001"], expected)
    np.testing.assert_array_equal(labels(dataset, "val")["ADE_val_00000001"], expected)


def test_test_images_have_void_labels(ade, labels):
    ade.image("release_test/testing/ADE_test_00000001.jpg")
    ade.pack("release_test.zip", "release_test")
    found = labels(ade.prepare("ade20k"), "test")
    assert np.unique(found["ADE_test_00000001"]) == [255]


def test_numbers_above_150_are_refused(ade):
    ade.label(f"{TOP}/annotations/training/ADE_train_00000001.png", LABEL + 1)
    with pytest.raises(ValueError, match=r"among 0\.\.150; got 151"):
        ade.prepare("ade20k")


def test_a_missing_folder_is_named(ade):
    (ade.raw_dir / TOP / "images/validation/ADE_val_00000001.jpg").unlink()
    (ade.raw_dir / TOP / "images/validation").rmdir()
    with pytest.raises(FileNotFoundError, match="there is no directory .*images/validation"):
        ade.prepare("ade20k")


def test_real_labels_show_what_the_photos_do(release, shared_dir, labels):
    samples = shared_dir / "data" / "ade20k_samples"
    for path in sorted(samples.glob("*/*")):
        kind = {"images": "images", "labels": "annotations"}[path.parent.name]
        folder = "training" if "00000001" in path.name else "validation"
        release.write(f"{TOP}/{kind}/{folder}/{path.name}", path.read_bytes())
    dataset = release.prepare("ade20k")
    assert dataset.spec.splits == {"train": 1, "val": 2, "trainval": 3}
    (label,) = labels(dataset, "train").values()
    seen = {dataset.spec.class_names[c] for c in np.unique(label) if c != 255}
    assert {"sky", "tree", "plant"} <= seen, seen
