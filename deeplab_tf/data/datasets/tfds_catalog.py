"""Segmentation datasets of TFDS' own catalogue, by name: 'tfds:oxford_iiit_pet'."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data.datasets import cityscapes
from deeplab_tf.data.sources import RelabeledSource
from deeplab_tf.data.decoding import decode_image
from deeplab_tf.data.release.builder import IGNORE_LABEL
from deeplab_tf.recipe.dataset_spec import Color, DatasetSpec, OpenDataset, bit_palette
from deeplab_tf.data.records import Records
from deeplab_tf.recipe.files import read_lines

PREFIX = "tfds:"
_FORMAT = "array_record"
_NAMES = ("name", "file_name", "image_id", "id")  # ours: features that tell examples apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Labels:
    """What the numbers in a label mean, where the catalogue does not say."""

    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    classes: Mapping[int, int] | None = None  # number in the label -> class, where not the same
    ignore_label: int = IGNORE_LABEL
    feature: str | None = None  # where the type does not tell which the label is


_KNOWN = {
    "cityscapes": _Labels(
        class_names=tuple(cityscapes.CLASSES),
        palette=cityscapes.DATASET.palette,
        classes=cityscapes.CLASS_OF_NUMBER,
    ),
    # cited: Parkhi et al. 2012, its README: 1 pet, 2 background, 3 not classified
    "oxford_iiit_pet": _Labels(
        class_names=("pet", "background", "border"),
        palette=bit_palette(3),
        classes={1: 0, 2: 1, 3: 2},
    ),
    # The catalogue has the instances of the Places challenge of 2017: 100 classes of objects,
    # their number in the red channel. `ade20k` has the 150 of scene parsing.
    "scene_parse150": _Labels(
        class_names=tuple(f"object_{number}" for number in range(1, 101)),
        palette=bit_palette(101)[1:],
        classes={0: IGNORE_LABEL, **{number: number - 1 for number in range(1, 101)}},
        feature="annotation",
    ),
}


class CatalogSource:
    """One split of a dataset of the catalogue as an ExampleSource, labels as they are stored."""

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        image: str,
        label: str,
        name: str | None,
    ):
        """Opens a split that is stored as array_record.

        Args:
          builder: of the prepared dataset.
          split: its name.
          image: name of the feature.
          label: name of the feature; of several channels the first one counts.
          name: name of the feature, or None: examples are numbered.

        Raises:
          ValueError: a file is missing, or was cut off.
        """
        self._records = Records(builder, split, (image, label))
        self._image, self._label, self._name = image, label, name

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._records)

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read."""
        image, label, name = tf.numpy_function(
            self._encoded, [index], [tf.string] * 3, stateful=False
        )
        for value in (image, label, name):
            value.set_shape([])
        label = tf.cast(tf.io.decode_png(label)[:, :, 0], tf.int32)
        return {"image": decode_image(image), "label": label, "name": name}

    def _encoded(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self._records[int(index)]
        values = record[self._image], record[self._label], self.name(int(index)).encode()
        return tuple(np.array(value, object) for value in values)

    def name(self, index: int) -> str:
        """The name that the dataset gives it, or its number in the split."""
        return self._records.name(index, self._name)


def prepare_catalog(data: DataConfig, data_dir: str | None) -> None:
    """Downloads and prepares a dataset of the catalogue, unless it is prepared.

    Args:
      data: names it, 'tfds:NAME' or 'tfds:NAME/CONFIG'.
      data_dir: where prepared datasets are; None: TFDS' default place.

    Raises:
      ValueError: there is no such dataset, or it is stored in another format.
    """
    builder = _builder(data, data_dir)
    if not os.path.isdir(builder.data_dir):
        builder.download_and_prepare()


def open_catalog(data: DataConfig, data_dir: str | None) -> OpenDataset:
    """Opens a dataset of the catalogue that has an image and a label for each of its pixels.

    Args:
      data: names it, 'tfds:NAME' or 'tfds:NAME/CONFIG'. Where neither the catalogue nor we know
        the classes, class_names_file and ignore_label say what the labels' values mean.
      data_dir: where prepared datasets are; None: TFDS' default place.

    Returns:
      The dataset, with the splits that it has.

    Raises:
      FileNotFoundError: it is not prepared.
      ValueError: there is no such dataset, its format cannot be read by index, or it has no such
        features.
    """
    builder = _builder(data, data_dir)
    if not os.path.isdir(builder.data_dir):
        raise FileNotFoundError(
            f"{data.dataset} is not prepared: there is no {builder.data_dir}. Run python"
            f" scripts/prepare_dataset.py --data.dataset={data.dataset}"
        )
    known = _KNOWN.get(builder.name)
    image, label = _image_and_label(builder, known)
    name = next((name for name in _NAMES if name in builder.info.features), None)
    labels = known or _labels(builder.info.features[label], data)
    sources = {
        split: CatalogSource(builder, split, image, label, name) for split in builder.info.splits
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


def _builder(data: DataConfig, data_dir: str | None) -> tfds.core.DatasetBuilder:
    name = data.dataset.removeprefix(PREFIX)
    try:
        stored = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS' catalogue has no dataset {name!r}; see tfds.list_builders()."
        ) from error
    if not os.path.isdir(stored.data_dir):
        return tfds.builder(name, data_dir=data_dir, file_format=_FORMAT)
    if stored.info.file_format.value != _FORMAT:
        raise ValueError(
            f"{stored.data_dir} is stored as {stored.info.file_format.value}, which cannot be read"
            f" by index. Move it away and run python scripts/prepare_dataset.py"
            f" --data.dataset={data.dataset}, or prepare it with file_format={_FORMAT!r}."
        )
    return stored


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
            f"{builder.name} must have one image of three channels and one label, a picture of one"
            f" channel; its pictures are: {shapes or 'none'}."
        )
    return images[0], labels[0]


def _labels(feature: tfds.features.Image, data: DataConfig) -> _Labels:
    if data.class_names_file is not None:
        names = tuple(read_lines(data.class_names_file))
    elif isinstance(feature, tfds.features.LabeledImage) and feature.num_classes:
        names = tuple(feature.names or (f"class_{i}" for i in range(feature.num_classes)))
    else:
        raise ValueError(
            f"the catalogue does not say which classes the labels of {data.dataset} have; name"
            " them in --data.class_names_file, one a line, the first for the label value 0."
        )
    return _Labels(
        class_names=names,
        palette=bit_palette(len(names)),
        ignore_label=data.ignore_label,
    )
