"""from_checkpoint: each file is recognized and loaded whole, or refused with a reason."""

import functools
import json

import numpy as np
import pytest
import weight_files

from deeplab_tf import weights
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.weights import deeplab_tf1
from jpu_tf import weights as fastfcn
from jpu_tf.model import FastFCNConfig

NAMINGS = (deeplab_tf1.NAMING, fastfcn.NAMING)
MODELS = {config.kind: config for config in (DeepLabV3PlusConfig, FastFCNConfig)}
SPEC = DatasetSpec(
    name="animals",
    class_names=("ground", "cat", "dog", "bird"),
    ignore_label=255,
    palette=bit_palette(4),
    splits={},
)
from_checkpoint = functools.partial(
    weights.from_checkpoint, namings=NAMINGS, model_configs=MODELS, dataset_specs={4: SPEC}
)
recognize = functools.partial(weights.recognize, namings=NAMINGS, model_configs=MODELS)
load_weights = functools.partial(weights.load_weights, namings=NAMINGS)

# Small because its parts are.
CONFIG = DeepLabV3PlusConfig(
    backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False, separable=False
)


@functools.cache
def arrays_of(num_classes=4, config=CONFIG):
    """Arrays by released name, from which `from_checkpoint` finds out what they are."""
    return weight_files.deeplab_arrays(config.build(num_classes))


def _write(directory, arrays):
    return weight_files.write_checkpoint(directory, arrays)


def _predict(model):
    image = 127 + 100 * np.sin(np.arange(33 * 33 * 3, dtype=np.float32)).reshape(1, 33, 33, 3)
    return model(image, training=False).numpy()


def test_genuine_checkpoint_gives_the_fixtures_logits(shared_dir):
    directory = shared_dir / "reference" / "deeplab"
    computed = np.load(directory / "15_mobilenet_v2_dm05_os16.npz")
    model = from_checkpoint(str(directory / "ckpt_15_mobilenet_v2_dm05"))
    description = json.loads((directory / "15_mobilenet_v2_dm05_os16.json").read_text())
    assert model.output_shape[-1] == description["num_classes"]
    label_map = model(computed["input"][None].astype(np.float32), training=False)
    label_map = np.argmax(label_map, axis=-1).reshape(computed["argmax"].shape)
    assert not np.any((label_map != computed["argmax"]) & (computed["margin"] > 1e-3))


WRITERS = {
    "npz": weight_files.write_npz,
    "torch": weight_files.write_torch,
    "frozen_graph": weight_files.write_frozen_graph,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_network(tmp_path, name):
    found = from_checkpoint(WRITERS[name](tmp_path / "model", arrays_of()))
    direct = from_checkpoint(_write(tmp_path, arrays_of()))
    np.testing.assert_array_equal(_predict(found), _predict(direct))


@pytest.mark.parametrize(
    "options",
    [
        {"decoder_convs": ((3, 40),), "low_level_channels": 8},
        {"decoder_convs": ((3, 24), (1, 16), (3, 8)), "decoder_separable": False},
        {"aspp_channels": 32, "image_pooling": False, "atrous_rates": None, "separable": True,
         "decoder": False},
        {"atrous_rates": None, "separable": False, "decoder_separable": True},
    ],
)  # fmt: skip
def test_head_is_recognized_from_names_and_shapes(tmp_path, options):
    config = CONFIG.replace(**{"decoder": True, "decoder_separable": True, **options})
    path = _write(tmp_path, arrays_of(5, config))
    found = recognize(path)
    if not config.decoder:
        config = config.replace(decoder_separable=None)
    assert (found.config, found.num_classes) == (config, 5)
    from_checkpoint(path)


def test_other_number_of_branches_needs_their_rates(tmp_path):
    path = _write(tmp_path, arrays_of(5, CONFIG.replace(atrous_rates=(2, 5))))
    for rates in (None, (6, 12, 18)):
        with pytest.raises(ValueError, match="atrous_rates must be 2 rates, one for each atrous"):
            from_checkpoint(path, atrous_rates=rates)
    model = from_checkpoint(path, atrous_rates=(2, 5))
    assert model.get_layer("aspp_conv2").dilation_rate == (5, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "xception65"}, "backbone must be 'mobilenet_v2_dm035', as in the weights"),
        ({"atrous_rates": (6, 12, 18)}, r"atrous_rates must be \(\), as in the weights; got \(6"),
        ({"upsampler": "jpu"}, "unknown option upsampler of deeplabv3plus. The weights leave open"),
        ({"dropuot": 0.5}, "unknown option dropuot .* leave open: output_stride, multi_grid, .*dr"),
        ({"dropout": 2.0}, "dropout must be"),
        ({"output_stride": 7}, "output_stride must be"),
    ],
)
def test_option_that_does_not_suit_the_file_is_refused(tmp_path, options, message):
    path = _write(tmp_path, arrays_of())
    with pytest.raises(ValueError, match=message) as caught:
        from_checkpoint(path, **options)
    assert str(caught.value).startswith(f"{path}: ")


def test_option_that_the_file_leaves_open_is_taken(tmp_path):
    path = _write(tmp_path, arrays_of())
    options = {"output_stride": 8, "multi_grid": (1, 2, 4), "dropout": 0.5, "decoder": False}
    config = recognize(path, **options).config
    assert config == CONFIG.replace(aspp_channels=256, **options)


def test_first_kernel_is_adapted_to_gray_images(tmp_path):
    printed = []
    path = _write(tmp_path, arrays_of())
    model = from_checkpoint(path, input_channels=1, num_classes=7, print_fn=printed.append)
    assert "adapted to the images' number of channels (1): backbone_conv/kernel" in printed[-1]
    kernel = arrays_of()["MobilenetV2/Conv/weights"]
    found = model.get_layer("backbone_conv").kernel.numpy()
    np.testing.assert_allclose(found, kernel.sum(axis=2, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("complete", [True, False])
def test_moving_averages_are_taken_if_all_that_trains_has_one(tmp_path, complete):
    arrays = arrays_of()
    plain = _predict(from_checkpoint(_write(tmp_path, arrays)))
    bias = "logits/semantic/biases"
    classifier = {"MobilenetV2/Logits/Conv2d_1c_1x1/weights": np.zeros((1, 1, 2, 3), np.float32)}
    trained = {n: a for n, a in {**arrays, **classifier}.items() if "/moving_" not in n}
    averages = {n: a + (n == bias) for n, a in trained.items()}
    if not complete:
        averages = {bias: averages[bias]}
    extra = {
        "global_step": np.int64(7),
        f"{bias}/Momentum": arrays[bias] * 0 + 100,
        **classifier,
        **{f"{name}/ExponentialMovingAverage": array for name, array in averages.items()},
    }
    (tmp_path / "more").mkdir()
    loaded = _predict(from_checkpoint(_write(tmp_path / "more", {**arrays, **extra})))
    np.testing.assert_allclose(loaded, plain + (1 if complete else 0), atol=1e-5)


def test_other_number_of_classes_makes_a_new_classifier_alone(tmp_path):
    printed = []
    path = _write(tmp_path, arrays_of())
    model = from_checkpoint(path, num_classes=7, print_fn=printed.append)
    assert model.output_shape[-1] == 7 and model.dataset_spec is None
    assert "of another shape in the source (2): logits/bias, logits/kernel" in printed[-1]
    kernel = model.get_layer("aspp_projection").kernel.numpy()
    np.testing.assert_array_equal(kernel, arrays_of()["concat_projection/weights"])


def test_classes_are_guessed_by_their_number(tmp_path):
    printed = []
    model = from_checkpoint(_write(tmp_path, arrays_of()), print_fn=printed.append)
    assert model.dataset_spec is SPEC
    assert printed[0] == (
        "recognized deeplabv3plus(backbone='mobilenet_v2_dm035', atrous_rates=(), decoder=False,"
        " separable=False), 4 classes"
    )
    assert printed[-1] == "assuming the 4 classes of animals"
    model = from_checkpoint(_write(tmp_path, arrays_of(5)))
    assert model.dataset_spec is None


def test_new_classifier_does_not_excuse_a_missing_head(tmp_path):
    path = _write(tmp_path, _without(arrays_of(), "aspp0/weights"))
    with pytest.raises(ValueError, match=r"1 missing \(- aspp_conv0/kernel\)"):
        from_checkpoint(path, num_classes=7)


def test_backbone_alone_needs_a_number_of_classes(tmp_path):
    arrays = {n: a for n, a in arrays_of().items() if n.startswith("MobilenetV2/")}
    path = _write(tmp_path, arrays)
    with pytest.raises(ValueError, match="holds a backbone alone. Give num_classes"):
        from_checkpoint(path)
    model = from_checkpoint(path, num_classes=4)
    assert model.dataset_spec is None
    kernel = model.get_layer("backbone_conv").kernel.numpy()
    np.testing.assert_array_equal(kernel, arrays["MobilenetV2/Conv/weights"])


def _without(arrays, name):
    return {n: a for n, a in arrays.items() if n != name}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: _without(a, "aspp0/weights"), r"1 missing \(- aspp_conv0/kernel\)"),
        (
            lambda a: _without(a, "MobilenetV2/expanded_conv_3/expand/BatchNorm/beta"),
            r"1 missing \(- backbone_block3_expand_bn/beta\)",
        ),
        (
            lambda a: {**a, "aspp0/weights": np.zeros((1, 1, 3, 256), np.float32)},
            r"1 of another shape \(aspp_conv0/kernel \(1, 1, 3, 256\), model \(1, 1, 112, 256\)\)",
        ),
        (lambda a: _without(a, "MobilenetV2/Conv/weights"), "have MobilenetV2/Conv/weights"),
        (
            lambda a: {**a, "MobilenetV2/Conv/weights": np.zeros((3, 3, 3, 5), np.float32)},
            "must have one of 8, .* filters; MobilenetV2/Conv/weights has 5",
        ),
        (
            lambda a: {n.replace("MobilenetV2", "InceptionV9"): v for n, v in a.items()},
            "must have the names of DeepLab's",
        ),
        (
            lambda a: {n.replace("MobilenetV2", "xception_65"): v for n, v in a.items()},
            r"do not fit: \d+ missing \(- backbone_entry_block1",
        ),
        (
            lambda a: {**a, "aspp0/extra/weights": np.zeros(3, np.float32)},
            r"1 unused \(\+ aspp0/extra/weights\)",
        ),
        (
            lambda a: {**a, "aspp0/weights": a["aspp0/weights"].astype(np.int32)},
            "array aspp0/weights must be stored whole, as floats",
        ),
        (
            lambda a: {**a, "logits/semantic/weights": np.float32(1)},
            "holds a backbone alone. Give num_classes",
        ),
        (lambda a: {"global_step": np.int64(3)}, "holds no arrays"),
    ],
)
def test_wrong_checkpoint_is_refused_with_its_reason(tmp_path, spoil, message):
    path = _write(tmp_path, spoil(arrays_of()))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        from_checkpoint(path)
    assert sorted(tmp_path.iterdir()) == before


# FastFCN through the same function; what its names tell is in tests/jpu_tf/test_weights.py.


def test_fastfcns_file_makes_a_fastfcn(tmp_path):
    config = FastFCNConfig(upsampler="none", head="fcn")
    arrays = weight_files.fastfcn_arrays(config.build(4, auxiliary=True), "fcn")
    path = weight_files.write_torch(tmp_path / "best.pth.tar", arrays)
    printed = []
    model = from_checkpoint(path, print_fn=printed.append)
    assert model.name == "fastfcn" and model.dataset_spec is SPEC
    assert printed[0] == (
        "recognized fastfcn(backbone='resnet50_deep_stem', upsampler=none, head=fcn), 4 classes"
    )
    kernel = arrays["head.conv5.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("head_conv").kernel, kernel)
    assert "aux_conv" not in {layer.name for layer in model.layers}
    with pytest.raises(ValueError, match="unknown option separable of fastfcn"):
        from_checkpoint(path, separable=True)


# Keras files.


@pytest.fixture(scope="module")
def network():
    return DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False
    ).build(3, (None, None, 4))  # fmt: skip


def test_a_keras_file_is_opened_with_its_classes(network, tmp_path):
    network.dataset_spec = DatasetSpec(
        name="soil",
        class_names=("a", "b", "c"),
        ignore_label=255,
        palette=bit_palette(3),
        splits={},
    )
    path = str(tmp_path / "network.keras")
    network.save(path)
    model = from_checkpoint(path)
    assert model.dataset_spec == network.dataset_spec and model.input_shape[-1] == 4
    for name, weight in weights.weights_by_name(model).items():
        expected = weights.weights_by_name(network)[name]
        np.testing.assert_array_equal(weight.numpy(), expected.numpy())
    from_checkpoint(path, num_classes=3, input_channels=4)


@pytest.mark.parametrize(
    "options", [{"num_classes": 5}, {"auxiliary": True}, {"output_stride": 8}, {"dropout": 0.5}]
)
def test_a_keras_file_cannot_be_changed(network, tmp_path, options):
    path = str(tmp_path / "network.keras")
    network.save(path)
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"a whole network, which cannot have .*; got {name}="):
        from_checkpoint(path, **options)
    with pytest.raises(ValueError, match="a whole network; open it with from_checkpoint"):
        recognize(path)


def test_load_weights_reads_every_format(network, tmp_path):
    path = str(tmp_path / "network.keras")
    network.save(path)
    model = DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False
    ).build(3, (None, None, 4))  # fmt: skip
    report = load_weights(model, path)
    assert len(report.loaded) == len(model.weights)
    image = np.zeros((1, 33, 33, 4), np.float32)
    np.testing.assert_array_equal(model(image), network(image))

    released = CONFIG.build(4)
    path = _write(tmp_path, arrays_of())
    assert not load_weights(released, path).missing
    np.testing.assert_array_equal(_predict(released), _predict(from_checkpoint(path)))
    other = CONFIG.build(6)
    with pytest.raises(ValueError, match="model.ckpt: weights do not fit: 0 missing"):
        load_weights(other, path)
    assert set(load_weights(other, path, partial=True).misfit) == {"logits/kernel", "logits/bias"}
    with pytest.raises(ValueError, match="must have the names of"):
        load_weights(other, weight_files.write_npz(tmp_path / "a.npz", {"a": np.zeros(3)}))
