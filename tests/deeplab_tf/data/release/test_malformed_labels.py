"""Wrong labels, lists and folders are refused by name with a remedy, or read correctly."""

import io
import os
import pathlib
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.release.mat_file import read_array

LABEL = (np.arange(48) % 3).reshape(6, 8).astype(np.uint8)
COLORS = [10, 20, 30, 200, 0, 0, 0, 200, 0]


def _file(values, kind="PNG", palette=None, **options) -> bytes:
    picture = Image.fromarray(np.asarray(values))
    if palette is not None:
        picture.putpalette(palette)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three photos with labels of the classes 0, 1, 2."""
    for stem in "abc":
        for kind, content in (
            ("images", _file(np.full((6, 8, 3), 90, np.uint8))),
            ("labels", _file(LABEL)),
        ):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{stem}.png").write_bytes(content)
    return Photos(tmp_path)


class Photos:
    def __init__(self, path: pathlib.Path):
        self.path = path

    def open(self, **files: bytes):
        """Opens the folder, with options that name files of these bytes."""
        for option, content in files.items():
            (self.path / option).write_bytes(content)
        return Folder(
            images_dir=str(self.path / "images"),
            labels_dir=str(self.path / "labels"),
            val_fraction=0.0,
            **{option: str(self.path / option) for option in files},
        ).open()

    def faults(self) -> str:
        """What a user reads before training starts."""
        try:
            return "\n".join(check_dataset(self.open()).problems)
        except (ValueError, OSError) as error:
            return str(error)


@pytest.mark.parametrize(
    "label",
    [
        _file(LABEL.astype(np.uint16)),
        _file(LABEL, palette=COLORS),
        _file(LABEL, palette=COLORS, bits=2),
        _file(LABEL, palette=COLORS, bits=4),
        _file(LABEL, palette=COLORS, transparency=0),
        _file(LABEL, save_all=True, append_images=[Image.fromarray(LABEL[::-1].copy())]),
        _file(LABEL) + b"junk",
        _file(LABEL.astype(bool)),
    ],
    ids=["16 bits", "palette", "2 bits", "4 bits", "transparent", "animated", "and more", "1 bit"],
)
def test_odd_labels_are_their_indices(folder, label):
    (folder.path / "labels/a.png").write_bytes(label)
    assert folder.faults() == ""
    read = folder.open().source("train").read(0)["label"].numpy()
    one_bit = label == _file(LABEL.astype(bool))
    np.testing.assert_array_equal(read, LABEL > 0 if one_bit else LABEL)


_COLORED = np.array(COLORS, np.uint8).reshape(3, 3)[LABEL]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (_file(_COLORED), "PNG of class indices.* mode RGB. Convert colors to indices first"),
        (_file(np.dstack([_COLORED, LABEL])), "PNG of class indices.* mode RGBA"),
        (_file(LABEL, "JPEG"), "not a picture in PNG format"),
        (_file(LABEL.astype(np.float32), "TIFF"), "not a picture in PNG format"),
        (_file(LABEL, "BMP"), "not a picture in PNG format"),
        (b"", "not a readable picture: it is empty"),
        (b"text", "not a picture in PNG format"),
        (_file(LABEL)[:50], "not a readable picture"),
        (
            _file(LABEL.astype(np.uint16) * 257),
            "label value 514,.*class_names_file.*2 values are above 255",
        ),
        (_file(LABEL[:5]), r"image has \(6, 8\) pixels \(height, width\), its label \(5, 8\)$"),
        (_file(LABEL.T.copy()), r"its label \(8, 6\); .*EXIF orientation"),
    ],
    ids=["RGB", "RGBA", "JPEG", "TIFF", "BMP", "empty", "text", "cut", "scaled", "size", "turned"],
)
def test_wrong_labels_are_refused_by_name(folder, label, message):
    (folder.path / "labels/b.png").write_bytes(label)
    faults = folder.faults()
    assert "labels/b.png" in faults
    assert re.search(rf"(?s){message}", faults)


def test_values_beyond_the_named_classes_are_listed(folder):
    values = LABEL.astype(np.uint16) + np.uint16(300) * (LABEL == 2)
    (folder.path / "labels/b.png").write_bytes(_file(values))
    (problem,) = check_dataset(folder.open(class_names_file=b"sky\nsea\nsand\n")).problems
    assert problem.endswith("must be 0..2 or 255 (void); got 302 (16 pixels)")


def test_masks_of_0_and_255_have_too_few_classes(folder):
    for stem in "abc":
        path = folder.path / "labels" / f"{stem}.png"
        path.write_bytes(_file(np.where(LABEL > 0, 255, 0).astype(np.uint8)))
    assert "at least two classes; all of their pixels are 0 or 255" in folder.faults()


@pytest.mark.parametrize(
    "text",
    [
        b"a\r\nb\r\n",
        b"\xef\xbb\xbfa\nb\n",
        b"\n  a\t\n\nb  \n\n",
        b"a\na\nb\nb",
        b"a.png\nb.png",
    ],
    ids=["CRLF", "BOM", "blanks", "twice", "endings"],
)
def test_odd_lists_are_read(folder, text):
    assert folder.open(val_list=text).spec.splits == {"train": 1, "val": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "must name one or more examples; it is empty"),
        (b"\xef\xbb\xbf\r\n", "must name one or more examples; it is empty"),
        ("a\nb\n".encode("utf-16"), "must be a text file in UTF-8; save it as such"),
        (b"caf\xe9\n", "must be a text file in UTF-8"),
        (b"a\nz\n", "names examples that do not exist: z"),
        (b"a\nb\nc\n", "nothing is left to train on: all 3 examples"),
    ],
    ids=["empty", "blank", "UTF-16", "Latin-1", "missing", "all"],
)
def test_wrong_lists_are_refused_by_name(folder, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        folder.open(val_list=text)
    assert "val_list" in str(caught.value)
    assert ("UTF-8" in message) == isinstance(caught.value.__cause__, UnicodeDecodeError)


def test_class_names_are_read_without_the_byte_order_mark(folder):
    for text in (b"\xef\xbb\xbfsky\r\nsea\r\nsand", "sky\nsea\nsand".encode("utf-8-sig")):
        assert folder.open(class_names_file=text).spec.class_names == ("sky", "sea", "sand")


def test_class_names_must_be_text(folder):
    with pytest.raises(ValueError, match=r"class_names_file must be a text file in UTF-8"):
        folder.open(class_names_file="sky\nsea\nsand".encode("utf-16"))


def _linked(folder):
    for kind in ("images", "labels"):
        (folder / kind / "loop").symlink_to(folder / kind)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "labels/b.png").unlink(), "no label for .*images/b.png"),
        (lambda f: (f / "images/b.png").unlink(), "no image for .*labels/b.png"),
        (lambda f: (f / "images/b.png").rename(f / "images/b.webp"), r"\(.jpg, .jpeg, .png\)"),
        (lambda f: (f / "labels/b.png").rename(f / "labels/b.tif"), "no label for .*b.png"),
        (lambda f: (f / "labels").rename(f / "x"), "there is no directory .*labels"),
        (lambda f: [(f / "labels").rename(f / "x"), (f / "labels").touch()], "no directory .*lab"),
        (_linked, "images/loop is a link to a folder that contains it; remove"),
    ],
    ids=["no label", "no image", "WebP", "TIFF", "no folder", "a file", "loop"],
)
def test_wrong_folders_are_refused_by_name(folder, harm, message):
    harm(folder.path)
    assert re.search(rf"(?s){message}", folder.faults())


@pytest.mark.parametrize("name", ["Übung 日本", "line\nbreak", "with space", "v1.2", "c.JPG"])
def test_odd_names_are_read(folder, name):
    for kind in ("images", "labels"):
        (folder.path / kind / "b.png").rename(folder.path / kind / f"{name}.PNG")
    assert folder.faults() == ""
    names = [example["name"] for example in map(folder.open().source("train").read, range(3))]
    assert name.encode() in names


def test_a_name_that_is_not_unicode_is_refused(folder):
    bad = os.fsencode(folder.path / "images") + b"/\xff.png"
    try:
        with open(bad, "wb"):
            pass
    except OSError:
        pytest.skip("this file system has Unicode names only")
    assert "\\udcff.png' is not UTF-8; rename the file" in folder.faults()


def test_a_dangling_link_is_named(folder):
    (folder.path / "images/b.png").unlink()
    (folder.path / "images/b.png").symlink_to(folder.path / "nowhere")
    assert "images/b.png: No such file or directory" in folder.faults()


def test_a_folder_with_the_ending_of_a_photo_is_a_folder(folder):
    (folder.path / "images/x.jpg").mkdir()
    assert folder.faults() == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda m: m(GTcls={"Boundaries": LABEL}), "without the field Segmentation; it has Bound"),
        (lambda m: m(GTinst={"Segmentation": LABEL}), "without the variable GTcls"),
        (lambda m: m(GTcls=LABEL), "without the field Segmentation: there is no 1x1 struct"),
        (lambda m: m(GTcls={"Segmentation": LABEL + 30}), "among 0..20, 255; got 30, 31, 32"),
        (lambda m: m(GTcls={"Segmentation": LABEL})[:-9], "damaged MATLAB file"),
        (lambda m: _file(LABEL), "not a MATLAB file of level 5"),
    ],
    ids=["other field", "other variable", "no struct", "values", "cut", "a PNG"],
)
def test_wrong_labels_of_sbd_are_refused_by_name(release, mat_file, content, message):
    voc = "VOCdevkit/VOC2012"
    for name in ("a", "b", "c"):
        release.image(f"{voc}/JPEGImages/{name}.jpg")
        release.label(f"{voc}/SegmentationClass/{name}.png", LABEL)
    for split, name in {"train": "a", "val": "b"}.items():
        release.write(f"{voc}/ImageSets/Segmentation/{split}.txt", name)
    release.write("dataset/cls/c.mat", content(mat_file))
    with pytest.raises(ValueError, match=rf"cls/c\.mat: .*{message}"):
        release.prepare("voc2012")
    assert not any("/sbd/" in path for path in release.prepared())


def test_a_matlab_file_that_unpacks_to_anything_is_refused():

    packed = zlib.compress(bytes(300 << 20), 1)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    with pytest.raises(ValueError, match="incomplete or too long"):
        read_array(head + struct.pack("<II", 15, len(packed)) + packed, "x")


@pytest.mark.parametrize(
    ("dataset", "label", "message"),
    [
        ("ade20k", np.dstack([LABEL] * 3), "PNG of class indices.* mode RGB"),
        ("ade20k", LABEL + 151, "among 0..150; got 151, 152, 153"),
        ("cityscapes", np.where(LABEL, LABEL, 255).astype(np.uint8), "labelTrainIds .* labelIds"),
        ("cityscapes", LABEL + 34, "among 0..33, 255; got 34, 35, 36"),
    ],
    ids=["ADE20K in colors", "ADE20K values", "train ids", "Cityscapes values"],
)
def test_labels_of_another_kind_of_release_are_refused(release, dataset, label, message):
    for split in ("training", "validation") if dataset == "ade20k" else ("train", "val"):
        if dataset == "ade20k":
            release.image(f"images/{split}/a.jpg")
            release.label(f"annotations/{split}/a.png", label)
        else:
            release.image(f"leftImg8bit/{split}/x/a_leftImg8bit.png")
            release.label(f"gtFine/{split}/x/a_gtFine_labelIds.png", label)
    with pytest.raises(ValueError, match=message) as caught:
        release.prepare(dataset)
    assert ".png" in str(caught.value) and release.prepared() == []
