"""The network: shapes, output strides, input sizes, and what a builder may not change."""

import dataclasses
import inspect
import json
import re

import keras
import numpy as np
import parity
import pytest

from deeplab_tf.backbones import BACKBONES, build_backbone
from deeplab_tf.backbones.features import StrideToRate
from deeplab_tf.inference import inference_model
from deeplab_tf.model import DeepLabV3Plus, DeepLabV3PlusConfig
from deeplab_tf.weights import fit_weights, weights_by_name
from deeplab_tf.weights.deeplab_tf1 import NAMING

pytestmark = pytest.mark.usefixtures("forget_networks")


def _image(height: int, width: int) -> np.ndarray:
    values = np.arange(height * width * 3, dtype=np.float32)
    return (127.5 + 127.5 * np.sin(values * 0.7)).reshape(1, height, width, 3)


def _tiny(**options) -> DeepLabV3PlusConfig:
    tiny = {
        "backbone": "mobilenet_v2_tiny",
        "aspp_channels": 8,
        "low_level_channels": 4,
        "decoder_convs": ((3, 8), (3, 8)),
    }
    return DeepLabV3PlusConfig(**{**tiny, **options})


def _copy_weights(source: keras.Model, target: keras.Model) -> None:
    fit_weights(target, {name: w.numpy() for name, w in weights_by_name(source).items()})


def test_the_function_takes_the_options_of_the_config():
    parameters = list(inspect.signature(DeepLabV3Plus).parameters.values())
    assert [p.name for p in parameters[:2]] == ["num_classes", "input_shape"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    fields = dataclasses.fields(DeepLabV3PlusConfig)
    assert [(p.name, p.annotation, p.default) for p in parameters[2:]] == [
        (field.name, field.type, field.default) for field in fields
    ]


def test_the_function_explains_every_argument():
    doc = inspect.getdoc(DeepLabV3Plus)
    arguments = re.search(r"^Args:\n(.+?)^\S", doc, re.DOTALL | re.MULTILINE)[1]
    explained = re.findall(r"^  (\w+): \S", arguments, re.MULTILINE)
    assert explained == list(inspect.signature(DeepLabV3Plus).parameters)


def test_the_function_builds_the_network_of_its_options():
    options = {
        "backbone": "resnet_tiny",
        "output_stride": 8,
        "atrous_rates": (2, 3),
        "aspp_channels": 8,
        "low_level_channels": 4,
        "decoder_convs": ((3, 8),),
        "separable": False,
    }
    model = DeepLabV3Plus(4, (33, 65, 3), **options)
    assert model.output_shape == (None, 33, 65, 4)
    expected = DeepLabV3PlusConfig(**options).build(4, (33, 65, 3))
    assert _layers(model) == _layers(expected)


def _layers(model: keras.Model) -> list:
    return [(layer.name, type(layer), layer.output.shape) for layer in model.layers]


def test_strides_become_rates_past_the_output_stride():
    nominal = [2, 1, 2, 1, 2, 1, 2, 1]

    def walk(output_stride):
        rule = StrideToRate(output_stride, stride=2)
        return [rule.next(stride) for stride in nominal]

    ordinary = [(s, 1) for s in nominal]
    assert walk(32)[:6] == ordinary[:6]
    assert walk(16)[4:] == [(2, 1), (1, 1), (1, 1), (1, 2)]
    assert walk(8)[2:] == [(2, 1), (1, 1), (1, 1), (1, 2), (1, 2), (1, 4)]


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_backbone_has_the_promised_strides(name):
    for output_stride in (8, 16, 32):
        image = keras.Input((64, 64, 3))
        with keras.StatelessScope(initialize_variables=False):  # most of the time
            features = build_backbone(name, image, output_stride=output_stride)
        low_level, *stages = features
        strides = [64 // feature.shape[1] for feature in stages]
        assert strides == [4, 8, min(16, output_stride), output_stride]
        of_decoder = {level: 64 // feature.shape[1] for level, feature in low_level.items()}
        assert of_decoder == {"conv2": 4, "conv3": 8}


# MobileNetV2 pads by TensorFlow's SAME, which puts the taps of a strided convolution elsewhere for
# even sizes than for odd ones. Its grids coincide for sizes of the form 32k + 1 alone.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenet_v2_tiny", (65, 97)),
        ("resnet_tiny", (65, 97)),
        ("resnet_deep_stem_tiny", (65, 97)),
        ("resnet_deep_stem_tiny", (64, 96)),
        ("resnet_deep_stem_tiny", (51, 90)),
        ("xception_tiny", (65, 97)),
        ("xception_tiny", (64, 96)),
        ("xception_tiny", (51, 90)),
    ],
)
def test_output_stride_8_and_16_subsampled_equal_32(name, size):
    models = {}
    for output_stride in (8, 16, 32):
        image = keras.Input((None, None, 3))
        # Multi-grid is relative to the output stride's own rate and so no part of this.
        grid = BACKBONES[name].multi_grid and (1, 1, 1)
        features = build_backbone(name, image, output_stride=output_stride, multi_grid=grid)
        models[output_stride] = keras.Model(image, features.conv5)
        _copy_weights(models[8], models[output_stride])
    dense8, dense16, coarse = (models[s](_image(*size), training=False) for s in (8, 16, 32))
    scale = np.abs(coarse).max()
    assert scale > 0
    np.testing.assert_allclose(dense8[:, ::4, ::4], coarse, atol=1e-5 * scale)
    np.testing.assert_allclose(dense16[:, ::2, ::2], coarse, atol=1e-5 * scale)


def test_multi_grid_multiplies_the_last_rates():
    def rates(name, **options):
        image = keras.Input((64, 64, 3))
        with keras.StatelessScope(initialize_variables=False):
            model = keras.Model(image, build_backbone(name, image, **options).conv5)
        return [
            layer.dilation_rate[0]
            for layer in model.layers
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D))
            and layer.kernel_size == (3, 3)
        ]

    # code: conv5's units of ResNet-50 run at twice (1, 2, 4) for output stride 16
    assert rates("resnet50", output_stride=16)[-4:] == [1, 2, 4, 8]
    assert rates("resnet50", output_stride=8)[-4:] == [2, 4, 8, 16]
    assert rates("resnet50", output_stride=16, multi_grid=(1, 1, 1))[-3:] == [2, 2, 2]
    # code: exit_flow/block1 runs at rate 1, block2 at 2
    assert rates("xception_tiny", output_stride=16)[-6:] == [1, 1, 1, 2, 2, 2]
    assert rates("xception_tiny", output_stride=8)[-6:] == [2, 2, 2, 4, 4, 4]
    assert rates("xception_tiny", output_stride=16, multi_grid=(1, 2, 4))[-3:] == [2, 4, 8]
    with pytest.raises(ValueError, match="mobilenet_v2_tiny has no multi-grid"):
        rates("mobilenet_v2_tiny", output_stride=16, multi_grid=(1, 2, 4))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_weights_are_those_of_the_manifest(name, request, root):
    """A renamed or reshaped weight would make every checkpoint of the backbone unreadable."""
    image = keras.Input((64, 64, 3))
    with keras.StatelessScope(initialize_variables=False):
        model = keras.Model(image, build_backbone(name, image, output_stride=16).conv5)
    shapes = {n: list(w.shape) for n, w in weights_by_name(model).items()}
    lines = ",\n".join(f"{json.dumps(n)}: {json.dumps(s)}" for n, s in sorted(shapes.items()))
    path = root / "tests" / "expected" / f"{name}.json"
    if request.config.getoption("accept"):
        path.write_text(f"{{\n{lines}\n}}\n")
    assert json.loads(path.read_text()) == shapes, (
        "names or shapes of weights changed; if they shall, run this test with --accept and commit"
        f" {path.name}"
    )


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (64, 64), (127, 65)])
@pytest.mark.parametrize("decoder", [True, False])
def test_logits_have_the_images_size(size, decoder):
    model = _tiny(decoder=decoder).build(3)
    logits = model(_image(*size), training=False)
    assert logits.shape == (1, *size, 3)
    assert np.all(np.isfinite(logits))


def test_weights_depend_on_neither_output_stride_nor_size_nor_auxiliary():
    reference = {n: tuple(w.shape) for n, w in weights_by_name(_tiny().build(3)).items()}
    for model in (
        _tiny(output_stride=8).build(3),
        _tiny(output_stride=32).build(3, (65, 65, 3)),
        _tiny().build(3, auxiliary=True),
    ):
        assert {n: tuple(w.shape) for n, w in weights_by_name(model).items()} == reference


def test_auxiliary_form_gives_the_same_logits_in_a_dict():
    plain, dictionary = _tiny().build(3), _tiny().build(3, auxiliary=True)
    _copy_weights(plain, dictionary)
    x = _image(33, 33)
    np.testing.assert_array_equal(plain(x, training=False), dictionary(x, training=False)["logits"])


def test_logits_stay_small_for_training_alone():
    config = _tiny(upsample_logits=False)
    plain, dictionary = config.build(3), config.build(3, auxiliary=True)
    assert plain(_image(33, 45)).shape == (1, 33, 45, 3)
    assert dictionary(_image(33, 45))["logits"].shape == (1, 9, 12, 3)  # the decoder's stride 4


@pytest.mark.parametrize("backbone", ["mobilenet_v2_tiny", "resnet_tiny", "xception_tiny"])
def test_kernels_start_as_in_the_released_code(backbone):
    normal = keras.initializers.TruncatedNormal
    expected = {  # the first that fits the layer's name
        "backbone_": normal(stddev=0.09),
        "logits": normal(stddev=0.01),
        "_depthwise": normal(stddev=0.33),
        "_pointwise": normal(stddev=0.06),
        "": keras.initializers.GlorotUniform(),
    }
    if backbone == "resnet_tiny":
        he = keras.initializers.VarianceScaling(2.0, "fan_in", "truncated_normal")
        expected["backbone_"] = he
    seen = set()
    for layer in _tiny(backbone=backbone).build(3).layers:
        if hasattr(layer, "kernel"):
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            ours = layer.depthwise_initializer if depthwise else layer.kernel_initializer
            part = next(part for part in expected if part in layer.name)
            theirs = expected[part]
            assert type(ours) is type(theirs), layer.name
            assert ours.get_config() == theirs.get_config(), layer.name
            seen.add(part)
    assert seen == set(expected)


def test_rates_are_tied_to_the_output_stride():
    rates = {s: DeepLabV3PlusConfig(output_stride=s).rates for s in (8, 16, 32)}
    assert rates == {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
    assert DeepLabV3PlusConfig(output_stride=8, atrous_rates=(2, 3)).rates == (2, 3)


@pytest.mark.parametrize("rates", [None, (), (4, 8, 12), (1, 2)])
def test_at_another_output_stride_rates_reach_as_far_on_the_image(rates):
    trained = DeepLabV3PlusConfig(output_stride=16, atrous_rates=rates)
    assert trained.at_output_stride(16) == trained
    finer, coarser = trained.at_output_stride(8), trained.at_output_stride(32)
    assert (finer.output_stride, coarser.output_stride) == (8, 32)
    assert finer.rates == tuple(2 * rate for rate in trained.rates)
    assert coarser.rates == tuple(max(1, rate // 2) for rate in trained.rates)


def test_aspp_options_make_the_layers_they_name():
    def names(**options):
        return {layer.name for layer in _tiny(**options).build(3).layers}

    assert {"aspp_conv3_depthwise", "aspp_image_pooling"} <= names()
    assert "aspp_conv1" in names(separable=False)
    assert not any("aspp_conv1" in name for name in names(atrous_rates=()))
    assert "aspp_image_pooling" not in names(image_pooling=False)
    assert not any(name.startswith("decoder_") for name in names(decoder=False))


# paper: the rows of Tab. 2
@pytest.mark.parametrize(
    ("features", "convs"),
    [
        (("conv2",), ((3, 256),)),
        (("conv2",), ((3, 256),) * 2),
        (("conv2",), ((3, 256),) * 3),
        (("conv2",), ((3, 128),)),
        (("conv2",), ((1, 256),)),
        (("conv3", "conv2"), ((3, 256),)),
    ],
)
@pytest.mark.parametrize("output_stride", [8, 32])
def test_decoder_has_the_structure_asked_for(features, convs, output_stride):
    config = _tiny(
        decoder_features=features, decoder_convs=convs, separable=False, output_stride=output_stride
    )
    model = config.build(3, (65, 65, 3))
    kernels = [
        tuple(layer.kernel.shape)
        for layer in model.layers
        if layer.name.startswith("decoder_") and isinstance(layer, keras.layers.Conv2D)
    ]
    expected, size = [], 8  # size: channels of the features that a level refines
    for low_level in (32 * 4, 24 * 4)[-len(features) :]:  # expanded widths of conv3 and conv2
        expected.append((1, 1, low_level, 4))
        for i, (kernel_size, filters) in enumerate(convs):
            inputs = size + 4 if i == 0 else size
            expected.append((kernel_size, kernel_size, inputs, filters))
            size = filters
    assert sorted(kernels) == sorted(expected)
    assert model.get_layer("logits").output.shape == (None, 17, 17, 3)


def test_gradual_decoder_passes_through_stride_8():
    model = _tiny(decoder_features=("conv3", "conv2")).build(3, (65, 65, 3))
    assert model.get_layer("decoder_conv3_concat").output.shape[1] == 9
    assert model.get_layer("decoder_concat").output.shape[1] == 17


@pytest.mark.parametrize(
    "backbone", ["mobilenet_v2_tiny", "resnet_tiny", "resnet_deep_stem_tiny", "resnet50_7x7"]
)
@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_any_number_of_channels(backbone, channels):
    config = _tiny(backbone=backbone, decoder=False)
    rgb, other = config.build(3), config.build(3, (None, None, channels))
    report = fit_weights(other, {name: w.numpy() for name, w in weights_by_name(rgb).items()})
    assert len(report.adapted) == 1
    image = _image(33, 33)
    if channels == 1:
        image[...] = image[..., :1]
        other_image = image[..., :1]
    else:
        other_image = np.concatenate([image, 255 - image[..., :1]], axis=-1)
    expected = rgb(image, training=False).numpy()
    found = other(other_image, training=False).numpy()
    # These normalize each colour by constants of its own, which one channel cannot do.
    own_constants = backbone in ("resnet50_7x7", "resnet_deep_stem_tiny")
    share = 0.3 if own_constants and channels == 1 else 1e-4
    np.testing.assert_allclose(found, expected, atol=share * np.abs(expected).max())


def test_predict_takes_uint8_images():
    model = _tiny().build(3)
    image = _image(33, 33).round()
    np.testing.assert_allclose(
        model.predict(image.astype(np.uint8), verbose=0), model.predict(image, verbose=0)
    )


def test_mobilenet_v2_has_the_papers_parameters():
    image = keras.Input((None, None, 3))
    with keras.StatelessScope(initialize_variables=False):
        model = keras.Model(image, build_backbone("mobilenet_v2", image, output_stride=16).conv5)
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    # cited: keras.applications' MobileNetV2 trains 3,504,872, of which the last convolution, its
    # normalization and the classifier, none of which DeepLab has, are these.
    assert trainable == 3_504_872 - 320 * 1280 - 2 * 1280 - (1280 + 1) * 1000


def test_keras_file_round_trip_is_exact(tmp_path):
    model = _tiny().build(3)
    model.save(tmp_path / "m.keras")
    x = _image(33, 33)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 4}, "output_stride must be 8|16|32; got 4"),
        ({"atrous_rates": (0,)}, "atrous_rates must be at least 1; got (0,)"),
        ({"dropout": 1.0}, "dropout must be below 1; got 1.0"),
        ({"low_level_channels": 0}, "low_level_channels must be at least 1; got 0"),
        ({"decoder_features": ("conv2", "conv3")}, "the coarser first; got conv2,conv3"),
        ({"decoder_convs": ((5, 256),)}, "pairs of kernel size 1 or 3 and filters"),
        ({"decoder_convs": ()}, "one or more pairs"),
        ({"backbone": 50}, "backbone must be text; got 50"),
    ],
)
def test_bad_options_are_refused_before_anything_is_built(options, message):
    for make in (DeepLabV3PlusConfig, lambda **options: DeepLabV3Plus(3, **options)):
        with pytest.raises(ValueError, match=re.escape(message)):
            make(**options)


def test_unknown_backbone_gets_a_suggestion():
    with pytest.raises(ValueError, match="unknown backbone 'mobilnet_v2'.*Did you mean 'mobilenet"):
        DeepLabV3Plus(2, backbone="mobilnet_v2")


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="num_classes must be an integer of 2 to 65535; got 1"):
        _tiny().build(1)


# Case of the released code -> options of its network.
_RELEASED = {
    "01_xception_65_os16": {"backbone": "xception65", "decoder": True, "separable": True},
    "01b_xception_65_os16_513": {"backbone": "xception65"},
    "04_xception_41_os16": {"backbone": "xception41"},
    "05_resnet_v1_101_beta_os16_decoder": {"backbone": "resnet101", "separable": False},
    "06_resnet_v1_50_beta_os16_decoder": {"backbone": "resnet50", "separable": False},
    "08_mobilenet_v2_os16_released": {"backbone": "mobilenet_v2", "decoder": False},
    "09_mobilenet_v2_os8_aspp_decoder": {"backbone": "mobilenet_v2", "output_stride": 8},
    "12_resnet_v1_50_beta_os16_separable": {"backbone": "resnet50", "separable": True},
    "15_mobilenet_v2_dm05_os16": {"backbone": "mobilenet_v2_dm05", "atrous_rates": ()},
    "18_xception_65_os32": {"backbone": "xception65", "output_stride": 32},
}
_QUICK = ("09_mobilenet_v2_os8_aspp_decoder", "15_mobilenet_v2_dm05_os16")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow)  # full-size networks
        for name in _RELEASED
    ],
)
def test_released_weights_are_recognized_and_give_the_released_logits(name, request):
    case = parity.load(request, "deeplab", name)
    found = NAMING.recognize(case.weights, {})
    # The output stride is not part of the weights.
    options = {**found.known, "output_stride": _RELEASED[name].get("output_stride", 16)}
    assert _RELEASED[name].items() <= options.items()
    model = DeepLabV3Plus(found.num_classes, **options)
    fit_weights(model, NAMING.to_our_names(case.weights, model))
    outputs = {"logits": model.get_layer("logits").output, "resized": model.output}
    trained = keras.Model(model.input, outputs)
    for network in (trained, inference_model(trained)):
        computed = network(case.image, training=False)
        case.check({"logits": np.asarray(computed["logits"])}, np.asarray(computed["resized"]))
