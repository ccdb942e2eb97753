"""Sources of examples: prepared datasets, and what is made of other sources.

Each class is an `ExampleSource`, whose docstrings say what its methods do.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.data.decoding import decode_image, label_everywhere
from deeplab_tf.data.labels.files import check_picture_file
from deeplab_tf.recipe.dataset_spec import ExampleSource
from deeplab_tf.recipe.lazy import tf, tfds


def read_file(path: tf.Tensor) -> tf.Tensor:
    """Reads a file that may hold a picture, after `check_picture_file`.

    Args:
      path: string scalar.

    Returns:
      Its bytes, string scalar.
    """

    def checked(value: np.ndarray | bytes) -> np.ndarray | bytes:
        name = os.fsdecode(np.asarray(value, object).item())
        if os.path.exists(name):  # else TensorFlow says that it is not there
            check_picture_file(name)
        return value

    path = tf.numpy_function(checked, [path], tf.string, stateful=False)
    path.set_shape([])
    return tf.io.read_file(path)


class RecordSource:
    """One split of a dataset that TFDS has prepared as array_record files."""

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        split: str,
        *,
        image: str = "image",
        label: str = "label",
        name: str | None = "name",
    ):
        """Opens the split and reads the last example of each of its files.

        Args:
          builder: of the prepared dataset.
          split: its name.
          image: feature with the image.
          label: feature with the label; the first channel counts.
          name: feature with the name; None: examples are called by their numbers.

        Raises:
          ValueError: a file is missing or truncated.
        """
        decoders = dict.fromkeys((image, label), tfds.decode.SkipDecoding())
        self._records = builder.as_data_source(split, decoders=decoders)
        self._image, self._label, self._name = image, label, name
        self._split, self._where = split, os.fspath(builder.data_dir)
        for end in itertools.accumulate(builder.info.splits[split].shard_lengths):
            self._record(end - 1)

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
        # Labels are stored as gray pictures; TensorFlow's decoder gives their values.
        label = tf.cast(tf.io.decode_png(label)[:, :, 0], tf.int32)
        return {"image": decode_image(image), "label": label, "name": name}

    def name(self, index: int) -> str:
        """The name that is stored with it, or else its number in the split."""
        try:
            return self._name_of(index, self._record(index)).decode()
        except ValueError:  # reading the example raises the error
            return self._number(index)

    def _encoded(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self._record(int(index))
        values = record[self._image], record[self._label], self._name_of(int(index), record)
        # Arrays of objects: numpy's own byte strings lose zeros at their end.
        return tuple(
            np.array(value, object) if isinstance(value, bytes) else value for value in values
        )

    def _name_of(self, index: int, record: Mapping[str, Any]) -> bytes:
        return record[self._name] if self._name else self._number(index).encode()

    def _number(self, index: int) -> str:
        return f"{self._split}-{index:06}"

    def _record(self, index: int) -> Mapping[str, Any]:
        """The features of an example; ValueError if its file is missing or damaged."""
        try:
            record = self._records[index]
            if all(value is None for value in record.values()):  # beyond the end of a file
                raise RuntimeError("it is not there")
        except RuntimeError as error:  # from the reader of records
            raise ValueError(
                f"{self._where} is damaged: example {index} of {self._split!r} cannot be read"
                f" ({error}). Remove this directory and prepare the dataset again."
            ) from error
        return record


class ClassRecordSource(RecordSource):
    """A `RecordSource` whose label feature is the number of the image's class."""

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read; the label has the class at every pixel."""
        image, class_index, name = tf.numpy_function(
            self._encoded, [index], [tf.string, tf.int64, tf.string], stateful=False
        )
        for value in (image, class_index, name):
            value.set_shape([])
        image = decode_image(image)
        return {"image": image, "label": label_everywhere(image, class_index), "name": name}


class JoinedSource:
    """Several sources, one after another."""

    def __init__(self, sources: Sequence[ExampleSource]):
        """Reads nothing; `sources` are one or more."""
        self._sources = list(sources)
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        """Number of examples of all sources."""
        return int(self._ends[-1])

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read."""
        index = tf.cast(index, tf.int64)
        which = tf.searchsorted(self._ends, index[None], side="right")[0]
        starts = [0, *self._ends[:-1].tolist()]
        branches = [
            lambda source=source, start=start: source.read(index - start)
            for source, start in zip(self._sources, starts, strict=True)
        ]
        return tf.switch_case(which, branches)

    def name(self, index: int) -> str:
        """See ExampleSource.name."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[which - 1]) if which else 0
        return self._sources[which].name(index - start)


class RelabeledSource:
    """A source with other numbers for its classes."""

    def __init__(self, source: ExampleSource, classes: Mapping[int, int]):
        """Reads nothing.

        Args:
          source: its labels are in 0..255.
          classes: label value -> new value; all others become -1, which no class has.
        """
        table = np.full(256, -1, np.int32)
        table[list(classes)] = list(classes.values())
        self._source, self._table = source, table

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._source)

    def read(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See ExampleSource.read."""
        example = self._source.read(index)
        return {**example, "label": tf.gather(self._table, example["label"])}

    def name(self, index: int) -> str:
        """See ExampleSource.name."""
        return self._source.name(index)
