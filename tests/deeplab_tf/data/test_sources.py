"""Sources that are made of others read what those read."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.sources import JoinedSource, RelabeledSource


class Numbers:
    """Examples whose label is their number."""

    def __init__(self, first: int, count: int):
        self._first, self._count = first, count

    def __len__(self):
        return self._count

    def read(self, index):
        tf.debugging.assert_less(index, tf.constant(self._count, tf.int64))
        label = tf.fill([2, 3], tf.cast(index, tf.int32) + self._first)
        return {"image": tf.zeros([2, 3, 3], tf.uint8), "label": label, "name": tf.constant("x")}

    def name(self, index):
        assert 0 <= index < self._count
        return str(self._first + index)


def _all(source) -> list[int]:
    examples = pipeline.eval_examples(source)
    return [int(np.unique(example["label"])[0]) for example in examples]


def test_joined_sources_are_read_one_after_another():
    joined = JoinedSource([Numbers(10, 2), Numbers(20, 1), Numbers(30, 3)])
    assert len(joined) == 6
    assert _all(joined) == [10, 11, 20, 30, 31, 32]
    assert [joined.name(i) for i in range(6)] == ["10", "11", "20", "30", "31", "32"]


def test_relabeled_source_marks_what_has_no_new_number():
    source = RelabeledSource(Numbers(3, 3), {3: 255, 5: 0})
    assert _all(source) == [255, -1, 0]
    assert (len(source), source.name(1)) == (3, "4")


@pytest.mark.parametrize("index", [2, 5])
def test_eager_reading_works_too(index):
    joined = JoinedSource([Numbers(0, 2), Numbers(2, 4)])
    assert joined.read(tf.constant(index, tf.int64))["label"][0, 0] == index
