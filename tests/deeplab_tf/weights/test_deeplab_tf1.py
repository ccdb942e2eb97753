"""Released weights: recognised, renamed, and equal in what they compute."""

import importlib.util
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf import weights
from deeplab_tf.model import DeepLabV3Plus
from deeplab_tf.weights import deeplab_tf1

_FIXTURES = (
    "01_xception_65_os16",
    "01b_xception_65_os16_513",
    "04_xception_41_os16",
    "05_resnet_v1_101_beta_os16_decoder",
    "06_resnet_v1_50_beta_os16_decoder",
    "08_mobilenet_v2_os16_released",
    "09_mobilenet_v2_os8_aspp_decoder",
    "12_resnet_v1_50_beta_os16_separable",
    "15_mobilenet_v2_dm05_os16",
    "18_xception_65_os32",
)


def _released(shared_dir, fixture):
    """The fixture's description, its arrays by released name, and what the code computed."""
    directory = shared_dir / "reference" / "deeplab"
    rule_file = importlib.util.spec_from_file_location("weight_rule", directory / "weight_rule.py")
    rule = importlib.util.module_from_spec(rule_file)
    rule_file.loader.exec_module(rule)
    description = json.loads((directory / f"{fixture}.json").read_text())
    arrays = {v["name"]: rule.make_weight(v["name"], v["shape"]) for v in description["variables"]}
    return description, arrays, np.load(directory / f"{fixture}.npz")


@pytest.mark.parametrize("fixture", _FIXTURES)
def test_logits_and_intermediates_equal_the_released_codes(shared_dir, fixture):
    description, arrays, computed = _released(shared_dir, fixture)
    arguments, num_classes = deeplab_tf1.recognise(arrays)
    model = DeepLabV3Plus(output_stride=description["output_stride"], **arguments).build(
        num_classes
    )
    ours, left_over = deeplab_tf1.to_our_names(arrays, model)
    weights.fit_weights(model, ours)
    assert not left_over
    image = computed["input"][None].astype(np.float32)
    tensors = {
        "upsampled": model.output,
        "logits": model.get_layer("logits").output,
        "backbone": model.get_layer("aspp_conv0").input,
        "encoder": model.get_layer("aspp_dropout").output,
    }
    if arguments["decoder"]:
        tensors["low"] = model.get_layer("decoder_low_level").input
    ours = {name: t.numpy() for name, t in keras.Model(model.input, tensors)(image).items()}
    step = description["outputs"]["logits"]["stored_subsample"]
    logits = ours["logits"][:, ::step, ::step].reshape(computed["logits"].shape)
    assert np.abs(logits - computed["logits"]).max() <= 1e-4 * computed["logits"].std()
    second, first = np.sort(ours["upsampled"][0], axis=-1)[..., -2:].transpose(2, 0, 1)
    label_map = ours["upsampled"][0].argmax(axis=-1)
    assert not np.any((label_map != computed["argmax"]) & (first - second > 1e-3))
    for name in {"backbone", "encoder", "low"} & ours.keys():
        values = ours[name].ravel()
        difference = [
            values[:64] - computed[f"{name}_first64"],
            values[computed[f"{name}_idx"]] - computed[f"{name}_val"],
        ]
        assert np.abs(np.concatenate(difference)).max() <= 1e-4 * values.std(), name


def _interpreter(path):
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()

    def run(image):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def _trained(path, **options):
    arguments, num_classes = deeplab_tf1.recognise(deeplab_tf1.read_npz(str(path)))
    model = DeepLabV3Plus(**options, **arguments).build(num_classes)
    weights.load_weights(model, str(path), source="deeplab_tf1_npz")
    return arguments["backbone"], model


def _photos(shared_dir, side):
    for path in sorted((shared_dir / "data" / "voc_samples" / "images").iterdir()):
        with Image.open(path) as photo:
            yield np.asarray(photo.convert("RGB").resize((side, side)))[None]


def test_trained_weights_give_the_float_files_logits(shared_dir):
    directory = shared_dir / "weights"
    reference = _interpreter(directory / "deeplabv3_257_mv_gpu.tflite")
    # The file's graph has its last feature map at 33x33 for 257x257 pixels: output stride 8.
    name, model = _trained(directory / "deeplabv3_mnv2_dm05_voc.npz", output_stride=8)
    assert name == "mobilenet_v2_dm05"
    for image in _photos(shared_dir, 257):
        theirs = reference(image.astype(np.float32) * np.float32(2 / 255) - 1)
        ours = model(image.astype(np.float32), training=False).numpy()
        assert np.abs(ours - theirs).max() <= 1e-3
        second, first = np.sort(theirs, axis=-1)[..., -2:].transpose(3, 0, 1, 2)
        assert not np.any((ours.argmax(-1) != theirs.argmax(-1)) & (first - second > 1e-3))


def test_trained_weights_give_the_quantised_files_label_maps_nearly(shared_dir):
    directory = shared_dir / "weights"
    reference = _interpreter(directory / "deeplabv3_mnv2_pascal_513_os16_quant.tflite")
    name, model = _trained(directory / "deeplabv3_mnv2_voc.npz")
    assert name == "mobilenet_v2"
    before_resize = keras.Model(model.input, model.get_layer("logits").output)
    for image in _photos(shared_dir, 513):
        theirs = reference(image).reshape(1, 513, 513)
        logits = before_resize(image.astype(np.float32), training=False)
        # Unlike the released code, the graph in this file resizes with its corners unaligned.
        resized = tf.raw_ops.ResizeBilinear(images=logits, size=[513, 513], align_corners=False)
        assert np.mean(np.argmax(resized, axis=-1) == theirs) >= 0.97


def _folded(model):
    """Arrays as folding leaves them: a kernel and a bias for each convolution."""
    arrays = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kind = "depthwise_weights"
        elif isinstance(layer, keras.layers.Conv2D):
            kind = "weights"
        else:
            continue
        scope = deeplab_tf1._scope(layer.name).replace("@", "MobilenetV2")
        kernel = layer.kernel.numpy()
        arrays[f"{scope}/{kind}"] = np.cos(np.arange(kernel.size)).reshape(kernel.shape)
        filters = kernel.shape[2] if kind == "depthwise_weights" else kernel.shape[3]
        arrays[f"{scope}/biases"] = np.sin(np.arange(filters))
    return arrays


def test_folded_normalization_becomes_one_that_adds_the_bias(tmp_path):
    config = DeepLabV3Plus(backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False,
                           separable=False)  # fmt: skip
    model = config.build(3)
    arrays = _folded(model)
    np.savez(tmp_path / "folded.npz", **arrays)
    assert deeplab_tf1.recognise(arrays) == (
        {
            "backbone": "mobilenet_v2_dm035",
            "atrous_rates": (),
            "image_pooling": True,
            "decoder": False,
            "separable": False,
            "aspp_channels": 256,
        },
        3,
    )
    weights.load_weights(model, str(tmp_path / "folded.npz"), source="deeplab_tf1_npz")
    for name in ("backbone_conv_bn", "aspp_projection_bn"):
        layer = model.get_layer(name)
        x = np.cos(np.arange(layer.gamma.shape[0], dtype=np.float32)).reshape(1, 1, 1, -1)
        bias = np.sin(np.arange(x.size))
        np.testing.assert_allclose(layer(x).numpy()[0, 0, 0], x[0, 0, 0] + bias, atol=1e-5)


def test_misfit_lists_both_sides_and_assigns_nothing():
    model = DeepLabV3Plus(backbone="mobilenet_v2_tiny", decoder=False).build(3)
    before = [w.numpy() for w in model.weights]
    arrays = {name: w.numpy() + 1 for name, w in weights.weights_by_name(model).items()}
    del arrays["logits/bias"]
    arrays["logits/kernel"] = np.zeros((1, 1, 256, 5))
    arrays["logits/offset"] = np.zeros(3)
    with pytest.raises(ValueError, match=re.escape("1 missing (- logits/bias), 1 of another")) as e:
        weights.fit_weights(model, arrays)
    assert "(1, 1, 256, 5), model (1, 1, 256, 3)" in str(e.value)
    assert "1 unused (+ logits/offset)" in str(e.value)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_partial_fit_loads_the_backbone_and_leaves_the_other_classes():
    source = DeepLabV3Plus(backbone="mobilenet_v2_tiny", decoder=False).build(3)
    target = DeepLabV3Plus(backbone="mobilenet_v2_tiny").build(5)
    arrays = {name: w.numpy() + 1 for name, w in weights.weights_by_name(source).items()}
    report = weights.fit_weights(target, arrays, partial=True)
    assert set(report.misfit) == {"logits/kernel", "logits/bias"}
    assert all(name.startswith("decoder_") for name in report.missing)
    np.testing.assert_array_equal(
        target.get_layer("backbone_conv").kernel.numpy(), arrays["backbone_conv/kernel"]
    )


def test_partial_fit_refuses_another_backbone():
    source = DeepLabV3Plus(backbone="mobilenet_v2_dm035").build(3)
    target = DeepLabV3Plus(backbone="mobilenet_v2_tiny").build(3)
    arrays = {name: w.numpy() for name, w in weights.weights_by_name(source).items()}
    with pytest.raises(ValueError, match="do not fit the backbone"):
        weights.fit_weights(target, arrays, partial=True)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_file_that_is_no_npz_is_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights.npz is not a readable .npz file"):
        deeplab_tf1.read_npz(str(path))


def test_unknown_network_is_refused_with_its_names():
    with pytest.raises(ValueError, match=r"need a backbone's variables.*got conv1/kernel"):
        deeplab_tf1.recognise({"conv1/kernel": np.zeros(1)})


def test_unknown_source_gets_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'deeplab_tf1_npz'"):
        weights.read_weights("x", "deeplab_tf1_nzp")
