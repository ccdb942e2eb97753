"""The drawn classes: the same pictures always, each with one class."""

import numpy as np

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets import DrawnClasses, drawn_classes


def test_a_picture_depends_on_split_and_index_alone():
    (image, number), (again, same) = (drawn_classes.draw("train", 3) for _ in range(2))
    np.testing.assert_array_equal(image, again)
    assert number == same
    for other, _ in (drawn_classes.draw("val", 3), drawn_classes.draw("train", 4)):
        assert other.shape != image.shape or np.any(other != image)


def test_all_classes_are_drawn_equally_often():
    numbers = [drawn_classes.draw("val", index)[1] for index in range(200)]
    assert drawn_classes.CLASS_NAMES == ("ellipse", "polygon", "star", "stroke")
    assert np.bincount(numbers).min() > 35


def test_the_prepared_dataset_holds_the_drawn_pictures(tmp_path):
    dataset = DrawnClasses(num_examples=8).open(str(tmp_path))
    assert dataset.spec.splits == {"train": 8, "val": 2}
    assert dataset.spec.class_names == drawn_classes.CLASS_NAMES
    for split in ("train", "val"):
        source = dataset.source(split)
        for position in range(len(source)):
            image, number = drawn_classes.draw(split, int(source.name(position).split("-")[1]))
            example = source.read(position)
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(example["label"], np.full(image.shape[:2], number))
    assert check_dataset(dataset).problems == ()
