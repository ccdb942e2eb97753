"""What an export is, its content says; it gives the same predictions in every format."""

import importlib.util
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.datasets.shapes import draw
from deeplab_tf.evaluation.evaluate import evaluate
from deeplab_tf.export import EXPORTERS
from deeplab_tf.export.opened import OpenedExport, is_export, open_export
from deeplab_tf.layers import SegmentationModel
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval

SPEC = DatasetSpec(
    name="shapes", class_names=("a", "b", "c"), ignore_label=255, palette=bit_palette(3), splits={}
)
FILES = {
    "saved_model": "saved_model.pb",
    "keras": "model.keras",
    "litert": "model.tflite",
    "onnx": "model.onnx",
}
IMAGE = draw("val", 3)[0][:33, :49]
HAS_ONNX = all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "tf2onnx")))
WITHOUT_ONNX = pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
KINDS = [pytest.param(kind, marks=WITHOUT_ONNX if kind == "onnx" else ()) for kind in EXPORTERS]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    return keras.Model(image, keras.layers.Conv2D(3, 1)(x))


@pytest.fixture(scope="module")
def exports(model, tmp_path_factory) -> dict[str, pathlib.Path]:
    """Format -> directory of the export."""
    place = tmp_path_factory.mktemp("exports")
    for kind in EXPORTERS if HAS_ONNX else EXPORTERS.keys() - {"onnx"}:
        size = {"height": 33, "width": 49} if kind == "litert" else {}
        EXPORTERS[kind](model, SPEC, str(place / kind), **size)
    return {path.name: path for path in place.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_recognized_and_predicts_what_the_model_predicts(kind, model, exports):
    images = np.stack([IMAGE, IMAGE[::-1]])
    expected = model(images.astype(np.float32)).numpy()
    # The directory of export.py, and the file alone under any name.
    file = exports[kind] / FILES[kind]
    for path in (exports[kind], file):
        assert is_export(str(path))
        opened = open_export(str(path))
        assert (opened.kind, opened.spec) == (kind, SPEC)
        assert opened.size == ((33, 49) if kind == "litert" else None)
        outputs = opened.predict(images)
        assert outputs["label_map"].dtype == np.int32
        np.testing.assert_array_equal(outputs["label_map"], expected.argmax(-1))
        if kind != "litert":
            probabilities = tf.nn.softmax(expected).numpy()
            np.testing.assert_allclose(outputs["probabilities"], probabilities, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_scored_as_a_predictor(kind, exports):
    """At its own size; LiteRT also where images must be resized to it."""
    opened = open_export(str(exports[kind]))
    label = opened.predict(IMAGE[None])["label_map"][0]
    label[:3] = 1  # some pixels are wrong
    examples = tf.data.Dataset.from_tensors({"image": IMAGE, "label": label, "name": "a"})
    found = evaluate(opened, examples, SPEC, Eval())
    assert found.scores["pixel_accuracy"] == np.mean(opened.label_map(IMAGE) == label)
    assert found.predict is None
    assert opened.label_map(IMAGE[:20, :30]).shape == (20, 30)


def test_images_of_another_size_are_resized_and_their_predictions_back(exports):
    opened = open_export(str(exports["litert"]))
    # Of one color, which resizing does not change; the borders have other classes than the middle.
    small, large = (np.full((*size, 3), 200, np.uint8) for size in ((33, 49), (66, 98)))
    expected = opened.predict(small[None])["label_map"][0]
    assert len(np.unique(expected)) > 1
    rows, columns = (np.rint(np.linspace(0, side - 1, 2 * side)).astype(int) for side in (33, 49))
    np.testing.assert_array_equal(opened.label_map(large), expected[np.ix_(rows, columns)])


@pytest.mark.parametrize("kind", ["keras", "litert"])
def test_a_file_is_recognized_under_any_name(kind, exports, tmp_path):
    shutil.copy(exports[kind] / FILES[kind], tmp_path / "photo.jpg")
    (tmp_path / "dataset.json").write_text(SPEC.to_json())
    assert is_export(str(tmp_path / "photo.jpg"))
    assert open_export(str(tmp_path / "photo.jpg")).kind == kind


def test_other_files_and_directories_are_no_exports(tmp_path):
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "model.tflite").mkdir()
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 and arrays")
    for name in ("", "recipe.json", "model.tflite", "a.npz", "absent"):
        assert not is_export(str(tmp_path / name))
    with pytest.raises(ValueError, match="recipe.json must be an export: a SavedModel, a .keras,"):
        open_export(str(tmp_path / "recipe.json"))
    with pytest.raises(FileNotFoundError, match="there is no file or directory .*absent"):
        open_export(str(tmp_path / "absent"))


def test_of_two_exports_in_a_directory_one_must_be_named(exports, tmp_path):
    for kind in ("keras", "litert"):
        shutil.copytree(exports[kind], tmp_path, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="it has model.keras, model.tflite. Name one"):
        open_export(str(tmp_path))
    assert open_export(str(tmp_path / "model.tflite")).kind == "litert"


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_export_is_one_line(kind, exports, tmp_path):
    directory = shutil.copytree(exports[kind], tmp_path / "model")
    data = (directory / FILES[kind]).read_bytes()
    (directory / FILES[kind]).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"is not a readable export|is not the file") as caught:
        open_export(str(directory))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_bit_is_found_in_every_format(kind, exports, tmp_path):
    directory = shutil.copytree(exports[kind], tmp_path / "model")
    weights = "variables/variables.data-00000-of-00001" if kind == "saved_model" else FILES[kind]
    data = bytearray((directory / weights).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / weights).write_bytes(data)
    # LiteRT's interpreter crashes on some damaged files, and runs others.
    with pytest.raises(ValueError, match="is not the file that export.py wrote|Bad CRC-32"):
        open_export(str(directory))


def test_a_file_without_its_classes_is_refused(exports, tmp_path):
    shutil.copy(exports["litert"] / "model.tflite", tmp_path)
    with pytest.raises(FileNotFoundError, match="no dataset.json beside .*Keep the files of an ex"):
        open_export(str(tmp_path / "model.tflite"))


def test_a_keras_file_without_classes_is_refused(model, tmp_path):
    SegmentationModel(model.input, model.output).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="must hold the classes of a dataset"):
        open_export(str(tmp_path / "model.keras"))


def test_a_keras_file_of_other_classes_than_it_says_is_refused(model, tmp_path):
    other = SegmentationModel(model.input, keras.layers.Conv2D(2, 1)(model.output))
    other.dataset_spec = SPEC
    other.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"logits \[N, H, W, 3\]; got .*\(None, None, None, 2\)"):
        open_export(str(tmp_path / "model.keras"))


def test_images_on_which_an_export_fails_are_one_line(model, tmp_path):
    wide = keras.layers.Conv2D(3, 9)(model.output)  # of at least 9x9 pixels
    fickle = SegmentationModel(model.input, wide)
    fickle.dataset_spec = SPEC
    fickle.save(tmp_path / "model.keras")
    opened = open_export(str(tmp_path / "model.keras"))
    with pytest.raises(ValueError, match="keras export fails on images of 3x5 pixels: ") as caught:
        opened.predict(np.zeros((1, 3, 5, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_litert_file_with_another_input_is_refused(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([1, 4, 4, 3], tf.uint8, name="pixels")])
    def serve(pixels):
        return {"label_map": tf.cast(pixels[..., 0], tf.int32)}

    module = tf.Module()
    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures=serve)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "plain"))
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    (tmp_path / "dataset.json").write_text(SPEC.to_json())
    with pytest.raises(ValueError, match="must have the input that export.py writes, image; got p"):
        open_export(str(tmp_path / "model.tflite"))


def test_a_keras_file_with_code_in_it_is_refused(model, tmp_path):
    hostile = keras.layers.Lambda(lambda x: x)(model.output)
    SegmentationModel(model.input, hostile).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="is not a readable export: .*Lambda"):
        open_export(str(tmp_path / "model.keras"))


def test_a_litert_file_that_would_run_tensorflow_is_refused_before_it_is_loaded(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"\0\0\0\0TFL3\0\0FlexWriteFile\0")
    (tmp_path / "dataset.json").write_text(SPEC.to_json())
    with pytest.raises(ValueError, match="may do more than predict: FlexWriteFile. It was not"):
        open_export(str(tmp_path))
    with pytest.raises(ValueError, match="is not a readable export"):
        open_export(str(tmp_path), allow_any_op=True)


def test_images_of_another_size_or_kind_are_refused(exports):
    opened = open_export(str(exports["litert"]))
    with pytest.raises(ValueError, match="takes images of 33x49 pixels; got 33x48. Resize them"):
        opened.predict(np.zeros((1, 33, 48, 3), np.uint8))
    for images in (np.zeros((33, 49, 3), np.uint8), np.zeros((1, 33, 49, 3), np.float32)):
        with pytest.raises(ValueError, match=r"images must be uint8 \[N, H, W, 3\]; got"):
            opened.predict(images)


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        (np.zeros((1, 33, 48), int), r"must have the shape \[1, 33, 49\]; the export gives"),
        (np.full((1, 33, 49), 3), r"must have values of 0..2; the export gives 3..3"),
    ],
)
def test_label_maps_that_are_none_are_refused(label_map, message):
    opened = OpenedExport(
        kind="onnx", spec=SPEC, size=None, run=lambda images: {"label_map": label_map}
    )
    with pytest.raises(ValueError, match=message):
        opened.predict(IMAGE[None])


def test_an_export_opens_from_the_current_directory(exports, monkeypatch):
    monkeypatch.chdir(exports["saved_model"])
    assert open_export("saved_model.pb").kind == open_export(os.curdir).kind == "saved_model"
