import errno
import hashlib
import importlib.util
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from deeplab_tf.export import EXPORTERS
from deeplab_tf.export.directory import check_new, whole_directory
from deeplab_tf.export.saved_model import SavedModel, write_saved_model
from deeplab_tf.inference import inference_model
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

SPEC = DatasetSpec(
    name="shapes",
    class_names=("background", "disc", "größer"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4, "val": 1},
)

HAS_ONNX = all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "tf2onnx")))
WITHOUT_ONNX = pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
KINDS = [pytest.param(kind, marks=WITHOUT_ONNX if kind == "onnx" else ()) for kind in EXPORTERS]


def small_model(num_classes: int = 3) -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, keras.layers.Conv2D(num_classes, 1)(x))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("export") / "model")
    model = small_model()
    write_saved_model(model, SPEC, directory)
    return model, directory


def test_exported_label_map_equals_model_argmax(written):
    model, directory = written
    loaded = SavedModel(directory)
    for shape in ((1, 33, 65, 3), (2, 20, 7, 3)):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        logits = model(images.astype(np.float32)).numpy()
        outputs = loaded.predict(images)
        np.testing.assert_array_equal(outputs["label_map"], logits.argmax(-1))
        np.testing.assert_allclose(outputs["probabilities"], tf.nn.softmax(logits), atol=1e-5)
        assert outputs["label_map"].dtype == tf.int32


def test_plain_tensorflow_serves_it_by_signature(written):
    loaded = tf.saved_model.load(written[1])
    serve = loaded.signatures["serving_default"]
    (image,) = serve.structured_input_signature[1].values()
    assert (image.name, image.dtype, image.shape.as_list()) == (
        "image",
        tf.uint8,
        [None, None, None, 3],
    )
    assert set(serve.structured_outputs) == {"label_map", "probabilities"}


def test_serve_is_the_endpoint_that_keras_finds_by_default(written):
    model, directory = written
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 7, 3), np.uint8)
    outputs = keras.layers.TFSMLayer(directory)(images)
    expected = model(images.astype(np.float32)).numpy().argmax(-1)
    np.testing.assert_array_equal(outputs["label_map"], expected)


@pytest.mark.parametrize("encode", [tf.io.encode_png, tf.io.encode_jpeg])
def test_the_bytes_of_a_file_are_predicted_as_its_pixels(written, encode):
    image = np.random.default_rng(0).integers(0, 256, (20, 7, 3), np.uint8)
    encoded = encode(image)
    loaded = tf.saved_model.load(written[1])
    signature = loaded.signatures["serving_bytes"]
    (spec,) = signature.structured_input_signature[1].values()
    # TensorFlow Serving's REST API gives one file as a list of one.
    assert (spec.name, spec.dtype, spec.shape.as_list()) == ("image_bytes", tf.string, [1])
    found = signature(image_bytes=encoded[None])
    expected = loaded.serve(tf.io.decode_image(encoded)[None])
    np.testing.assert_array_equal(found["label_map"], expected["label_map"])
    np.testing.assert_array_equal(found["probabilities"], expected["probabilities"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Unknown image file format"):
        signature(image_bytes=tf.constant(["not an image"]))


def test_several_files_in_one_request_are_refused(written):
    serve = tf.saved_model.load(written[1]).signatures["serving_bytes"]
    encoded = tf.io.encode_png(np.zeros((5, 6, 3), np.uint8)).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError):
        serve(image_bytes=tf.constant([encoded, encoded]))


def test_the_released_names_are_there_on_request(tmp_path):
    model, directory = small_model(), str(tmp_path / "model")
    write_saved_model(model, SPEC, directory, signature_names="released")
    loaded = tf.saved_model.load(directory)
    signature = loaded.signatures["serving_default"]
    ((name, spec),) = signature.structured_input_signature[1].items()
    assert (name, spec.shape.as_list()) == ("ImageTensor", [1, None, None, 3])
    image = np.random.default_rng(0).integers(0, 256, (1, 20, 7, 3), np.uint8)
    outputs = signature(ImageTensor=tf.constant(image))
    assert list(outputs) == ["SemanticPredictions"]
    label_map = outputs["SemanticPredictions"]
    expected = model(image.astype(np.float32)).numpy().argmax(-1)
    assert label_map.dtype == tf.int32
    np.testing.assert_array_equal(label_map, expected)
    np.testing.assert_array_equal(SavedModel(directory).predict(image)["label_map"], expected)


def test_other_names_of_signatures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--signature_names must be one of own, released; got 'x'"):
        write_saved_model(small_model(), SPEC, str(tmp_path / "model"), signature_names="x")
    assert os.listdir(tmp_path) == []


def test_weights_are_stored_once(written):
    model, directory = written
    stored = tf.train.list_variables(os.path.join(directory, "variables", "variables"))
    numbers = sum(int(np.prod(shape)) for name, shape in stored if "OBJECT_GRAPH" not in name)
    assert numbers == inference_model(model).count_params()


def test_the_network_is_in_the_graph_once(written):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(pathlib.Path(written[1], "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    assert sum(node.op == "Conv2D" for f in functions for node in f.node_def) == 2


def test_converters_read_the_weights_of_a_saved_model(written):
    model, directory = written
    converter = tf.lite.TFLiteConverter.from_saved_model(
        directory, signature_keys=["serving_default"]
    )
    with pytest.warns(UserWarning, match="tf.lite.Interpreter is deprecated"):
        interpreter = tf.lite.Interpreter(model_content=converter.convert())
    image = np.random.default_rng(0).integers(0, 256, (1, 33, 65, 3), np.uint8)
    interpreter.resize_tensor_input(0, image.shape)
    runner = interpreter.get_signature_runner("serving_default")
    expected = model(image.astype(np.float32)).numpy().argmax(-1)
    np.testing.assert_array_equal(runner(image=image)["label_map"], expected)


def test_classes_travel_with_the_model(written):
    assert SavedModel(written[1]).spec == SPEC


def test_nothing_half_written_is_left_beside_it(written):
    assert os.listdir(os.path.dirname(written[1])) == ["model"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_occupied_directory_is_refused_and_left_alone(kind, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="must be empty or absent"):
        EXPORTERS[kind](small_model(), SPEC, str(tmp_path))
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_an_export_to_a_link_to_an_empty_directory_is_in_that_directory(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "place")
    with whole_directory(str(tmp_path / "link")) as temporary:
        pathlib.Path(temporary, "a").write_text("a")
    assert sorted(os.listdir(tmp_path)) == ["link", "place"]
    assert os.listdir(tmp_path / "place") == ["a"] and (tmp_path / "link").is_symlink()


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*/model'"):
        with whole_directory(str(tmp_path / "model")):
            raise OSError(errno.ENOSPC, "No space left on device")  # as h5py says it
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_renamed_is_refused_at_once(monkeypatch, tmp_path):
    # A mounted volume of a container; mounting takes rights that tests do not have.
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(OSError, match="is where a file system is mounted.*Choose another"):
        check_new(str(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_is_not_functional_is_refused(kind, tmp_path):
    class Own(keras.Model):
        """A subclass, which has no graph."""

    with pytest.raises(ValueError, match="takes a functional model.*got an object of Own"):
        EXPORTERS[kind](Own(), SPEC, str(tmp_path / "model"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_other_classes_is_refused(kind, tmp_path):
    with pytest.raises(ValueError, match=r"one output per class of shapes \(3\); it has 5"):
        EXPORTERS[kind](small_model(num_classes=5), SPEC, str(tmp_path / "model"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_one_directory_and_nothing_beside_it(kind, tmp_path):
    EXPORTERS[kind](small_model(), SPEC, str(tmp_path / "model"))
    assert os.listdir(tmp_path) == ["model"] and len(os.listdir(tmp_path / "model")) > 1
    labels = (tmp_path / "model" / "labels.txt").read_text(encoding="utf-8")
    assert labels == "background\ndisc\ngrößer\n"


def test_an_export_that_predicts_otherwise_is_removed(tmp_path):
    class Fickle(keras.layers.Layer):
        """Gives other logits in a graph than outside one, as a wrong conversion would."""

        def call(self, x):
            return x if tf.executing_eagerly() else 255.0 - x

    image = keras.Input((None, None, 3))
    model = keras.Model(image, Fickle()(image))
    with pytest.raises(RuntimeError, match="must give the model's predictions"):
        write_saved_model(model, SPEC, str(tmp_path / "model"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
)
def test_a_changed_bit_is_noticed_by_the_checksums(written, tmp_path, name):
    directory = shutil.copytree(written[1], tmp_path / "model")
    data = bytearray((directory / name).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is not the file that export.py wrote: it must"):
        SavedModel(str(directory))
    (directory / name).unlink()
    with pytest.raises((FileNotFoundError, ValueError), match=name):
        SavedModel(str(directory))


def test_the_checksums_are_those_of_sha256sum(written):
    sums = pathlib.Path(written[1], "assets.extra", "sha256.txt").read_text().splitlines()
    names = {"saved_model.pb", "variables/variables.index"}
    assert names < {line.split("  ")[1] for line in sums}
    for line in sums:
        digest, name = line.split("  ")
        data = pathlib.Path(written[1], name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest


def test_an_export_of_an_earlier_version_has_no_checksums(written, tmp_path):
    directory = shutil.copytree(written[1], tmp_path / "model")
    (directory / "assets.extra" / "sha256.txt").unlink()
    assert SavedModel(str(directory)).spec == SPEC


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path):
    (tmp_path / "model.incomplete" / "variables").mkdir(parents=True)
    write_saved_model(small_model(), SPEC, str(tmp_path / "model"))
    assert os.listdir(tmp_path) == ["model"]


def test_two_exports_into_one_directory_are_not_mixed(tmp_path):
    directory = str(tmp_path / "model")
    with whole_directory(directory) as temporary:
        pathlib.Path(temporary, "a").touch()
        with pytest.raises(BlockingIOError, match="model"), whole_directory(directory):
            pass
        assert os.listdir(temporary) == ["a"]
    assert os.listdir(tmp_path) == ["model"] and os.listdir(directory) == ["a"]


def test_a_directory_without_our_saved_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved_model.pb in .*export.py"):
        SavedModel(str(tmp_path))


@pytest.mark.slow  # exports a network
def test_atrous_convolutions_of_every_rate_are_one_operation(tmp_path):
    config = DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", aspp_channels=8, atrous_rates=(2, 12), separable=True
    )
    write_saved_model(config.build(3), SPEC, str(tmp_path / "model"))
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((tmp_path / "model" / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    nodes = [node for function in functions for node in function.node_def]
    convolutions = [node for node in nodes if node.op == "DepthwiseConv2dNative"]
    rates = {max(node.attr["dilations"].list.i, default=1) for node in convolutions}
    assert {2, 12} <= rates
    assert not [node.name for node in nodes if "SpaceToBatch" in node.op or "BatchTo" in node.op]
