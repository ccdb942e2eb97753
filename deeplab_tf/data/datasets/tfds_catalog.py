"""Segmentation datasets of TFDS' own catalog, by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import ClassVar

from deeplab_tf.data.datasets import cityscapes
from deeplab_tf.data.datasets.without_release import WithoutRelease
from deeplab_tf.data.release.examples import IGNORE_LABEL
from deeplab_tf.data.sources import RecordSource, RelabeledSource
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset, distinct_palette
from deeplab_tf.recipe.files import read_class_names
from deeplab_tf.recipe.lazy import tfds
from deeplab_tf.recipe.options import option

_FORMAT = "array_record"
_NAMES = ("name", "file_name", "image_id", "id")  # ours: features that identify examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Labels:
    """What the numbers in a label mean, where the catalog does not say."""

    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    classes: Mapping[int, int] | None = None  # number in the label -> class, where not the same
    ignore_label: int = IGNORE_LABEL
    feature: str | None = None  # with the label, where its type does not show that


_KNOWN = {
    "cityscapes": _Labels(
        class_names=tuple(cityscapes.CLASSES),
        palette=cityscapes.DATASET.palette,
        classes=cityscapes.CLASS_OF_NUMBER,
    ),
    # cited: Parkhi et al. 2012, its README: 1 pet, 2 background, 3 not classified
    "oxford_iiit_pet": _Labels(
        class_names=("pet", "background", "border"),
        palette=distinct_palette(3),
        classes={1: 0, 2: 1, 3: 2},
    ),
    # The catalog has the instances of the Places challenge of 2017: 100 classes of objects, whose
    # numbers are in the red channel. The release `ade20k` has the 150 classes of scene parsing.
    "scene_parse150": _Labels(
        class_names=tuple(f"object_{number}" for number in range(1, 101)),
        palette=distinct_palette(100),
        classes={0: IGNORE_LABEL, **{number: number - 1 for number in range(1, 101)}},
        feature="annotation",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfCatalog(WithoutRelease):
    """Base of the kinds that open a dataset of TFDS' own catalog, stored as array_record files."""

    name: str

    def write(self, data_dir: str | None) -> None:
        """Downloads and prepares the dataset, unless it is prepared.

        Datasets of a data_dir share its downloads, so one of them is prepared at a time. What a
        killed preparation downloaded completely is used again.

        Raises:
          ValueError: there is no such dataset, it is stored in another format, or it needs a
            package that is not installed.
          FileNotFoundError: files that must be downloaded by hand are missing; the message says
            where they belong.
          OSError: files cannot be downloaded, unpacked or written.
        """
        builder = self._builder(data_dir)
        if os.path.isdir(builder.data_dir):
            return
        from deeplab_tf.data.records import preparation

        name, root = builder.name, os.fspath(builder.data_dir_root)
        parent, version = os.path.split(os.path.relpath(builder.data_dir, root))
        unfinished = [
            f"{parent}/incomplete.*_{version}",
            f"downloads/{name}/**/*.tmp.*",
            "downloads/extracted/incomplete.*",
        ]
        failures = (
            tfds.download.DownloadError,
            tfds.download.download_manager.NonMatchingChecksumError,
            tfds.download.extractor.ExtractError,
            tfds.download.extractor.UnsafeArchiveError,
        )
        try:
            with preparation(name, os.path.join(root, "downloads.lock"), root, unfinished):
                builder = self._builder(data_dir)  # another process may have prepared it
                if not os.path.isdir(builder.data_dir):
                    builder.download_and_prepare()
        except AssertionError as error:  # files that the user must download are missing
            raise FileNotFoundError(str(error).strip()) from error
        except failures as error:
            raise OSError(f"{name} cannot be prepared in {root}: {error}") from error
        except ImportError as error:
            raise ValueError(
                f"{name} needs a package that is not installed to be prepared: {error}"
            ) from error

    def prepared(self, data_dir: str | None) -> tfds.core.DatasetBuilder:
        """The builder of a dataset that is prepared.

        Raises:
          FileNotFoundError: it is not prepared.
          ValueError: there is no such dataset, or it is stored in another format.
        """
        builder = self._builder(data_dir)
        if not os.path.isdir(builder.data_dir):
            raise FileNotFoundError(
                f"{self.name} is not prepared: there is no {builder.data_dir}."
                f" Run {self._preparation(data_dir)}"
            )
        return builder

    def _builder(self, data_dir: str | None) -> tfds.core.DatasetBuilder:
        try:
            stored = tfds.builder(self.name, data_dir=data_dir)
        except tfds.core.DatasetNotFoundError as error:
            raise ValueError(
                f"TFDS' catalog has no dataset {self.name!r}; see tfds.list_builders()."
            ) from error
        if not os.path.isdir(stored.data_dir):
            return tfds.builder(self.name, data_dir=data_dir, file_format=_FORMAT)
        if stored.info.file_format.value != _FORMAT:
            raise ValueError(
                f"{stored.data_dir} is stored as {stored.info.file_format.value}, which cannot be"
                f" read by index. Move it away and run {self._preparation(data_dir)}, or prepare it"
                f" with file_format={_FORMAT!r}."
            )
        return stored

    def _preparation(self, data_dir: str | None) -> str:
        place = f" --data_dir={data_dir}" if data_dir else ""
        return (
            f"python scripts/prepare_dataset.py --dataset={self.kind} --dataset.name={self.name}"
            f"{place}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsCatalog(OfCatalog):
    """A segmentation dataset of TFDS' own catalog."""

    kind: ClassVar[str] = "tfds"

    # ours: what TensorFlow's segmentation tutorial uses
    name: str = option("oxford_iiit_pet", "name in TFDS' catalog, NAME or NAME/CONFIG")
    class_names_file: str | None = option(
        None, "text file with one class name per line, in label order", may_change=True
    )
    ignore_label: int = option(IGNORE_LABEL, "label value of pixels without a class")

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Opens a dataset that has an image and a label of each of its pixels.

        Where neither the catalog nor this module knows the classes, class_names_file names them
        and ignore_label is the value without a class.

        Args:
          data_dir: where prepared datasets are; None: TFDS' default place.

        Returns:
          The dataset, with all splits that it has.

        Raises:
          FileNotFoundError: it is not prepared.
          ValueError: there is no such dataset, it cannot be read by index, or it has no such
            features.
        """
        builder = self.prepared(data_dir)
        known, features = _KNOWN.get(builder.name), builder.info.features
        image, label = _image_and_label(builder, known)
        name = name_feature(features)
        labels = known or self._labels(features[label])
        sources = {
            split: RecordSource(builder, split, image=image, label=label, name=name)
            for split in builder.info.splits
        }
        if labels.classes is not None:
            sources = {s: RelabeledSource(source, labels.classes) for s, source in sources.items()}
        spec = DatasetSpec(
            name=builder.name,
            class_names=labels.class_names,
            ignore_label=labels.ignore_label,
            palette=labels.palette,
            splits={split: len(source) for split, source in sources.items()},
        )
        return OpenDataset(spec=spec, sources=sources)

    def _labels(self, feature: tfds.features.Image) -> _Labels:
        if self.class_names_file is not None:
            names = read_class_names(self.class_names_file, "--dataset.class_names_file")
        elif isinstance(feature, tfds.features.LabeledImage) and feature.num_classes:
            names = tuple(feature.names or (f"class_{i}" for i in range(feature.num_classes)))
        else:
            raise ValueError(
                f"the catalog does not say which classes the labels of {self.name} have; name them"
                " in --dataset.class_names_file, one per line, the first for the label value 0."
            )
        return _Labels(
            class_names=names, palette=distinct_palette(len(names)), ignore_label=self.ignore_label
        )


def _image_and_label(builder: tfds.core.DatasetBuilder, known: _Labels | None) -> tuple[str, str]:
    pictures = {
        name: feature
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    }
    labels = [n for n, f in pictures.items() if isinstance(f, tfds.features.LabeledImage)]
    labels = labels or [n for n, feature in pictures.items() if feature.shape[-1] == 1]
    if known is not None and known.feature is not None:
        labels = [known.feature]
    images = [n for n, f in pictures.items() if f.shape[-1] == 3 and n not in labels]
    if len(images) != 1 or len(labels) != 1:
        shapes = ", ".join(f"{name} {feature.shape}" for name, feature in pictures.items())
        raise ValueError(
            f"{builder.name} must have one image with three channels and one label with one"
            f" channel; its pictures are: {shapes or 'none'}."
        )
    return images[0], labels[0]


def name_feature(features: Mapping[str, tfds.features.FeatureConnector]) -> str | None:
    """The feature that identifies an example; None: there is none."""
    texts = {name for name, f in features.items() if isinstance(f, tfds.features.Text)}
    return next((name for name in _NAMES if name in texts), None)
