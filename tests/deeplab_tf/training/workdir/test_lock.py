"""One training at a time in a workdir, and nothing left of one that was refused."""

import os
import subprocess
import sys

import pytest

from deeplab_tf.training.workdir.lock import held


def test_a_workdir_that_is_held_is_refused_with_the_holder(tmp_path):
    workdir = str(tmp_path / "run")
    with (
        held(workdir),
        pytest.raises(BlockingIOError, match=rf"the workdir {workdir} is in use by process \d+"),
        held(workdir),
    ):
        pass
    with held(workdir):  # free again
        pass


def test_directories_that_stay_empty_are_removed(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError), held(str(tmp_path / "mine" / "runs" / "a")):  # noqa: PT011
        raise ValueError
    assert os.listdir(tmp_path / "mine") == []
    with held(str(tmp_path / "mine" / "runs" / "a")):
        (tmp_path / "mine" / "runs" / "a" / "recipe.json").write_text("{}")
    assert os.listdir(tmp_path / "mine" / "runs" / "a") == ["recipe.json"]


def test_leftovers_of_dead_processes_are_removed_and_others_stay(tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    (tmp_path / "pictures").mkdir()
    dead = tmp_path / "pictures" / f"val-0.png.{child.stdout.strip()}.tmp"
    alive = tmp_path / f"evaluation.json.{os.getpid()}.tmp"
    mine = tmp_path / "notes.tmp"
    for path in (dead, alive, mine):
        path.write_text("")
    with held(str(tmp_path)):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([alive.name, mine.name, "pictures"])
    assert os.listdir(tmp_path / "pictures") == []


def test_a_workdir_that_cannot_be_written_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    workdir = str(tmp_path / "file" / "run")
    with (
        pytest.raises(OSError, match=r"the workdir .*file/run cannot be written: .*Not a dir"),
        held(workdir),
    ):
        pass
