"""Files for test servers: values, folders, archives, and the faults that are found in them."""

import io
import os
import pathlib
import tarfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.data.datasets import cityscapes
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.data.release import server_files
from deeplab_tf.data.release.server_files import ServerFormat, faults

SERVERS = {name: release.server for name, release in RELEASES.items() if release.server}
GRAY = ServerFormat(values=(7, 8, 33), palette=None, archive="zip")
COLORED = ServerFormat(
    values=(1, 2),
    palette=((0, 0, 0), (255, 0, 0), (0, 255, 0)),
    archive="tgz",
    folder="results/{competition}_{split}",
    competitions={"six": "any data", "five": "its own data"},
)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def write(directory: pathlib.Path, server: ServerFormat, sizes: dict) -> dict:
    """Files without a fault; path -> (H, W)."""
    paths = server.paths(list(sizes), "test")
    for name, path in paths.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        label_map = np.arange(np.prod(sizes[name])).reshape(sizes[name]) % len(server.values)
        (directory / path).write_bytes(server.encode(label_map))
    return {paths[name]: size for name, size in sizes.items()}


@pytest.fixture
def gray(tmp_path):
    """(directory with three files, their sizes)."""
    return tmp_path, write(tmp_path, GRAY, {"a": (4, 6), "b": (5, 3), "c": (1, 7)})


def test_the_benchmarks_of_both_papers_have_a_form():
    assert set(SERVERS) == {
        "ade20k", "cityscapes", "pascal_context", "pascal_context60", "voc2012"
    }  # fmt: skip
    for name, server in SERVERS.items():
        assert len(server.values) == len(RELEASES[name].class_names)


def test_cityscapes_gets_the_numbers_that_its_labels_have():
    server = SERVERS["cityscapes"]
    # code: DeepLab's vis.py
    assert server.values == (
        7,
        8,
        11,
        12,
        13,
        17,
        19,
        20,
        21,
        22,
        23,
        24,
        25,
        26,
        27,
        28,
        31,
        32,
        33,
    )
    for index, value in enumerate(server.values):
        assert cityscapes.CLASS_OF_NUMBER[value] == index
    picture = opened(server.encode(np.array([[0, 18], [13, 2]])))
    assert picture.mode == "L"
    np.testing.assert_array_equal(picture, [[7, 33], [26, 11]])
    assert server.paths(["berlin_000000_000019"], "test") == {
        "berlin_000000_000019": "berlin_000000_000019.png"
    }


def test_voc_gets_classes_in_its_own_colors_and_folders():
    server = SERVERS["voc2012"]
    picture = opened(server.encode(np.array([[0, 15, 20]])))
    assert picture.mode == "P"
    np.testing.assert_array_equal(picture, [[0, 15, 20]])
    colors = np.array(picture.convert("RGB"))[0].tolist()
    assert colors == [[0, 0, 0], [192, 128, 128], [0, 64, 128]]  # cited: VOC's person, tvmonitor
    folder = "results/VOC2012/Segmentation"
    assert server.paths(["2008_1"], "test") == {"2008_1": f"{folder}/comp6_test_cls/2008_1.png"}
    assert server.paths(["x"], "val", "comp5") == {"x": f"{folder}/comp5_val_cls/x.png"}
    with pytest.raises(ValueError, match=r"competition must be comp6 \(.*\) or comp5 \(.*'comp7'"):
        server.competition("comp7")
    with pytest.raises(ValueError, match="must be left out for this dataset; got 'comp6'"):
        SERVERS["ade20k"].competition("comp6")


@pytest.mark.parametrize(("name", "classes"), [("ade20k", 150), ("pascal_context", 59)])
def test_these_get_class_plus_1_in_the_datasets_colors(name, classes):
    server = SERVERS[name]
    picture = opened(server.encode(np.arange(classes)[None]))
    np.testing.assert_array_equal(picture, np.arange(1, classes + 1)[None])
    colors = np.array(picture.convert("RGB"))[0]
    np.testing.assert_array_equal(colors, RELEASES[name].palette)


def test_pascal_contexts_60_classes_keep_the_values_of_the_59():
    assert SERVERS["pascal_context60"].values[1:] == SERVERS["pascal_context"].values


def test_images_of_one_name_are_refused():
    with pytest.raises(ValueError, match="must have different names.*one is called b"):
        GRAY.paths(["a", "b", "b"], "test")


@pytest.mark.parametrize("server", [GRAY, COLORED])
def test_an_archive_is_the_same_whenever_it_is_packed(server, tmp_path, monkeypatch):
    sizes = write(tmp_path / "one", server, {"b": (2, 3), "a": (3, 2)})
    write(tmp_path / "two", server, {"a": (3, 2), "b": (2, 3)})
    server.pack(str(tmp_path / "one"), list(sizes), str(tmp_path / "one.archive"))
    os.utime(tmp_path / "two" / min(sizes), (0, 10**9))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    server.pack(str(tmp_path / "two"), sorted(sizes), str(tmp_path / "two.archive"))
    assert (tmp_path / "one.archive").read_bytes() == (tmp_path / "two.archive").read_bytes()
    assert faults(str(tmp_path / "one.archive"), server, sizes) == []
    assert sorted(os.listdir(tmp_path)) == ["one", "one.archive", "two", "two.archive"]


def test_an_archive_begins_at_the_servers_folder(tmp_path):
    sizes = write(tmp_path, COLORED, {"b": (2, 3), "a": (3, 2)})
    COLORED.pack(str(tmp_path), list(sizes), str(tmp_path / "x.tgz"))
    with tarfile.open(tmp_path / "x.tgz") as archive:
        assert archive.getnames() == ["results/six_test/a.png", "results/six_test/b.png"]
        assert {member.mtime for member in archive} == {0}


def test_files_without_a_fault_have_none_and_progress_is_reported(gray):
    directory, sizes = gray
    (directory / "notes.txt").write_text("not for the server")
    done = []
    assert faults(str(directory), GRAY, sizes, progress=lambda *n: done.append(n)) == []
    assert done == [(1, 3), (2, 3), (3, 3)]


def save(path: pathlib.Path, pixels, mode: str | None = None) -> None:
    Image.fromarray(np.asarray(pixels, np.uint8)).convert(mode).save(path)


def _with_train_ids(directory):
    save(directory / "b.png", np.tile([0, 7, 255], (5, 1)))


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda d: (d / "b.png").unlink(), "1 of 3 files are missing: b.png"),
        (
            lambda d: (d / "b.png").rename(d / "B.png"),
            "1 of 3 files are missing: b.png\n1 files are not of this split: B.png",
        ),
        (
            lambda d: save(d / "b.png", np.full((3, 5), 7)),
            "b.png must have its image's 5x3 pixels (height x width); it has 3x5",
        ),
        (
            _with_train_ids,
            "b.png has the values 0, 255, which are no class; those of classes are 7..8, 33",
        ),
        (
            lambda d: save(d / "b.png", np.full((5, 3, 3), 7)),
            "b.png must be gray, 8 bits (Pillow's mode L); it has mode RGB",
        ),
        (
            lambda d: save(d / "b.png", np.full((5, 3), 7), "P"),
            "b.png must be gray, 8 bits (Pillow's mode L); it has mode P",
        ),
        (
            lambda d: (d / "b.png").write_bytes((d / "b.png").read_bytes()[:50]),
            "b.png is not a readable picture",
        ),
        (lambda d: (d / "b.png").write_bytes(b""), "b.png is not a picture in PNG format"),
        (
            lambda d: Image.open(d / "b.png").save(d / "b.png", "BMP"),
            "b.png is not a picture in PNG format",
        ),
    ],
)
def test_each_fault_is_named_in_a_directory_and_in_an_archive(gray, harm, expected):
    directory, sizes = gray
    harm(directory)
    found = "\n".join(faults(str(directory), GRAY, sizes))
    assert found.startswith(expected)
    files = [path.name for path in directory.glob("*.png")]
    GRAY.pack(str(directory), files, str(directory / "x.zip"))
    assert "\n".join(faults(str(directory / "x.zip"), GRAY, sizes)) == found


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_else_is_in_an_archive_is_a_fault(gray):
    directory, sizes = gray
    with zipfile.ZipFile(directory / "x.zip", "w") as archive:
        for name in [*sizes, "a.png"]:
            archive.write(directory / name, name)
        archive.writestr("folder/a.png", b"")
        archive.writestr("readme.txt", b"")
    assert faults(str(directory / "x.zip"), GRAY, sizes) == [
        "2 files are not of this split: folder/a.png, readme.txt",
        "1 files are there twice: a.png",
    ]


@pytest.mark.parametrize("server", [GRAY, COLORED])
def test_what_is_no_undamaged_archive_is_refused(server, tmp_path):
    sizes = write(tmp_path, server, {"a": (40, 60), "b": (50, 30)})
    path = tmp_path / "x"
    with pytest.raises(FileNotFoundError, match="no directory or archive"):
        faults(str(path), server, sizes)
    server.pack(str(tmp_path), list(sizes), str(path))
    whole = path.read_bytes()
    wrong = f"x must be an archive in the server's format, {server.archive}, and undamaged: "
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 255
    other = COLORED if server is GRAY else GRAY
    other.pack(str(tmp_path), list(sizes), str(tmp_path / "other"))
    for content in (whole[: len(whole) // 2], b"", b"x" * 99, (tmp_path / "other").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=wrong):
            faults(str(path), server, sizes)
    path.write_bytes(flipped)
    try:
        assert faults(str(path), server, sizes)
    except ValueError as error:
        assert wrong in str(error)


def _colored_archive(directory: pathlib.Path) -> tuple[pathlib.Path, dict]:
    sizes = write(directory, COLORED, {"a": (4, 6), "b": (5, 3)})
    COLORED.pack(str(directory), list(sizes), str(directory / "x.tgz"))
    return directory / "x.tgz", sizes


def test_a_tgz_archive_is_read_up_to_its_checksum(tmp_path):
    archive, sizes = _colored_archive(tmp_path)
    assert faults(str(archive), COLORED, sizes) == []
    archive.write_bytes(archive.read_bytes()[:-8])
    with pytest.raises(ValueError, match="undamaged: Compressed file ended"):
        faults(str(archive), COLORED, sizes)


def test_paths_in_an_archive_may_begin_with_a_dot(tmp_path):
    _, sizes = _colored_archive(tmp_path)
    with tarfile.open(tmp_path / "y.tgz", "w:gz") as archive:
        archive.add(tmp_path / "results", "./results")
    assert faults(str(tmp_path / "y.tgz"), COLORED, sizes) == []


def test_a_pipe_is_no_file_and_is_not_waited_for(gray):
    directory, sizes = gray
    (directory / "b.png").unlink()
    os.mkfifo(directory / "b.png")
    assert faults(str(directory), GRAY, sizes) == ["1 of 3 files are missing: b.png"]


def test_no_more_than_a_picture_is_read_of_a_file_in_an_archive(gray, monkeypatch):
    directory, sizes = gray
    GRAY.pack(str(directory), list(sizes), str(directory / "x.zip"))
    monkeypatch.setattr(server_files, "_MOST_BYTES", 40)
    found = faults(str(directory / "x.zip"), GRAY, sizes)
    assert len(found) == 3 and all("is not a" in line for line in found)
