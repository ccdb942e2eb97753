"""One order, whatever the start, and bad examples by name."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.config import DataConfig
from deeplab_tf.data import pipeline
from deeplab_tf.data.decoding import decode_image, decode_label

_DATA = DataConfig(crop_size=8, batch_size=4, scale_step=0.0)


class _Numbered:
    """Examples whose pixels all hold their index."""

    def __init__(self, number, label_value=1, label_size=9):
        self._number, self._label_value, self._label_size = number, label_value, label_size

    def __len__(self):
        return self._number

    def read(self, index):
        value = tf.cast(index, tf.uint8)
        return {
            "image": tf.fill([9, 11, 3], value),
            "label": tf.fill([self._label_size, 11], self._label_value),
            "name": tf.strings.join(["example ", tf.strings.as_string(index)]),
        }

    def name(self, index):
        return f"example {index}"


def _batches(source, *, seed=3, start_step=0, data=_DATA):
    return pipeline.train_batches(
        source, data, ignore_label=255, num_classes=2, seed=seed, start_step=start_step
    )


def _indices(batch):
    return [int(image[label == 1].max()) for image, label in zip(
        batch["image"].numpy(), batch["label"].numpy(), strict=True)]  # fmt: skip


def test_every_pass_has_each_example_once_in_an_order_of_its_own():
    batches = list(_batches(_Numbered(8)).take(4))
    seen = [index for batch in batches for index in _indices(batch)]
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert seen[:8] != seen[8:]


def test_batch_indices_says_what_a_batch_holds():
    for step, batch in enumerate(_batches(_Numbered(7)).take(4)):
        assert _indices(batch) == list(pipeline.batch_indices(7, _DATA, seed=3, step=step))


def test_starting_later_gives_the_same_batches():
    whole = list(_batches(_Numbered(7)).take(5))
    for a, b in zip(whole[3:], _batches(_Numbered(7), start_step=3).take(2), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])


def test_seed_changes_the_order():
    first = [_indices(next(iter(_batches(_Numbered(50), seed=s)))) for s in (1, 2)]
    assert first[0] != first[1]


def test_one_example_makes_a_batch_of_it_augmented_differently():
    batch = next(iter(_batches(_Numbered(1))))
    assert _indices(batch) == [0, 0, 0, 0]


def test_shapes_are_static_and_types_as_promised():
    spec = _batches(_Numbered(3)).element_spec
    assert spec == {
        "image": tf.TensorSpec([4, 8, 8, 3], tf.float32),
        "label": tf.TensorSpec([4, 8, 8], tf.int32),
    }


def test_two_replicas_share_the_batch_that_one_would_have():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(_batches(_Numbered(7)))
    for whole, parts in zip(_batches(_Numbered(7)).take(3), distributed, strict=False):
        for key in ("image", "label"):
            halves = strategy.experimental_local_results(parts[key])
            assert [half.shape[0] for half in halves] == [2, 2]
            np.testing.assert_array_equal(np.concatenate(halves), whole[key])


def test_label_that_is_no_class_names_the_example_and_the_value():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"no class.*example \d.*\[5"):
        next(iter(_batches(_Numbered(1, label_value=5))))


def test_label_of_another_size_names_the_example():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"differ in size.*example \d"):
        next(iter(_batches(_Numbered(1, label_size=8))))


def test_an_index_is_drawn_by_chance_alike():
    data = DataConfig(batch_size=3)
    firsts = [int(pipeline.batch_indices(3, data, seed=1, step=step)[0]) for step in range(90)]
    assert min(np.bincount(firsts, minlength=3)) > 15  # 30 each, give or take


class _WithFault(_Numbered):
    """Example 2 is a file that is no picture."""

    def read(self, index):
        content = tf.where(index == 2, b"text", tf.io.encode_png(tf.zeros([9, 11, 3], tf.uint8)))
        return {**super().read(index), "image": decode_image(content)}


def test_failure_is_explained_by_the_names_of_the_bad_examples():
    source = _WithFault(9)
    bad = [step for step in range(9) if 2 in pipeline.batch_indices(9, _DATA, seed=3, step=step)]
    batches = iter(_batches(source))
    for _ in range(bad[0]):
        next(batches)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(batches)
    text = pipeline.explain_failure(source, _DATA, seed=3, first_step=bad[0], error=caught.value)
    heading, *found, error = text.splitlines()
    assert heading == f"training examples cannot be read (step {bad[0] + 1}):"
    assert error.startswith("  the error was: Unknown image file format.")
    assert len(found) == 1 and found[0].startswith("  example 2: Unknown image file format.")


def test_failure_that_reading_does_not_show_is_told_all_the_same():
    source = _Numbered(1, label_value=5)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(_batches(source)))
    text = pipeline.explain_failure(source, _DATA, seed=3, first_step=0, error=caught.value)
    assert "label value is no class" in text and "[example 0] [5 5 5...]" in text


def test_first_line_of_an_error_is_what_it_says(tmp_path):
    def text_of(function, value):
        with pytest.raises(tf.errors.OpError) as caught:
            next(iter(tf.data.Dataset.from_tensors(value).map(function)))
        return pipeline.first_line(caught.value)

    assert text_of(decode_image, b"text").startswith("Unknown image file format.")
    assert text_of(decode_label, b"text") == "not a picture in PNG format"
    missing = str(tmp_path / "a.jpg")
    assert text_of(tf.io.read_file, missing) == f"{missing}; No such file or directory"


def test_empty_split_is_refused():
    with pytest.raises(ValueError, match="must have at least one example"):
        _batches(_Numbered(0))


def test_crop_is_needed_and_unknown_augmentations_get_a_suggestion():
    with pytest.raises(ValueError, match="must include random_crop"):
        _batches(_Numbered(1), data=DataConfig(augmentations=("random_flip",)))
    with pytest.raises(ValueError, match="nothing after it that changes sizes"):
        _batches(_Numbered(1), data=DataConfig(augmentations=("random_crop", "random_scale")))
    with pytest.raises(ValueError, match="unknown augmentation 'random_flop'.*'random_flip'"):
        _batches(_Numbered(1), data=DataConfig(augmentations=("random_flop",)))


def test_evaluation_reads_in_order_at_the_examples_own_sizes():
    examples = list(pipeline.eval_examples(_Numbered(3)))
    assert [int(e["image"][0, 0, 0]) for e in examples] == [0, 1, 2]
    assert examples[0]["image"].shape == (9, 11, 3) and examples[0]["label"].shape == (9, 11)
