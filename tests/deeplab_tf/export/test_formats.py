"""Exports to Keras, LiteRT and ONNX files; what all formats share is in test_saved_model.py."""

import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import deeplab_tf
from deeplab_tf.data.datasets.shapes import draw
from deeplab_tf.export.agreement import Check, batches_of_size, check_agreement
from deeplab_tf.export.keras_file import write_keras
from deeplab_tf.export.litert import write_litert
from deeplab_tf.export.serving import native_atrous_convolutions
from deeplab_tf.layers.atrous import AtrousDepthwiseConv2D
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from jpu_tf.model import FastFCNConfig
from jpu_tf.sliding_window import SlidingWindow

SPEC = DatasetSpec(
    name="shapes",
    class_names=("background", "disc", "größer"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4, "val": 1},
)
IMAGE = draw("val", 3)[0]


def network(backbone: str = "mobilenet_v2_tiny") -> keras.Model:
    keras.utils.set_random_seed(1)
    return deeplab_tf.DeepLabV3Plus(num_classes=3, backbone=backbone, aspp_channels=8)


def run_alone(program: str, *arguments: str) -> str:
    """What a new process prints, in which this project cannot be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-I", "-c", program, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def interpreter(directory) -> tf.lite.Interpreter:
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        return tf.lite.Interpreter(model_path=str(directory / "model.tflite"))


@pytest.fixture
def small() -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, keras.layers.Conv2D(3, 1)(x))


# Agreement


def test_a_wrong_pixel_is_counted_and_a_tie_is_not():
    def model(images, training):
        return np.log(
            [[[[0.5, 0.4997, 0.0003], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]]]]
        )

    said = []
    check = Check(print_fn=said.append)
    arguments = dict(batches=[np.zeros((1, 1, 4, 3), np.uint8)], what="it", check=check)
    predict = lambda images: {"label_map": np.array([[[1, 0, 2, 0]]])}  # noqa: E731
    check_agreement(model, predict, least=0.75, **arguments)
    assert "it: on drawn shapes, no photos, 75 % of the pixels agree" in said[0]
    assert "0.5 less probable" in said[0]
    # What a user can cause is a ValueError: export.py prints it in one line.
    with pytest.raises(
        ValueError, match="in 76 % of the pixels; on drawn.* 75 % of the pixels agree"
    ):
        check_agreement(model, predict, least=0.76, **arguments)
    with pytest.raises(RuntimeError, match="the model's predictions; on drawn.* 75 % of the"):
        check_agreement(model, predict, **arguments)


def test_a_model_whose_logits_are_not_finite_is_refused():
    def model(images, training):
        return np.full((1, 1, 4, 2), np.nan)

    predict = lambda images: {"label_map": np.zeros((1, 1, 4), int)}  # noqa: E731
    with pytest.raises(ValueError, match="must give finite logits.*Choose another --checkpoint"):
        check_agreement(model, predict, [np.zeros((1, 1, 4, 3), np.uint8)], what="it", least=0)


def test_the_comparison_is_without_tensor_float_32_and_leaves_the_setting_as_it_was():
    config, seen = tf.config.experimental, []

    def model(images, training):
        seen.append(config.tensor_float_32_execution_enabled())
        return np.zeros((1, 1, 4, 2))

    def predict(images):
        seen.append(config.tensor_float_32_execution_enabled())
        return {"label_map": np.zeros((1, 1, 4), int)}

    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(True)
    try:
        check_agreement(model, predict, [np.zeros((1, 1, 4, 3), np.uint8)], what="it")
        assert seen == [False, False] and config.tensor_float_32_execution_enabled()
    finally:
        config.enable_tensor_float_32_execution(before)


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        (np.zeros((1, 2, 2), int), r"the images' size, \(1, 2, 3\); got \(1, 2, 2\)"),
        (np.full((1, 2, 3), 3), r"label maps of 0..2; got 3..3"),
        (np.full((1, 2, 3), -1), r"label maps of 0..2; got -1..-1"),
    ],
)
def test_label_maps_of_other_sizes_or_classes_are_refused(small, label_map, message):
    images = np.zeros((1, 2, 3, 3), np.uint8)
    with pytest.raises(RuntimeError, match=message):
        check_agreement(small, lambda _: {"label_map": label_map}, [images], what="it", least=0)


def test_probabilities_that_are_no_numbers_are_refused(small):
    def predict(images):
        probabilities = tf.nn.softmax(small(images.astype(np.float32)))
        return {"label_map": tf.argmax(probabilities, -1), "probabilities": probabilities * np.nan}

    with pytest.raises(RuntimeError, match="must give the model's predictions"):
        check_agreement(small, predict, Check().batches(), what="it")


def test_photos_are_compared_and_large_ones_shrunk():
    photo = np.zeros((300, 1026, 3), np.uint8)
    shapes = [batch.shape for batch in Check(images=[photo] * 99).batches()]
    assert shapes == [(2, 65, 97, 3), (1, 64, 100, 3), *[(1, 150, 513, 3)] * 16]
    shapes = [batch.shape for batch in batches_of_size([photo] * 99, 33, 17)]
    assert shapes == [(1, 33, 17, 3)] * 99


def test_what_is_compared_is_spread_over_the_images_and_not_what_ranges_are_measured_on():
    images = [np.full((1, 1, 3), i, np.uint8) for i in range(64)]
    check = Check(images=images)
    assert [image[0, 0, 0] for image in check.compared] == list(range(0, 64, 4))
    assert [image[0, 0, 0] for image in check.measured] == [i for i in range(64) if i % 4]
    assert check.text == "on 16 images"
    few = Check(images=images[:20])
    assert len(few.compared) == 16 and len(few.measured) == 20
    assert Check().compared == [] and "drawn shapes" in Check().text


def test_a_share_is_rounded_down_so_that_100_percent_is_all():
    def model(images, training):
        return np.eye(2)[np.zeros(images.shape[:3], int)]

    predicted = np.zeros((1, 1000, 1000), int)
    predicted[0, 0, 0] = 1
    images = np.zeros((1, 1000, 1000, 3), np.uint8)
    found = check_agreement(
        model, lambda _: {"label_map": predicted}, [images], what="it", least=0.9
    )
    assert found.startswith("99.9999 % of the pixels agree")


def test_exports_in_several_threads_leave_the_rate_of_training_as_it_was():
    entered, both_inside = threading.Event(), threading.Event()

    def enter_first():
        with native_atrous_convolutions():
            entered.set()
            both_inside.wait(0.2)  # in vain, if one thread at a time is inside

    def leave_last():
        with native_atrous_convolutions():
            both_inside.set()
            first.join()

    first, last = threading.Thread(target=enter_first), threading.Thread(target=leave_last)
    first.start()
    entered.wait()
    last.start()
    last.join()
    assert AtrousDepthwiseConv2D.LARGEST_NATIVE_RATE == 6


# Keras


def test_a_keras_file_holds_the_network_for_training_and_the_classes(tmp_path):
    model = network()
    write_keras(model, SPEC, str(tmp_path / "model"))
    read = keras.saving.load_model(tmp_path / "model" / "model.keras", compile=False)
    assert model.dataset_spec is None and read.dataset_spec == SPEC
    assert [w.path for w in read.trainable_weights] == [w.path for w in model.trainable_weights]
    for weight, expected in zip(read.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow  # a process that imports TensorFlow
def test_a_keras_file_opens_in_a_new_process_after_import_deeplab_tf(tmp_path):
    model = network("xception_tiny")
    write_keras(model, SPEC, str(tmp_path / "model"))
    np.save(tmp_path / "image.npy", IMAGE)
    program = """
import sys; sys.path.insert(0, sys.argv[2])
import deeplab_tf, keras, numpy as np
model = keras.saving.load_model(sys.argv[1] + "/model/model.keras")
logits = model.predict(np.load(sys.argv[1] + "/image.npy")[None])
np.save(sys.argv[1] + "/logits.npy", logits)
print(",".join(model.dataset_spec.class_names).encode())
"""
    root = os.path.dirname(os.path.dirname(deeplab_tf.__file__))
    assert "größer".encode() in eval(run_alone(program, str(tmp_path), root).splitlines()[-1])
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits, model.predict(IMAGE[None]), atol=1e-4)


# LiteRT


def test_a_litert_file_takes_pixels_of_its_size_and_gives_the_models_classes(small, tmp_path):
    write_litert(small, SPEC, str(tmp_path / "model"), height=33, width=49)
    names = ["dataset.json", "labels.txt", "model.tflite", "model_card.md", "sha256.txt"]
    assert sorted(os.listdir(tmp_path / "model")) == names
    lite = interpreter(tmp_path / "model")
    (image,), (label_map,) = lite.get_input_details(), lite.get_output_details()
    assert (image["dtype"], list(image["shape"])) == (np.uint8, [1, 33, 49, 3])
    assert (label_map["dtype"], list(label_map["shape"])) == (np.int32, [1, 33, 49])
    pixels = IMAGE[None, :33, :49]
    predicted = lite.get_signature_runner("serving_default")(image=pixels)["label_map"]
    np.testing.assert_array_equal(predicted, small(pixels.astype(np.float32)).numpy().argmax(-1))


def test_an_inexact_litert_file_is_refused_unless_it_is_wanted(tmp_path):
    keras.utils.set_random_seed(2)
    image = keras.Input((None, None, 3))
    # Classes that differ by half a gray value: eight bits cannot tell them apart.
    logits = keras.layers.Conv2D(3, 1)(keras.layers.Conv2D(8, 1, activation="relu")(image))
    noise = keras.layers.Rescaling(1e4)(logits)
    model = keras.Model(image, keras.layers.Lambda(tf.sin)(noise))
    directory = str(tmp_path / "model")
    options = dict(precision="int8", height=33, width=33)
    with pytest.raises(ValueError, match=r"in 98 % of the pixels.*--allow_inexact keeps it"):
        write_litert(model, SPEC, directory, **options)
    assert os.listdir(tmp_path) == []
    write_litert(model, SPEC, directory, allow_inexact=True, **options)
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(precision="int4"), "--precision must be one of float32, float16, int8; got 'int4'"),
        (dict(height=0), "--height must be 1 to 8192 pixels; got 0"),
        (dict(height=10**8), "--height must be 1 to 8192 pixels; got 100000000"),
        (dict(allow_inexact=True), "--allow_inexact is for --precision=float16 and int8"),
    ],
)
def test_wrong_options_of_litert_are_named(small, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_litert(small, SPEC, str(tmp_path / "model"), **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.slow  # three conversions of a network
def test_litert_files_shrink_with_precision_and_atrous_convolutions_are_one_operation(tmp_path):
    model, sizes = network("xception_tiny"), []
    for precision in ("float32", "float16", "int8"):
        directory = tmp_path / precision
        said = []
        check = Check(images=[draw("train", i)[0] for i in range(8)], print_fn=said.append)
        write_litert(
            model, SPEC, str(directory), check, precision=precision, height=65, width=65,
            allow_inexact=precision != "float32",
        )  # fmt: skip
        assert said[0].startswith(f"model.tflite ({precision}): ")
        sizes.append((directory / "model.tflite").stat().st_size)
        names = {op["op_name"] for op in interpreter(directory)._get_ops_details()}
        assert "DEPTHWISE_CONV_2D" in names
        assert not any("SPACE" in name or name.startswith("Flex") for name in names)
    assert sizes[2] < sizes[1] < 0.6 * sizes[0]
    assert AtrousDepthwiseConv2D.LARGEST_NATIVE_RATE == 6


# ONNX


@pytest.mark.slow  # converts three networks
@pytest.mark.parametrize("backbone", ["xception_tiny", "resnet_tiny", "fastfcn"])
def test_an_onnx_file_gives_the_models_classes_at_every_size_without_this_project(
    backbone, tmp_path
):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    from deeplab_tf.export.onnx_file import write_onnx

    if backbone == "fastfcn":
        keras.utils.set_random_seed(1)
        trained = FastFCNConfig(backbone="resnet_deep_stem_tiny").build(3)
        model = SlidingWindow(window_size=33).export_model(trained)
    else:
        model = network(backbone)
    write_onnx(model, SPEC, str(tmp_path / "model"))
    file = onnx.load(tmp_path / "model" / "model.onnx")
    axes = [
        axis.dim_param or axis.dim_value for axis in file.graph.input[0].type.tensor_type.shape.dim
    ]
    assert axes == ["N", "H", "W", 3]
    operations = {node.op_type for node in file.graph.node}
    assert not operations & {"SpaceToDepth", "DepthToSpace"}
    (softmax,) = (node for node in file.graph.node if node.output[0] == "probabilities")
    # ONNX Runtime is slow over the second axis.
    assert softmax.op_type == "Softmax" and softmax.attribute[0].i in (3, -1)
    for node in file.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if max(attributes.get("dilations", [1])) > 1:
            assert attributes["pads"] == 2 * attributes["dilations"]
    program = """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1] + "/model/model.onnx")
for name in ("a", "b"):
    image = np.load(f"{sys.argv[1]}/{name}.npy")
    outputs = session.run(["label_map", "probabilities"], {"image": image})
    np.savez(f"{sys.argv[1]}/{name}.npz", *outputs)
"""
    images = {"a": IMAGE[None, :71, :53], "b": np.stack([IMAGE[:33, :90], IMAGE[-33:, -90:]])}
    for name, pixels in images.items():
        np.save(tmp_path / f"{name}.npy", pixels)
    run_alone(program, str(tmp_path))
    for name, pixels in images.items():
        expected = tf.nn.softmax(model(pixels.astype(np.float32))).numpy()
        label_map, probabilities = np.load(tmp_path / f"{name}.npz").values()
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        chosen = np.take_along_axis(expected, label_map[..., None], axis=-1)[..., 0]
        assert (expected.max(-1) - chosen).max() < 1e-5


def test_missing_packages_of_onnx_are_named(small, tmp_path, monkeypatch):
    from deeplab_tf.export.onnx_file import write_onnx

    for name in ("onnx", "tf2onnx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"missing: tf2onnx, onnx, onnxruntime. Run pip install"):
        write_onnx(small, SPEC, str(tmp_path / "model"))
    assert os.listdir(tmp_path) == []
