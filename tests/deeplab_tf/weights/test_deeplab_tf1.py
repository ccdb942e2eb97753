"""DeepLab's TensorFlow 1 names: recognized, renamed, and equal in what they compute."""

import importlib.util
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from deeplab_tf.backbones import mobilenet_v2
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.weights import deeplab_tf1, fit_weights, load_weights, read_arrays

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
    found = deeplab_tf1.recognize(arrays, {})
    config = DeepLabV3PlusConfig(output_stride=description["output_stride"], **found.known)
    model = config.build(found.num_classes)
    fit_weights(model, deeplab_tf1.to_our_names(arrays, model))
    image = computed["input"][None].astype(np.float32)
    tensors = {
        "upsampled": model.output,
        "logits": model.get_layer("logits").output,
        "backbone": model.get_layer("aspp_conv0").input,
        "encoder": model.get_layer("aspp_dropout").output,
    }
    if config.decoder:
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
    found = deeplab_tf1.recognize(read_arrays(str(path))[1], {})
    model = DeepLabV3PlusConfig(**options, **found.known).build(found.num_classes)
    load_weights(model, str(path), namings=[deeplab_tf1.NAMING])
    return found.known["backbone"], model


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


def test_trained_weights_give_the_quantized_files_label_maps_nearly(shared_dir):
    directory = shared_dir / "weights"
    reference = _interpreter(directory / "deeplabv3_mnv2_pascal_513_os16_quant.tflite")
    name, model = _trained(directory / "deeplabv3_mnv2_voc.npz")
    assert name == "mobilenet_v2"
    before_resize = keras.Model(model.input, model.get_layer("logits").output)
    for image in _photos(shared_dir, 513):
        theirs = reference(image).reshape(1, 513, 513)
        logits = before_resize(image.astype(np.float32), training=False)
        # Unlike the released code, the graph in this file resizes with align_corners=False.
        resized = tf.raw_ops.ResizeBilinear(images=logits, size=[513, 513], align_corners=False)
        assert np.mean(np.argmax(resized, axis=-1) == theirs) >= 0.97


def _folded(model):
    """Arrays as folding leaves them: a kernel and a bias for each convolution."""
    arrays = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            name = deeplab_tf1.released_name(f"{layer.name}/kernel", "MobilenetV2")
            kernel = layer.kernel.numpy()
            arrays[name] = np.cos(np.arange(kernel.size)).reshape(kernel.shape)
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            biases = np.sin(np.arange(kernel.shape[2 if depthwise else 3]))
            arrays[f"{name.rpartition('/')[0]}/biases"] = biases
    return arrays


def test_folded_normalization_becomes_one_that_adds_the_bias(tmp_path):
    config = DeepLabV3PlusConfig(
        backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False, separable=False
    )
    model = config.build(3)
    arrays = _folded(model)
    np.savez(tmp_path / "folded.npz", **arrays)
    found = deeplab_tf1.recognize(arrays, {})
    assert found.known == {
        "backbone": "mobilenet_v2_dm035",
        "atrous_rates": (),
        "image_pooling": True,
        "decoder": False,
        "separable": False,
        "aspp_channels": 256,
    }
    assert found.num_classes == 3
    load_weights(model, str(tmp_path / "folded.npz"), namings=[deeplab_tf1.NAMING])
    for name in ("backbone_conv_bn", "aspp_projection_bn"):
        layer = model.get_layer(name)
        x = np.cos(np.arange(layer.gamma.shape[0], dtype=np.float32)).reshape(1, 1, 1, -1)
        bias = np.sin(np.arange(x.size))
        np.testing.assert_allclose(layer(x).numpy()[0, 0, 0], x[0, 0, 0] + bias, atol=1e-5)


def test_widths_of_mobilenet_v2_are_told_apart_by_the_first_convolution():
    expected = {
        spec.channels(spec.stem): name
        for name, spec in mobilenet_v2.SPECS.items()
        if name != "mobilenet_v2_tiny"
    }
    for filters in range(64):
        arrays = {"MobilenetV2/Conv/weights": np.zeros((3, 3, 3, filters))}
        if filters in expected:
            found = deeplab_tf1.recognize(arrays, {})
            assert found.known == {"backbone": expected[filters]} and found.num_classes is None
        else:
            with pytest.raises(ValueError, match=f"must have one of 8, 11, .* has {filters}"):
                deeplab_tf1.recognize(arrays, {})


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_kernel_of_another_rank_is_refused(shape):
    arrays = {"xception_65/a": np.zeros(1), "logits/semantic/weights": np.zeros(shape)}
    with pytest.raises(ValueError, match=r"logits/semantic/weights must be the kernel of a conv"):
        deeplab_tf1.recognize(arrays, {})


def test_a_network_of_another_code_base_is_refused_by_its_layer(tmp_path):
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, name="jpu_conv5")(image))
    arrays = {"xception_65/entry_flow/conv1_1/weights": np.zeros((3, 3, 3, 32), np.float32)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match="a.npz: layer 'jpu_conv5' has no name in DeepLab's"):
        load_weights(model, str(tmp_path / "a.npz"), namings=[deeplab_tf1.NAMING])
