"""Prediction in tiles equals the prediction of the whole image."""

import itertools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.backbones import BACKBONES
from deeplab_tf.evaluation.predict import check_network_size
from deeplab_tf.evaluation.stages import divided
from deeplab_tf.evaluation.tiles import TiledNetwork, resized_part, spans
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.layers import ResizeLike, layers_compute_in
from deeplab_tf.layers.memory import forward_bytes
from deeplab_tf.layers.names import LOGITS_RESIZE
from deeplab_tf.model import DeepLabV3Plus
from jpu_tf.heads import HEADS
from jpu_tf.model import FastFCN
from jpu_tf.upsamplers import UPSAMPLERS

TINY = [name for name in BACKBONES if name.endswith("_tiny")]
QUICK = ("deeplab-mobilenet_v2_tiny", "fastfcn-encoding")
HALF_FIELD = 256  # at least the distance to the edge of a tiny backbone's receptive field, pixels


def lively(model: keras.Model) -> keras.Model:
    """The model with weights that make the logits depend on the place in the image."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        values = rng.normal(size=weight.shape)
        if weight.name in ("kernel", "depthwise_kernel", "codewords"):
            fan_in = np.prod(weight.shape[:-1]) if weight.name == "kernel" else 9
            weight.assign(values * np.sqrt(2 / fan_in))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(0.1 * values)
    return model


@pytest.fixture(scope="module")
def deeplab() -> keras.Model:
    return lively(DeepLabV3Plus(3, backbone="mobilenet_v2_tiny", aspp_channels=8))


@pytest.fixture(scope="module")
def whole(deeplab):
    return WholeImage().predictor(deeplab)


@pytest.fixture(scope="module")
def tiled(deeplab):
    return WholeImage(tile=64).predictor(deeplab)


def logits_model(model: keras.Model) -> keras.Model:
    """Up to the logits at their own size."""
    return keras.Model(model.input, model.get_layer(LOGITS_RESIZE).input[0])


def photo(height: int, width: int) -> np.ndarray:
    """Noise over shapes."""
    rng = np.random.default_rng(height)
    coarse = rng.uniform(0, 255, (1, height // 40 + 2, width // 40 + 2, 3))
    smooth = tf.image.resize(coarse, (height, width))[0].numpy()
    return np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)


def networks() -> dict[str, Callable[[], keras.Model]]:
    """Each tiny backbone, head and upsampler, in one network or another."""

    def deeplab(**options):
        return lambda: DeepLabV3Plus(3, aspp_channels=8, decoder_convs=((3, 8),), **options)

    def fastfcn(head, upsampler, **options):
        options = {"backbone": "resnet_deep_stem_tiny", **options}
        return lambda: FastFCN(3, head=head, upsampler=upsampler, **options)

    made = {f"deeplab-{name}": deeplab(backbone=name) for name in TINY}
    made["deeplab-32"] = deeplab(backbone="mobilenet_v2_tiny", output_stride=32, decoder=False)
    made["deeplab-gradually"] = deeplab(
        backbone="xception_tiny", output_stride=8, decoder_features=("conv3", "conv2")
    )
    heads = {name: head(channels=8) for name, head in HEADS.items()}
    upsamplers = {
        "jpu": UPSAMPLERS["jpu"](channels=8),
        "jpu_x": UPSAMPLERS["jpu_x"](channels=64),
        "fpn": UPSAMPLERS["fpn"](channels=8),
        "bilinear": "bilinear",
        "none": "none",
    }
    for name, head in heads.items():
        made[f"fastfcn-{name}"] = fastfcn(head, upsamplers["jpu"])
    for name, upsampler in upsamplers.items():
        made[f"fastfcn-{name}"] = fastfcn(heads["psp"], upsampler)
    return made


# Together they take most of a minute.
slow = [pytest.param(name, marks=pytest.mark.slow) for name in networks() if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *slow])
def test_logits_equal_the_whole_images_if_the_halo_covers_the_receptive_field(name):
    model = logits_model(lively(networks()[name]()))
    tiled = TiledNetwork(model, 64, halo=HALF_FIELD)
    image = tf.constant(photo(43, 2 * HALF_FIELD + 190)[None], tf.float32)
    assert len(tiled._spans(tiled._stages[0], image.shape[1:3])[1]) == 3
    found, expected = tiled.logits(image), model(image, training=False).numpy()
    assert expected.std(axis=(1, 2)).min() > 1e-3 * np.abs(expected).max()  # else it shows nothing
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_feature_maps_differ_only_where_the_receptive_field_leaves_the_tile(deeplab):
    backbone = keras.Model(deeplab.input, deeplab.get_layer("aspp_image_mean").input)
    image = tf.constant(photo(43, 1100)[None], tf.float32)
    tiled = TiledNetwork(backbone, 512, halo=32)
    tiles = tiled._spans(tiled._stages[0], image.shape[1:3])[1]
    seams = np.array([span.kept_start for span in tiles[1:]])
    found, expected = tiled.logits(image), backbone(image, training=False).numpy()
    differs = (np.abs(found - expected) > 1e-5 * np.abs(expected).max()).any(axis=(0, 1, 3))
    columns = np.arange(expected.shape[2]) * 16
    near = np.abs(columns[:, None] - seams).min(axis=1) < HALF_FIELD - 32
    assert differs[near].any()
    assert not near.all()
    assert not differs[~near].any()


SCALES = {"scales": (0.6, 1.0, 1.3), "flip": True}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),  # as the narrow images below
        {**SCALES, "pad_size": (97, 300)},
        pytest.param(SCALES, marks=pytest.mark.slow),
        pytest.param({"pad_size": (130, 417)}, marks=pytest.mark.slow),
    ],
)
def test_probabilities_and_label_maps_equal_those_without_tiles(options, deeplab):
    image = photo(90, 289)
    whole, tiled = (WholeImage(**options, tile=tile).predictor(deeplab) for tile in (None, 64))
    assert tiled._tiled._halo >= HALF_FIELD
    expected = whole.probabilities(image).numpy()
    found = tiled.probabilities(image).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)
    best = np.sort(expected, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-5
    label_map = tiled.label_map(image).numpy()
    assert label_map.dtype == np.int32
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(label_map[clear], whole.label_map(image).numpy()[clear])


def test_narrow_images_equal_those_without_tiles(whole, tiled):
    for size in ((1, 650), (650, 1), (66, 65), (65, 97)):
        image = photo(*size)
        expected = whole.probabilities(image)
        np.testing.assert_allclose(tiled.probabilities(image), expected, atol=1e-6)


def test_images_as_large_as_a_tile_are_predicted_as_a_whole(whole, tiled):
    for size in ((64, 64), (1, 1), (63, 20)):
        image = photo(*size)
        np.testing.assert_array_equal(tiled.probabilities(image), whole.probabilities(image))


def test_tiles_images_and_sizes_share_one_trace(deeplab):
    predictor = WholeImage(tile=64, scales=(0.8, 1.0), flip=True).predictor(deeplab)
    for size in ((70, 600), (71, 33), (64, 90)):
        predictor.label_map(photo(*size))
    stages = [stage for stage in predictor._tiled._stages if stage.kind != "resize"]
    assert [stage.run.experimental_get_tracing_count() for stage in stages] == [1] * len(stages)


def test_a_predictor_in_tiles_reads_the_models_weights_again():
    model = lively(DeepLabV3Plus(3, backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False))
    image, predictor = photo(20, 90), WholeImage(tile=64).predictor(model)
    before = predictor.probabilities(image)
    model.set_weights([0.9 * weight for weight in model.get_weights()])
    predictor.update()
    after = predictor.probabilities(image)
    assert np.abs(after - before).max() > 0.001
    np.testing.assert_allclose(after, WholeImage().predictor(model).probabilities(image), atol=1e-6)


@pytest.mark.slow  # two more networks
def test_half_precision_runs_in_tiles_too():
    with layers_compute_in("bfloat16"):
        model = lively(DeepLabV3Plus(3, backbone="mobilenet_v2_tiny", aspp_channels=8))
    image = photo(40, 700)
    found = WholeImage(tile=64).predictor(model).probabilities(image)
    expected = WholeImage().predictor(model).probabilities(image)
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("side", [1, 31, 32, 33, 500, 513, 1000, 1313])
@pytest.mark.parametrize(
    ("tile", "halo", "multiple"), [(64, 32, 32), (70, 40, 32), (100, 0, 8), (20, 7, 1)]
)
def test_tiles_divide_a_side_and_lie_as_the_whole_does(side, tile, halo, multiple):
    tiles = spans(side, tile, halo, multiple)
    kept = [(span.kept_start, span.kept_stop) for span in tiles]
    assert (kept[0][0], kept[-1][1]) == (0, side)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(kept))
    for span in tiles:
        assert 0 <= span.start <= span.kept_start < span.kept_stop <= span.stop <= side
        assert span.start % multiple == 0
        assert span.kept_start % multiple == 0
        assert (span.stop - span.start - side) % multiple == 0
        assert span.start == 0 or span.kept_start - span.start >= halo
        assert span.stop == side or span.stop - span.kept_stop >= halo
        assert span.stop - span.start < tile + 2 * halo + 5 * multiple


@pytest.mark.parametrize(
    ("old", "new"),
    [((7, 9), (25, 33)), ((1, 5), (13, 1)), ((9, 23), (70, 181)), ((9, 4), (4, 9))],
)
def test_parts_of_a_resized_map_equal_the_resized_map(old, new):
    x = np.random.default_rng(0).normal(size=(1, *old, 3)).astype(np.float32)
    whole = tf.raw_ops.ResizeBilinear(images=x, size=new, align_corners=True).numpy()
    for top, left in itertools.product(range(0, new[0], 7), range(0, new[1], 11)):
        part = np.s_[top : min(top + 7, new[0])], np.s_[left : min(left + 11, new[1])]
        np.testing.assert_allclose(
            resized_part(x, new, *part)[0], whole[0][part], atol=1e-6, rtol=1e-6
        )


def test_maps_that_one_stage_alone_reads_do_not_exist_as_a_whole():
    model = logits_model(DeepLabV3Plus(3, backbone="xception_tiny", low_level_channels=5))
    stages = divided(model)
    assert [stage.kind for stage in stages] == [
        "backbone", "whole", "resize", "tiles", "resize", "tiles",
    ]  # fmt: skip
    channels = sorted(tensor.shape[-1] for tensor in stages[0].outputs)
    assert channels == sorted([5, 256, model.get_layer("aspp_image_mean").input.shape[-1]])
    assert [tensor is model.output for tensor in stages[-1].outputs] == [True]


def test_an_unknown_layer_sees_the_whole_map():
    class MinusMean(keras.layers.Layer):
        def call(self, x):
            return x - keras.ops.mean(x, axis=(1, 2), keepdims=True)

    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", name="backbone_conv")(image)
    x = MinusMean()(x)
    x = keras.layers.Conv2D(4, 3, padding="same")(ResizeLike(align_corners=False)([x, image]))
    model = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(x))
    pixels = tf.constant(photo(71, 203)[None], tf.float32)
    found = TiledNetwork(model, 64, halo=2).logits(pixels)
    np.testing.assert_allclose(found, model(pixels), atol=2e-4)


def test_a_network_that_cannot_run_in_tiles_is_refused():
    image = keras.Input((None, None, 3))
    without = keras.Model(image, keras.layers.Conv2D(3, 1)(image))
    with pytest.raises(ValueError, match="no layer whose name begins with backbone_. Leave --pred"):
        WholeImage(tile=64).predictor(without)
    fixed = DeepLabV3Plus(3, (65, 65, 3), backbone="mobilenet_v2_tiny")
    with pytest.raises(ValueError, match="images of any size; this one takes 65x65 pixels"):
        WholeImage(tile=64).predictor(fixed)
    unpadded = keras.layers.Conv2D(3, 3, strides=2, name="backbone_conv")(image)
    with pytest.raises(ValueError, match="makes one of 1023 pixels from 2048. Use SAME"):
        WholeImage(tile=64).predictor(keras.Model(image, unpadded))


@pytest.mark.parametrize("tile", [63, 0, 65536])
def test_absurd_tiles_are_refused(tile):
    with pytest.raises(ValueError, match="^tile must be at "):
        WholeImage(tile=tile)


def test_memory_in_tiles_grows_with_the_feature_maps_alone(deeplab):
    network = logits_model(deeplab)
    tiled = TiledNetwork(network, 256)
    side = 20_000
    assert tiled.needed_bytes(side, side) < forward_bytes(network, side, side) / 4
    ratio = tiled.needed_bytes(side, side) / tiled.needed_bytes(side // 2, side // 2)
    assert ratio == pytest.approx(4, rel=0.1)


def test_an_image_that_does_not_fit_into_memory_is_told_of_tiles(deeplab):
    message = "an image must fit into memory; .* Set --predict.tile=1024, use smaller images, or"
    with pytest.raises(ValueError, match=message):
        check_network_size((60_000, 60_000), "predict.scales", lambda *_: 10**18)
    with pytest.raises(ValueError, match=r"has [^.]*\.? ?\S* GB?\. Use smaller images, or lower"):
        check_network_size((60_000, 60_000), "predict.scales", lambda *_: 10**18, in_tiles=True)
