"""FastFCN's evaluation through windows, and the model that exports use instead."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.evaluate import evaluate
from deeplab_tf.layers import SegmentationModel
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import Eval
from jpu_tf.sliding_window import (
    SlidingWindow,
    at_trained_sizes,
    resize_scores,
    size_at,
    window_starts,
)

MEAN, STDDEV = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CASES = [
    f"{size}_{how}"
    for size in ("375x500", "500x333", "120x500", "300x300")
    for how in ("ss", "ms", "s0.75f", "s1.75")
]


class LinearInColorAndPlace(keras.layers.Layer):
    """The released evaluator's stand-in for a network; it normalizes the image itself."""

    def __init__(self, weights):
        super().__init__()
        self.projection = tf.constant(weights)

    def call(self, image):
        normalized = (image / 255 - MEAN.astype(np.float32)) / STDDEV.astype(np.float32)
        height, width = tf.unstack(tf.shape(image)[1:3])
        row = tf.range(height, dtype=tf.float32)[:, None, None]
        column = tf.range(width, dtype=tf.float32)[None, :, None]
        k = tf.range(5, dtype=tf.float32)
        place = 0.004 * k * row / 10 + 0.003 * (k - 2) * column / 10
        return tf.matmul(normalized, self.projection[None]) + place

    def compute_output_shape(self, shape):
        return (*shape[:3], 5)


@pytest.fixture(scope="module")
def released(shared_dir):
    """(cases by key, arrays, sizes, the model) of the released evaluator's runs."""
    directory = shared_dir / "reference" / "fastfcn"
    description = json.loads((directory / "extras_multieval.json").read_text())
    arrays = np.load(directory / "extras_multieval.npz")
    image = keras.Input((None, None, 3))
    model = keras.Model(image, LinearInColorAndPlace(arrays["W"])(image))
    sizes = SlidingWindow(long_side=description["base_size"], window_size=description["crop_size"])
    return {case["key"]: case for case in description["cases"]}, arrays, sizes, model


@pytest.mark.parametrize("key", CASES)
def test_scores_equal_those_of_the_released_evaluator(released, key):
    """It normalizes first, then resizes and pads; here the model normalizes."""
    cases, arrays, sizes, model = released
    assert set(cases) == set(CASES)
    case = cases[key]
    height, width = case["H"], case["W"]
    y, x = np.mgrid[:height, :width]
    image = np.stack(
        [
            127 + 120 * np.sin(y / 37) * np.cos(x / 23),
            127 + 120 * np.sin((x + y) / 31),
            (x * 255 // (width - 1) + y) % 256,
        ],
        axis=-1,
    )
    image = image.clip(0, 255).astype(np.uint8)
    predict = sizes.replace(scales=tuple(case["scales"]), flip=case["flip"])
    scores = predict.predictor(model).scores(image).numpy()
    sampled = scores[arrays[f"{key}/rows"]][:, arrays[f"{key}/cols"]]
    np.testing.assert_allclose(sampled, arrays[f"{key}/scores"], rtol=5e-6)  # of float32
    assert scores.sum() == pytest.approx(case["score_sum"], rel=2e-6)
    np.testing.assert_array_equal(scores.argmax(-1), arrays[f"{key}/argmax"])


class Columns(keras.layers.Layer):
    """Logits (column in the window - start, 0)."""

    def __init__(self, start):
        super().__init__()
        self.start = start

    def call(self, image):
        columns = tf.range(tf.shape(image)[2], dtype=tf.float32) * tf.ones_like(image[..., 0])
        return tf.stack([columns - self.start, tf.zeros_like(columns)], axis=-1)

    def compute_output_shape(self, shape):
        return (*shape[:3], 2)


def column_model(start: float = 0.0) -> keras.Model:
    image = keras.Input((None, None, 3))
    return keras.Model(image, Columns(start)(image))


def channels_model(factor: float = 1 / 100) -> keras.Model:
    """Logits (r, g, b) * factor of the pixel itself."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, keras.layers.Rescaling(factor)(image))


def right_neighbor_model() -> keras.Model:
    """Logits: the (r, g, b) of the pixel to the right; 0 right of the window."""
    image = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)
    model = keras.Model(image, layer(image))
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 2] = np.eye(3)
    layer.set_weights([kernel])
    return model


def _predictor(model, long_side, window_size, **options):
    predict = SlidingWindow(long_side=long_side, window_size=window_size, **options)
    return predict.predictor(model)


@pytest.mark.parametrize(
    ("side", "starts"),
    [(1, [0]), (480, [0]), (481, [0, 320]), (800, [0, 320]), (801, [0, 320, 640])],
)
def test_windows_are_two_thirds_of_their_side_apart(side, starts):
    assert window_starts(side, 480) == starts


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [((375, 500), 520, (390, 520)), ((500, 333), 520, (520, 346)), ((3, 3), 7, (7, 7))],
)
def test_the_longer_side_is_fixed_and_the_other_rounded(size, long_side, expected):
    assert size_at(size, long_side) == expected


def test_a_side_never_vanishes():
    assert size_at((1, 2000), 100) == (1, 100)


def test_windows_are_averaged_where_they_overlap():
    predictor = _predictor(column_model(), 10, 6)
    scores = predictor.scores(np.zeros((1, 10, 3)))[0, :, 0]
    once = np.exp(np.arange(6.0))
    expected = [*once[:4], (once[4] + once[0]) / 2, (once[5] + once[1]) / 2, *once[2:]]
    np.testing.assert_allclose(scores, expected)


def test_what_is_beyond_the_image_is_black():
    predictor = _predictor(right_neighbor_model(), 3, 6)
    scores = predictor.scores(np.ones((2, 3, 3)))[..., 0]
    np.testing.assert_allclose(np.log(scores), [[1, 1, 0]] * 2)


def test_logits_of_the_flipped_window_are_added_before_the_exponential():
    predictor = _predictor(column_model(), 4, 4, flip=True)
    scores = predictor.scores(np.zeros((1, 4, 3)))
    np.testing.assert_allclose(np.log(scores[0, :, 0]), [3, 3, 3, 3])


def test_scores_are_summed_over_scales():
    image = np.full((3, 5, 3), 200)
    predictor = _predictor(channels_model(), 8, 6, scales=(0.5, 1.0, 2.0))
    scores = predictor.scores(image)
    assert scores.dtype == "float64"
    np.testing.assert_allclose(scores, np.full((3, 5, 3), 3 * np.exp(2.0)), rtol=1e-6)


def test_scores_that_float32_cannot_hold_are_compared():
    image = np.array([[[200, 201, 199], [20, 19, 21]]])
    for flip in (False, True):
        predictor = _predictor(channels_model(1.0), 2, 4, flip=flip)
        np.testing.assert_array_equal(predictor.label_map(image), [[1, 2]])


@pytest.mark.parametrize("value", [800.0, -800.0, float("nan")])
def test_scores_beyond_float64_are_an_error(value):
    predictor = _predictor(channels_model(1.0), 2, 4)
    with pytest.raises(FloatingPointError, match="exponentials of the model's logits"):
        predictor.label_map(np.full((1, 2, 3), value))


@pytest.mark.parametrize("size", [(5, 7), (2, 9), (1, 1)])
def test_scores_are_resized_as_tensorflow_resizes_with_align_corners(size):
    scores = np.random.default_rng(0).random((3, 4, 2))
    expected = tf.raw_ops.ResizeBilinear(
        images=scores[None].astype(np.float32), size=size, align_corners=True
    )
    np.testing.assert_allclose(resize_scores(tf.constant(scores), size), expected[0], rtol=1e-6)


def test_every_size_scale_and_flip_use_one_trace():
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, image):
            traces.append(image.shape)
            return image / 100

    image = keras.Input((None, None, 3))
    model = keras.Model(image, Counting()(image))
    predictor = _predictor(model, 8, 6, scales=(1.0, 1.5), flip=True)
    traces.clear()
    for size in ((3, 4), (9, 5)):
        predictor.label_map(np.zeros((*size, 3)))
    assert traces == [(1, 6, 6, 3)] * 2  # the window and the flipped one


def test_images_are_checked():
    predictor = _predictor(channels_model(), 8, 6)
    with pytest.raises(ValueError, match=r"image must be \[H, W, 3\]"):
        predictor.scores(np.zeros((1, 4, 5, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales must be one or more"),
        ({"scales": (1.0, 0.0)}, "scales must be above 0"),
        ({"long_side": 0}, "long_side must be at least 1"),
        ({"window_size": 0}, "window_size must be at least 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        SlidingWindow(**options)


def test_an_evaluation_goes_through_windows():
    spec = DatasetSpec(
        name="two",
        class_names=("right", "left"),
        ignore_label=255,
        palette=((0, 0, 0), (255, 0, 0)),
        splits={"val": 1},
    )
    image, label = np.zeros((1, 10, 3), np.uint8), np.zeros((1, 10), np.int32)
    examples = tf.data.Dataset.from_tensors({"image": image, "label": label, "name": "it"})
    model = column_model(4.5)
    whole = evaluate(model, examples, spec, Eval())
    np.testing.assert_array_equal(whole.matrix, [[5, 5], [0, 0]])
    # Columns 4 and 5 are the first two of the second window too, and only its last exceeds 4.5.
    predict = SlidingWindow(long_side=10, window_size=6)
    result = evaluate(model, examples, spec, Eval(), predict=predict)
    np.testing.assert_array_equal(result.matrix, [[1, 9], [0, 0]])


def test_an_export_resizes_images_to_the_next_size_of_the_crops_remainder_and_logits_back():
    sizes = []

    class Seen(keras.layers.Layer):
        def call(self, image):
            sizes.append(tuple(image.shape[1:3]))
            return image / 100

    image = keras.Input((None, None, 3))
    seeing = keras.Model(image, Seen()(image))
    model = SlidingWindow(window_size=33).export_model(seeing)
    for size in ((33, 65), (34, 64), (2, 129)):
        photo = np.stack([*np.mgrid[: size[0], : size[1]], np.full(size, 7)], -1).astype(np.float32)
        logits = model(photo[None])[0]
        np.testing.assert_allclose(logits, photo / 100, atol=1e-5)  # linear, so nothing is lost
    assert sizes[-3:] == [(33, 65), (65, 65), (33, 129)]
    assert model.compute_output_shape((1, 40, 50, 3)) == (1, 40, 50, 3)


def test_a_model_at_trained_sizes_keeps_weights_and_classes(tiny):
    spec = DatasetSpec(
        name="three",
        class_names=("a", "b", "c"),
        ignore_label=255,
        palette=((0, 0, 0), (255, 0, 0), (0, 255, 0)),
        splits={},
    )
    model = tiny().build(3)
    model.dataset_spec = spec
    resizing = at_trained_sizes(model, 48)
    assert isinstance(resizing, SegmentationModel)
    assert resizing.dataset_spec == spec
    assert {id(w) for w in resizing.weights} == {id(w) for w in model.weights}


def test_a_size_that_no_network_can_see_is_refused_before_the_image_is_resized():
    predictor = _predictor(channels_model(), 5000, 3, scales=(16.0,))
    message = r"at most 65535 pixels .*; got 80000x80000\. .* lower predict\.long_side or predict"
    with pytest.raises(ValueError, match=message):
        predictor.label_map(np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize("name", ["long_side", "window_size"])
def test_absurd_options_are_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be at most 65535; got 1000000"):
        SlidingWindow(**{name: 10**6})
