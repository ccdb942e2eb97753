"""Folders of classes become examples whose label is one class everywhere."""

import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data import pipeline
from deeplab_tf.data.augment import RandomCrop
from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets import ImageClasses
from deeplab_tf.recipe.dataset_spec import DatasetSpec


def _write(root, *paths, size=(6, 4)):
    for i, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 20 * i % 256, np.uint8)).save(file)
    return str(root)


def _read(source):
    examples = [source.read(tf.constant(i, tf.int64)) for i in range(len(source))]
    found = {}
    for example in examples:
        assert example["image"].shape == (*example["label"].shape, 3)
        (found[example["name"].numpy().decode()],) = np.unique(example["label"]).tolist()
    return found


@pytest.fixture
def folders(tmp_path):
    train = _write(
        tmp_path / "birds" / "train",
        "wren/b.jpg", "wren/a.JPEG", "owl/1.png", "owl/at night/1.png", "owl/.hidden.jpg",
        "heron/x.jpg",
    )  # fmt: skip
    val = _write(tmp_path / "birds" / "val", "wren/c.png", "heron/y.png")
    return {"train_dir": train, "val_dir": val}


def test_a_folder_without_photos_is_refused(folders, tmp_path):
    (tmp_path / "birds" / "train" / "gull").mkdir()
    with pytest.raises(ValueError, match="must have photos of its class; none are in gull"):
        ImageClasses(**folders).open()


def test_classes_are_the_sorted_folders(folders):
    dataset = ImageClasses(**folders).open()
    spec = dataset.spec
    assert spec.name == "birds" and spec.class_names == ("heron", "owl", "wren")
    assert spec.ignore_label == -1 and spec.splits == {"train": 5, "val": 2}
    train, val = folders["train_dir"], folders["val_dir"]
    assert _read(dataset.source("train")) == {
        f"{train}/heron/x.jpg": 0,
        f"{train}/owl/1.png": 1,
        f"{train}/owl/at night/1.png": 1,
        f"{train}/wren/a.JPEG": 2,
        f"{train}/wren/b.jpg": 2,
    }
    assert _read(dataset.source("val")) == {f"{val}/heron/y.png": 0, f"{val}/wren/c.png": 2}
    assert dataset.source("val").name(1) == f"{val}/wren/c.png"
    assert check_dataset(dataset).problems == ()
    assert DatasetSpec.from_json(spec.to_json()) == spec


def test_batches_have_one_class_per_image_and_void_where_padded(folders):
    dataset = ImageClasses(**folders).open()
    spec = dataset.spec
    batches = pipeline.train_batches(
        dataset.source("train"),
        (RandomCrop(size=5),),
        batch_size=5,
        ignore_label=spec.ignore_label,
        num_classes=spec.num_classes,
        seed=1,
    )
    label = next(iter(batches))["label"].numpy()
    assert sorted(label.max(axis=(1, 2)).tolist()) == [0, 1, 1, 2, 2]
    assert np.all(label[:, :, 4] == -1)  # images are four pixels wide
    assert np.all(label[:, :, :4] == label[:, :1, :1])


def test_without_val_dir_there_is_no_val(folders):
    assert list(ImageClasses(train_dir=folders["train_dir"]).open().sources) == ["train"]


def test_more_than_256_classes_have_numbers_and_colors_of_their_own(tmp_path):
    train = _write(tmp_path, *(f"{i:03}/p.png" for i in range(300)), size=(1, 1))
    dataset = ImageClasses(train_dir=train).open()
    assert list(_read(dataset.source("train")).values()) == list(range(300))
    assert len(set(dataset.spec.palette)) == 300
    assert check_dataset(dataset).problems == ()


def test_a_class_of_val_alone_is_refused(folders, tmp_path):
    _write(tmp_path / "birds" / "val", "crow/1.png")
    with pytest.raises(ValueError, match=r"val_dir must have no class .* lacks; got crow\."):
        ImageClasses(**folders).open()


def test_photos_in_no_folder_are_refused(folders, tmp_path):
    _write(tmp_path / "birds" / "train", "loose.png")
    with pytest.raises(ValueError, match=r"photos in folders, .* in none: .*loose\.png"):
        ImageClasses(**folders).open()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "needs --dataset.train_dir"),
        ({"train_dir": "{0}/nowhere"}, FileNotFoundError, "there is no directory"),
        ({"train_dir": "{0}/one"}, ValueError, "two or more folders.*'only' alone"),
        ({"train_dir": "{0}/two", "val_dir": "{0}/two/"}, ValueError, "must have other photos"),
        ({"train_dir": "{0}/two", "val_dir": "{0}/none"}, FileNotFoundError, "no file that ends"),
    ],
)
def test_directories_that_do_not_fit_are_refused(options, error, message, tmp_path):
    _write(tmp_path, "one/only/1.png", "two/a/1.png", "two/b/1.png")
    (tmp_path / "none" / "a").mkdir(parents=True)
    options = {name: value.format(tmp_path) for name, value in options.items()}
    with pytest.raises(error, match=message):
        ImageClasses(**options).open()


def test_photos_that_never_end_are_named_and_not_read(folders, tmp_path):
    owls = tmp_path / "birds" / "train" / "owl"
    with open(owls / "sparse.jpg", "wb") as file:
        file.truncate(1 << 40)
    (problem,) = check_dataset(ImageClasses(**folders).open(), ["train"]).problems
    assert "sparse.jpg: not a readable picture: it has 1099511627776 bytes" in problem
    os.mkfifo(owls / "pipe.jpg")
    with pytest.raises(ValueError, match=r"pipe\.jpg: it is a pipe, not a regular file"):
        ImageClasses(**folders).open()
