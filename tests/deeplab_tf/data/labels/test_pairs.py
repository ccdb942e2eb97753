"""Which files are paired, and what is said of those that are not."""

import os
import re
import socket

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.datasets.image_classes import ImageClasses
from deeplab_tf.data.labels.pairs import find_pairs

NAMES = [f"street {i}" for i in range(6)]


def write(directory, image="{}.jpg", label="{}.png", names=NAMES):
    """Photos and labels of two classes under these names."""
    for kind, form in (("images", image), ("labels", label)):
        for name in names:
            path = directory / kind / form.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.arange(48).reshape(6, 8) // 24
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def pairs(directory, **options):
    return find_pairs(str(directory / "images"), str(directory / "labels"), **options)


def refusal(directory, **options) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        pairs(directory, **options)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["_mask", "_label", "-gt", "_gtFine_labelIds", ".label", "L"])
def test_a_suffix_of_the_labels_is_named_and_then_works(tmp_path, suffix):
    write(tmp_path, label=f"{{}}{suffix}.png")
    text = refusal(tmp_path)
    assert f"6 of 6 labels are called <image>{suffix}.png: --dataset.label_suffix={suffix}" in text
    assert text.count("no label for") == 3 and "and 9 more" in text
    assert [*pairs(tmp_path, label_suffix=suffix)] == NAMES


def test_files_without_the_suffix_are_no_labels(tmp_path):
    for suffix in ("_color", "_labelIds", "_instanceIds"):
        write(tmp_path, label=f"a/{{}}{suffix}.png", image="a/{}.png")
    assert {label for _, label in pairs(tmp_path, label_suffix="_labelIds").values()} == {
        str(tmp_path / f"labels/a/{name}_labelIds.png") for name in NAMES
    }
    text = refusal(tmp_path, label_suffix="_mask")
    assert "labels has no file that ends in _mask.png" in text and "label_suffix" in text


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ({"label": "mask_{}.png"}, r"6 of 6 labels are called mask_<image>\.png: rename them"),
        (
            {"image": "{}_leftImg8bit.png", "label": "{}_gtFine_labelIds.png"},
            r"<image>_gtFine_labelIds\.png, where images are called <image>_leftImg8bit: rename",
        ),
        ({}, None),
        ({"image": "{}.JPG", "label": "{}.PNG"}, ""),
    ],
)
def test_other_patterns_of_names_are_named(tmp_path, forms, message):
    if message is None:
        write(tmp_path)
        for name in NAMES:
            os.rename(tmp_path / f"labels/{name}.png", tmp_path / f"labels/{name.upper()}.png")
        message = "agree but for upper and lower case"
    else:
        write(tmp_path, **forms)
    if message:
        assert re.search(message, refusal(tmp_path))
    else:
        assert len(pairs(tmp_path)) == 6


def test_a_few_labels_that_lack_are_no_pattern(tmp_path):
    write(tmp_path)
    os.rename(tmp_path / "labels/street 3.png", tmp_path / "labels/street 3_mask.png")
    text = refusal(tmp_path)
    assert "label_suffix" not in text
    assert "no label for" in text and "street 3_mask.png" in text


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("{}.jpg", r"6 files that end in \.jpg: JPEG changes values along borders"),
        ("{}.jpeg", r"6 files that end in \.jpeg: JPEG changes values along borders"),
        ("{}.tif", r"6 files that end in \.tif: labels must be PNG"),
        ("{}.bmp", r"6 files that end in \.bmp: labels must be PNG"),
    ],
)
def test_labels_in_other_formats_are_counted(tmp_path, label, message):
    write(tmp_path, label=label)
    assert re.search(message, refusal(tmp_path))
    os.rename(tmp_path / "labels" / label.format(NAMES[0]), tmp_path / "labels/street 0.png")
    assert re.search(message.replace("6", "5"), refusal(tmp_path))


def test_swapped_folders_are_named(tmp_path):
    write(tmp_path, image="{}.png", label="{}.jpg")
    assert "--dataset.images_dir and --dataset.labels_dir swapped?" in refusal(tmp_path)


def pipe(path):
    os.mkfifo(path)


def listening(path):
    os.chdir(path.parent)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


ODD = {
    "pipe": (pipe, "it is a pipe, not a regular file"),
    "socket": (listening, "it is a socket, not a regular file"),
    "device": (lambda p: p.symlink_to("/dev/zero"), "it is a device, not a regular file"),
    "link to nothing": (lambda p: p.symlink_to("/none"), "No such file or directory"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("where", ["images/street 2.jpg", "labels/street 2.png"])
def test_what_is_no_file_is_named_and_never_read(tmp_path, monkeypatch, kind, where):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / where).unlink()
    make, message = ODD[kind]
    make(tmp_path / where)
    text = refusal(tmp_path)
    assert "must have regular files or links to them; remove these:" in text
    assert f"{tmp_path / where}: {message}" in text


def test_photos_in_folders_of_classes_are_regular_files_too(tmp_path):
    for name in ("owl", "wren"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 6)).save(tmp_path / name / "1.jpg")
    os.mkfifo(tmp_path / "owl/2.jpg")
    with pytest.raises(ValueError, match=r"owl/2\.jpg: it is a pipe"):
        ImageClasses(train_dir=str(tmp_path)).open()


def test_folders_and_links_to_files_are_searched_and_followed(tmp_path):
    write(tmp_path)
    (tmp_path / "images/x.jpg").mkdir()  # a folder with the ending of a photo
    (tmp_path / "elsewhere").mkdir()
    for kind, file in (("images", "street 2.jpg"), ("labels", "street 2.png")):
        os.rename(tmp_path / kind / file, tmp_path / "elsewhere" / file)
        (tmp_path / kind / file).symlink_to(tmp_path / "elsewhere" / file)
    assert [*pairs(tmp_path)] == NAMES


@pytest.mark.parametrize("where", ["images/street 2.jpg", "labels/street 2.png"])
def test_a_pipe_that_appears_after_opening_is_a_fault(tmp_path, where):
    write(tmp_path)
    folder = Folder(images_dir=str(tmp_path / "images"), labels_dir=str(tmp_path / "labels"))
    dataset = folder.open()
    (tmp_path / where).unlink()
    os.mkfifo(tmp_path / where)
    (problem,) = check_dataset(dataset).problems
    assert "street 2.jpg" in problem and "it is a pipe, not a regular file" in problem


def test_a_huge_file_without_content_is_a_fault_and_not_read(tmp_path):
    write(tmp_path)
    with open(tmp_path / "images/street 2.jpg", "wb") as file:
        file.truncate(1 << 42)
    folder = Folder(images_dir=str(tmp_path / "images"), labels_dir=str(tmp_path / "labels"))
    (problem,) = check_dataset(folder.open()).problems
    assert "no picture needs more than" in problem
