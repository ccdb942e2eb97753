"""Classification datasets of TFDS' catalog are found, understood and read by index."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from deeplab_tf.data.check import check_dataset
from deeplab_tf.data.datasets import TfdsCatalog, TfdsClasses

_IMAGE = tfds.features.Image(shape=(None, None, 3))


def _jpeg(color: int) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), color, np.uint8)).save(buffer, "JPEG")
    buffer.seek(0)
    return buffer


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Three examples with the features that a subclass names; the test split has no labels."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURES: dict

    def _info(self):
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples([2, 0, 1]), "test": self._generate_examples([-1])}

    def _generate_examples(self, numbers):
        for i, number in enumerate(numbers):
            example = {"image": _jpeg(40 * i), "second": _jpeg(0), "file_name": f"f{i}.jpg"}
            example |= {"label": number, "kind": number}
            yield i, {name: example[name] for name in self.FEATURES}


class _ImageNet(_Builder, skip_registration=True):
    """Replaces the catalog's, whose files must be downloaded by hand."""

    VERSION = tfds.core.Version("5.1.0")
    FEATURES = {
        "image": _IMAGE,
        "label": tfds.features.ClassLabel(num_classes=1000),
        "file_name": tfds.features.Text(),
    }

    def __init__(self, **options):
        self.name = "imagenet2012"
        super().__init__(**options)


class TinyKinds(_Builder):
    """Two features with a class, one of them called label; examples have no names."""

    FEATURES = {
        "image": _IMAGE,
        "kind": tfds.features.ClassLabel(num_classes=3),
        "label": tfds.features.ClassLabel(num_classes=3),
    }


class TinyPair(_Builder):
    """Which of its pictures has the class?"""

    FEATURES = {"image": _IMAGE, "second": _IMAGE, "kind": tfds.features.ClassLabel(num_classes=3)}


def _prepare(builder, directory):
    builder(data_dir=str(directory), file_format="array_record").download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


def test_imagenet_is_the_default_and_has_its_class_everywhere(tmp_path):
    _prepare(_ImageNet, tmp_path)
    dataset = TfdsClasses().open(str(tmp_path))
    assert dataset.spec.name == "imagenet2012"
    assert dataset.spec.num_classes == 1000 and dataset.spec.class_names[0] == "n01440764"
    assert dataset.spec.ignore_label == -1 and dataset.spec.splits == {"train": 3, "test": 1}
    source, numbers = dataset.source("train"), {}
    for i in range(3):
        example = source.read(i)
        assert example["image"].shape == (5, 7, 3) and example["label"].shape == (5, 7)
        (number,) = np.unique(example["label"])
        assert example["name"].numpy().decode() == source.name(i)
        assert source.name(i) == f"f{round(int(example['image'][0, 0, 0]) / 40)}.jpg"
        numbers[source.name(i)] = int(number)
    assert numbers == {"f0.jpg": 2, "f1.jpg": 0, "f2.jpg": 1}
    assert np.all(dataset.source("test").read(0)["label"] == -1)
    assert check_dataset(dataset).problems == ()


def test_of_several_classes_the_label_counts(tmp_path):
    _prepare(TinyKinds, tmp_path)
    dataset = TfdsClasses(name="tiny_kinds").open(str(tmp_path))
    assert dataset.spec.class_names == ("0", "1", "2")
    assert dataset.source("train").name(2) == "train-000002"
    assert check_dataset(dataset).problems == ()


def test_two_images_are_refused(tmp_path):
    _prepare(TinyPair, tmp_path)
    with pytest.raises(ValueError, match=r"one image and one class .* second \(Image\), kind \(Cl"):
        TfdsClasses(name="tiny_pair").open(str(tmp_path))


def test_what_is_not_prepared_is_refused_with_the_command(tmp_path):
    for dataset, kind in ((TfdsClasses(), "tfds_classes"), (TfdsCatalog(), "tfds")):
        with pytest.raises(FileNotFoundError, match=f"is not prepared: .* --dataset={kind} "):
            dataset.open(str(tmp_path))


def test_files_to_download_by_hand_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)Manual directory.*ILSVRC2012_img_train\.tar"):
        TfdsClasses().prepare(str(tmp_path))
