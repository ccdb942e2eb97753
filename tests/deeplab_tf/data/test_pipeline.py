"""One order, whatever the start, and bad examples by name."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.augment import AUGMENTATIONS
from deeplab_tf.data.decoding import decode_image, decode_label

_SCALE = AUGMENTATIONS["random_scale"](step=0.0)
_CROP = AUGMENTATIONS["random_crop"](size=8)
_FLIP = AUGMENTATIONS["random_flip"]()
_FAULT = {"batch_size": 4, "seed": 3, "on_bad_example": "fail"}  # for `explain_failure`


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


def _batches(source, augment=(_SCALE, _CROP, _FLIP), **options):
    settings = {"batch_size": 4, "ignore_label": 255, "num_classes": 2, "seed": 3}
    return pipeline.train_batches(source, augment, **{**settings, **options})


def _indices(batch):
    return [int(image[label == 1].max()) for image, label in zip(
        batch["image"].numpy(), batch["label"].numpy(), strict=True)]  # fmt: skip


def test_every_pass_has_each_example_once_in_an_order_of_its_own():
    batches = list(_batches(_Numbered(8)).take(4))
    seen = [index for batch in batches for index in _indices(batch)]
    assert sorted(seen[:8]) == sorted(seen[8:]) == list(range(8))
    assert seen[:8] != seen[8:]


def test_batch_indices_are_those_of_the_examples_in_the_batch():
    for step, batch in enumerate(_batches(_Numbered(7)).take(4)):
        assert _indices(batch) == list(pipeline.batch_indices(7, 4, seed=3, step=step))


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


def _worker(number, workers, replicas):
    return tf.distribute.InputContext(
        num_input_pipelines=workers, input_pipeline_id=number, num_replicas_in_sync=replicas
    )


@pytest.mark.parametrize(("workers", "replicas"), [(1, 1), (1, 2), (1, 4), (2, 2), (2, 4), (4, 4)])
@pytest.mark.parametrize("on_bad_example", ["fail", "skip"])
def test_parts_of_all_workers_and_replicas_are_the_batch_of_one(workers, replicas, on_bad_example):
    source = _Numbered(7) if on_bad_example == "fail" else _WithFault(7)
    options = {"start_step": 5, "on_bad_example": on_bad_example}
    whole = list(_batches(source, **options).take(3))
    parts = [
        list(
            _batches(source, **options, part=_worker(i, workers, replicas)).take(
                3 * replicas // workers
            )
        )
        for i in range(workers)
    ]
    each = replicas // workers
    for step in range(3):
        shares = [share for part in parts for share in part[step * each : (step + 1) * each]]
        assert len(shares) == replicas
        for key in ("image", "label"):
            assert shares[0][key].shape[0] == 4 // replicas
            joined = np.concatenate([share[key] for share in shares])
            np.testing.assert_array_equal(joined, whole[step][key])


def test_worker_reads_its_own_share_alone():
    source, read = _Numbered(64), []
    whole = source.read

    def noting(index):
        (value,) = tf.numpy_function(lambda i: (read.append(int(i)), i)[1:], [index], [tf.int64])
        value.set_shape([])
        return whole(value)

    source.read = noting
    batches = iter(_batches(source, part=_worker(1, 2, 2)))
    own = {int(value) for _ in range(3) for value in np.unique(next(batches)["image"])}
    elements = [pipeline.batch_indices(64, 4, seed=3, step=step) for step in range(16)]
    mine = {int(i) for batch in elements for i in batch[2:]}
    assert set(read) <= mine and len(own) >= 3


@pytest.mark.parametrize("devices", [1, 2])
def test_strategy_gives_each_replica_its_part_of_the_batch_in_order(devices, capfd):
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(devices)])
    capfd.readouterr()
    distributed = pipeline.distributed_batches(
        strategy,
        _Numbered(7),
        (_SCALE, _CROP, _FLIP),
        batch_size=4,
        ignore_label=255,
        num_classes=2,
        seed=3,
        start_step=2,
        on_bad_example="fail",
        skipped=set(),
    )
    # Sharded by TensorFlow, every second example would be missing.
    whole_batches = _batches(_Numbered(7), start_step=2).take(3)
    for whole in whole_batches:
        (parts,) = next(distributed)
        for key in ("image", "label"):
            shares = strategy.experimental_local_results(parts[key])
            assert [share.shape[0] for share in shares] == [4 // devices] * devices
            np.testing.assert_array_equal(np.concatenate(shares), whole[key])
    assert "will not be optimized" not in capfd.readouterr().err


def test_distributed_batches_name_the_example_that_cannot_be_read():
    batches = pipeline.distributed_batches(
        tf.distribute.MirroredStrategy(["CPU:0"]),
        _WithFault(3),
        (_CROP,),
        batch_size=4,
        ignore_label=255,
        num_classes=2,
        seed=3,
        start_step=0,
        on_bad_example="fail",
        skipped=set(),
    )
    with pytest.raises(ValueError, match=r"cannot be read \(step 1\):\n  example 2: not a picture"):
        next(batches)


def test_label_that_is_not_a_class_names_the_example_and_the_value():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"not a class.*example \d.*\[5"):
        next(iter(_batches(_Numbered(1, label_value=5))))


def test_label_of_another_size_names_the_example():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"differ in size.*example \d"):
        next(iter(_batches(_Numbered(1, label_size=8))))


def test_every_index_is_equally_likely_to_be_first():
    firsts = [int(pipeline.batch_indices(3, 3, seed=1, step=step)[0]) for step in range(90)]
    assert min(np.bincount(firsts, minlength=3)) > 15  # about 30 each


class _WithFault(_Numbered):
    """Example 2 is a file that is not a picture."""

    def read(self, index):
        content = tf.where(index == 2, b"text", tf.io.encode_png(tf.zeros([9, 11, 3], tf.uint8)))
        example = super().read(index)
        return {**example, "image": example["image"] + decode_image(content)}


def test_another_example_replaces_a_bad_one_and_the_others_stay():
    skipped = set()
    sound = list(_batches(_Numbered(9), on_bad_example="skip").take(9))
    batches = list(_batches(_WithFault(9), on_bad_example="skip", skipped=skipped).take(9))
    assert skipped == {2}
    replaced = 0
    for step, (batch, whole) in enumerate(zip(batches, sound, strict=True)):
        for i, index in enumerate(pipeline.batch_indices(9, 4, seed=3, step=step)):
            if index == 2:
                replaced += 1
                assert _indices(batch)[i] != 2
            else:
                np.testing.assert_array_equal(batch["image"][i], whole["image"][i])
    assert replaced == 4  # 36 elements of 9 examples


def test_skipping_changes_nothing_where_nothing_is_bad():
    skipped = set()
    for a, b in zip(
        _batches(_Numbered(7)).take(4),
        _batches(_Numbered(7), on_bad_example="skip", skipped=skipped).take(4),
        strict=True,
    ):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])
    assert not skipped


def test_starting_later_gives_the_same_replacements():
    whole = list(_batches(_WithFault(9), on_bad_example="skip").take(8))
    later = list(_batches(_WithFault(9), on_bad_example="skip", start_step=4).take(4))
    for a, b in zip(whole[4:], later, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_label_that_is_not_a_class_is_skipped_too():
    class Mislabeled(_Numbered):
        def read(self, index):
            example = super().read(index)
            return {**example, "label": tf.where(index < 3, 7, example["label"])}

    skipped = set()
    batches = list(_batches(Mislabeled(9), on_bad_example="skip", skipped=skipped).take(9))
    assert {0, 1, 2} == skipped
    assert {i for batch in batches for i in _indices(batch)} == set(range(3, 9))


def test_nothing_readable_ends_with_the_reasons():
    source = _Numbered(5, label_value=7)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(_batches(source, on_bad_example="skip")))
    options = {**_FAULT, "on_bad_example": "skip"}
    text = pipeline.explain_failure(source, **options, first_step=0, error=caught.value)
    assert "label value is not a class" in text
    assert text.endswith("none of the 10 examples tried in its place could be read")


def test_failure_is_explained_by_the_names_of_the_bad_examples():
    source = _WithFault(9)
    bad = [step for step in range(9) if 2 in pipeline.batch_indices(9, 4, seed=3, step=step)]
    batches = iter(_batches(source))
    for _ in range(bad[0]):
        next(batches)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(batches)
    text = pipeline.explain_failure(source, **_FAULT, first_step=bad[0], error=caught.value)
    heading, *found, error = text.splitlines()
    assert heading == f"training examples cannot be read (step {bad[0] + 1}):"
    assert error.startswith("  the error was: not a picture that can be read")
    assert len(found) == 1 and found[0].startswith("  example 2: not a picture that can be read")


def test_failure_that_reading_does_not_reproduce_is_in_the_message_too():
    source = _Numbered(1, label_value=5)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(iter(_batches(source)))
    text = pipeline.explain_failure(source, **_FAULT, first_step=0, error=caught.value)
    assert "label value is not a class" in text and "[example 0] [5 5 5...]" in text


def test_first_line_of_an_error_is_its_message(tmp_path):
    def text_of(function, value):
        with pytest.raises(tf.errors.OpError) as caught:
            next(iter(tf.data.Dataset.from_tensors(value).map(function)))
        return pipeline.first_line(caught.value)

    assert text_of(decode_image, b"text").startswith("not a picture that can be read")
    assert text_of(decode_label, b"text") == "not a picture in PNG format"
    missing = str(tmp_path / "a.jpg")
    assert text_of(tf.io.read_file, missing) == f"{missing}; No such file or directory"


def test_empty_split_is_refused():
    with pytest.raises(ValueError, match="must have at least one example"):
        _batches(_Numbered(0))


class _AnySize(_Numbered):
    """The size is known only once an example is read, as with files."""

    def read(self, index):
        read = super().read(index)
        sizes = {"image": [None, None, 3], "label": [None, None], "name": []}
        return {key: tf.ensure_shape(_forget(read[key]), sizes[key]) for key in read}


def _forget(value):
    return tf.numpy_function(lambda v: v, [value], value.dtype)


def test_all_images_must_come_out_in_one_size():
    with pytest.raises(ValueError, match="needs random_crop or center_crop.*got random_flip"):
        _batches(_AnySize(1), (_FLIP,))
    with pytest.raises(ValueError, match="nothing after it.*got random_crop,random_scale"):
        _batches(_AnySize(1), (_CROP, _SCALE))
    with pytest.raises(ValueError, match="got nothing"):
        _batches(_AnySize(1), ())
    assert next(iter(_batches(_AnySize(1), (_CROP,))))["image"].shape == (4, 8, 8, 3)


def test_one_size_need_not_be_square():
    assert next(iter(_batches(_Numbered(1), ())))["image"].shape == (4, 9, 11, 3)


@pytest.mark.parametrize("ignore_label", [255, 7, -1])
def test_pixels_that_augmentations_add_get_the_ignore_label(ignore_label):
    batch = next(iter(_batches(_Numbered(1), (AUGMENTATIONS["random_crop"](size=12),),
                               ignore_label=ignore_label)))  # fmt: skip
    expected = np.full((12, 12), ignore_label)
    expected[:9, :11] = 1
    np.testing.assert_array_equal(batch["label"][0], expected)


def test_evaluation_reads_in_order_at_the_examples_own_sizes():
    examples = list(pipeline.eval_examples(_Numbered(3)))
    assert [int(e["image"][0, 0, 0]) for e in examples] == [0, 1, 2]
    assert examples[0]["image"].shape == (9, 11, 3) and examples[0]["label"].shape == (9, 11)
    some = pipeline.eval_examples(_Numbered(5), [3, 1])
    assert [int(e["image"][0, 0, 0]) for e in some] == [3, 1]


def test_evaluation_waits_for_no_thread_that_tunes_it():
    assert pipeline.eval_examples(_Numbered(3)).options().autotune.enabled is False
