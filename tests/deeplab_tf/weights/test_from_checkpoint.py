"""Released files: each is recognised and filled whole, or refused with a reason."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import deeplab_tf
from deeplab_tf import pretrained
from deeplab_tf.weights import deeplab_tf1, weights_by_name

# (scope, kind, shape) of a network that is small because its parts are; see _released.
_MODEL = deeplab_tf.DeepLabV3Plus(
    backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False, separable=False
)


def _released(num_classes=4, config=_MODEL):
    """Arrays by released name, which only `from_checkpoint` has to tell apart again."""
    model = config.build(num_classes)
    arrays = {}
    for name, weight in weights_by_name(model).items():
        layer, kind = name.split("/")
        scope = deeplab_tf1._scope(layer.removesuffix("_bn")).replace("@", "MobilenetV2")
        if layer.endswith("_bn"):
            path = f"{scope}/BatchNorm/{kind}"
        elif kind == "bias":
            path = f"{scope}/biases"
        else:
            path = f"{scope}/{'depthwise_weights' if 'depthwise' in layer else 'weights'}"
        shape = tuple(weight.shape)
        values = 0.05 * np.cos(np.arange(np.prod(shape))).reshape(shape)
        arrays[path] = (values + (kind in ("gamma", "moving_variance"))).astype(np.float32)
    return arrays


def _write_checkpoint(directory, arrays):
    """A checkpoint of TensorFlow 1's kind: variables by their names alone."""
    prefix = str(directory / "model.ckpt")
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(arrays[name]) for name in names],
    )
    return prefix


def _predict(model):
    image = 127 + 100 * np.sin(np.arange(33 * 33 * 3, dtype=np.float32)).reshape(1, 33, 33, 3)
    return model(image, training=False).numpy()


def test_genuine_checkpoint_gives_the_fixtures_logits(shared_dir):
    directory = shared_dir / "reference" / "deeplab"
    computed = np.load(directory / "15_mobilenet_v2_dm05_os16.npz")
    model = deeplab_tf.from_checkpoint(str(directory / "ckpt_15_mobilenet_v2_dm05"))
    description = json.loads((directory / "15_mobilenet_v2_dm05_os16.json").read_text())
    assert model.output_shape[-1] == description["num_classes"]
    label_map = model(computed["input"][None].astype(np.float32), training=False)
    label_map = np.argmax(label_map, axis=-1).reshape(computed["argmax"].shape)
    assert not np.any((label_map != computed["argmax"]) & (computed["margin"] > 1e-3))


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_checkpoint_is_found_by_prefix_or_file(tmp_path, ending):
    prefix = _write_checkpoint(tmp_path, _released())
    config, num_classes, arrays = pretrained.recognise(prefix + ending)
    assert (config.backbone, config.decoder, num_classes) == ("mobilenet_v2_dm035", False, 4)
    assert arrays.keys() == _released().keys()


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
def test_head_is_recognised_from_names_and_shapes(tmp_path, options):
    config = dataclasses.replace(_MODEL, **{"decoder": True, "decoder_separable": True, **options})
    prefix = _write_checkpoint(tmp_path, _released(5, config))
    found, num_classes, _ = pretrained.recognise(prefix)
    if not config.decoder:
        config = dataclasses.replace(config, decoder_separable=None)
    assert (found, num_classes) == (config, 5)
    deeplab_tf.from_checkpoint(prefix)


def test_unusual_number_of_branches_needs_their_rates(tmp_path):
    config = dataclasses.replace(_MODEL, atrous_rates=(2, 5))
    prefix = _write_checkpoint(tmp_path, _released(5, config))
    with pytest.raises(ValueError, match="have 2 atrous branches; say their rates"):
        deeplab_tf.from_checkpoint(prefix)
    model = deeplab_tf.from_checkpoint(prefix, atrous_rates=(2, 5))
    assert model.get_layer("aspp_conv2").dilation_rate == (5, 5)


def test_first_kernel_is_adapted_to_grey_images(tmp_path):
    told = []
    prefix = _write_checkpoint(tmp_path, _released())
    model = deeplab_tf.from_checkpoint(prefix, input_channels=1, say=told.append)
    assert "adapted to the images' number of channels (1): backbone_conv/kernel" in told[0]
    kernel = _released()["MobilenetV2/Conv/weights"]
    found = model.get_layer("backbone_conv").kernel.numpy()
    np.testing.assert_allclose(found, kernel.sum(axis=2, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("complete", [True, False])
def test_moving_averages_are_taken_if_all_that_trains_has_one(tmp_path, complete):
    arrays = _released()
    plain = _predict(deeplab_tf.from_checkpoint(_write_checkpoint(tmp_path, arrays)))
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
    more = _write_checkpoint(tmp_path / "more", {**arrays, **extra})
    loaded = _predict(deeplab_tf.from_checkpoint(more))
    np.testing.assert_allclose(loaded, plain + (1 if complete else 0), atol=1e-5)


def test_frozen_graph_gives_the_same_network(tmp_path):
    arrays = _released()
    graph = tf.Graph()
    with graph.as_default():
        for name, value in arrays.items():
            tf.constant(value, name=name)
        tf.constant(1.0, name="MobilenetV2/Conv/not_a_weight")
    path = tmp_path / "frozen_inference_graph.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    frozen = deeplab_tf.from_checkpoint(str(path), source="deeplab_tf1_pb")
    direct = deeplab_tf.from_checkpoint(_write_checkpoint(tmp_path, arrays))
    np.testing.assert_array_equal(_predict(frozen), _predict(direct))


def test_other_number_of_classes_makes_a_new_classifier_alone(tmp_path):
    told = []
    prefix = _write_checkpoint(tmp_path, _released())
    model = deeplab_tf.from_checkpoint(prefix, num_classes=7, say=told.append)
    assert model.output_shape[-1] == 7
    assert "other shape in the source (2): logits/bias, logits/kernel" in told[0]
    kernel = model.get_layer("aspp_projection").kernel.numpy()
    np.testing.assert_array_equal(kernel, _released()["concat_projection/weights"])


def test_new_classifier_does_not_excuse_a_missing_head(tmp_path):
    prefix = _write_checkpoint(tmp_path, _without(_released(), "aspp0/weights"))
    with pytest.raises(ValueError, match=r"1 missing \(- aspp_conv0/kernel\)"):
        deeplab_tf.from_checkpoint(prefix, num_classes=7)


def test_backbone_alone_needs_a_number_of_classes(tmp_path):
    arrays = {n: a for n, a in _released().items() if n.startswith("MobilenetV2/")}
    prefix = _write_checkpoint(tmp_path, arrays)
    with pytest.raises(ValueError, match="holds a backbone alone; say num_classes"):
        deeplab_tf.from_checkpoint(prefix)
    model = deeplab_tf.from_checkpoint(prefix, num_classes=3)
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
        (lambda a: _without(a, "MobilenetV2/Conv/weights"), "lack MobilenetV2/Conv/weights"),
        (
            lambda a: {**a, "MobilenetV2/Conv/weights": np.zeros((3, 3, 3, 5), np.float32)},
            "no MobileNetV2 variant here has 5 channels",
        ),
        (
            lambda a: {n.replace("MobilenetV2", "InceptionV9"): v for n, v in a.items()},
            "need a backbone's variables",
        ),
        (
            lambda a: {n.replace("MobilenetV2", "xception_65"): v for n, v in a.items()},
            r"do not fit: \d+ missing \(- backbone_entry_block1",
        ),
        (
            lambda a: {**a, "aspp0/extra/weights": np.zeros(3, np.float32)},
            r"1 unused \(\+ aspp0/extra/weights\)",
        ),
        (lambda a: {"global_step": np.int64(3)}, "got no arrays"),
    ],
)
def test_wrong_checkpoint_is_refused_with_its_reason(tmp_path, spoil, message):
    prefix = _write_checkpoint(tmp_path, spoil(_released()))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match=message):
        deeplab_tf.from_checkpoint(prefix)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("part", [".data-00000-of-00001", ".index"])
@pytest.mark.parametrize("keep", [0, 100])
def test_truncated_checkpoint_is_refused(tmp_path, part, keep):
    prefix = _write_checkpoint(tmp_path, _released())
    with open(prefix + part, "r+b") as file:
        file.truncate(keep)
    with pytest.raises(ValueError, match="model.ckpt is not a readable checkpoint"):
        deeplab_tf.from_checkpoint(prefix)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        deeplab_tf.from_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="must hold one checkpoint"):
        deeplab_tf.from_checkpoint(str(tmp_path))
    (tmp_path / "notes.index").write_text("no checkpoint at all")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        deeplab_tf.from_checkpoint(str(tmp_path))
    for content in (b"", b"some text", b"\x0a\x05abc"):
        (tmp_path / "graph.pb").write_bytes(content)
        with pytest.raises(ValueError, match=r"graph.pb is not a (readable )?frozen graph"):
            deeplab_tf.from_checkpoint(str(tmp_path / "graph.pb"), source="deeplab_tf1_pb")


def test_checkpoint_without_its_data_is_refused(tmp_path):
    prefix = _write_checkpoint(tmp_path, _released())
    shutil.move(prefix + ".data-00000-of-00001", tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        deeplab_tf.from_checkpoint(prefix)
