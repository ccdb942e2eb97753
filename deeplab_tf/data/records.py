"""Random access to the examples of a TFDS dataset."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from deeplab_tf.data.decoding import decode_image


class Records:
    """One split of a dataset that was prepared as array_record: what was stored, by index.

    That format can be read at any index, so that a whole dataset is shuffled without a buffer.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str, pictures: tuple[str, ...]):
        """Opens the split and reads the last example of each of its files.

        Args:
          builder: of the prepared dataset.
          split: its name.
          pictures: features of which to give the bytes, not the pixels.

        Raises:
          ValueError: a file is missing, or was cut off.
        """
        decoders = dict.fromkeys(pictures, tfds.decode.SkipDecoding())
        self._records = builder.as_data_source(split, decoders=decoders)
        self._split, self._where = split, os.fspath(builder.data_dir)
        for end in itertools.accumulate(builder.info.splits[split].shard_lengths):
            _ = self[end - 1]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The features of an example.

        Raises:
          ValueError: the file that has it is missing or damaged.
        """
        try:
            record = self._records[index]
            if all(value is None for value in record.values()):  # beyond the end of a file
                raise RuntimeError("it is not there")
        except RuntimeError as error:  # which is what the reader of records raises
            raise ValueError(
                f"{self._where} is damaged, example {index} of {self._split!r} cannot be read:"
                f" {error}. Remove this directory and prepare the dataset anew."
            ) from error
        return record

    def name(self, index: int, feature: str | None) -> str:
        """What `feature` says, or else the number in the split."""
        try:
            return self[index][feature].decode() if feature else f"{self._split}-{index:06}"
        except ValueError:  # whoever reads this example is told why
            return f"{self._split}-{index:06}"


class TfdsSource:
    """One split of a dataset that was prepared as array_record, as an ExampleSource."""

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        """Opens the split of a prepared dataset with the features image, label and name.

        Raises:
          ValueError: a file is missing, or was cut off.
        """
        self._records = Records(builder, split, ("image", "label"))

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
        # Stored as grey pictures, of which TensorFlow's decoder gives the values.
        label = tf.cast(tf.io.decode_png(label, channels=1)[:, :, 0], tf.int32)
        return {"image": decode_image(image), "label": label, "name": name}

    def _encoded(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self._records[int(index)]
        # Arrays of objects: numpy's own byte strings lose zeros at their end.
        return tuple(np.array(record[key], object) for key in ("image", "label", "name"))

    def name(self, index: int) -> str:
        """The name that it was stored under."""
        return self._records.name(index, "name")
