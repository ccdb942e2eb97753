import dataclasses
import gc
import importlib.util
import json
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.backbones import mobilenet_v2, resnet, resnet_deep_stem, xception
from deeplab_tf.evaluation.whole_image import (
    WholeImage,
    predict_label_map,
    predict_probabilities,
)
from deeplab_tf.layers import ResizeLike
from deeplab_tf.layers.names import LOGITS_RESIZE
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.weights import fit_weights
from deeplab_tf.weights.deeplab_tf1 import to_our_names


def pointwise_model() -> keras.Model:
    """Logits (r, g, b) / 100 of the pixel itself."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, use_bias=False)(image))
    model.set_weights([np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3) / 100])
    return model


def leftward_model() -> keras.Model:
    """Logits of the left neighbour's (r, g, b) / 100: a flip matters."""
    image = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)
    model = keras.Model(image, layer(image))
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 0] = np.eye(3) / 100
    layer.set_weights([kernel])
    return model


def gradient_image(height: int, width: int) -> np.ndarray:
    """Linear in the position, so that resizing with align_corners=True is exact."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([8 * rows, 8 * columns, 4 * rows + 4 * columns], -1).astype(np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def test_one_pass_is_the_softmax_of_the_logits():
    image = gradient_image(5, 7)
    probabilities = predict_probabilities(pointwise_model(), image)
    assert probabilities.dtype == "float32"
    np.testing.assert_allclose(probabilities, softmax(image / 100), rtol=1e-5)


def test_padding_is_what_the_network_sees_and_is_cut_off():
    image = gradient_image(5, 7)
    padded = np.full((9, 11, 3), 127.5, np.float32)
    padded[:5, :7] = image
    how, model = WholeImage(scales=(0.5, 1.0, 1.5), flip=True), leftward_model()
    found = how.replace(pad_size=(9, 11)).predictor(model).probabilities(image)
    expected = how.predictor(model).probabilities(padded)
    np.testing.assert_allclose(found, expected[:5, :7], rtol=1e-6)
    assert np.abs(found - how.predictor(model).probabilities(image)).max() > 0.001


RESNET_7X7 = dataclasses.replace(resnet.SPECS["resnet_tiny"], stem="7x7")


@pytest.mark.parametrize(
    ("family", "spec", "color"),
    [
        (mobilenet_v2, mobilenet_v2.SPECS["mobilenet_v2_tiny"], [127.5] * 3),
        (xception, xception.SPECS["xception_tiny"], [127.5] * 3),
        (resnet, resnet.SPECS["resnet_tiny"], [127.5] * 3),
        # code: the means that these subtract
        (resnet, RESNET_7X7, [123.15, 115.90, 103.06]),
        (
            resnet_deep_stem,
            resnet_deep_stem.SPECS["resnet_deep_stem_tiny"],
            [255 * 0.485, 255 * 0.456, 255 * 0.406],
        ),
    ],
)
def test_a_network_normalizes_the_padding_to_zero(family, spec, color):
    image = keras.Input((None, None, 3))
    options = {"multi_grid": family.MULTI_GRID} if hasattr(family, "MULTI_GRID") else {}
    features = family.build(spec, image, output_stride=16, norm=family.NORM, **options)
    rescale = keras.Model(image, features.conv2).get_layer("backbone_rescale")
    conv = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)
    model = keras.Model(image, conv(rescale(image)))
    # It pads with zeros itself, so that the padding changes nothing.
    pixels = gradient_image(5, 7)
    padded = WholeImage(pad_size=(9, 11)).predictor(model).probabilities(pixels)
    np.testing.assert_allclose(padded, predict_probabilities(model, pixels), atol=1e-5)
    seen = np.full((9, 11, 3), color, np.float32)
    seen[:5, :7] = pixels
    expected = predict_probabilities(model, seen)[:5, :7]
    np.testing.assert_allclose(padded, expected, atol=1e-5)


def test_gray_padding_would_differ_where_a_mean_is_subtracted():
    image = keras.Input((None, None, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)
    model = keras.Model(image, conv(keras.layers.Rescaling(1.0, [-123.15, -115.9, -103.06])(image)))
    conv.set_weights([np.ones((3, 3, 3, 3), np.float32) * [1e-3, 0.0, -1e-3]])
    pixels = gradient_image(5, 7)
    gray = np.full((9, 11, 3), 127.5, np.float32)
    gray[:5, :7] = pixels
    padded = WholeImage(pad_size=(9, 11)).predictor(model).probabilities(pixels).numpy()
    assert np.abs(padded - predict_probabilities(model, gray)[:5, :7]).max() > 0.01
    np.testing.assert_allclose(padded, predict_probabilities(model, pixels), atol=1e-5)


def test_images_above_the_size_of_padding_are_refused():
    predictor = WholeImage(pad_size=(9, 6)).predictor(pointwise_model())
    with pytest.raises(ValueError, match="at most pad_size, 9x6 pixels; got 5x7.*--predict.pad"):
        predictor.label_map(gradient_image(5, 7))


def test_label_map_of_one_pass_is_the_models_argmax():
    image, model = gradient_image(9, 6), pointwise_model()
    label_map = predict_label_map(model, image)
    assert label_map.dtype == "int32"
    np.testing.assert_array_equal(label_map, model.predict(image[None], verbose=0)[0].argmax(-1))


def test_scales_of_a_linear_image_give_what_one_scale_gives():
    # 9 -> 5 and 17 with align_corners=True; a pointwise model keeps linear images linear.
    image, model = gradient_image(9, 17), pointwise_model()
    once = predict_probabilities(model, image)
    several = predict_probabilities(model, image, scales=(0.5, 1.0, 2.0))
    np.testing.assert_allclose(several, once, atol=1e-5)


def test_probabilities_not_logits_are_averaged_over_flips():
    image, model = gradient_image(4, 6), leftward_model()
    plain = softmax(model.predict(image[None], verbose=0)[0])
    flipped = softmax(model.predict(image[None, :, ::-1], verbose=0)[0])[:, ::-1]
    assert np.abs(plain - flipped).max() > 0.01  # else the test shows nothing
    averaged = predict_probabilities(model, image, flip=True)
    np.testing.assert_allclose(averaged, (plain + flipped) / 2, rtol=1e-5)
    np.testing.assert_array_equal(
        predict_label_map(model, image, flip=True), ((plain + flipped) / 2).argmax(-1)
    )


def test_different_sizes_scales_and_flips_share_one_trace():
    traces = []

    class CountsTraces(keras.layers.Layer):
        def call(self, x):
            traces.append(x.shape)
            return x

        def compute_output_shape(self, shape):
            return shape

    image = keras.Input((None, None, 3))
    model = keras.Model(image, CountsTraces()(image))
    predictor = WholeImage(scales=(0.5, 1.0), flip=True).predictor(model)
    traces.clear()  # of building the model
    predictor.probabilities(gradient_image(5, 7))
    predictor.probabilities(gradient_image(8, 3))
    predictor.label_map(gradient_image(1, 1))
    assert len(traces) == 1


def test_a_predictor_follows_the_models_weights():
    image, model = gradient_image(4, 4) + np.uint8(1), pointwise_model()
    predictor = WholeImage().predictor(model)
    before = predictor.probabilities(image)
    model.set_weights([2 * model.get_weights()[0]])
    after = predictor.probabilities(image)
    np.testing.assert_allclose(after, softmax(2 * image / 100), rtol=1e-5)
    assert np.abs(before - after).max() > 0.001


def test_a_predictor_does_not_keep_its_model_alive():
    model = pointwise_model()
    predictor = WholeImage().predictor(model)
    predictor.probabilities(gradient_image(3, 3))
    reference = weakref.ref(model)
    del model, predictor
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None


def test_an_image_of_one_pixel_can_be_scaled_down():
    probabilities = predict_probabilities(pointwise_model(), gradient_image(1, 1), scales=(0.25,))
    np.testing.assert_allclose(probabilities, np.full((1, 1, 3), 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 3), (4, 4, 4), (0, 4, 3)])
def test_an_array_that_is_not_an_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"image must be \[H, W, 3\]"):
        predict_probabilities(pointwise_model(), np.zeros(shape, np.uint8))


def test_floats_in_0_to_1_are_refused_and_other_floats_are_not():
    image, predictor = gradient_image(4, 4), WholeImage().predictor(pointwise_model())
    for wrong in (image / 255, tf.constant(image / 255, tf.float32)):
        with pytest.raises(ValueError, match="these floats lie in 0..1. Multiply by 255"):
            predictor.label_map(wrong)
    expected = predictor.label_map(image)
    for right in (image.astype(np.float64), image.astype(np.int64), tf.constant(image)):
        np.testing.assert_array_equal(predictor.label_map(right), expected)
    predictor.label_map(np.eye(4)[..., None] * [0.0, 1.0, 0.0])  # may be nearly black


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "^scales must be one or more numbers"),
        ({"scales": (0.0,)}, "^scales must be above 0"),
        ({"scales": (1.0, -1.0)}, "^scales must be above 0"),
        ({"pad_size": (513, 0)}, "^pad_size must be at least 1"),
        ({"output_stride": 3}, r"^output_stride must be 8\|16\|32, or none; got 3"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WholeImage(**options)


def test_an_export_at_one_scale_is_of_the_model_itself():
    model = pointwise_model()
    assert WholeImage(output_stride=8).export_model(model) is model


@pytest.mark.parametrize("options", [{"pad_size": (9, 9)}, {"tile": 64}])
def test_what_an_export_cannot_do_is_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"--predict.{name} is not for exports"):
        WholeImage(**options).export_model(pointwise_model())


def test_a_model_in_training_on_two_replicas_predicts_too():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = pointwise_model()
    image = gradient_image(3, 4)
    np.testing.assert_allclose(predict_probabilities(model, image), softmax(image / 100), rtol=1e-5)


def test_scales_and_flips_equal_the_released_codes(shared_dir):
    directory = shared_dir / "reference" / "deeplab"
    rule_file = importlib.util.spec_from_file_location("weight_rule", directory / "weight_rule.py")
    rule = importlib.util.module_from_spec(rule_file)
    rule_file.loader.exec_module(rule)
    name = "08_mobilenet_v2_os16_released"
    variables = json.loads((directory / f"{name}.json").read_text())["variables"]
    model = DeepLabV3Plus(21, backbone="mobilenet_v2", atrous_rates=(), decoder=False)
    arrays = {v["name"]: rule.make_weight(v["name"], v["shape"]) for v in variables}
    fit_weights(model, to_our_names(arrays, model))
    image = np.load(directory / f"{name}.npz")["input"]
    expected = np.load(directory / "x1_multiscale_flip_08.npz")
    scales = tuple(float(scale) for scale in expected["eval_scales"])
    assert min(scales) < 1 < max(scales)
    ours = predict_probabilities(model, image, scales=scales, flip=True).numpy()
    np.testing.assert_allclose(ours[::4, ::4], expected["mean_prob_every4"], atol=1e-6)
    # The margin is stored in half precision.
    differ = ours.argmax(-1) != expected["argmax"]
    assert not np.any(differ & (expected["margin"] > 1e-5))


def test_logits_of_small_scales_are_first_resized_to_their_size_at_scale_1():
    # Logits are every fourth row: 4 of 13 rows, and 3 of the 9 at scale 0.7.
    image = keras.Input((None, None, 3))
    logits = keras.layers.AveragePooling2D(1, strides=4, padding="same")(image / 50)
    model = keras.Model(image, ResizeLike(name=LOGITS_RESIZE)([logits, image]))
    pixels = np.zeros((13, 1, 3), np.uint8)
    pixels[[0, 6, 12], 0, 0] = [0, 200, 100]  # what the rows 0, 4 and 8 of 9 are
    probabilities = predict_probabilities(model, pixels, scales=(0.7,))
    of_scale_1 = np.interp([0, 4, 8, 12], [0, 6, 12], [0, 200, 100])
    red = np.interp(np.arange(13), [0, 4, 8, 12], of_scale_1) / 50
    expected = softmax(np.stack([red, 0 * red, 0 * red], -1))[:, None]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [(4098, 1), (1, 4097)])
def test_a_size_that_no_network_can_see_is_refused_before_the_image_is_resized(size):
    predictor = WholeImage(scales=(1.0, 16.0)).predictor(pointwise_model())
    message = r"at most 65535 pixels in height and width; got .* lower predict\.scales\.$"
    with pytest.raises(ValueError, match=message):
        predictor.label_map(np.zeros((*size, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (1.0, 1e300)}, "scales must be at most 16; got"),
        ({"pad_size": (10**6, 1)}, "pad_size must be at most 65535; got"),
    ],
)
def test_absurd_options_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        WholeImage(**options)
