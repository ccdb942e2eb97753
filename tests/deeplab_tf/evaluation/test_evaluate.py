import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.evaluate import Renumbered, evaluate
from deeplab_tf.evaluation.metrics import Counts, mean_iou, mean_iou_background_as_0
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


def test_bands_are_scored_in_the_same_pass_and_sum_up_over_images():
    both = examples(([[0, 0, 1, 1]], [[0, 1, 1, 255]]), ([[2], [1], [0]], [[255], [1], [1]]))
    plain = evaluate(brightest_channel_model(), both, SPEC, Eval())
    assert plain.trimap == {}
    result = evaluate(brightest_channel_model(), both, SPEC, Eval(trimap_widths=(1, 2)))
    np.testing.assert_array_equal(result.matrix, plain.matrix)
    for width, label in ((1, [[0, 1, 0], [0, 1, 0]]), (2, [[0, 2, 0], [0, 2, 0]])):
        np.testing.assert_array_equal(result.trimap[width].label, label)
        np.testing.assert_array_equal(result.trimap[width].intersection, [[0, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(result.trimap[2].predicted, [[1, 1, 0], [1, 1, 0]])
    assert result.trimap_scores[1]["mean_iou"] == 1
    assert result.trimap_scores[2]["pixel_accuracy"] == 1 / 2
    assert result.trimap_intervals[2]["pixel_accuracy"].low == 1 / 2
    alone = evaluate(brightest_channel_model(), both.take(1), SPEC, Eval(trimap_widths=(1, 2)))
    assert alone.trimap[2].label.shape == (1, 3) and alone.trimap_intervals == {}


WITH_GROUND = DatasetSpec(
    name="reds_and_ground",
    class_names=("ground", *SPEC.class_names),
    ignore_label=255,
    palette=((0, 0, 0), *SPEC.palette),
    splits={"val": 1},
)


def of_the_three_classes() -> Renumbered:
    predictor = WholeImage().predictor(brightest_channel_model())
    return Renumbered(predictor, (1, 2, 3), 4)


def test_a_class_that_the_network_lacks_is_never_predicted_and_gives_false_positives():
    shown = [[0, 0, 1, 1, 2, 0]]
    label = [[1, 1, 2, 0, 3, 0]]  # ground is predicted as green and as red
    result = evaluate(of_the_three_classes(), examples((shown, label)), WITH_GROUND, Eval())
    assert result.matrix[:, 0].sum() == 0
    assert result.matrix[0].tolist() == [0, 1, 1, 0]
    # ground 0; red 2 of 3, green 1 of 2, blue 1 of 1: without ground each would be 1.
    assert result.scores["mean_iou"] == pytest.approx((0 + 2 / 3 + 1 / 2 + 1) / 4)


@pytest.mark.parametrize("seed", range(2))
def test_the_score_with_background_is_59_60_of_the_other_only_if_background_is_not_counted(seed):
    random = np.random.default_rng(seed)
    shown = random.integers(0, 3, (6, 7))
    known = np.where(random.random(shown.shape) < 0.7, shown, random.integers(0, 3, shown.shape))
    is_ground = random.random(shown.shape) < 0.3
    options = Eval(absent_classes="zero")

    of_three = examples((shown, np.where(is_ground, 255, known)))
    three = evaluate(brightest_channel_model(), of_three, SPEC, options).matrix
    named = mean_iou_background_as_0(Counts.of(three), options)
    assert named == pytest.approx(mean_iou(Counts.of(three), options) * 3 / 4, rel=1e-15)

    not_counted = examples((shown, np.where(is_ground, 255, known + 1)))
    result = evaluate(of_the_three_classes(), not_counted, WITH_GROUND, options)
    assert result.scores["mean_iou"] == pytest.approx(named, rel=1e-15)

    counted = examples((shown, np.where(is_ground, 0, known + 1)))
    result = evaluate(of_the_three_classes(), counted, WITH_GROUND, options)
    false_positives = result.matrix[0, 1:]
    union = three.sum(0) + three.sum(1) - three.diagonal()
    expected = (three.diagonal() / (union + false_positives)).sum() / 4
    assert result.scores["mean_iou"] == pytest.approx(expected, rel=1e-15)
    assert result.scores["mean_iou"] < named


def test_each_output_of_the_network_is_one_class_of_the_dataset():
    predictor = WholeImage().predictor(brightest_channel_model())
    for classes in ((1, 2), (1, 2, 4), (-1, 0, 1)):
        with pytest.raises(ValueError, match=r"^classes must be 3, one for each output .* 0..3;"):
            Renumbered(predictor, classes, 4)


def test_each_image_keeps_its_name_and_its_own_counts():
    result = evaluate(brightest_channel_model(), two_sizes(), SPEC, Eval())
    assert result.names == ("example0", "example1")
    np.testing.assert_array_equal(result.images.intersection, [[1, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(result.images.label, [[1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(result.images.predicted, [[2, 0, 0], [1, 1, 0]])
    assert result.images.label.dtype == np.int64 and result.boundaries is None
    of_all = Counts.of(result.matrix)
    np.testing.assert_array_equal(result.images.sum().predicted, of_all.predicted)


def test_pixels_near_contours_are_counted_in_the_same_pass_when_asked():
    both = examples(([[0, 0, 1, 1]], [[0, 1, 1, 255]]), ([[2], [1], [0]], [[255], [1], [1]]))
    result = evaluate(brightest_channel_model(), both, SPEC, Eval(boundary_iou=True))
    # One row or one column: every pixel is at the border of the image, which is a contour.
    np.testing.assert_array_equal(result.boundaries.label, result.images.label)
    np.testing.assert_array_equal(result.boundaries.intersection, result.images.intersection)
    assert result.boundary_scores["mean_boundary_iou"] == result.scores["mean_iou"]
