"""FastFCN's PyTorch names: networks are recognized and loaded whole, or refused with a reason."""

import json
import re
import zlib

import keras
import numpy as np
import pytest
import weight_files

from deeplab_tf.weights import Pretrained, deeplab_tf1, from_checkpoint, recognize, weights_by_name
from jpu_tf import weights
from jpu_tf.heads import ASPP, FCN, PSP, Encoding
from jpu_tf.model import FastFCNConfig
from jpu_tf.upsamplers import JPU, NoUpsampling

FIXTURES = {
    "01_encnet_resnet50_jpu": {"upsampler": JPU(), "head": Encoding(kernel_size=1)},
    "01c_encnet_resnet50_jpu_odd_b2": {"upsampler": JPU(), "head": Encoding(kernel_size=1)},
    "03_encnet_resnet50_dilated": {"upsampler": NoUpsampling(), "head": Encoding(kernel_size=3)},
    "04_deeplab_resnet50_jpu": {"upsampler": JPU(), "head": ASPP()},
    "06_psp_resnet50_jpu": {"upsampler": JPU(), "head": PSP()},
    "08_fcn_resnet50_jpu": {"upsampler": JPU(), "head": FCN()},
    "09_encnet_resnet50_jpu_ade20k": {"upsampler": JPU(), "head": Encoding(kernel_size=1)},
    "12_encnet_resnet50_os32_none": {"upsampler": NoUpsampling(), "output_stride": 32},
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


KNOWN = {
    "namings": (deeplab_tf1.NAMING, weights.NAMING),
    "model_configs": {"fastfcn": FastFCNConfig},
}


def _pretrained(state_dict, **options) -> Pretrained:
    """What a file with this state dict holds."""
    found = weights.recognize(state_dict, options)
    config = FastFCNConfig(**{**found.assumed, **found.known, **options})
    return Pretrained(
        path="a state dict",
        config=config,
        num_classes=found.num_classes,
        arrays=state_dict,
        naming=weights.NAMING,
    )


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
    stride = {key: expected_config[key] for key in ("output_stride",) if key in expected_config}
    found = _pretrained(state_dict, **stride)
    assert found.num_classes == description["nclass"]
    assert expected_config.items() <= vars(found.config).items()

    model, _ = found.build(auxiliary=True)
    encoding = isinstance(found.config.head, Encoding)
    taps = {
        "logits_low": model.get_layer("head_logits").output,
        "aux_logits_low": model.get_layer("aux_logits").output,
    }
    if encoding:
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
    if encoding:
        compared["se_pred"] = outputs["se_logits"]
        compared |= {f"tap/enc_{n}/full": outputs[n] for n in ("E", "mean", "gamma")}
    for key, values in compared.items():
        np.testing.assert_allclose(values, arrays[key], rtol=0, atol=5e-4, err_msg=key)
    assert np.sum(np.argmax(outputs["logits"], axis=-1) != arrays["argmax"]) <= 4


_NETWORKS = {
    "jpu_x": {"upsampler": "jpu_x"},
    "no_outputs_for_training": {"aux_weight": 0.0, "head": Encoding(se_weight=0.0)},
    "no_jpu_but_its_head": {"upsampler": "none", "head": Encoding(kernel_size=1)},
    "lateral": {"upsampler": "none", "head": Encoding(lateral=True)},
    "resnet101": {"backbone": "resnet101_deep_stem", "upsampler": "none", "head": "aspp"},
    "resnet152": {"backbone": "resnet152_deep_stem", "upsampler": "none", "head": "fcn"},
}


@pytest.mark.parametrize("name", _NETWORKS)
def test_networks_are_recognized_by_their_weights(name):
    config = FastFCNConfig(**_NETWORKS[name])
    model = config.build(4, auxiliary=True)
    released = weight_files.fastfcn_arrays(
        model, config.head.kind, values=lambda shape, _: np.zeros(shape, np.float32)
    )
    found = _pretrained(released)
    assert found.num_classes == 4
    head = config.head
    if isinstance(head, Encoding):  # the file tells what was left to the upsampler
        head = head.replace(kernel_size=head.kernel_size or config.upsampler.head_kernel_size)
    assert found.config == config.replace(head=head)
    named = weights.to_our_names(released, model)
    assert {n: a.shape for n, a in named.items()} == {
        n: tuple(w.shape) for n, w in weights_by_name(model).items()
    }


@pytest.fixture(scope="module")
def state_dict():
    model = FastFCNConfig(head="fcn").build(4, auxiliary=True)
    return weight_files.fastfcn_arrays(model, "fcn", values=lambda shape, n: _rule(n, shape))


def _predict(model):
    image = 127 + 100 * np.sin(np.arange(33 * 33 * 3, dtype=np.float32)).reshape(1, 33, 33, 3)
    return np.asarray(model(image, training=False))


def test_prefix_of_parallel_training_and_what_no_network_reads_do_not_matter(state_dict):
    spoiled = {f"module.{name}": array for name, array in state_dict.items()}
    spoiled["module.pretrained.fc.weight"] = np.zeros((1000, 2048), np.float32)
    spoiled["module.pretrained.bn1.num_batches_tracked"] = np.int64(7)
    plain, _ = _pretrained(state_dict).build()
    assert plain.output_shape == (None, None, None, 4)
    found, _ = _pretrained(spoiled).build()
    np.testing.assert_array_equal(_predict(found), _predict(plain))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_file_gives_the_network_with_and_without_auxiliary_outputs(state_dict, tmp_path, legacy):
    path = weight_files.write_torch(tmp_path / "best.pth.tar", state_dict, legacy=legacy)
    model = from_checkpoint(path, **KNOWN, auxiliary=legacy)
    assert isinstance(model.output, dict) == legacy
    expected, report = _pretrained(state_dict).build(auxiliary=legacy)
    assert any(name.startswith("aux_") for name in report.loaded) == legacy
    assert not (report.missing or report.misfit or report.unused)
    image = np.full((1, 33, 33, 3), 100, np.float32)
    np.testing.assert_array_equal(
        keras.tree.flatten(model(image))[-1], keras.tree.flatten(expected(image))[-1]
    )


def test_other_number_of_classes_makes_new_classifiers_alone(state_dict):
    model, report = _pretrained(state_dict).build(7, auxiliary=True)
    assert model.output["aux_logits"].shape[-1] == 7
    assert report.misfit == ("aux_logits/bias", "aux_logits/kernel", "head_logits/bias",
                             "head_logits/kernel")  # fmt: skip
    kernel = state_dict["head.conv5.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("head_conv").kernel, kernel)


def test_imagenet_weights_fill_the_backbone_and_need_a_number_of_classes(state_dict):
    backbone = {
        name.removeprefix("pretrained."): array
        for name, array in state_dict.items()
        if name.startswith("pretrained.")
    }
    backbone["fc.weight"] = np.zeros((1000, 2048), np.float32)
    with pytest.raises(ValueError, match="holds a backbone alone. Give num_classes"):
        _pretrained(backbone).build()
    model, _ = _pretrained(backbone).build(3)
    kernel = backbone["layer4.2.conv3.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("backbone_block4_unit3_conv3").kernel, kernel)
    del backbone["layer4.2.bn3.running_mean"]
    with pytest.raises(ValueError, match="do not fit the backbone: .* missing"):
        _pretrained(backbone).build(3)


def test_weights_without_jpu_run_as_the_options_tell(state_dict, tmp_path):
    def stride(**options):
        config = _pretrained(released, **options).config
        size = config.build(4, (64, 64, 3)).get_layer("head_logits").output.shape[1]
        return 64 // size, config.backbone_output_stride

    released = {n: a for n, a in state_dict.items() if not n.startswith("jpu.")}
    assert stride() == (8, 8)
    assert stride(output_stride=32) == (32, 32)
    assert stride(upsampler="bilinear") == (8, 32)
    for upsampler in ("fpn", JPU(channels=8)):
        with pytest.raises(ValueError, match="must be none or bilinear for weights without JPU"):
            _pretrained(released, upsampler=upsampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"upsampler": "bilinear"},
            r"upsampler must be JPU\(.*, as in the weights; got Bilinear",
        ),
        ({"head": PSP()}, r"head must be FCN\(.*, as in the weights; got PSP"),
        ({"output_stride": 8}, "output_stride must be 32 before upsampler jpu"),
        ({"multi_grid": (1, 2, 4)}, "unknown option multi_grid .*leave open: output_stride, aux_w"),
    ],
)
def test_option_that_contradicts_the_weights_is_refused(state_dict, tmp_path, options, message):
    path = weight_files.write_npz(tmp_path / "a.npz", state_dict)
    with pytest.raises(ValueError, match=message):
        recognize(path, **KNOWN, **options)
    found = recognize(path, **KNOWN, head=FCN(dropout=0.5), upsampler="jpu")
    assert found.config == FastFCNConfig(head=FCN(dropout=0.5))


def _without(arrays, *patterns):
    return {n: a for n, a in arrays.items() if not any(re.match(p, n) for p in patterns)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
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
        (
            lambda a: _without(a, r"auxlayer\.conv5\.1\.running_mean"),
            r"1 missing \(- aux_conv_bn/moving_mean\)",
        ),
        (lambda a: {**a, "head.extra": np.ones(2)}, r"1 unused \(\+ head.extra\)"),
        (
            lambda a: {**a, "aux.x": np.ones(2), "jpu.conv3.1.bias": np.ones(3, np.float32)},
            r"1 of another shape \(jpu_conv3_bn/beta \(3,\), model \(512,\)\), 1 unused",
        ),
        (lambda a: {**a, "head.conv5.4.weight": np.ones(4)}, "must have head.conv5.4.weight"),
    ],
)
def test_wrong_weights_are_refused_with_their_reason(state_dict, spoil, message):
    with pytest.raises(ValueError, match=message):
        _pretrained(spoil(state_dict)).build(auxiliary=True)


def test_other_names_are_not_fastfcns():
    assert weights.recognize({}, {}) is None
    assert weights.recognize({"MobilenetV2/Conv/weights": np.ones(1)}, {}) is None
