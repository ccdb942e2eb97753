import os

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.photos import find_photos, output_stems, read_photo


def test_camera_orientation_is_applied(tmp_path):
    picture = Image.fromarray(np.array([[[250, 0, 0], [0, 250, 0]]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned right by a quarter to be seen
    picture.save(tmp_path / "a.png", exif=exif)
    assert read_photo(str(tmp_path / "a.png")).tolist() == [[[250, 0, 0]], [[0, 250, 0]]]


def test_16_bits_are_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_photo(str(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_gives_rgb_at_its_size(tmp_path, mode):
    picture = Image.fromarray(np.full((2, 3, 3), 255, np.uint8)).convert(mode)
    picture.save(tmp_path / "a.png")
    image = read_photo(str(tmp_path / "a.png"))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.full((2, 3, 3), 255))


def test_a_palette_with_transparency_needs_no_warning(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_photo(str(tmp_path / "a.png")).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_photo(str(tmp_path / "a.jpg")).mean(axis=(0, 1))
    assert red > 240 and green < 15 and blue < 15


def test_damaged_and_foreign_files_are_named(tmp_path):
    whole, cut, text = (str(tmp_path / name) for name in ("whole.jpg", "cut.jpg", "text.jpg"))
    Image.effect_noise((64, 64), 50).save(whole)
    with open(whole, "rb") as source, open(cut, "wb") as target:
        target.write(source.read()[:1000])
    with open(text, "w") as file:
        file.write("no picture")
    for path in (cut, text, str(tmp_path / "none.jpg")):
        with pytest.raises(ValueError, match=f"cannot read {path}"):
            read_photo(path)


def test_float_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="gray values must be 0..65535"):
        read_photo(str(tmp_path / "a.tif"))


@pytest.fixture
def folder(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "c,d.jpg"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_files_folders_patterns_and_lists_are_found_once_each(folder):
    def names(*items):
        return [os.path.basename(path) for path in find_photos(items)]

    assert names(str(folder)) == ["a.png", "b.JPG", "c,d.jpg"]
    assert names(f"{folder}/*.png") == ["a.png"]
    assert names(f"{folder}/b.JPG,{folder}/*.png", str(folder)) == ["b.JPG", "a.png", "c,d.jpg"]
    assert names(f"{folder}/c,d.jpg") == ["c,d.jpg"]


def test_what_names_no_image_is_an_error(folder):
    os.mkdir(folder / "empty")
    for item in (f"{folder}/empty", f"{folder}/*.gif", f"{folder}/a.png,{folder}/x.png"):
        with pytest.raises(FileNotFoundError, match="no images at"):
            find_photos([item])


def test_outputs_are_named_after_the_photos():
    assert output_stems(["in/a.jpg", "in/b.c.png"], "out") == {
        "in/a.jpg": os.path.join("out", "a"),
        "in/b.c.png": os.path.join("out", "b.c"),
    }


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["x/a.jpg", "y/a.png"], "x/a.jpg and y/a.png would both be written to out/a.png"),
        (["x/a_overlay.jpg", "x/a.png"], "would both be written to out/a_overlay.png"),
        (["x/legend.jpg"], "the legend and x/legend.jpg would both"),
        (["x/../out/a.jpg"], "--output must not be the directory of x/../out/a.jpg"),
    ],
)
def test_no_prediction_overwrites_anything(paths, message):
    with pytest.raises(ValueError, match=message):
        output_stems(paths, "out")
