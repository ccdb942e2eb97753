"""Archives are extracted completely or not at all, and only where they should be."""

import io
import tarfile
import zipfile

import pytest

from deeplab_tf.data.release import archives
from deeplab_tf.data.release.archives import Archive, ReleaseFiles

ARCHIVE = Archive(file="set.tar", base="top/set", holds="lists", source="http://example.org, 1 MB")


def _tar(path, members: dict[str, bytes], mode="w", kind=tarfile.REGTYPE):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            if kind == tarfile.SYMTYPE:
                member.size, member.linkname = 0, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("folder", ["top/set", "set", ""])
def test_folders_are_found_at_each_level(tmp_path, folder):
    (tmp_path / folder / "lists").mkdir(parents=True)
    assert ReleaseFiles(str(tmp_path)).folder(ARCHIVE).rstrip("/") == str(tmp_path / folder).rstrip(
        "/"
    )


@pytest.mark.parametrize("name", ["set.tar", "set.tar.gz", "set.zip"])
def test_archives_are_extracted_once_and_report_progress(tmp_path, name):
    archive = Archive(file=name, base="top/set", holds="lists", source="")
    if name.endswith("zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.writestr("top/set/lists/a.txt", "a\n\n b \n")
    else:
        mode = "w:gz" if name.endswith("gz") else "w"
        _tar(tmp_path / name, {"top/set/lists/a.txt": b"a\n\n b \n"}, mode)
    told = []
    raw = ReleaseFiles(str(tmp_path), lambda *report: told.append(report))
    folder = raw.folder(archive)
    assert archives.lines(f"{folder}/lists/a.txt") == ["a", "b"]
    assert folder.startswith(str(tmp_path / "extracted" / name))
    assert told and 0 < told[-1][1] <= told[-1][2]
    (tmp_path / name).write_bytes(b"")  # not read again
    assert raw.folder(archive) == folder


def test_what_is_missing_is_named_with_its_source(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lacks set\.tar \(or top/set/lists extracted"):
        ReleaseFiles(str(tmp_path)).folder(ARCHIVE)
    with pytest.raises(FileNotFoundError, match="--raw_dir must name one"):
        ReleaseFiles(str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_outside_the_directory_are_refused_and_nothing_is_left(tmp_path, name, kind):
    path = tmp_path / "raw" / f"set.{kind}"
    path.parent.mkdir()
    members = {"top/set/lists/a": b"a", name: b"evil"}
    if kind == "tar":
        _tar(path, members)
    else:
        with zipfile.ZipFile(path, "w") as packed:
            for member, content in members.items():
                packed.writestr(member, content)
    with pytest.raises(ValueError, match="would be written outside"):
        archives.extract(str(path), str(tmp_path / "raw" / "extracted" / "set"))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = _tar(tmp_path / "set.tar", {"top/set/lists": b""}, kind=kind)
    with pytest.raises(ValueError, match="neither file nor folder"):
        archives.extract(str(path), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["set.tar", "set.tgz", "set.zip"])
def test_archives_cut_anywhere_are_refused(tmp_path, name):
    path = tmp_path / name
    members = {f"top/set/lists/{i}": bytes([i]) * 700 for i in range(3)}
    if name == "set.zip":
        with zipfile.ZipFile(path, "w") as packed:
            for member, content in members.items():
                packed.writestr(member, content)
    else:
        _tar(path, members, "w:gz" if name == "set.tgz" else "w")
    whole = path.read_bytes()
    # Of a tar, what follows the last member is padding: three headers and three times 700 bytes.
    end = 3 * (512 + 1024) if name == "set.tar" else len(whole)
    for length in sorted({*range(0, end, 97), 512, 1536, 3072, end - 1, end}):
        if length > end or length == len(whole):
            continue
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged or incomplete"):
            archives.extract(str(path), str(tmp_path / "out"))
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    path.write_bytes(whole)
    archives.extract(str(path), str(tmp_path / "out"))
    assert (tmp_path / "out/top/set/lists/2").read_bytes() == members["top/set/lists/2"]


def test_leftovers_of_a_killed_extraction_are_not_taken_for_complete(tmp_path):
    left = tmp_path / "extracted" / "set.tar.partial" / "top/set/lists"
    left.mkdir(parents=True)
    (left / "half").touch()
    _tar(tmp_path / "set.tar", {"top/set/lists/a": b"a"})
    folder = ReleaseFiles(str(tmp_path)).folder(ARCHIVE)
    assert list(archives.by_stem(folder, "")) == ["lists/a"]
    assert not left.exists()


def test_the_lock_of_a_process_killed_after_the_extraction_is_removed(tmp_path):
    _tar(tmp_path / "set.tar", {"top/set/lists/a.txt": b"a"})
    folder = ReleaseFiles(str(tmp_path)).folder(ARCHIVE)
    (tmp_path / "extracted/set.tar.lock").write_text("process 1 on elsewhere: x")
    assert ReleaseFiles(str(tmp_path)).folder(ARCHIVE) == folder
    assert [path.name for path in (tmp_path / "extracted").iterdir()] == ["set.tar"]


def test_an_archive_of_something_else_is_an_error(tmp_path):
    _tar(tmp_path / "set.tar", {"readme": b"a"})
    with pytest.raises(ValueError, match=r"must contain top/set/lists, .*example\.org"):
        ReleaseFiles(str(tmp_path)).folder(ARCHIVE)


def test_images_and_labels_are_paired_by_stem(tmp_path):
    for name in ("b/x_image.png", "a_image.png", ".hidden_image.png", "a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = archives.by_stem(str(tmp_path), "_image.png")
    assert list(images) == ["a", "b/x"]
    assert archives.paired({"a": "1"}, {"a": "2"}) == {"a": ("1", "2")}
    with pytest.raises(ValueError, match=r"no label for 1, no image for 3\."):
        archives.paired({"a": "1"}, {"b": "3"})
    with pytest.raises(FileNotFoundError, match="belongs to the official release"):
        archives.by_stem(str(tmp_path / "none"), ".png")
    with pytest.raises(FileNotFoundError, match="belongs to the official release"):
        archives.lines(str(tmp_path / "none.txt"))
