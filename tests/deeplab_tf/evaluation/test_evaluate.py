import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.recipe.options import EvalConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.evaluation.evaluate import evaluate

SPEC = DatasetSpec(
    name="reds",
    class_names=("red", "green", "blue"),
    ignore_label=255,
    palette=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    splits={"val": 2},
)


def brightest_channel_model() -> keras.Model:
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Rescaling(1 / 255)(image))


def examples(*pairs) -> tf.data.Dataset:
    """Pairs of nested lists of classes: the image shows one, the label holds the other."""

    def generate():
        for i, (shown, label) in enumerate(pairs):
            image = np.eye(3, dtype=np.uint8)[np.array(shown)] * 200
            yield {"image": image, "label": np.array(label, np.int32), "name": f"example{i}"}

    signature = {
        "image": tf.TensorSpec([None, None, 3], tf.uint8),
        "label": tf.TensorSpec([None, None], tf.int32),
        "name": tf.TensorSpec([], tf.string),
    }
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def two_sizes() -> tf.data.Dataset:
    return examples(([[0, 0, 1]], [[0, 1, 255]]), ([[0], [1]], [[0], [1]]))


def test_images_of_different_sizes_share_one_confusion_matrix():
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, EvalConfig())
    np.testing.assert_array_equal(result.confusion.matrix, [[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert result.num_examples == 2
    assert result.mean_iou == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.pixel_accuracy == pytest.approx(3 / 4)
    assert result.absent_classes == (2,)


def test_absent_and_excluded_classes_follow_the_config():
    config = EvalConfig(excluded_classes=(0,), absent_classes="zero")
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, config)
    assert result.mean_iou == pytest.approx((1 / 2 + 0) / 2)


def test_text_gives_percent_and_says_what_is_absent_or_excluded():
    result = evaluate(
        brightest_channel_model(), two_sizes(), SPEC, EvalConfig(excluded_classes=(0,))
    )
    red, green, blue, mean, accuracy, last = result.text().splitlines()[1:]
    assert red.split() == ["red", "66.67", "2", "excluded"]
    assert green.split() == ["green", "50.00", "2"]
    assert blue.split() == ["blue", "-", "0", "absent,", "left", "out"]
    assert mean.split() == ["mean", "IoU", "50.00"]
    assert accuracy.split() == ["pixel", "accuracy", "75.00"]
    assert last == "2 examples of reds, split val"


def test_json_is_strict_and_has_null_for_absent_classes():
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, EvalConfig())
    tree = json.loads(result.to_json(), parse_constant=pytest.fail)
    assert tree["iou"]["red"] == pytest.approx(2 / 3)
    assert tree["iou"]["blue"] is None
    assert tree["absent_classes"] == ["blue"]
    assert tree["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_progress_counts_the_examples():
    seen = []
    evaluate(
        brightest_channel_model(),
        two_sizes().apply(tf.data.experimental.assert_cardinality(2)),
        SPEC,
        EvalConfig(),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_a_faulty_example_is_named():
    wrong_value = examples(([[0]], [[0]]), ([[0]], [[7]]))
    with pytest.raises(ValueError, match=r"example 'example1': label values .* got 7"):
        evaluate(brightest_channel_model(), wrong_value, SPEC, EvalConfig())
    wrong_size = examples(([[0, 0]], [[0]]))
    with pytest.raises(ValueError, match=r"example 'example0': .*same shape"):
        evaluate(brightest_channel_model(), wrong_size, SPEC, EvalConfig())


def test_no_examples_is_an_error_not_a_score():
    with pytest.raises(ValueError, match="at least one example of reds"):
        evaluate(brightest_channel_model(), two_sizes().take(0), SPEC, EvalConfig())


def test_labels_without_classes_are_an_error_not_a_score():
    with pytest.raises(ValueError, match="all pixels of 1 examples are void"):
        evaluate(brightest_channel_model(), examples(([[0]], [[255]])), SPEC, EvalConfig())


def test_a_model_of_other_classes_is_refused():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 1)(image))
    with pytest.raises(ValueError, match=r"an output a class of reds \(3\); it has 5"):
        evaluate(model, two_sizes(), SPEC, EvalConfig())


def test_an_example_that_cannot_be_read_is_named():
    def damage(example):
        image = tf.io.decode_png(tf.where(example["name"] == "example1", b"no picture", png))
        return {**example, "image": image}

    png = tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8))
    faulty = examples(([[0]], [[0]]), ([[0]], [[0]])).map(damage)
    with pytest.raises(ValueError, match="^example 2 cannot be read: .*image"):
        evaluate(brightest_channel_model(), faulty, SPEC, EvalConfig())
    with pytest.raises(ValueError, match="^file 1 cannot be read"):
        evaluate(brightest_channel_model(), faulty, SPEC, EvalConfig(), name_of="file {}".format)
