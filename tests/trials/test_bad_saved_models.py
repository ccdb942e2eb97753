"""A bad SavedModel is one line: no traceback, nothing written, nothing of its graph run."""

import functools
import os
import pathlib
import shutil
from collections.abc import Callable

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from trials.bad_inputs import Case, Damage, also, bytes_changed, changed, check, content, without

from deeplab_tf.export.saved_model import write_saved_model
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

SPEC = DatasetSpec(
    name="abc", class_names=("a", "b", "c"), ignore_label=255, palette=bit_palette(3), splits={}
)


def exported(*damages: Damage) -> Damage:
    """A damage: {run}/model is what export.py writes, damaged."""
    return also(lambda run: shutil.copytree(_exported(run.parent.parent), run / "model"), *damages)


@functools.cache
def _exported(place: pathlib.Path) -> pathlib.Path:
    model = DeepLabV3PlusConfig(
        backbone="mobilenet_v2_tiny", atrous_rates=(), aspp_channels=8, decoder=False
    ).build(3)
    write_saved_model(model, SPEC, str(place / "exported"))
    return place / "exported"


def predictions(image, bias):
    """What a SavedModel gives: a label map and probabilities."""
    logits = tf.cast(image, tf.float32) + bias
    label_map = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return {"label_map": label_map, "probabilities": tf.nn.softmax(logits)}


def foreign(serve: Callable = predictions, dtype=tf.uint8, name="image") -> Damage:
    """A damage: {run}/model is what somebody else made to look like ours."""

    def damage(run: pathlib.Path) -> None:
        module, image = tf.Module(), tf.TensorSpec([None, None, None, 3], dtype, name=name)
        module.bias = tf.Variable([0.0, 1.0, 2.0])
        module.serve = tf.function(lambda image: serve(image, module.bias), input_signature=[image])
        tf.saved_model.save(
            module, str(run / "model"), signatures={"serving_default": module.serve}
        )
        content("model/assets.extra/dataset.json", SPEC.to_json())(run)

    return damage


def writes(image, bias):
    with tf.control_dependencies([tf.io.write_file("/tmp/a-graph-was-run", "x")]):
        return predictions(image, bias)


def reads(image, bias):
    outputs = predictions(image, bias)
    length = tf.strings.length(tf.io.read_file("/etc/hostname"))
    return {**outputs, "label_map": outputs["label_map"] + length}


def fewer(image, bias):
    outputs = predictions(image, bias)
    return {**outputs, "probabilities": outputs["probabilities"][..., :2]}


def graph_changed(edit: Callable) -> Damage:
    """A damage: the SavedModel's graph after an edit, without the sums of what was there."""

    def change(data: bytes) -> bytes:
        saved = saved_model_pb2.SavedModel.FromString(data)
        edit(saved)
        return saved.SerializeToString()

    return also(bytes_changed("model/saved_model.pb", change), without(_SUMS))


_SUMS = "model/assets.extra/sha256.txt"
_DATASET = "model/assets.extra/dataset.json"
_GRAPH = "model/saved_model.pb"
_INDEX = "model/variables/variables.index"
_VALUES = "model/variables/variables.data-00000-of-00001"
_SAVED_MODELS = [
    (without("model"), "there is no file or directory "),
    (without(_GRAPH), "model is not a model; --model must be a workdir of train.py or"),
    (without(_DATASET), "no assets.extra/dataset.json in"),
    (
        without("model/variables"),
        "sha256.txt lists; variables/variables.data-00000-of-00001, variables/variables.index",
    ),
    (without(_INDEX), "variables/variables.index is missing. Export the model again"),
    (without(_VALUES), "variables/variables.data-00000-of-00001 is missing. Export the"),
    (
        also(without("model/variables"), without(_SUMS)),
        "is not a readable SavedModel: [Errno 2] No such file",
    ),
    (also(without(_INDEX), without(_SUMS)), "is not a readable SavedModel: [Errno 2] No such file"),
    (
        also(without(_VALUES), without(_SUMS)),
        "is not a readable SavedModel: [Errno 2] No such file",
    ),
    (
        bytes_changed(_GRAPH, lambda data: data[:-7]),
        "saved_model.pb is not the file that export.py wrote",
    ),
    (
        bytes_changed(_VALUES, lambda data: bytes([data[0] ^ 1]) + data[1:]),
        "variables.data-00000-of-00001 is not the file that export.py wrote",
    ),
    (content(_SUMS, ""), "saved_model.pb is not the file that export.py wrote"),
    (content(_SUMS, b"\xff\xfe\0"), "sha256.txt must be a text file in UTF-8"),
    (
        content(_SUMS, "0" * 64 + "  saved_model.pb\n"),
        "saved_model.pb is not the file that export.py wrote",
    ),
    (also(content(_GRAPH, b""), without(_SUMS)), "it must have one graph; got 0"),
    (also(content(_GRAPH, b"junk" * 999), without(_SUMS)), "has a field of the unknown kind 3"),
    (
        also(bytes_changed(_GRAPH, lambda data: data[: len(data) // 2]), without(_SUMS)),
        "is not a readable SavedModel: a message of it is cut short",
    ),
    (
        also(content(_GRAPH, b"\x08\x01\x12\xff\xff\xff\xff\x7f"), without(_SUMS)),
        "is not a readable SavedModel: a message of it is cut short",
    ),
    (
        also(without(_GRAPH), lambda run: (run / _GRAPH).mkdir()),
        "model is not a model; --model must be",
    ),
    (
        also(without(_GRAPH), without(_SUMS), lambda run: os.mkfifo(run / _GRAPH)),
        "model is not a model; --model must be",
    ),
    (also(content(_INDEX, b"junk" * 99), without(_SUMS)), "its end is not that of a table"),
    (
        also(bytes_changed(_VALUES, lambda data: data[:99]), without(_SUMS)),
        "The file is cut short or damaged",
    ),
    (
        also(bytes_changed(_VALUES, lambda data: bytes(len(data))), without(_SUMS)),
        "is not a readable SavedModel: The length checksum does not match",
    ),
    (graph_changed(lambda saved: saved.meta_graphs.add()), "it must have one graph; got 2"),
    (graph_changed(lambda saved: saved.ClearField("meta_graphs")), "it must have one graph; got 0"),
    (
        graph_changed(lambda saved: saved.meta_graphs[0].ClearField("object_graph_def")),
        "may do more than predict: MergeV2Checkpoints, RestoreV2, SaveV2",
    ),
    (
        graph_changed(lambda saved: saved.meta_graphs[0].graph_def.node.add(name="x", op="Gone")),
        "may do more than predict: Gone. It was not loaded",
    ),
    (content(_DATASET, ""), "dataset.json: not readable JSON"),
    (content(_DATASET, "[" * 10**5), "dataset.json: JSON must nest at most 32 deep"),
    (content(_DATASET, b"\xff"), "dataset.json: it must be text in UTF-8"),
    (
        changed(_DATASET, lambda tree: tree.pop("class_names")),
        "dataset.json: class_names must be there; it is missing",
    ),
    (
        changed(_DATASET, lambda tree: tree.update(ignore_label=1)),
        "ignore_label must not be one of the classes 0..2; got 1",
    ),
    (
        changed(_DATASET, lambda tree: [tree["class_names"].pop(), tree["palette"].pop()]),
        "probabilities float32 [N, H, W, 2]; got image uint8",
    ),
]
_FOREIGN = [
    (foreign(writes), "may do more than predict: WriteFile. It was not loaded"),
    (foreign(reads), "may do more than predict: ReadFile, StringLength. It was not loaded"),
    (
        foreign(
            lambda image, bias: {
                **predictions(image, bias),
                "x": tf.py_function(lambda: 0, [], tf.int32),
            }
        ),
        "may do more than predict: EagerPyFunc. It was not loaded",
    ),
    (foreign(dtype=tf.float32), "got image float32"),
    (foreign(name="pixels"), "got pixels uint8"),
    (
        foreign(lambda image, bias: {"label_map": predictions(image, bias)["label_map"]}),
        "must have the signature serving_default that export.py writes",
    ),
    (foreign(fewer), "probabilities float32 (None, None, None, 2)"),
]
PREDICT = "--model={run}/model --images={run}/val.png --output={new}"
SAVED_MODELS = [
    *(
        Case("saved_model", "predict", PREDICT, says, exported(made))
        for made, says in _SAVED_MODELS
    ),
    *(Case("saved_model", "predict", PREDICT, says, made) for made, says in _FOREIGN),
    *(
        Case("saved_model", "predict", PREDICT.replace("{run}/model", path), says)
        for path, says in (
            ("{run}/best", "best is not a model; --model must be"),
            ("{run}/val.png", "val.png is not a model; --model must be"),
            ("gs://bucket/model", "there is no file or directory gs://bucket/model"),
        )
    ),
    Case(
        "saved_model",
        "predict",
        f"{PREDICT} --predict.flip=true",
        "name a workdir to use --predict flags",
        exported(),
    ),
]


@pytest.mark.slow  # TensorFlow and the network
@pytest.mark.parametrize("case", SAVED_MODELS, ids=lambda case: f"{case.category}-{case.script}")
def test_a_bad_saved_model_is_an_error_and_changes_nothing(
    scripts, run_copy, data_dir, recipe_flags, case
):
    check(case, scripts, run_copy, data_dir, recipe_flags)
    assert not os.path.exists("/tmp/a-graph-was-run")
