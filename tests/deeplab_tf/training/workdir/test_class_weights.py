"""Class weights from the labels."""

import json
from collections.abc import Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.data.datasets import Folder
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.class_weights import (
    class_frequencies,
    class_weights,
    median_frequency_weights,
)

# Class 0 is in both labels, 1 and 2 in one, 3 in none.
_LABELS = (
    np.array([[0, 0, 0, 1], [255, 255, 255, 255]]),
    np.array([[0, 2], [2, 255], [2, 2]]),
)
# Of 4 + 5 pixels with a class 4 are of class 0; of 4 one of class 1; of 5 four of class 2.
_FREQUENCIES = [4 / 9, 1 / 4, 4 / 5, 0]
_WEIGHTS = (1.0, (4 / 9) / (1 / 4), (4 / 9) / (4 / 5), 1.0)
_SPEC = DatasetSpec(
    name="drawn",
    class_names=("sky", "road", 'the "old" tree', "car"),
    ignore_label=255,
    palette=((0, 0, 0),) * 4,
    splits={"train": 2},
)


class Drawn:
    """Labels in memory; some cannot be read."""

    def __init__(self, labels: Sequence[np.ndarray], damaged: Sequence[int] = ()):
        self._labels, self._damaged = labels, damaged

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        def image(i):
            raise AssertionError("an image is decoded")

        def label(i):
            if int(i) in self._damaged:
                raise ValueError("truncated")
            return np.asarray(self._labels[int(i)], np.int32)

        def read(function, dtype, rank):
            value = tf.numpy_function(function, [index], dtype, stateful=False)
            value.set_shape([None] * rank)
            return value

        return {"image": read(image, tf.uint8, 3), "label": read(label, tf.int32, 2)}

    def name(self, index: int) -> str:
        return f"drawn-{index}"


def frequencies(source, **options) -> np.ndarray:
    return class_frequencies(source, 4, 255, **options)


def test_frequency_is_the_share_of_the_images_that_show_the_class():
    np.testing.assert_allclose(frequencies(Drawn(_LABELS)), _FREQUENCIES, rtol=1e-15)


def test_an_image_without_classes_changes_nothing():
    void = np.full((5, 5), 255)
    np.testing.assert_array_equal(frequencies(Drawn([*_LABELS, void])), frequencies(Drawn(_LABELS)))


def test_weight_is_the_median_over_the_frequency_and_1_where_no_image_shows_the_class():
    np.testing.assert_allclose(median_frequency_weights(np.array(_FREQUENCIES)), _WEIGHTS)
    assert median_frequency_weights(np.array([0.2, 0.6])) == pytest.approx((2, 2 / 3))


def test_labels_without_any_class_are_refused():
    with pytest.raises(ValueError, match="need labels with classes; all pixels are void"):
        median_frequency_weights(frequencies(Drawn([np.full((2, 2), 255)])))


def test_progress_counts_every_example():
    seen = []
    frequencies(Drawn(_LABELS), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Drawn([*_LABELS, _LABELS[0]], damaged=[2]), "training split: drawn-2: truncated"),
        (
            Drawn([*_LABELS, np.array([[0, 9]])]),
            r"drawn-2: label values must be 0..3 or 255 \(void\); got 9$",
        ),
        (Drawn([*_LABELS, np.array([[0, -1]])]), r"drawn-2: label values .* got -1$"),
    ],
)
def test_a_bad_example_is_named_or_left_out(bad, message):
    with pytest.raises(ValueError, match=message):
        frequencies(bad)
    left_out = frequencies(bad, on_bad_example="skip")
    np.testing.assert_array_equal(left_out, frequencies(Drawn(_LABELS)))


def test_files_of_a_folder_are_counted_without_decoding_images(photos, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    labels = sorted((photos / "train" / "labels").iterdir())
    for path in labels:  # the signature of a PNG and nothing more
        (images / path.name).write_bytes(b"\x89PNG\r\n\x1a\n")
    dataset = Folder(
        images_dir=str(images),
        labels_dir=str(photos / "train" / "labels"),
        val_images_dir=str(photos / "val" / "images"),
        val_labels_dir=str(photos / "val" / "labels"),
        class_names_file=str(photos / "classes.txt"),
    ).open(None)
    found = class_frequencies(dataset.source("train"), dataset.spec.num_classes, 255)
    arrays = [np.asarray(Image.open(path)) for path in labels]
    for c in range(dataset.spec.num_classes):
        showing = [array for array in arrays if (array == c).any()]
        pixels = sum((array == c).sum() for array in showing)
        total = sum((array != 255).sum() for array in showing)
        assert found[c] == (pixels / total if showing else 0)


def trained(workdir) -> None:
    """Makes a checkpoint in the workdir."""
    Checkpointer(str(workdir), keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])).save(1)


def test_a_resumed_run_has_the_weights_that_it_was_started_with(tmp_path):
    started = class_weights(str(tmp_path), Drawn(_LABELS), _SPEC)
    assert started == pytest.approx(_WEIGHTS)
    trained(tmp_path)
    nothing_readable = Drawn(_LABELS, damaged=[0, 1])
    assert class_weights(str(tmp_path), nothing_readable, _SPEC) == started


def test_a_run_that_starts_counts_again(tmp_path):
    class_weights(str(tmp_path), Drawn(_LABELS[:1]), _SPEC)
    assert class_weights(str(tmp_path), Drawn(_LABELS), _SPEC) == pytest.approx(_WEIGHTS)
    trained(tmp_path)
    assert class_weights(str(tmp_path), Drawn(_LABELS[:1]), _SPEC) == pytest.approx(_WEIGHTS)


def test_a_worker_that_does_not_save_finds_the_same_weights(tmp_path):
    unsaved = class_weights(str(tmp_path), Drawn(_LABELS), _SPEC, save=False)
    assert list(tmp_path.iterdir()) == []
    assert class_weights(str(tmp_path), Drawn(_LABELS), _SPEC) == unsaved


_DAMAGED = {
    "road is text": (lambda w: {**w, "road": "2"}, "class_weights.road must be a number; got '2'"),
    "road is negative": (lambda w: {**w, "road": -1.0}, "class_weights.road must be at least 0"),
    "road is NaN": (lambda w: {**w, "road": float("nan")}, "class_weights.road must be a finite"),
    "road is true": (lambda w: {**w, "road": True}, "class_weights.road must be a number; got Tru"),
    "other classes": (lambda w: {"sky": 1.0}, "class_weights must have the classes sky, road, "),
    "other order": (lambda w: dict(sorted(w.items())), "class_weights must have the classes sky,"),
    "a list": (list, "class_weights must be an object; got "),
}


@pytest.mark.parametrize("damage", _DAMAGED)
def test_a_damaged_file_is_named_with_its_key(tmp_path, damage):
    class_weights(str(tmp_path), Drawn(_LABELS), _SPEC)
    trained(tmp_path)
    path = tmp_path / "class_weights.json"
    tree = json.loads(path.read_text())
    change, message = _DAMAGED[damage]
    tree["class_weights"] = change(tree["class_weights"])
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError) as caught:
        class_weights(str(tmp_path), Drawn(_LABELS), _SPEC)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith("Remove the file: the labels are then counted again.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"class_weights": {', "not readable JSON: "),
        ("[]", "the top level must be an object"),
        ("{}", "class_weights must be there"),
        ('{"class_weights": {}, "by": "hand"}', "unknown key 'by'"),
    ],
)
def test_a_file_that_is_not_of_weights_is_named(tmp_path, content, message):
    class_weights(str(tmp_path), Drawn(_LABELS), _SPEC)
    trained(tmp_path)
    (tmp_path / "class_weights.json").write_text(content)
    with pytest.raises(ValueError, match=f"class_weights.json: {message}"):
        class_weights(str(tmp_path), Drawn(_LABELS), _SPEC)
