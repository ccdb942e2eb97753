"""Accuracy counts what it says, and the network sees the middle of the image."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.classify import ACCURACIES, Classify, ClassifyResult
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval
from jpu_tf.sliding_window import SlidingWindow

K = 8
SPEC = DatasetSpec(
    name="numbers",
    class_names=tuple(f"class {i}" for i in range(K)),
    ignore_label=-1,
    palette=bit_palette(K),
    splits={"val": 3},
)
OPTIONS = Eval(best_metric="top_1")


def _model(kernel, bias=0.0):
    """A linear network of the mean color: [N, H, W, 3] -> [N, K]."""
    image = keras.Input((None, None, 3))
    dense = keras.layers.Dense(K)
    model = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(image)))
    dense.set_weights([np.broadcast_to(kernel, (3, K)), np.broadcast_to(bias, K)])
    return model


def _ordered():
    """A network whose logits are largest for class 0, then 1, and so on."""
    return _model(0.0, -np.arange(K, dtype=np.float32))


def _examples(labels, size=(6, 9)):
    maps = [np.broadcast_to(np.asarray(label, np.int32), size) for label in labels]
    images = [np.full((*size, 3), 3 * i, np.uint8) for i in range(len(labels))]
    names = [f"photo {i}" for i in range(len(labels))]
    parts = {"image": np.stack(images), "label": np.stack(maps), "name": names}
    return tf.data.Dataset.from_tensor_slices(parts)


def _evaluate(model, examples, predict=None, **options):
    predict = predict or Classify(size=5)
    return predict.evaluate(predict.predictor(model), examples, SPEC, OPTIONS, **options)


def test_top_1_and_top_5_are_shares_of_the_images():
    # The ranks of these classes are 0, 0, 1, 4, 5 and 7.
    result = _evaluate(_ordered(), _examples([0, 0, 1, 4, 5, 7]))
    assert result.scores == {"top_1": 2 / 6, "top_5": 4 / 6}
    assert result.scores.keys() == ACCURACIES.keys() == Classify().metrics.keys()
    assert result.all_scores == result.scores
    np.testing.assert_array_equal(
        result.class_scores["top_1"], [1, 0, np.nan, np.nan, 0, 0, np.nan, 0]
    )


@pytest.mark.parametrize("number", [1, 31, 32, 33, 70])
def test_images_are_counted_once_whatever_the_batches(number):
    labels = np.random.default_rng(number).integers(0, K, number)
    seen = []
    result = _evaluate(
        _ordered(), _examples(labels), progress=lambda done, total: seen.append((done, total))
    )
    assert result.num_examples == result.ranks.sum() == number
    np.testing.assert_array_equal(result.ranks.sum(axis=1), np.bincount(labels, minlength=K))
    assert result.scores["top_1"] == np.mean(labels == 0)
    assert seen == [(i, number) for i in range(1, number + 1)]


def test_each_image_is_scored_by_its_own_logits():
    # The mean color decides between class 0 and class 7.
    model = _model(np.eye(K)[7] - np.eye(K)[0], np.eye(K)[0] * 90 - np.eye(K)[7] * 90)
    result = _evaluate(model, _examples([0] * 10 + [7] * 15))
    # Image i has the color 3 i: the logit of class 7 is 9 i - 90, that of class 0 is 90 - 9 i.
    assert result.ranks[0, 0] == 10 and result.ranks[7, 0] == 14  # at i = 10 both are equal


def test_equal_logits_score_as_the_first_class():
    result = _evaluate(_model(0.0), _examples([0, 1, 5, 7]))
    assert result.scores == {"top_1": 1 / 4, "top_5": 2 / 4}


def test_a_class_whose_logit_is_nan_is_never_right():
    result = _evaluate(_model(0.0, np.where(np.arange(K) == 3, np.nan, 0.0)), _examples([3] * 4))
    assert result.scores == {"top_1": 0.0, "top_5": 0.0}


def test_void_does_not_count():
    label = np.full((6, 9), -1)
    label[2:4] = 1
    result = _evaluate(_ordered(), _examples([label, -1, 0]))
    assert result.num_examples == 3 and result.ranks.sum() == 2
    assert result.scores["top_1"] == 0.5
    with pytest.raises(ValueError, match="must have examples with a class .* none of 2 has one"):
        _evaluate(_ordered(), _examples([-1, -1]))


def test_a_label_of_several_classes_is_refused_by_name():
    label = np.zeros((6, 9))
    label[0, 0] = 2
    with pytest.raises(ValueError, match=r"'photo 1': .* one class everywhere; it has 0, 2\."):
        _evaluate(_ordered(), _examples([0, label]))


def test_a_value_that_is_no_class_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'photo 2': label values must be 0\.\.7 or -1"):
        _evaluate(_ordered(), _examples([0, 1, 8]))


def test_an_example_that_cannot_be_read_is_named():
    def broken(example):
        bad = tf.debugging.Assert(example["name"] != "photo 2", ["the file is gone"])
        with tf.control_dependencies([bad]):
            return {**example, "image": tf.identity(example["image"])}

    examples = _examples([0] * 4).map(broken)
    with pytest.raises(ValueError, match=r"^file 2 cannot be read: .*the file is gone"):
        _evaluate(_ordered(), examples, name_of=lambda index: f"file {index}")


def test_options_that_do_not_fit_are_refused():
    predictor = Classify(size=5).predictor(_ordered())
    for options, message in (
        (Eval(best_metric="mean_iou"), "best_metric must be one of top_1, top_5; got 'mean_iou'"),
        (Eval(best_metric="top_1", excluded_classes=(0,)), "excluded_classes must be empty"),
        (Eval(best_metric="top_1", trimap_widths=(1,)), "trimap_widths must be empty"),
    ):
        with pytest.raises(ValueError, match=message):
            Classify(size=5).evaluate(predictor, _examples([0]), SPEC, options)


def test_a_dataset_with_a_class_for_each_pixel_is_refused():
    spec = dataclasses.replace(SPEC, ignore_label=255)
    with pytest.raises(ValueError, match="needs a dataset with one class per image.* numbers has"):
        Classify().check(spec, OPTIONS)
    Classify().check(SPEC, OPTIONS)


def test_a_network_with_a_class_for_each_pixel_is_refused():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(K, 1)(image))
    with pytest.raises(ValueError, match=r"one class per image, .* shape \(None, None, None, 8\)"):
        Classify().predictor(model)


@pytest.mark.parametrize("predict", [WholeImage(), SlidingWindow()])
def test_a_network_with_one_class_per_image_has_no_label_maps(predict):
    with pytest.raises(ValueError, match=r"for each pixel, .* shape \(None, 8\)\. .*=classify\."):
        predict.predictor(_ordered())


def test_the_middle_of_the_image_is_seen():
    image = np.zeros((80, 160, 3), np.uint8)
    image[5:75, 10:150] = 200  # 0.875 of each side
    predictor = Classify(size=20).predictor(_ordered())
    assert np.all(predictor.prepared(tf.constant(image)) == 200)
    whole = Classify(size=20, central_fraction=1.0).predictor(_ordered())
    prepared = whole.prepared(tf.constant(image)).numpy()
    assert prepared.shape == (20, 20, 3) and np.all(prepared[0] == 0) and prepared[10, 10, 0] == 200


def test_the_label_map_is_the_class_at_every_pixel():
    predictor = Classify(size=4).predictor(_model(0.0, np.eye(K)[6]))
    for dtype in (np.uint8, np.float32):
        label_map = predictor.label_map(np.full((3, 7, 3), 90, dtype))
        assert label_map.dtype == tf.int32 and label_map.shape == (3, 7)
        assert np.all(label_map == 6)
    np.testing.assert_allclose(
        predictor.probabilities(np.full((3, 7, 3), 90)),
        np.exp(np.eye(K)[6]) / np.exp(np.eye(K)[6]).sum(),
        rtol=1e-6,
    )


def test_weights_are_read_at_each_image():
    model = _model(0.0, np.eye(K)[6])
    predictor = Classify(size=4).predictor(model)
    image = np.zeros((3, 3, 3), np.uint8)
    assert predictor.label_map(image)[0, 0] == 6
    model.layers[-1].bias.assign(np.eye(K)[2])
    assert predictor.label_map(image)[0, 0] == 2


def test_text_and_json_have_every_class():
    ranks = np.zeros((K, 6), np.int64)
    ranks[0], ranks[3] = [3, 0, 0, 0, 0, 1], [0, 0, 2, 0, 0, 0]
    result = ClassifyResult(
        spec=SPEC,
        options=OPTIONS,
        predict=Classify(),
        ranks=ranks,
        predicted=np.bincount([0, 0, 0, 1, 4, 5], minlength=K),
        num_examples=7,
    )
    lines = result.text().splitlines()
    assert lines[1].split() == ["class", "0", "75.00", "4"]
    assert lines[2].split() == ["class", "1", "-", "0"]
    assert lines[-3:-1] == ["top-1 accuracy    50.00", "top-5 accuracy    83.33"]
    assert lines[-1] == "7 examples of numbers, split val"
    tree = json.loads(result.to_json())
    assert (tree["top_1"], tree["top_5"], tree["num_examples"]) == (0.5, 5 / 6, 7)
    assert tree["classes"]["class 0"] == {"top_1": 0.75, "images": 4}
    assert tree["classes"]["class 7"] == {"top_1": None, "images": 0}
    assert result.alarms == () and tree["alarms"] == []
    assert tree["predict"] == {"kind": "classify", "size": 299, "central_fraction": 0.875}


def test_an_export_is_refused_in_one_line():
    with pytest.raises(ValueError, match="^a network with one class per image is not exported"):
        Classify().export_model(_ordered())


def test_predictions_of_one_class_alone_are_an_alarm():
    ranks = np.zeros((K, 6), np.int64)
    ranks[0, 0], ranks[3, 2] = 2, 1
    result = ClassifyResult(
        spec=SPEC,
        options=OPTIONS,
        predict=Classify(),
        ranks=ranks,
        predicted=np.bincount([0, 0, 0], minlength=K),
        num_examples=3,
    )
    (alarm,) = result.alarms
    assert alarm.startswith("all images are predicted as class 0, while the labels show 2 classes.")
    assert result.text().splitlines()[-1] == f"warning: {alarm}"
    assert json.loads(result.to_json())["alarms"] == [alarm]


def test_the_table_of_the_classes_has_their_images_and_accuracy():
    ranks = np.zeros((K, 6), np.int64)
    ranks[1, :2] = (3, 1)
    result = ClassifyResult(
        spec=SPEC,
        options=OPTIONS,
        predict=Classify(),
        ranks=ranks,
        predicted=ranks.sum(axis=1),
        num_examples=4,
    )
    lines = result.to_csv().splitlines()
    assert lines[:3] == ["class,images,top_1", "class 0,0,", "class 1,4,0.750000"]
    assert len(lines) == K + 1
