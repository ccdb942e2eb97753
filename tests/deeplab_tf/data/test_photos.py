import os
import socket

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.photos import (
    find_photos,
    is_video,
    named_photos,
    output_stems,
    printable,
    read_photo,
    search,
)
from deeplab_tf.data.picture_files import check_file, read_file


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
    with pytest.raises(ValueError, match="gray values must be integers; they are floats"):
        read_photo(str(tmp_path / "a.tif"))


def test_32_bits_are_taken_as_they_are_or_refused(tmp_path):
    path = str(tmp_path / "a.tif")
    Image.fromarray(np.array([[0, 7, 255]], np.int32)).save(path)
    assert read_photo(path)[0, :, 0].tolist() == [0, 7, 255]
    for values, got in (([0, 256], r"0\.\.256"), ([-1, 65535], r"-1\.\.65535")):
        Image.fromarray(np.array([values], np.int32)).save(path)
        with pytest.raises(ValueError, match=rf"32 bits must be 0\.\.255; got {got}\. Save it"):
            read_photo(path)


@pytest.mark.parametrize("name", ["a.tif", "a.pgm"])
def test_16_bits_of_other_formats_are_scaled(tmp_path, name):
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert read_photo(str(tmp_path / name))[0, :, 0].tolist() == [0, 100, 255]


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


def _sparse(path):
    with open(path, "wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_pipe, "it is a pipe, not a regular file"),
        (_socket, "it is a socket, not a regular file"),
        (os.mkdir, "it is a directory, not a regular file"),
        (lambda path: os.symlink("/dev/zero", path), "it is a device, not a regular file"),
        (lambda path: os.symlink("/proc/self/status", path), "it is empty"),
        (lambda path: open(path, "w").close(), "it is empty"),
        (_sparse, "it has 1099511627776 bytes; no picture needs more than"),
        (lambda path: os.symlink(path, path), "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_of_a_picture_is_refused_before_it_is_opened(tmp_path, make, message):
    path = str(tmp_path / "a.jpg")
    make(path)
    if os.path.exists(path) and not os.path.isdir(path):
        assert find_photos([path]) == [path]  # so that it is named
    with pytest.raises(
        ValueError, match=f"cannot read {path}: not a readable picture: .*{message}"
    ):
        read_photo(path)
    for read in (check_file, read_file):
        with pytest.raises((ValueError, OSError), match=message):
            read(path)


def test_a_link_to_nothing_is_called_that(tmp_path):
    (tmp_path / "a.jpg").symlink_to("nowhere")
    path = str(tmp_path / "a.jpg")
    assert find_photos([path]) == [path]
    with pytest.raises(ValueError, match=f"cannot read {path}: it is a link to .*/nowhere, which"):
        read_photo(path)


def test_a_program_in_postscript_is_not_run(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(ValueError, match="it is a program in PostScript"):
        read_photo(str(tmp_path / "a.jpg"))


def test_a_name_with_line_breaks_or_other_bytes_makes_one_line(tmp_path):
    for name in (b"a\nb.jpg", b"\xe9.jpg", b"\x1b[31m.jpg"):
        path = os.path.join(str(tmp_path), os.fsdecode(name))
        open(path, "w").close()
        with pytest.raises(ValueError) as caught:
            read_photo(path)
        assert "\n" not in str(caught.value) and str(caught.value).isascii()
        Image.new("RGB", (8, 8)).save(path)
        assert read_photo(path).shape == (8, 8, 3)
    assert printable("größer, 1.jpg") == "größer, 1.jpg"


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
    assert names(f"{folder}/c,d.jpg") == names(f"{folder}/c,*.jpg") == ["c,d.jpg"]


def test_two_stars_are_folders_at_any_depth_and_follow_no_links(tmp_path, monkeypatch):
    (tmp_path / "x/[y]/z").mkdir(parents=True)
    (tmp_path / "x/.hidden").mkdir()
    for place in ("0", "x/1", "x/[y]/2", "x/[y]/z/3", "x/.hidden/4"):
        (tmp_path / f"{place}.png").write_text("")
    for name in "abcdefgh":  # 8 ** 40 paths, if they were followed
        (tmp_path / name).symlink_to(tmp_path)

    def found(pattern):
        return [os.path.relpath(path, tmp_path) for path in find_photos([pattern])]

    everything = ["0.png", "x/1.png", "x/[y]/2.png", "x/[y]/z/3.png"]
    assert found(f"{tmp_path}/**/*.png") == found(f"{tmp_path}/**") == everything
    assert found(f"{tmp_path}/x/**/*.png") == everything[1:]
    assert found(f"{tmp_path}/**/z/**/*.png") == everything[3:]
    assert found(f"{tmp_path}/a/**/z/*.png") == ["a/x/[y]/z/3.png"]
    monkeypatch.chdir(tmp_path)
    assert find_photos(["**/*.png"]) == everything


def test_a_folder_that_is_named_in_two_ways_is_one(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    name = folder.name
    found = find_photos([f"{name},./{name}", str(folder), f"{name}/../{name}/*.png"])
    assert found == [f"{name}/{photo}" for photo in ("a.png", "b.JPG", "c,d.jpg")]


def test_files_of_other_kinds_in_folders_are_counted(folder):
    (folder / "x").mkdir()
    kept = ("a.jfif", "b.avif", "x/c.png")
    others = ("d.heic", "e.mp4", "x/f.HEIC")
    ours = ("index.html", "lock", "a_probabilities.npz", "a_overlay.mp4")
    for name in (*kept, *others, *ours, ".hidden", "._a.jpg", "x/.DS_Store"):
        (folder / name).write_text("")

    def left_out(*items):
        return [os.path.relpath(path, folder) for path in search(items).left_out]

    in_folder = ["d.heic", "e.mp4", "notes.txt"]
    assert left_out(str(folder)) == left_out(f"{folder}/../{folder.name}", str(folder)) == in_folder
    everything = [*in_folder, "x/f.HEIC"]
    assert left_out(f"{folder}/**") == left_out(f"{folder}/**/") == everything
    photos = ["a.jfif", "a.png", "b.JPG", "b.avif", "c,d.jpg", "x/c.png"]
    assert list(named_photos([f"{folder}/**"]).values()) == photos
    assert left_out(f"{folder},{folder}/e.mp4") == ["d.heic", "notes.txt"]
    assert not left_out(f"{folder}/*.*", f"{folder}/**/*.HEIC")
    assert len(find_photos([f"{folder}/**/*.*"])) == 13


@pytest.mark.slow  # makes 100,000 files
def test_a_folder_of_100000_photos_takes_few_looks_at_the_disk(tmp_path, monkeypatch):
    for i in range(100_000):
        os.mknod(tmp_path / f"{i}.jpg")
    calls = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: calls.append(path) or real(path))
    assert len(output_stems(named_photos([str(tmp_path)]), str(tmp_path / "out"))) == 100_000
    assert len(calls) < 10  # each looks at every part of a path


def test_what_names_no_image_is_an_error(folder):
    os.mkdir(folder / "empty")
    for item in (f"{folder}/empty", f"{folder}/*.gif", f"{folder}/a.png,{folder}/x.png"):
        with pytest.raises(FileNotFoundError, match="no images at"):
            find_photos([item])


def test_the_output_must_not_be_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(NotADirectoryError, match="--output must be a directory; .*out is a file"):
        output_stems({"in/a.jpg": "a.jpg"}, str(tmp_path / "out"))


def test_outputs_are_named_after_the_photos():
    assert output_stems({"in/a.jpg": "a.jpg", "in/x/b.c.png": "x/b.c.png"}, "out") == {
        "in/a.jpg": os.path.join("out", "a"),
        "in/x/b.c.png": os.path.join("out", "x", "b.c"),
    }


def test_names_keep_the_folders_that_two_stars_stand_for(tmp_path, monkeypatch):
    (tmp_path / "x/y").mkdir(parents=True)
    for place in ("a", "x/a", "x/y/a"):
        (tmp_path / f"{place}.png").write_text("")

    def names(*items):
        return list(named_photos(items).values())

    everything = ["a.png", "x/a.png", "x/y/a.png"]
    assert names(f"{tmp_path}/**") == names(f"{tmp_path}/**/*.png") == everything
    assert names(f"{tmp_path}/**/y/**") == ["x/y/a.png"]
    assert names(f"{tmp_path}/x/**") == ["a.png", "y/a.png"]
    assert names(f"{tmp_path}/x", f"{tmp_path}/x/y/*", f"{tmp_path}/a.png") == ["a.png"] * 3
    monkeypatch.chdir(tmp_path)
    assert named_photos(["**"]) == {name: name for name in everything}


def test_two_stars_leave_out_folders_of_predictions(tmp_path):
    for place in ("a", "x/b", "x/out/c", "x/out/deep/d"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{place}.png").write_text("")
    (tmp_path / "x/out/predictions.jsonl").write_text("")
    assert list(named_photos([f"{tmp_path}/**"]).values()) == ["a.png", "x/b.png"]
    assert list(named_photos([f"{tmp_path}/x/out"]).values()) == ["c.png"]  # a folder that is named


def test_a_folder_is_searched_for_photos_and_a_pattern_finds_videos_too(tmp_path):
    for name in ("a.jpg", "a.mp4", "b.MOV"):
        (tmp_path / name).write_text("")
    assert [is_video(name) for name in ("a.jpg", "a.mp4", "b.MOV")] == [False, True, True]
    assert list(named_photos([str(tmp_path)]).values()) == ["a.jpg"]
    found = named_photos([f"{tmp_path}/*"])
    assert list(found.values()) == ["a.jpg", "a.mp4", "b.MOV"]
    assert len(output_stems(found, "out")) == 3  # a photo and a video write different files


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"x/a.jpg": "a.jpg", "y/a.png": "a.png"},
            "x/a.jpg and y/a.png would both be written to out/a_overlay.png",
        ),
        (
            {"x/a_overlay.jpg": "a_overlay.jpg", "x/a.png": "a.png"},
            "would both be written to out/a_overlay.png",
        ),
        ({"x/legend.jpg": "legend.jpg"}, "the legend and x/legend.jpg would both"),
        ({"x/../out/a.jpg": "a.jpg"}, "--output must not be the directory of x/../out/a.jpg"),
        ({"out/y/a.jpg": "y/a.jpg"}, "--output must not be the directory of out/y/a.jpg"),
        ({"x/lock/a.jpg": "lock/a.jpg"}, "the lock would be written to out/lock, and the predic"),
        ({"x/index.html/y/a.jpg": "index.html/y/a.jpg"}, "the page would be written to out/index"),
        (
            {"x/a.png/b.jpg": "a.png/b.jpg", "x/a.jpg": "a.jpg"},
            "x/a.jpg would be written to out/a.png, and the predictions of x/a.png/b.jpg below it",
        ),
    ],
)
def test_no_prediction_overwrites_anything(names, message):
    with pytest.raises(ValueError, match=message):
        output_stems(names, "out")
