import os
import resource

import pytest

from deeplab_tf.recipe.files import check_writable, read_lines, write_bytes, write_text


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(str(path), "old")
    write_text(str(path), "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert os.listdir(path.parent) == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file.txt"
    write_text(str(path), "old")
    with pytest.raises(TypeError):
        write_bytes(str(path), "not bytes")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_lines_come_without_blank_ones_spaces_and_an_editors_mark(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffsky\r\n\n  größer Baum \n".encode())
    assert read_lines(str(path)) == ["sky", "größer Baum"]


def test_a_list_in_another_encoding_is_refused_by_name(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("größer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"names\.txt must be a text file in UTF-8"):
        read_lines(str(path))


def test_a_place_that_takes_no_file_is_found_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("")
    for good in ("file", "new.json", "new/folder/new.json"):
        check_writable(str(tmp_path / good))
    assert os.listdir(tmp_path) == ["file"]
    os.mkfifo(tmp_path / "pipe")
    long = 250 * "x"  # room for the name, but not for that of the temporary file
    for bad, why in {
        ".": "it names a directory",
        "new/": "it names a directory",
        "file/new.json": f"{tmp_path}/file is not a directory",
        "file/folder/new.json": f"{tmp_path}/file is not a directory",
        "pipe": "it is a pipe, a socket or a device",
        long: "File name too long",
        f"new/{long}": "File name too long",
    }.items():
        with pytest.raises(OSError, match=rf"cannot be written: {why}\.$"):
            check_writable(os.path.join(str(tmp_path), bad))
    assert sorted(os.listdir(tmp_path)) == ["file", "pipe"]


def test_a_write_that_fails_names_the_file(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*file\.txt'"):
            write_text(str(tmp_path / "file.txt"), 100 * "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_read_only_takes_no_file(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"cannot be written: Permission denied\.$"):
        check_writable(str(tmp_path / "file"))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc, as Linux has it")
def test_a_place_where_not_even_root_can_write_is_refused():
    with pytest.raises(OSError, match="/proc/scores.json cannot be written"):
        check_writable("/proc/scores.json")


def test_checking_leaves_nothing(tmp_path):
    check_writable(str(tmp_path / "new" / "file"))
    assert not os.listdir(tmp_path)


def test_a_url_is_not_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match="'gs://bucket/scores.json' must be a path of this machine"
    ):
        check_writable("gs://bucket/scores.json")
    assert not os.listdir(tmp_path)
