"""Datasets of TFDS' catalog are found, understood and read by index."""

import http.server
import io
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets.tfds_catalog import TfdsCatalog

NUMBERS = np.array([[1, 2, 3, 3]] * 3, np.uint8)
IMAGE = tfds.features.Image(shape=(None, None, 3))


def _png(picture: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    buffer.seek(0)
    return buffer


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Three examples with the features that a subclass names."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: dict
    LABEL = NUMBERS

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(3), "test": self._generate_examples(1)}

    def _generate_examples(self, count):
        for i in range(count):
            image = np.full((3, 4, 3), i, np.uint8)
            example = {"image": _png(image), "mask": _png(self.LABEL), "file_name": f"f{i}.jpg"}
            example |= {"segmentation_mask": _png(self.LABEL)}
            example |= {"annotation": _png(np.dstack([self.LABEL] + [image[:, :, 0] + 77] * 2))}
            example |= {"label": i, "second": _png(image)}
            yield i, {name: example[name] for name in self.FEATURES}


class TinyNamed(_Builder):
    """Its features name the classes."""

    FEATURES = {
        "image": IMAGE,
        "mask": tfds.features.LabeledImage(labels=["sky", "road", "car", "tree"]),
        "file_name": tfds.features.Text(),
        "label": tfds.features.ClassLabel(num_classes=3),
    }


class TinyUnnamed(_Builder):
    """Its features name neither classes nor examples."""

    FEATURES = {"image": IMAGE, "mask": tfds.features.Image(shape=(None, None, 1))}


class TinyTwoImages(_Builder):
    """Which of its pictures is the label?"""

    FEATURES = {"image": IMAGE, "second": IMAGE, "file_name": tfds.features.Text()}


class _Pets(_Builder, skip_registration=True):
    """Replaces the catalog's, which would be downloaded."""

    VERSION = tfds.core.Version("4.0.0")
    FEATURES = {
        "image": IMAGE,
        "label": tfds.features.ClassLabel(num_classes=37),
        "file_name": tfds.features.Text(),
        "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
    }

    def __init__(self, **options):
        self.name = "oxford_iiit_pet"
        super().__init__(**options)


class _Scenes(_Builder, skip_registration=True):
    """Replaces the catalog's, which would be downloaded."""

    FEATURES = {"image": IMAGE, "annotation": IMAGE}
    LABEL = NUMBERS - 1

    def __init__(self, **options):
        self.name = "scene_parse150"
        super().__init__(**options)


def _prepare(builder, directory, file_format="array_record"):
    builder(data_dir=str(directory), file_format=file_format).download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


def _open(name, directory, **options):
    return TfdsCatalog(name=name, **options).open(str(directory))


def _labels(dataset, split="train"):
    source = dataset.source(split)
    return {source.name(i): source.read(i)["label"].numpy() for i in range(len(source))}


def test_classes_come_from_the_catalog(tmp_path):
    dataset = TfdsCatalog(name="tiny_named").prepare(str(tmp_path))
    assert dataset.spec.class_names == ("sky", "road", "car", "tree")
    assert dataset.spec.splits == {"train": 3, "test": 1}
    assert sorted(_labels(dataset)) == ["f0.jpg", "f1.jpg", "f2.jpg"]
    for i in range(3):
        example = dataset.source("train").read(i)
        np.testing.assert_array_equal(example["label"], NUMBERS)
        assert f"f{example['image'][0, 0, 0]}.jpg" == example["name"].numpy().decode()
    assert check_dataset(dataset).problems == ()


def test_what_a_killed_preparation_left_is_removed_by_the_next_one(tmp_path):
    unfinished = [
        "tiny_named/incomplete.7XK2LQ_1.0.0",
        f"downloads/tiny_named/host_a.zip.tmp.{'0a' * 16}",
        f"downloads/extracted/incomplete.{'0a' * 16}_ZIP.host_a.zip",
    ]
    for directory in (*unfinished, "tiny_unnamed/incomplete.7XK2LQ_1.0.0"):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory / "part").write_bytes(bytes(99))
    kept = tmp_path / "downloads/tiny_named/host_a.zip"  # complete, so that it is used again
    kept.write_bytes(bytes(99))
    (tmp_path / "downloads.lock").write_text("process 1 on elsewhere: x")
    TfdsCatalog(name="tiny_named").prepare(str(tmp_path))
    assert [path for path in unfinished if (tmp_path / path).exists()] == []
    assert (tmp_path / "tiny_unnamed/incomplete.7XK2LQ_1.0.0/part").exists()
    assert kept.exists() and not (tmp_path / "downloads.lock").exists()


class _Nothing(http.server.BaseHTTPRequestHandler):
    """A server that has no file."""

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


class TinyUnreachable(_Builder):
    """What it downloads is not there."""

    FEATURES = {"image": IMAGE}
    url: str

    def _split_generators(self, dl_manager):
        dl_manager.download(self.url)


class TinyInNeed(_Builder):
    """It needs a package that nobody has."""

    FEATURES = {"image": IMAGE}

    def _split_generators(self, dl_manager):
        import no_such_package  # noqa: F401


def test_what_cannot_be_downloaded_or_lacks_a_package_is_an_error_and_leaves_nothing(tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), _Nothing) as server:
        threading.Thread(target=server.serve_forever).start()
        TinyUnreachable.url = f"http://127.0.0.1:{server.server_port}/a.zip"
        with pytest.raises(OSError, match="^tiny_unreachable cannot be prepared in .*127.0.0.1"):
            TfdsCatalog(name="tiny_unreachable").write(str(tmp_path))
        server.shutdown()
    with pytest.raises(ValueError, match="^tiny_in_need needs a package .*no_such_package"):
        TfdsCatalog(name="tiny_in_need").write(str(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list(tmp_path.rglob("incomplete.*")) == list(tmp_path.rglob("*.tmp.*")) == []


def test_unknown_classes_must_be_named(tmp_path):
    _prepare(TinyUnnamed, tmp_path)
    with pytest.raises(ValueError, match=r"which classes .*name them in --dataset\.class_n"):
        _open("tiny_unnamed", tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    dataset = _open("tiny_unnamed", tmp_path, class_names_file=str(names), ignore_label=3)
    assert dataset.spec.class_names == ("a", "b", "c") and dataset.spec.ignore_label == 3
    assert dataset.source("train").name(1) == "train-000001"
    assert check_dataset(dataset).problems == ()
    dataset = _open("tiny_unnamed", tmp_path, class_names_file=str(names))
    assert "train-000000: label values must be 0..2" in check_dataset(dataset).problems[0]


def test_pets_are_understood(tmp_path):
    _prepare(_Pets, tmp_path)
    dataset = _open("oxford_iiit_pet", tmp_path)
    assert dataset.spec.class_names == ("pet", "background", "border")
    assert _labels(dataset)["f0.jpg"][0].tolist() == [0, 1, 2, 2]


def test_scenes_have_their_classes_in_the_red_channel(tmp_path):
    _prepare(_Scenes, tmp_path)
    dataset = _open("scene_parse150", tmp_path)
    assert dataset.spec.num_classes == 100
    assert _labels(dataset)["train-000000"][0].tolist() == [255, 0, 1, 1]


def test_a_dataset_without_a_label_for_each_pixel_is_refused(tmp_path):
    _prepare(TinyTwoImages, tmp_path)
    with pytest.raises(ValueError, match=r"must have one image .*image \(None, None, 3\), second"):
        _open("tiny_two_images", tmp_path)


def test_other_formats_are_refused_with_the_way_out(tmp_path):
    _prepare(TinyNamed, tmp_path, file_format="tfrecord")
    dataset = TfdsCatalog(name="tiny_named")
    for act in (dataset.open, dataset.prepare):
        with pytest.raises(ValueError, match=r"stored as tfrecord, .* Move it away and run python"):
            act(str(tmp_path))


def test_datasets_that_are_not_prepared_or_unknown_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="tiny_named is not prepared: .*--dataset=tfds"):
        _open("tiny_named", tmp_path)
    with pytest.raises(ValueError, match="TFDS' catalog has no dataset 'no_such_set'"):
        _open("no_such_set", tmp_path)
