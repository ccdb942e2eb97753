"""SavedModels from elsewhere: what they would run is named before anything of them runs."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import weight_files
from tensorflow.core.protobuf import saved_model_pb2

from deeplab_tf.classifier import ClassifierConfig
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.export.graph_check import check_saved_model
from deeplab_tf.export.saved_model import SavedModel, write_saved_model
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from jpu_tf.heads import HEADS
from jpu_tf.model import FastFCNConfig
from jpu_tf.sliding_window import SlidingWindow
from jpu_tf.upsamplers import UPSAMPLERS

SPEC = DatasetSpec(
    name="shapes", class_names=("a", "b", "c"), ignore_label=255, palette=bit_palette(3), splits={}
)
IMAGE = tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")


def write(directory, serve, image=IMAGE):
    """A SavedModel that someone else made to look like ours; returns its path."""
    module = tf.Module()
    module.bias = tf.Variable([0.0, 1.0, 2.0])
    module.serve = tf.function(lambda image: serve(image, module.bias), input_signature=[image])
    tf.saved_model.save(module, str(directory), signatures={"serving_default": module.serve})
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "dataset.json").write_text(SPEC.to_json())
    return str(directory)


def predictions(image, bias):
    logits = tf.cast(image, tf.float32) + bias
    label_map = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return {"label_map": label_map, "probabilities": tf.nn.softmax(logits)}


def change(directory, edit):
    """Edits the SavedModel as TensorFlow's message."""
    path = os.path.join(directory, "saved_model.pb")
    saved = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        saved.ParseFromString(file.read())
    edit(saved.meta_graphs[0])
    with open(path, "wb") as file:
        file.write(saved.SerializeToString())


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return write(tmp_path_factory.mktemp("saved") / "model", predictions)


@pytest.fixture
def copy(harmless, tmp_path):
    return shutil.copytree(harmless, tmp_path / "model")


def test_a_saved_model_that_only_computes_is_loaded(harmless):
    image = np.zeros((1, 4, 5, 3), np.uint8)
    assert np.all(SavedModel(harmless).predict(image)["label_map"] == 2)


def test_a_graph_that_writes_a_file_is_refused_before_it_runs(tmp_path):
    written = tmp_path / "written"

    def serve(image, bias):
        with tf.control_dependencies([tf.io.write_file(str(written), "x")]):
            return predictions(image, bias)

    path = write(tmp_path / "model", serve)
    written.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="may do more than predict: WriteFile. It was not loaded"):
        SavedModel(path)
    assert not written.exists()
    loaded = SavedModel(path, allow_any_op=True)
    loaded.predict(np.zeros((1, 4, 5, 3), np.uint8))
    assert written.exists()


SERVES = {
    "ReadFile": lambda image: tf.strings.length(tf.io.read_file("/etc/hostname")),
    "PrintV2": lambda image: [tf.print("x"), 0][1],
    "MatchingFiles": lambda image: tf.size(tf.io.matching_files("/*")),
    "EagerPyFunc": lambda image: tf.py_function(lambda: 0, [], tf.int32),
    "RandomUniformInt": lambda image: tf.random.uniform([], 0, 2, tf.int32),
    "SaveV2": lambda image: [
        tf.raw_ops.SaveV2(
            prefix="/tmp/never", tensor_names=["a"], shape_and_slices=[""], tensors=[[1.0]]
        ), 0,
    ][1],
}  # fmt: skip


@pytest.mark.parametrize("op", SERVES)
def test_operations_that_do_more_than_compute_are_named(tmp_path, op):
    def serve(image, bias):
        outputs = predictions(image, bias)
        return {**outputs, "label_map": outputs["label_map"] + SERVES[op](image)}

    write(tmp_path / "model", serve)
    with pytest.raises(ValueError, match=f"may do more than predict: .*{op}"):
        check_saved_model(str(tmp_path / "model"))
    check_saved_model(str(tmp_path / "model"), allow_any_op=True)


def _offer_saver(meta_graph):
    """The function that saves becomes one that predicting could call."""
    (node,) = (n for n in meta_graph.graph_def.node if n.name == "StatefulPartitionedCall_1")
    meta_graph.graph_def.node.add(name="again", op="StatefulPartitionedCall").attr["f"].CopyFrom(
        node.attr["f"]
    )


def _call_saver(meta_graph):
    library = meta_graph.graph_def.library
    (saver,) = (
        f for f in library.function if any(node.op == "SaveV2" for node in f.node_def)
    )  # fmt: skip
    other = next(f for f in library.function if f is not saver)
    other.node_def.add(name="again", op="PartitionedCall").attr[
        "f"
    ].func.name = saver.signature.name


def _save_in_graph(meta_graph):
    meta_graph.graph_def.node.add(name="again", op="SaveV2")


def _as_of_version_1(meta_graph):
    meta_graph.ClearField("object_graph_def")


@pytest.mark.parametrize("edit", [_offer_saver, _call_saver, _save_in_graph, _as_of_version_1])
def test_saving_is_for_the_function_of_the_saver_alone(copy, edit):
    check_saved_model(str(copy))
    change(copy, edit)
    with pytest.raises(ValueError, match="may do more than predict: .*SaveV2"):
        check_saved_model(str(copy))


def test_a_constant_that_claims_much_is_refused(copy):
    def edit(meta_graph):
        node = meta_graph.graph_def.node.add(name="bomb", op="Const")
        node.attr["value"].tensor.dtype = 1
        node.attr["value"].tensor.float_val.append(1)
        for size in (25, 10**9):
            node.attr["value"].tensor.tensor_shape.dim.add(size=size)

    change(copy, edit)
    with pytest.raises(ValueError, match=r"its constants must have at most \d+ .* 1000000\d+\.$"):
        SavedModel(str(copy))


@pytest.mark.parametrize("shape", [(25, 10**9), (1 << 62,), (-1,)])
def test_a_variable_that_claims_much_is_refused(copy, shape):
    entry = weight_files.index_entry(shape, 100 * 10**9)
    weight_files.write_index(copy / "variables" / "variables", {"bias": entry})
    with pytest.raises(ValueError, match="is not a readable SavedModel: array bias must have"):
        SavedModel(str(copy))


SIGNATURES = {
    "another input": (
        lambda image, bias: predictions(image, bias),
        tf.TensorSpec([None, None, None, 3], tf.float32, name="image"),
        "got image float32",
    ),
    "another name of the input": (
        lambda image, bias: predictions(image, bias),
        tf.TensorSpec([None, None, None, 3], tf.uint8, name="pixels"),
        "got pixels uint8",
    ),
    "no label map": (
        lambda image, bias: {"probabilities": predictions(image, bias)["probabilities"]},
        IMAGE,
        "label_map int32",
    ),
    "a scalar for probabilities": (
        lambda image, bias: {**predictions(image, bias), "probabilities": tf.reduce_sum(bias)},
        IMAGE,
        r"probabilities float32 \(\)",
    ),
    "other classes": (
        lambda image, bias: {
            **predictions(image, bias),
            "probabilities": predictions(image, bias)["probabilities"][..., :2],
        },
        IMAGE,
        r"probabilities float32 \(None, None, None, 2\)",
    ),
}


@pytest.mark.parametrize("kind", SIGNATURES)
def test_another_signature_is_refused_in_a_line(tmp_path, kind):
    serve, image, message = SIGNATURES[kind]
    path = write(tmp_path / "model", serve, image)
    with pytest.raises(ValueError, match="must have the signature serving_default") as caught:
        SavedModel(path)
    assert "\n" not in str(caught.value)
    assert caught.match(message)


def test_labels_that_are_no_classes_are_refused(tmp_path):
    def serve(image, bias):
        outputs = predictions(image, bias)
        return {**outputs, "label_map": outputs["label_map"] + 7}

    loaded = SavedModel(write(tmp_path / "model", serve))
    with pytest.raises(ValueError, match=r"must give label maps of 0\.\.2; got 9\.\.9"):
        loaded.predict(np.zeros((1, 4, 5, 3), np.uint8))


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "null", '{"name": 3}', SPEC.to_json().replace('"a"', "7")]
)
def test_a_damaged_dataset_json_is_named(copy, text):
    path = copy / "assets.extra" / "dataset.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{path}: "):
        SavedModel(str(copy))


def test_a_part_that_is_missing_is_named(copy):
    os.remove(copy / "variables" / "variables.index")
    with pytest.raises(ValueError, match="model is not a readable SavedModel: .*variables"):
        SavedModel(str(copy))
    os.remove(copy / "assets.extra" / "dataset.json")
    with pytest.raises(FileNotFoundError, match="no assets.extra/dataset.json in .*export.py wr"):
        SavedModel(str(copy))


def test_a_graph_that_is_no_graph_is_refused(copy):
    (copy / "saved_model.pb").write_bytes(b"\x08\x01\x12\xff\xff\xff\xff\x7f")
    with pytest.raises(ValueError, match="is not a readable SavedModel: a message of it is cut"):
        SavedModel(str(copy))


NETWORKS = {
    **{
        f"DeepLabv3+ on {backbone}": lambda backbone=backbone: DeepLabV3PlusConfig(
            backbone=backbone, aspp_channels=8
        )
        for backbone in ("mobilenet_v2_tiny", "xception_tiny", "resnet_tiny")
    },
    **{
        f"FastFCN with {head} and {upsampler}": lambda head=head, upsampler=upsampler: (
            FastFCNConfig(backbone="resnet_deep_stem_tiny", head=head, upsampler=upsampler)
        )
        for head in HEADS
        for upsampler in UPSAMPLERS
        if head == "fcn" or upsampler == "jpu"
    },
}


@pytest.mark.slow  # a network and its export for each
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_ours_passes(tmp_path, name):
    model = NETWORKS[name]().build(3)
    for i, part in enumerate((WholeImage(), WholeImage(flip=True), SlidingWindow())):
        if i and name not in ("DeepLabv3+ on mobilenet_v2_tiny", "FastFCN with fcn and jpu"):
            break
        directory = str(tmp_path / str(i))
        write_saved_model(part.export_model(model), SPEC, directory)  # reads it, which checks it
        os.remove(os.path.join(directory, "assets.extra", "sha256.txt"))
        check_saved_model(directory)


@pytest.mark.slow
def test_a_classifier_passes(tmp_path):
    model = ClassifierConfig(backbone="mobilenet_v2_tiny").build(3)
    model.export(str(tmp_path / "model"), verbose=False)
    check_saved_model(str(tmp_path / "model"))
