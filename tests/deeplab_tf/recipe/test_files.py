import os

import pytest

from deeplab_tf.recipe.files import write_bytes, write_text


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
