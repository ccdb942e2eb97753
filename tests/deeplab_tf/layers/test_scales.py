"""Several scales and the mirrored image as one network: what the predictor averages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplab_tf
from deeplab_tf.data.datasets.shapes import draw
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.layers import SegmentationModel
from deeplab_tf.layers.resize import scaled_side
from deeplab_tf.layers.scales import MeanOverScales, _scaled
from jpu_tf.model import FastFCNConfig


def trained(model: keras.Model) -> keras.Model:
    """The network with kernels whose logits differ between pixels."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if "kernel" in weight.path:
            weight.assign(random.normal(0, 0.3, weight.shape))
    return model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return trained(
        deeplab_tf.DeepLabV3Plus(num_classes=3, backbone="mobilenet_v2_tiny", aspp_channels=8)
    )


def check(model: keras.Model, options: WholeImage) -> None:
    """The network of an export and the predictor agree, in one graph for all sizes."""
    exported = options.export_model(model)
    run = tf.function(
        lambda image: exported(image, training=False),
        input_signature=[tf.TensorSpec([None, None, None, 3])],
        autograph=False,
    )
    predictor, found = options.predictor(model), set()
    for height, width in ((65, 97), (64, 50), (33, 34)):
        image = draw("val", 3)[0][:height, :width]
        logits = run(image[None].astype(np.float32))[0]
        label_map = predictor.label_map(image).numpy()
        found.update(np.unique(label_map))
        np.testing.assert_array_equal(tf.argmax(logits, -1), label_map)
        probabilities = predictor.probabilities(image)
        # float32 rounds logits of tens differently in two graphs: 3e-6 was seen.
        np.testing.assert_allclose(tf.nn.softmax(logits), probabilities, atol=1e-5)
    assert len(found) > 1  # or all would agree


@pytest.mark.parametrize(
    "options",
    [
        WholeImage(scales=(0.7,), flip=True),
        # Each builds two networks more.
        pytest.param(WholeImage(scales=(0.5, 1.0, 1.75), flip=True), marks=pytest.mark.slow),
        pytest.param(WholeImage(flip=True), marks=pytest.mark.slow),
    ],
    ids=["a smaller scale and flip", "scales and flip", "flip"],
)
def test_the_export_gives_the_label_maps_of_the_predictor(network, options):
    check(network, options)


@pytest.mark.slow  # builds another network
def test_an_export_of_fastfcn_gives_the_label_maps_of_the_predictor():
    keras.utils.set_random_seed(1)
    model = trained(FastFCNConfig(backbone="resnet_deep_stem_tiny").build(3))
    check(model, WholeImage(scales=(0.5, 1.0, 1.5), flip=True))


def test_several_images_are_those_images_one_by_one(network):
    exported = WholeImage(scales=(0.5,)).export_model(network)
    images = np.stack([draw("val", i)[0][:40, :50] for i in range(2)]).astype(np.float32)
    both = exported(images).numpy()
    for image, logits in zip(images, both, strict=True):
        np.testing.assert_allclose(exported(image[None])[0], logits, atol=1e-4)


def test_sides_are_rounded_as_the_predictor_rounds_them():
    sides = range(1, 2050)
    for scale in (0.5, 0.7, 0.75, 1.1, 1.25, 1.75, 2.2):
        expected = [scaled_side(side, scale) for side in sides]
        np.testing.assert_array_equal(_scaled(tf.range(1, 2050), scale), expected)
        assert [_scaled(side, scale) for side in sides] == expected


def test_the_exported_network_keeps_classes_and_shape(network):
    exported = WholeImage(flip=True).export_model(network)
    assert isinstance(exported, SegmentationModel)
    assert exported.output_shape == (None, None, None, 3)


def test_scales_below_1_need_logits_of_a_regular_size():
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 2, strides=2, padding="valid")(image)
    with pytest.raises(ValueError, match="--predict.scales below 1 need a network whose logits"):
        MeanOverScales(keras.Model(image, logits), (0.5,), flip=False)
