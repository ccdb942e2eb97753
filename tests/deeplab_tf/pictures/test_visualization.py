import os

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.pictures import visualization
from deeplab_tf.recipe.dataset_spec import bit_palette

PALETTE = ((10, 20, 30), (200, 100, 0))


def test_each_class_gets_its_color_and_void_gray():
    colors = visualization.colorize(np.array([[0, 1, 255]]), PALETTE, ignore_label=255)
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[[10, 20, 30], [200, 100, 0], list(visualization.VOID_COLOR)]]


def test_a_value_that_is_not_a_class_is_refused():
    with pytest.raises(ValueError, match="classes 0..1; got 255"):
        visualization.colorize(np.array([[0, 255]]), PALETTE)
    with pytest.raises(ValueError, match="classes 0..1; got -1"):
        visualization.colorize(np.array([[-1]]), PALETTE)


def test_overlay_mixes_by_alpha_and_marks_boundaries_white():
    image = np.full((1, 4, 3), 100, np.uint8)
    mixed = visualization.overlay(image, np.array([[0, 0, 1, 1]]), PALETTE, alpha=0.25)
    assert mixed[0].tolist() == [[78, 80, 82], [255, 255, 255], [125, 100, 75], [125, 100, 75]]


def test_overlay_leaves_void_as_it_is():
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = visualization.overlay(image, np.array([[255, 255]]), PALETTE, ignore_label=255)
    np.testing.assert_array_equal(mixed, image)


def test_overlay_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"got \(2, 2, 3\) and \(3, 2\)"):
        visualization.overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2), int), PALETTE)


def test_strip_shows_image_label_prediction_in_this_order():
    image = np.full((2, 3, 3), 7, np.uint8)
    label, label_map = np.full((2, 3), 255), np.ones((2, 3), int)
    strip = visualization.strip(image, label, label_map, PALETTE, ignore_label=255)
    assert strip.shape == (2, 3 * 3 + 8, 3)
    np.testing.assert_array_equal(strip[:, :3], image)
    assert (strip[:, 7:10] == visualization.VOID_COLOR).all()
    assert (strip[:, 14:] == PALETTE[1]).all()


def test_legend_has_a_swatch_of_every_color():
    picture = visualization.legend(("sky", "road"), PALETTE)
    for color in PALETTE:
        assert (picture == color).all(-1).sum() > 100


def test_a_saved_label_map_reads_back_as_classes_and_looks_like_colorize(tmp_path):
    label_map = np.arange(21).reshape(3, 7)
    path = str(tmp_path / "sub" / "a.png")
    visualization.save_label_map(path, label_map, bit_palette(21))
    picture = Image.open(path)
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), label_map)
    np.testing.assert_array_equal(
        np.asarray(picture.convert("RGB")), visualization.colorize(label_map, bit_palette(21))
    )
    assert os.listdir(tmp_path / "sub") == ["a.png"]


def test_above_256_classes_the_png_is_16_bit(tmp_path):
    label_map = np.array([[0, 255, 256, 299]])
    path = str(tmp_path / "a.png")
    visualization.save_label_map(path, label_map, bit_palette(300))
    np.testing.assert_array_equal(np.asarray(Image.open(path)), label_map)


def test_a_label_map_with_void_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="got 255"):
        visualization.save_label_map(str(tmp_path / "a.png"), np.array([[255]]), PALETTE)
    assert os.listdir(tmp_path) == []
