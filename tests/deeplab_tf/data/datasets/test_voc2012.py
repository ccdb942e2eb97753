"""PASCAL VOC 2012 from the official archives, and what SBD adds."""

import shutil

import numpy as np
import pytest

from deeplab_tf.data import pipeline
from deeplab_tf.data.datasets import voc2012
from deeplab_tf.recipe.dataset_spec import bit_palette

VOC = "VOCdevkit/VOC2012"
LABEL = np.arange(48, dtype=np.uint8).reshape(6, 8) % 21
LABEL[0] = 255


@pytest.fixture
def voc(release):
    """Three examples in VOC's train and val; SBD would add 'c' and 'd'."""
    for name in ("a1", "a2", "b1", "c", "d"):
        release.image(f"{VOC}/JPEGImages/{name}.jpg")
    for name in ("a1", "a2", "b1"):
        release.label(f"{VOC}/SegmentationClass/{name}.png", LABEL, bit_palette(256))
    release.write(f"{VOC}/ImageSets/Segmentation/train.txt", "a1\na2\n")
    release.write(f"{VOC}/ImageSets/Segmentation/val.txt", "b1\n")
    return release


def test_official_numbers():
    numbers = {split: n for part in voc2012.DATASET.parts for split, n in part.splits.items()}
    assert numbers == {"train": 1464, "val": 1449, "sbd": 9118, "test": 1456, "hard": 2913}
    joined = voc2012.DATASET.joined
    assert sum(numbers[split] for split in joined["trainaug"]) == 10582
    assert sum(numbers[split] for split in joined["trainval"]) == 2913
    assert voc2012.PALETTE[:3] == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert voc2012.CLASS_NAMES[15] == "person" and len(voc2012.CLASS_NAMES) == 21


def test_labels_are_the_numbers_of_palette_pictures(voc, labels):
    voc.pack("VOCtrainval_11-May-2012.tar", "VOCdevkit")
    dataset = voc.prepare("voc2012")
    # All three labels have a bicycle.
    assert dataset.spec.splits == {
        **{"train": 2, "val": 1, "hard": 3},
        **{"trainval": 3, "trainval_hard": 6},
    }
    assert list(labels(dataset, "train")) == ["a1", "a2"]
    for label in labels(dataset, "trainval").values():
        np.testing.assert_array_equal(label, LABEL)
    with pytest.raises(ValueError, match=r"no 'trainaug' split(.*\n)*.*benchmark\.tgz"):
        dataset.source("trainaug")


def test_trainaug_is_train_and_what_sbd_adds_to_train_and_val(voc, labels, mat_file):
    # SBD has its own labels of VOC's images too, which must not replace VOC's or enter from val.
    for i, name in enumerate(["a1", "b1", "c", "d"]):
        other = np.full((6, 8), i + 5, np.uint8)
        content = mat_file(GTcls={"Segmentation": other, "CategoriesPresent": np.ones((1, 1))})
        voc.write(f"benchmark_RELEASE/dataset/cls/{name}.mat", content)
    voc.pack("benchmark.tgz", "benchmark_RELEASE")
    dataset = voc.prepare("voc2012")
    assert dataset.spec.splits["trainaug"] == 4
    found = labels(dataset, "trainaug")
    assert list(found) == ["a1", "a2", "c", "d"]
    np.testing.assert_array_equal(found["a1"], LABEL)
    assert np.unique(found["c"]) == [7] and np.unique(found["d"]) == [8]


def test_trainaug_from_png_files(voc, labels):
    for name in ("a1", "b1", "c"):
        voc.label(f"{VOC}/SegmentationClassAug/{name}.png", np.full((6, 8), 9, np.uint8))
    found = labels(voc.prepare("voc2012"), "trainaug")
    assert {name: label.max() for name, label in found.items()} == {"a1": 255, "a2": 255, "c": 9}


def _relabel(voc, **values):
    for name, value in values.items():
        label = np.full((6, 8), value, np.uint8)
        voc.label(f"{VOC}/SegmentationClass/{name}.png", label, bit_palette(256))


@pytest.mark.parametrize("name", voc2012.HARD_CLASSES)
def test_images_with_hard_classes_come_twice(voc, labels, name):
    _relabel(voc, a1=8, a2=voc2012.CLASS_NAMES.index(name), b1=15)
    dataset = voc.prepare("voc2012")
    source = dataset.source("trainval_hard")
    assert [source.name(i) for i in range(len(source))] == ["a1", "a2", "b1", "a2"]
    np.testing.assert_array_equal(
        labels(dataset, "hard")["a2"], labels(dataset, "trainval_hard")["a2"]
    )
    assert dataset.notes == ("hard: kept 1 of 3; DeepLabv3, Sec. 4.3, states no number",)


def test_hard_classes_are_the_five_of_the_paper():
    indices = [voc2012.CLASS_NAMES.index(name) for name in voc2012.HARD_CLASSES]
    assert indices == [2, 9, 11, 16, 18]


def test_a_subset_without_hard_classes_is_prepared_without_them(voc):
    _relabel(voc, a1=1, a2=15, b1=255)
    dataset = voc.prepare("voc2012")
    assert dataset.spec.splits == {"train": 2, "val": 1, "trainval": 3}
    assert set(dataset.absent) >= {"hard", "trainval_hard"} and dataset.notes == ()


def test_a_dataset_prepared_before_gains_the_hard_images(voc):
    voc.prepare("voc2012")
    before = voc.prepared()
    shutil.rmtree(voc.data_dir / "voc2012" / "hard")  # as an earlier version left it
    assert "trainval_hard" in voc.open("voc2012").absent
    assert voc.prepare("voc2012").spec.splits["trainval_hard"] == 6
    assert voc.prepared() == before


def test_sbd_must_have_all_that_it_adds(voc, mat_file):
    voc.write(f"{VOC}/ImageSets/Segmentation/train.txt", "a1\na2\nc\nd\n")
    for name in ("c", "d"):
        voc.label(f"{VOC}/SegmentationClass/{name}.png", LABEL)
    voc.write("dataset/cls/a1.mat", mat_file(GTcls={"Segmentation": LABEL}))
    with pytest.raises(ValueError, match="has 9118 examples in 'sbd'; .* has 0"):
        voc.prepare("voc2012")


def test_test_images_have_void_labels(voc, labels):
    voc.pack("VOCtrainval_11-May-2012.tar", "VOCdevkit")
    voc.image(f"{VOC}/JPEGImages/t.jpg")
    voc.write(f"{VOC}/ImageSets/Segmentation/test.txt", "t\n")
    voc.pack("VOC2012test.tar", "VOCdevkit")
    found = labels(voc.prepare("voc2012"), "test")
    assert list(found) == ["t"] and np.unique(found["t"]) == [255]


def test_labels_that_were_saved_again_are_refused(voc):
    palette = ((0, 0, 0), (255, 0, 0), *bit_palette(256)[2:])
    voc.label(f"{VOC}/SegmentationClass/a2.png", LABEL, palette)
    with pytest.raises(ValueError, match=r"a2\.png: the official palette shows 1 as \(128, 0, 0\)"):
        voc.prepare("voc2012")
    assert voc.prepared() == []


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_file_is_named(voc, split):
    (voc.raw_dir / f"{VOC}/ImageSets/Segmentation/{split}.txt").unlink()
    with pytest.raises(FileNotFoundError, match=rf"there is no .*Segmentation/{split}\.txt"):
        voc.prepare("voc2012")


def test_missing_images_are_named_before_anything_is_written(voc):
    (voc.raw_dir / f"{VOC}/JPEGImages/b1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 files of voc2012 val are missing: .*b1\.jpg"):
        voc.prepare("voc2012")
    assert voc.prepared() == []


def test_a_zero_byte_photo_is_named(voc):
    voc.write(f"{VOC}/JPEGImages/a2.jpg", b"")
    with pytest.raises(ValueError, match=r"a2\.jpg is not a readable JPEG or PNG \(0 bytes\)"):
        voc.prepare("voc2012")


def test_a_truncated_archive_leaves_nothing(voc):
    path = voc.pack("VOCtrainval_11-May-2012.tar", "VOCdevkit")
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(ValueError, match=r"11-May-2012\.tar is damaged or incomplete"):
        voc.prepare("voc2012")
    assert [p for p in voc.raw_dir.rglob("*") if p.is_file()] == [path]
    assert voc.prepared() == []


def test_real_photos_and_labels(release, shared_dir, labels):
    samples = shared_dir / "data" / "voc_samples"
    names = sorted(path.stem for path in (samples / "labels").glob("*.png"))
    for name in names:
        for kind, folder in {"images": "JPEGImages", "labels": "SegmentationClass"}.items():
            (path,) = (samples / kind).glob(f"{name}.*")
            release.write(f"{VOC}/{folder}/{path.name}", path.read_bytes())
    release.write(f"{VOC}/ImageSets/Segmentation/train.txt", "\n".join(names[:2]))
    release.write(f"{VOC}/ImageSets/Segmentation/val.txt", names[2])
    dataset = release.prepare("voc2012")
    found = labels(dataset, "trainval")
    assert list(found) == names
    classes = {int(c) for label in found.values() for c in np.unique(label)} - {255}
    seen = {dataset.spec.class_names[c] for c in classes}
    assert {"background", "bottle", "person", "bus", "car", "chair", "sofa"} <= seen
    (photo,) = pipeline.eval_examples(dataset.source("val"))
    assert photo["image"].shape[:2] == photo["label"].shape
