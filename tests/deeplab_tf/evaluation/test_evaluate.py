import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.evaluate import evaluate
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import Eval

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
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, Eval())
    np.testing.assert_array_equal(result.matrix, [[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert result.num_examples == 2
    assert result.scores["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.scores["pixel_accuracy"] == pytest.approx(3 / 4)
    assert result.absent_classes == (2,)


def test_absent_and_excluded_classes_follow_the_options():
    options = Eval(excluded_classes=(0,), absent_classes="zero")
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, options)
    assert result.scores["mean_iou"] == pytest.approx((1 / 2 + 0) / 2)


def test_the_option_predict_is_for_models_and_not_for_predictors():
    class Always:
        num_classes = 3

        def label_map(self, image):
            return np.full(image.shape[:2], 2)

    class PredictAlways(WholeImage):
        def predictor(self, model):
            return Always()

    how = PredictAlways()
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, Eval(), predict=how)
    np.testing.assert_array_equal(result.matrix, [[0, 0, 2], [0, 0, 2], [0, 0, 0]])
    assert result.predict is how
    assert evaluate(brightest_channel_model(), two_sizes(), SPEC, Eval()).predict == WholeImage()
    given = evaluate(Always(), two_sizes(), SPEC, Eval())
    np.testing.assert_array_equal(given.matrix, result.matrix)
    assert given.predict is None
    with pytest.raises(ValueError, match="predict must be None for a predictor"):
        evaluate(Always(), two_sizes(), SPEC, Eval(), predict=how)


def test_progress_counts_the_examples():
    seen = []
    evaluate(
        brightest_channel_model(),
        two_sizes().apply(tf.data.experimental.assert_cardinality(2)),
        SPEC,
        Eval(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_a_faulty_example_is_named():
    wrong_value = examples(([[0]], [[0]]), ([[0]], [[7]]))
    with pytest.raises(ValueError, match=r"example 'example1': label values .* got 7"):
        evaluate(brightest_channel_model(), wrong_value, SPEC, Eval())
    wrong_size = examples(([[0, 0]], [[0]]))
    with pytest.raises(ValueError, match=r"example 'example0': .*same shape"):
        evaluate(brightest_channel_model(), wrong_size, SPEC, Eval())


def test_no_examples_is_an_error_not_a_score():
    with pytest.raises(ValueError, match="reds must have at least one example"):
        evaluate(brightest_channel_model(), two_sizes().take(0), SPEC, Eval())


def test_labels_without_classes_are_an_error_not_a_score():
    with pytest.raises(ValueError, match="all pixels of 1 examples are void"):
        evaluate(brightest_channel_model(), examples(([[0]], [[255]])), SPEC, Eval())


def test_a_model_of_other_classes_is_refused():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 1)(image))
    with pytest.raises(ValueError, match=r"one output per class of reds \(3\); it has 5"):
        evaluate(model, two_sizes(), SPEC, Eval())


def test_options_that_do_not_fit_are_refused_before_anything_is_read():
    unread = None
    with pytest.raises(ValueError, match="excluded_classes must be among"):
        evaluate(brightest_channel_model(), unread, SPEC, Eval(excluded_classes=(3,)))


def test_an_example_that_cannot_be_read_is_named():
    def damage(example):
        image = tf.io.decode_png(tf.where(example["name"] == "example1", b"no picture", png))
        return {**example, "image": image}

    png = tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8))
    faulty = examples(([[0]], [[0]]), ([[0]], [[0]])).map(damage)
    with pytest.raises(ValueError, match="^example 2 cannot be read: .*image"):
        evaluate(brightest_channel_model(), faulty, SPEC, Eval())
    with pytest.raises(ValueError, match="^file 1 cannot be read"):
        evaluate(brightest_channel_model(), faulty, SPEC, Eval(), name_of="file {}".format)
