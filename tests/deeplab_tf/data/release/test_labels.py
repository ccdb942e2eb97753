"""Numbers in label files become classes; anything unexpected is an error that names the file."""

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.release.labels import read_mat, read_png, relabeled

CLASSES = {0: 255, 1: 0, 2: 1, 300: 2}


def _png(path, picture) -> str:
    picture.save(path)
    return str(path)


def test_numbers_become_classes():
    label = relabeled(np.array([[0, 1], [2, 300]]), CLASSES)
    np.testing.assert_array_equal(label, [[255, 0], [1, 2]])
    assert label.dtype == np.uint8
    assert relabeled(np.array([[-1]]), {-1: 7}) == [[7]]


def test_unknown_numbers_are_listed():
    with pytest.raises(ValueError, match=r"must be among 0\.\.2, 300; got -4, 3, 77$"):
        relabeled(np.array([[3, 77, -4, 1]]), CLASSES)


def test_gray_labels_of_8_and_16_bits_are_read(tmp_path):
    narrow = _png(tmp_path / "8.png", Image.fromarray(np.array([[0, 2]], np.uint8)))
    wide = _png(tmp_path / "16.png", Image.fromarray(np.array([[0, 300]], np.uint16)))
    assert read_png(narrow, CLASSES).tolist() == [[255, 1]]
    assert read_png(wide, CLASSES).tolist() == [[255, 2]]
    scaled = _png(tmp_path / "scaled.png", Image.fromarray(np.array([[0, 257]], np.uint16)))
    with pytest.raises(ValueError, match=r"scaled\.png: label values .* got 257"):
        read_png(scaled, CLASSES)


def test_labels_in_colors_are_refused(tmp_path):
    path = _png(tmp_path / "rgb.png", Image.new("RGB", (2, 2)))
    with pytest.raises(ValueError, match=r"rgb\.png: a label must be a PNG of class indices"):
        read_png(path, CLASSES)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_unreadable_labels_are_named(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.png: (not a|it is empty)"):
        read_png(str(path), CLASSES)


def test_a_label_with_an_orientation_is_not_that_of_the_release(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "turned.png", exif=exif)
    with pytest.raises(ValueError, match=r"turned\.png: the label has an EXIF orientation"):
        read_png(str(tmp_path / "turned.png"), CLASSES)


def test_palette_labels_must_have_the_official_colors(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 128, 0, 0])
    path = _png(tmp_path / "p.png", picture)
    official = {0: (0, 0, 0), 1: (128, 0, 0)}
    assert read_png(path, CLASSES, official).tolist() == [[255, 0]]
    with pytest.raises(ValueError, match=r"shows 1 as \(0, 128, 0\), this one as \(128, 0, 0\)"):
        read_png(path, CLASSES, {**official, 1: (0, 128, 0)})
    with pytest.raises(ValueError, match="must be a gray picture"):
        read_png(path, CLASSES)


def test_labels_in_matlab_files_are_read(tmp_path, mat_file):
    path = tmp_path / "a.mat"
    path.write_bytes(mat_file(LabelMap=np.array([[0.0, 300.0], [1, 2]])))
    assert read_mat(str(path), ("LabelMap",), CLASSES).tolist() == [[255, 2], [0, 1]]
    path.write_bytes(mat_file(LabelMap=np.array([[0.5]])))
    with pytest.raises(ValueError, match=r"a\.mat: the label must be a matrix of whole numbers"):
        read_mat(str(path), ("LabelMap",), CLASSES)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.mat: it is empty"):
        read_mat(str(path), ("LabelMap",), CLASSES)
