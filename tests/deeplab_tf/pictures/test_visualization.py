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


def header_and_pictures(strip: np.ndarray, width: int) -> list[np.ndarray]:
    """The title rows, and the three pictures of a strip, each `width` wide."""
    header, below = strip[:22], strip[22:]
    return [header, *(below[:, i * (width + 4) :][:, :width] for i in range(3))]


@pytest.mark.parametrize("factor", [1, 400])
def test_strip_shows_image_label_prediction_in_this_order_at_one_size(factor):
    image = np.full((2 * factor, 3 * factor, 3), 7, np.uint8)
    label_map = np.ones((2 * factor, 3 * factor), int)
    label = np.full_like(label_map, 255)
    strip = visualization.strip(image, label, label_map, PALETTE, ignore_label=255)
    assert strip.shape == (22 + 320, 3 * 480 + 8, 3)
    header, *pictures = header_and_pictures(strip, 480)
    colors = ((7, 7, 7), visualization.VOID_COLOR, PALETTE[1])
    for picture, color in zip(pictures, colors, strict=True):
        assert (picture == color).all()
    for i in range(3):  # a title above each
        assert (header[:, i * 484 :][:, :100] < 128).any()


def test_strip_has_no_colors_but_those_of_the_classes():
    label = np.random.default_rng(0).integers(0, 2, (7, 1000))
    image = np.zeros((7, 1000, 3), np.uint8)
    _, _, *painted = header_and_pictures(visualization.strip(image, label, label, PALETTE), 480)
    for picture in painted:
        assert set(map(tuple, picture.reshape(-1, 3).tolist())) == set(PALETTE)


def test_strip_lists_the_classes_and_the_void_that_it_shows():
    colors = ((10, 20, 30), (200, 100, 0), (0, 90, 0), (90, 0, 90))
    image = np.zeros((4, 4, 3), np.uint8)
    label, label_map = np.zeros((4, 4), int), np.full((4, 4), 2)
    names = ("sky", "road", "tree", "car")
    plain = visualization.strip(image, label, label_map, colors, 255)
    void = np.where(np.eye(4), 255, label)
    with_void = visualization.strip(image, void, label_map, colors, 255, names)
    listed = visualization.strip(image, label, label_map, colors, 255, names)
    np.testing.assert_array_equal(listed[:, : plain.shape[1]], plain)
    for strip, shown in ((listed, {0, 2}), (with_void, {0, 2, "void"})):
        legend = strip[:, plain.shape[1] :]
        for key, color in [*enumerate(colors), ("void", visualization.VOID_COLOR)]:
            assert ((legend == color).all(-1).sum() > 100) == (key in shown), key


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
