"""The embedded dataset: the same pictures always, through TFDS as real data."""

import numpy as np
import pytest

from deeplab_tf.data import pipeline
from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets import shapes


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


def test_two_processes_may_prepare_it_at_once(tmp_path, monkeypatch):
    dataset = shapes.Shapes(num_examples=8)
    others = []

    def overtaken(split, index):
        if not others:  # while we draw, another process begins and ends
            others.append(None)
            others.append(dataset.open(str(tmp_path)))
        return draw(split, index)

    draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", overtaken)
    assert check_dataset(dataset.open(str(tmp_path))).problems == ()
    assert len(others) == 2
    assert [path.name for path in tmp_path.glob("shapes/*/*")] == ["1.0.0"]


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
