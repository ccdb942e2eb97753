"""The embedded dataset: the same pictures always, through TFDS as real data."""

import concurrent.futures
import os
import resource
import threading
import time

import numpy as np
import pytest

from deeplab_tf.data import pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets import shapes


def _files(directory):
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def test_picture_depends_on_split_and_index_alone():
    first, again = shapes.draw("train", 3), shapes.draw("train", 3)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    others = [shapes.draw("val", 3), shapes.draw("train", 4)]
    assert all(other[0].shape != first[0].shape or np.any(other[0] != first[0]) for other in others)


def test_pictures_show_all_classes_with_void_on_every_boundary():
    seen = set()
    for index in range(12):
        image, label = shapes.draw("train", index)
        assert image.shape == (*label.shape, 3)
        assert 112 <= min(label.shape) and max(label.shape) <= 160
        seen |= set(np.unique(label).tolist())
        for a, b in ((label[:-1], label[1:]), (label[:, :-1], label[:, 1:])):
            assert not np.any((a != b) & (a != 255) & (b != 255))
        assert (label == 255).mean() < 0.15
    assert seen == {0, 1, 2, 3, 4, 255}


def test_prepared_dataset_holds_the_drawn_pictures(tmp_path):
    dataset = shapes.Shapes(num_examples=8).open(str(tmp_path))
    assert dataset.spec.splits == {"train": 8, "val": 2}
    names = set()
    for split in ("train", "val"):
        source = dataset.source(split)
        for position, example in enumerate(pipeline.eval_examples(source)):
            name = example["name"].numpy().decode()
            assert source.name(position) == name
            image, label = shapes.draw(split, int(name.split("-")[1]))
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(example["label"], label)
            names.add(name)
    assert len(names) == 10


def test_interrupted_preparation_is_not_taken_for_complete(tmp_path, monkeypatch):
    drawn = []

    def broken(split, index):
        drawn.append(index)
        if len(drawn) == 4:
            raise OSError("no space left on device")
        return draw(split, index)

    draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", broken)
    dataset = shapes.Shapes(num_examples=8)
    with pytest.raises(OSError, match="no space left"):
        dataset.open(str(tmp_path))
    assert len(drawn) == 4
    monkeypatch.undo()
    assert len(dataset.open(str(tmp_path)).source("train")) == 8


def test_two_that_prepare_it_at_once_do_so_one_after_the_other(tmp_path, monkeypatch, capfd):
    dataset = shapes.Shapes(num_examples=8)
    drawing, may_end = threading.Event(), threading.Event()
    drawn = []

    def slow(split, index):
        drawn.append((split, index))
        drawing.set()
        may_end.wait()
        return draw(split, index)

    draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", slow)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(dataset.open, str(tmp_path))
        drawing.wait()
        second = threads.submit(dataset.open, str(tmp_path))
        told = ""
        while "waiting" not in told:
            time.sleep(0.01)
            told += capfd.readouterr().err
        (unfinished,) = tmp_path.glob("shapes/train8/incomplete.*")  # that of the first
        may_end.set()
        for opened in (first.result(), second.result()):
            assert check_dataset(opened).problems == ()
    assert f"is in use by process {os.getpid()} on " in told
    assert len(drawn) == 10  # not twice
    assert _files(tmp_path) == _files(tmp_path / "shapes/train8/1.0.0")
    assert not unfinished.exists()


def test_what_a_killed_preparation_left_is_removed_by_the_next_one_of_the_same(tmp_path):
    left = [tmp_path / f"shapes/{name}/incomplete.7XK2LQ_1.0.0" for name in ("train4", "train8")]
    for directory in left:
        directory.mkdir(parents=True)
        (directory / "shapes-train.array_record-00000-of-00001").write_bytes(bytes(999))
    (tmp_path / "shapes/train4/1.0.0.lock").write_text("process 1 on elsewhere: python x.py")
    shapes.Shapes(num_examples=4).open(str(tmp_path))
    assert not left[0].exists() and left[1].exists()  # which may be running
    assert [path.name for path in (tmp_path / "shapes/train4").iterdir()] == ["1.0.0"]


def test_one_killed_at_its_very_end_is_complete_and_its_lock_is_removed(tmp_path):
    shapes.Shapes(num_examples=4).open(str(tmp_path))
    complete = _files(tmp_path)
    (tmp_path / "shapes/train4/1.0.0.lock").write_text("process 1 on elsewhere: python x.py")
    assert shapes.Shapes(num_examples=4).open(str(tmp_path)).spec.splits["train"] == 4
    assert _files(tmp_path) == complete


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_file_that_cannot_be_written_makes_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, in_memory
):
    if not in_memory:  # larger datasets are sorted in files
        monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 10_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="^shapes cannot be prepared in .*train8: ") as caught:
            shapes.Shapes(num_examples=8).open(str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value) and "File too large" in str(caught.value)
    assert _files(tmp_path) == []
    assert shapes.Shapes(num_examples=8).open(str(tmp_path)).spec.splits["train"] == 8


@pytest.mark.parametrize("data_dir", ["file", "file/below", "/proc/data"])
def test_a_data_dir_that_cannot_be_written_makes_one_line(tmp_path, data_dir):
    (tmp_path / "file").write_text("")
    path = os.path.join(tmp_path, data_dir)
    with pytest.raises(OSError) as caught:
        shapes.Shapes(num_examples=4).open(path)
    assert "\n" not in str(caught.value) and path in str(caught.value)


def test_order_on_disk_is_the_same_in_every_version(tmp_path):
    source = shapes.Shapes(num_examples=8).open(str(tmp_path)).source("train")
    order = [int(source.name(i).removeprefix("train-")) for i in range(8)]
    assert order == [2, 6, 0, 7, 3, 4, 1, 5]  # batches of older runs depend on it


def test_other_numbers_of_examples_are_other_datasets(tmp_path):
    for number in (4, 8):
        dataset = shapes.Shapes(num_examples=number).open(str(tmp_path))
        assert len(dataset.source("train")) == number


def test_a_damaged_directory_is_named(tmp_path):
    dataset = shapes.Shapes(num_examples=4)
    dataset.open(str(tmp_path))
    (tmp_path / "shapes/train4/1.0.0/dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"train4 of shapes .* is damaged: .* Remove this"):
        dataset.open(str(tmp_path))


def test_it_has_no_release(tmp_path):
    dataset = shapes.Shapes(num_examples=4)
    for options in ({"raw_dir": str(tmp_path)}, {"allow_subset": True}):
        with pytest.raises(ValueError, match="official release.*--dataset=shapes has none"):
            dataset.prepare(str(tmp_path), **options)
    assert dataset.prepare(str(tmp_path)).spec.splits == {"train": 4, "val": 1}


def test_few_examples_are_refused():
    with pytest.raises(ValueError, match="^num_examples must be at least 4; got 3"):
        shapes.Shapes(num_examples=3)
