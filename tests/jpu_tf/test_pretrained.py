"""Released state_dicts: each is recognised and filled whole, or refused with a reason."""

import json
import re
import zlib

import keras
import numpy as np
import pytest

from deeplab_tf.weights import weights_by_name
from jpu_tf import pretrained, weights
from jpu_tf.model import FastFCN

FIXTURES = {
    "01_encnet_resnet50_jpu": {"upsampler": "jpu", "head": "encoding", "head_kernel_size": 1},
    "01c_encnet_resnet50_jpu_odd_b2": {"upsampler": "jpu", "head": "encoding"},
    "03_encnet_resnet50_dilated": {"upsampler": "none", "head_kernel_size": 3},
    "04_deeplab_resnet50_jpu": {"upsampler": "jpu", "head": "aspp"},
    "06_psp_resnet50_jpu": {"upsampler": "jpu", "head": "psp"},
    "08_fcn_resnet50_jpu": {"upsampler": "jpu", "head": "fcn"},
    "09_encnet_resnet50_jpu_ade20k": {"upsampler": "jpu", "head": "encoding"},
    "12_encnet_resnet50_os32_none": {"upsampler": "none", "output_stride": 32},
}
_QUICK = ("01c_encnet_resnet50_jpu_odd_b2", "06_psp_resnet50_jpu")


def _rule(name: str, shape: list[int]) -> np.ndarray:
    """The fixtures' weights, a function of name and shape."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "codewords":
        values = generator.uniform(-1, 1, shape)
    elif leaf == "scale":
        values = generator.uniform(-1, 0, shape) / 64
    elif leaf in ("bias", "running_mean"):
        values = 0.1 * generator.standard_normal(shape)
    elif leaf == "weight" and len(shape) > 1:
        values = generator.standard_normal(shape)
        values -= values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        values *= np.sqrt(2 / np.prod(shape[1:]))
    else:
        values = generator.uniform(0.5, 1.5, shape)
    if name.endswith("bn3.weight"):
        values = values / 4
    if name == "head.encmodule.encoding.4.running_var":
        values = values * 400
    return values.astype(np.float32)


def _fixture(shared_dir, name):
    directory = shared_dir / "reference" / "fastfcn"
    description = json.loads((directory / f"{name}.json").read_text())
    state_dict = {e["name"]: _rule(e["name"], e["shape"]) for e in description["state_dict"]}
    return state_dict, description, np.load(directory / f"{name}.npz")


def _cells(values, arrays, prefix):
    """The part of a map that a fixture has."""
    rows, columns = (f"{prefix}{axis}" for axis in ("rows", "cols"))
    return values[:, arrays[rows]][:, :, arrays[columns]] if rows in arrays else values


# The released code's own float32 is off by up to 5.6e-5; the smallest mistake by 4.3e-3.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow)  # full-size networks
        for name in FIXTURES
    ],
)
def test_released_weights_give_the_fixtures_outputs(shared_dir, name):
    state_dict, description, arrays = _fixture(shared_dir, name)
    expected_config = FIXTURES[name]
    stride = expected_config.get("output_stride")
    config, num_classes, _ = pretrained.recognise(state_dict, output_stride=stride)
    assert num_classes == description["nclass"]
    assert expected_config.items() <= vars(config).items()

    model = pretrained.from_state_dict(state_dict, output_stride=stride, auxiliary=True)
    taps = {
        "logits_low": model.get_layer("head_logits").output,
        "aux_logits_low": model.get_layer("aux_logits").output,
    }
    if config.head == "encoding":
        taps["E"] = model.get_layer("head_encoding").output
        taps["mean"] = model.get_layer("head_gate").input
        taps["gamma"] = model.get_layer("head_gate").output
    tapped = keras.Model(model.input, {**model.output, **taps})
    outputs = {n: np.asarray(v) for n, v in tapped(arrays["image"], training=False).items()}

    compared = {
        "logits_low": _cells(outputs["logits_low"], arrays, "low_"),
        "aux_logits_low": _cells(outputs["aux_logits_low"], arrays, "aux_low_"),
        "logits_sub": _cells(outputs["logits"], arrays, ""),
        "aux_logits_sub": _cells(outputs["aux_logits"], arrays, ""),
    }
    if config.head == "encoding":
        compared["se_pred"] = outputs["se_logits"]
        compared |= {f"tap/enc_{n}/full": outputs[n] for n in ("E", "mean", "gamma")}
    for key, values in compared.items():
        np.testing.assert_allclose(values, arrays[key], rtol=0, atol=5e-4, err_msg=key)
    assert np.sum(np.argmax(outputs["logits"], axis=-1) != arrays["argmax"]) <= 4


def _released(model: keras.Model, head: str, values=_rule) -> dict[str, np.ndarray]:
    """A state_dict of the model's weights by their released names and in their layout."""
    state_dict = {}
    for weight, variable in weights_by_name(model).items():
        name, shape = weights.released_name(weight, head), tuple(variable.shape)
        if weight.endswith("/kernel"):
            if len(shape) == 2:
                shape = shape[::-1]
            else:
                order = (2, 3, 0, 1) if "_depthwise/" in weight else (3, 2, 0, 1)
                shape = tuple(shape[i] for i in order)
        state_dict[name] = values(name, shape)
    return state_dict


_NETWORKS = {
    "jpu_x": {"upsampler": "jpu_x"},
    "no_outputs_for_training": {"aux_weight": 0.0, "se_weight": 0.0},
    "no_jpu_but_its_head": {"upsampler": "none", "head_kernel_size": 1},
    "lateral": {"upsampler": "none", "head_lateral": True},
    "resnet101": {"backbone": "resnet101_deep_stem", "upsampler": "none", "head": "aspp"},
    "resnet152": {"backbone": "resnet152_deep_stem", "upsampler": "none", "head": "fcn"},
}


@pytest.mark.parametrize("name", _NETWORKS)
def test_networks_are_recognised_by_their_weights(name):
    config = FastFCN(**_NETWORKS[name])
    model = config.build(4, auxiliary=True)
    released = _released(model, config.head, values=lambda _, shape: np.zeros(shape, np.float32))
    recognised, num_classes, arrays = pretrained.recognise(released)
    assert num_classes == 4
    # What was left to the released code's choice is spelled out in what was recognised.
    for field in ("backbone", "upsampler", "head", "head_lateral", "aux_weight"):
        assert getattr(recognised, field) == getattr(config, field)
    assert recognised.semantic_encoding_weight == config.semantic_encoding_weight
    named = weights.to_our_names(arrays, model, config.head)
    assert {n: a.shape for n, a in named.items()} == {
        n: tuple(w.shape) for n, w in weights_by_name(model).items()
    }


@pytest.fixture(scope="module")
def state_dict():
    return _released(FastFCN(head="fcn").build(4, auxiliary=True), "fcn")


def _predict(model):
    image = 127 + 100 * np.sin(np.arange(33 * 33 * 3, dtype=np.float32)).reshape(1, 33, 33, 3)
    return np.asarray(model(image, training=False))


def test_prefix_of_parallel_training_and_what_no_network_reads_do_not_matter(state_dict):
    spoiled = {f"module.{name}": array for name, array in state_dict.items()}
    spoiled["module.pretrained.fc.weight"] = np.zeros((1000, 2048), np.float32)
    spoiled["module.pretrained.bn1.num_batches_tracked"] = np.int64(7)
    plain = pretrained.from_state_dict(state_dict)
    assert plain.output_shape == (None, None, None, 4)
    np.testing.assert_array_equal(_predict(pretrained.from_state_dict(spoiled)), _predict(plain))


def test_other_number_of_classes_makes_new_classifiers_alone(state_dict):
    told = []
    model = pretrained.from_state_dict(state_dict, num_classes=7, auxiliary=True, say=told.append)
    assert model.output["aux_logits"].shape[-1] == 7
    assert "other shape in the source (4): aux_logits/bias, aux_logits/kernel, head_l" in told[0]
    kernel = state_dict["head.conv5.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("head_conv").kernel, kernel)


def test_imagenet_weights_fill_the_backbone_and_need_a_number_of_classes(state_dict):
    backbone = {
        name.removeprefix("pretrained."): array
        for name, array in state_dict.items()
        if name.startswith("pretrained.")
    }
    backbone["fc.weight"] = np.zeros((1000, 2048), np.float32)
    with pytest.raises(ValueError, match="holds a backbone alone; say num_classes"):
        pretrained.from_state_dict(backbone)
    model = pretrained.from_state_dict(backbone, num_classes=3)
    kernel = backbone["layer4.2.conv3.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("backbone_block4_unit3_conv3").kernel, kernel)
    del backbone["layer4.2.bn3.running_mean"]
    with pytest.raises(ValueError, match="do not fit the backbone: .* missing"):
        pretrained.from_state_dict(backbone, num_classes=3)


def test_weights_without_jpu_run_as_one_says(state_dict):
    def stride(**options):
        config, _, _ = pretrained.recognise(released, **options)
        size = config.build(4, (64, 64, 3)).get_layer("head_logits").output.shape[1]
        return 64 // size, config.backbone_output_stride

    released = {n: a for n, a in state_dict.items() if not n.startswith("jpu.")}
    assert stride() == (8, 8)
    assert stride(output_stride=32) == (32, 32)
    assert stride(upsampler="bilinear") == (8, 32)
    with pytest.raises(ValueError, match="upsampler bilinear contradicts these weights.*have jpu"):
        pretrained.recognise(state_dict, upsampler="bilinear")
    with pytest.raises(ValueError, match="output_stride must be 32 before upsampler jpu"):
        pretrained.recognise(state_dict, output_stride=8)


def _without(arrays, *patterns):
    return {n: a for n, a in arrays.items() if not any(re.match(p, n) for p in patterns)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: {}, "need a backbone .* got no arrays|got .* in no arrays"),
        (lambda a: _without(a, r"pretrained\.layer3\.5\."), r"got \(3, 4, 5, 3\)"),
        (
            lambda a: {
                **_without(a, r"pretrained\.conv1\."),
                "pretrained.conv1.weight": np.ones(1),
            },
            "one 7x7 convolution as its stem",
        ),
        (lambda a: _without(a, r"head\.conv5\.4\."), "those of a released head, one of"),
        (
            lambda a: _without(a, r"jpu\.conv4\.1\.running_mean"),
            r"1 missing \(- jpu_conv4_bn/moving_mean\)",
        ),
        (lambda a: {**a, "head.extra": np.ones(2)}, r"1 unused \(\+ head.extra\)"),
        (
            lambda a: {**a, "aux.x": np.ones(2), "jpu.conv3.1.bias": np.ones(3, np.float32)},
            r"1 of another shape \(jpu_conv3_bn/beta \(3,\), model \(512,\)\), 1 unused",
        ),
    ],
)
def test_wrong_weights_are_refused_with_their_reason(state_dict, spoil, message):
    with pytest.raises(ValueError, match=message):
        pretrained.from_state_dict(spoil(state_dict))


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        pretrained.from_checkpoint(str(tmp_path / "nowhere.pth"))
    (tmp_path / "notes.pth").write_text("no weights at all")
    with pytest.raises(ValueError, match="notes.pth"):
        pretrained.from_checkpoint(str(tmp_path / "notes.pth"))
