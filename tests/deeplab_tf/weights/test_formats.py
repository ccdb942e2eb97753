"""Files of weights: each format is recognized by its content, and damage by its reason."""

import contextlib
import gzip
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import weight_files

from deeplab_tf import zoo
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.weights import find_format, read_arrays, weights_by_name

ARRAYS = {
    "MobilenetV2/Conv/weights": np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2),
    "logits/semantic/biases": np.arange(3, dtype=np.float32),
}


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    """A saved network, and its weights by our names."""
    config = DeepLabV3PlusConfig(backbone="mobilenet_v2_tiny", aspp_channels=8, decoder=False)
    model = config.build(3)
    path = tmp_path_factory.mktemp("keras") / "network.keras"
    model.save(path)
    return path, {name: weight.numpy() for name, weight in weights_by_name(model).items()}


WRITERS = {
    "npz": weight_files.write_npz,
    "torch": weight_files.write_torch,
    "torch, before 1.6": lambda *args: weight_files.write_torch(*args, legacy=True),
    "frozen_graph": weight_files.write_frozen_graph,
}


@pytest.mark.parametrize("ending", [".npz", ".pth.tar", ".pb", ".keras", ".index", ""])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path, name, ending):
    path = WRITERS[name](tmp_path / f"model{ending}", ARRAYS)
    found, arrays = read_arrays(path)
    assert found == name.split(",")[0]
    assert arrays.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[key], array)


@pytest.mark.parametrize("ending", [".keras", ".zip", ".pth"])
def test_a_keras_file_gives_the_weights_by_our_names(keras_file, tmp_path, ending):
    path, expected = keras_file
    shutil.copy(path, tmp_path / f"network{ending}")
    found, arrays = read_arrays(str(tmp_path / f"network{ending}"))
    assert found == "keras" and arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_a_checkpoint_is_found_by_its_prefix_and_by_each_of_its_files(tmp_path, ending):
    prefix = weight_files.write_checkpoint(tmp_path, ARRAYS)
    (tmp_path / "model.ckpt.meta").write_bytes(b"\x0a\x04\x12\x02ab")
    found, arrays = read_arrays(prefix + ending)
    assert found == "checkpoint" and arrays.keys() == ARRAYS.keys()


def test_a_checkpoint_is_found_by_its_directory(tmp_path):
    weight_files.write_checkpoint(tmp_path, ARRAYS, "model.ckpt-1")
    assert find_format(str(tmp_path)) == "checkpoint"
    later = {name: array + 1 for name, array in ARRAYS.items()}
    weight_files.write_checkpoint(tmp_path, later, "model.ckpt-2")
    with pytest.raises(FileNotFoundError, match="must hold one checkpoint, .* has 2 .index files"):
        read_arrays(str(tmp_path))
    for directory in ("", "/elsewhere/"):  # where it was trained
        (tmp_path / "checkpoint").write_text(
            f'model_checkpoint_path: "{directory}model.ckpt-2"\n'
            f'all_model_checkpoint_paths: "{directory}model.ckpt-1"\n'
        )
        _, arrays = read_arrays(str(tmp_path))
        np.testing.assert_array_equal(arrays["logits/semantic/biases"], [1, 2, 3])


def test_a_checkpoint_of_the_first_version_is_read(tmp_path):
    path = str(tmp_path / "resnet_v1_50.ckpt")
    tf.raw_ops.Save(filename=path, tensor_names=list(ARRAYS), data=list(ARRAYS.values()))
    found, arrays = read_arrays(path)
    assert found == "checkpoint" and arrays.keys() == ARRAYS.keys()
    np.testing.assert_array_equal(arrays["logits/semantic/biases"], [0, 1, 2])


def test_a_constant_of_equal_values_is_read(tmp_path):
    graph = tf.compat.v1.GraphDef()
    node = graph.node.add(name="logits/semantic/weights", op="Const")
    node.attr["value"].tensor.CopyFrom(
        tf.make_tensor_proto(0.5, shape=(1, 1, 4, 3), dtype=tf.float32)
    )
    (tmp_path / "a.pb").write_bytes(graph.SerializeToString())
    _, arrays = read_arrays(str(tmp_path / "a.pb"))
    np.testing.assert_array_equal(arrays["logits/semantic/weights"], np.full((1, 1, 4, 3), 0.5))


# What is refused.


def test_a_missing_file_is_named_with_all_that_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.npz, and no .*\(no .*a\.npz\.index"):
        read_arrays(str(tmp_path / "a.npz"))
    weight_files.write_checkpoint(tmp_path, ARRAYS, "model.ckpt-30000")
    with pytest.raises(FileNotFoundError, match="There: the checkpoints model.ckpt-30000."):
        read_arrays(str(tmp_path / "model.ckpt"))


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_without_its_index_is_named(tmp_path, ending):
    prefix = weight_files.write_checkpoint(tmp_path, ARRAYS)
    os.remove(prefix + ".index")
    with pytest.raises(FileNotFoundError, match="is not complete: there is no file model.ckpt.ind"):
        read_arrays(prefix + ending)


def test_a_checkpoint_without_its_data_is_refused(tmp_path):
    prefix = weight_files.write_checkpoint(tmp_path, ARRAYS)
    os.remove(prefix + ".data-00000-of-00001")
    with pytest.raises(ValueError, match="model.ckpt is not a readable checkpoint"):
        read_arrays(prefix)


@pytest.mark.parametrize("part", [".data-00000-of-00001", ".index"])
@pytest.mark.parametrize("keep", [0, 50])
def test_a_checkpoint_cut_short_is_refused(tmp_path, part, keep):
    prefix = weight_files.write_checkpoint(tmp_path, ARRAYS)
    with open(prefix + part, "r+b") as file:
        file.truncate(keep)
    with pytest.raises(ValueError, match="model.ckpt is not a readable checkpoint"):
        read_arrays(prefix)


def _tar():
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.ckpt.index"))
    return written.getvalue()


def _zip(**entries):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return written.getvalue()


def _npy(**header):
    header = {"descr": "<f4", "fortran_order": False, "shape": (3,), **header}
    text = repr(header).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _keras(tree):
    return _zip(**{"config.json": json.dumps(tree), "model.weights.h5": b"", "metadata.json": "{}"})


REFUSED = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"my notes", r"begins with b'my notes'. Known formats: .npz, PyTorch"),
    "download page": (lambda: b"<!DOCTYPE html><html>", "a web page or XML, perhaps of a failed"),
    "gzip": (lambda: gzip.compress(b"0" * 99), "a compressed archive; unpack it with `tar xzf`"),
    "tar": (_tar, "a tar archive; unpack it"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "LiteRT": (lambda: b"\x1c\0\0\0TFL3", "a TensorFlow Lite model"),
    "SavedModel": (lambda: b"\x08\x01\x12\x9a", "a SavedModel"),
    "single array": (_npy, "a single array; save arrays by name with numpy.savez"),
    "pickle": (lambda: b"\x80\x04K\x01.", "a pickle, which could run code"),
    "other zip": (lambda: _zip(notes="text"), "begins with b'PK"),
    "zip cut short": (lambda: _zip(**{"a.npy": _npy()})[:-20], "archive is cut short or damaged"),
    "zip signature": (lambda: b"PK\x03\x04 cut short", "archive is cut short or damaged"),
    "object array": (lambda: _zip(**{"a.npy": _npy(descr="|O")}), "not a readable .npz file"),
    "npy cut short": (lambda: _zip(**{"a.npy": _npy()}), "is not a readable .npz file"),
    "text for npy": (lambda: _zip(**{"a.npy": b"text"}), "is not a readable .npz file"),
    "npy of 100 TB": (
        lambda: _zip(**{"a.npy": _npy(shape=(25, 10**12))}),
        "is not a readable .npz file",
    ),
    "graph without weights": (
        lambda: tf.Graph().as_graph_def().SerializeToString(),
        "is not a file of weights",
    ),
    "other Keras model": (
        lambda: _keras({"class_name": "Sequential", "registered_name": None}),
        "not one of this package's networks",
    ),
    "Keras file of a list": (lambda: _keras([1]), "not one of this package's networks"),
    "Keras file of nothing": (
        lambda: _keras({"registered_name": "deeplab_tf>SegmentationModel", "config": {}}),
        "is not a readable Keras file",
    ),
    "Keras file of no JSON": (lambda: _zip(**{"config.json": "{"}), "is not a readable Keras file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_file_of_weights_is_refused_as_what_it_is(tmp_path, name):
    make, message = REFUSED[name]
    path = tmp_path / "model.ckpt"
    path.write_bytes(make())
    with pytest.raises(ValueError, match=message) as caught:
        read_arrays(str(path))
    assert str(path) in str(caught.value)


def test_directories_are_refused_as_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold one checkpoint, .* 0 .index files"):
        read_arrays(str(tmp_path))
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(ValueError, match="is a SavedModel"):
        read_arrays(str(tmp_path))
    (tmp_path / "recipe.json").touch()
    with pytest.raises(ValueError, match="is the workdir of a training run; open it with"):
        read_arrays(str(tmp_path))
    (tmp_path / "notes.index").write_text("no checkpoint at all")
    with pytest.raises(ValueError, match="notes is not a readable checkpoint"):
        read_arrays(str(tmp_path / "notes"))


def test_a_graph_of_variables_is_no_frozen_graph(tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.placeholder(tf.uint8, name="ImageTensor")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(ValueError, match="holds a graph without weights: it must be a frozen"):
        read_arrays(str(tmp_path / "graph.pb"))
    with open(weight_files.write_frozen_graph(tmp_path / "graph.pb", ARRAYS), "r+b") as file:
        file.truncate(300)
    with pytest.raises(ValueError, match="is not a readable frozen graph"):
        read_arrays(str(tmp_path / "graph.pb"))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_with_changed_bytes_is_read_or_refused(tmp_path, name):
    data = pathlib.Path(WRITERS[name](tmp_path / "model", ARRAYS)).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(data)
        for position in random.integers(0, len(data), random.integers(1, 5)):
            changed[position] = random.integers(0, 256)
        (tmp_path / "changed").write_bytes(changed)
        with contextlib.suppress(ValueError):
            read_arrays(str(tmp_path / "changed"))


def test_a_damaged_keras_file_is_refused(keras_file, tmp_path):
    path, _ = keras_file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    (tmp_path / "damaged.keras").write_bytes(data)
    with pytest.raises(ValueError, match="damaged.keras is not a readable Keras file"):
        read_arrays(str(tmp_path / "damaged.keras"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", WRITERS)
def test_values_that_are_not_finite_are_refused(tmp_path, name, value):
    arrays = {**ARRAYS, "logits/semantic/biases": np.array([0, value, 1], np.float32)}
    path = WRITERS[name](tmp_path / "model", arrays)
    with pytest.raises(ValueError, match="1 of 2 arrays have NaN, .* first logits/semantic/biases"):
        read_arrays(path)


def test_an_archive_whose_directory_hides_an_array_is_refused(tmp_path):
    data = bytearray(pathlib.Path(weight_files.write_npz(tmp_path / "a.npz", ARRAYS)).read_bytes())
    start = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", start + 1)
    # As the comment of the first, the second is no entry.
    data[start + 32 : start + 34] = struct.pack("<H", data.index(b"PK\5\6") - second)
    (tmp_path / "a.npz").write_bytes(data)
    assert len(zipfile.ZipFile(tmp_path / "a.npz").namelist()) == 1
    with pytest.raises(ValueError, match="its directory must have 2 entries; got 1"):
        read_arrays(str(tmp_path / "a.npz"))


def test_a_keras_file_with_nan_is_refused(keras_file, tmp_path):
    path, arrays = keras_file
    model = keras.saving.load_model(path)
    weights_by_name(model)["logits/kernel"].assign(np.full_like(arrays["logits/kernel"], np.nan))
    model.save(tmp_path / "nan.keras")
    with pytest.raises(ValueError, match=r"1 of \d+ arrays have NaN.*first logits/kernel"):
        zoo.from_checkpoint(str(tmp_path / "nan.keras"))


def test_a_keras_file_whose_network_is_larger_than_the_file_is_refused(keras_file, tmp_path):
    with zipfile.ZipFile(keras_file[0]) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    for layer in config["config"]["layers"]:
        if layer["config"]["name"] == "logits":
            layer["config"]["filters"] = 10**9  # 32 GB
            layer["build_config"] = None
    parts["config.json"] = json.dumps(config).encode()
    (tmp_path / "bomb.keras").write_bytes(_zip(**parts))
    with pytest.raises(
        ValueError, match=r"network's weights must have at most \d+ bytes for a fil"
    ):
        read_arrays(str(tmp_path / "bomb.keras"))


def test_files_of_weights_are_read_without_tensorflow(tmp_path):
    paths = [writer(tmp_path / name, ARRAYS) for name, writer in WRITERS.items()]
    paths.append(weight_files.write_checkpoint(tmp_path, ARRAYS))
    script = (
        "import sys; from deeplab_tf.weights import read_arrays\n"
        "print(*(read_arrays(path)[0] for path in sys.argv[1:]))\n"
        "assert not {'keras', 'tensorflow'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *paths],
        capture_output=True, text=True, check=True, cwd=pathlib.Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stdout.split() == ["npz", "torch", "torch", "frozen_graph", "checkpoint"]
