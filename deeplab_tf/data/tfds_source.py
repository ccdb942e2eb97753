"""Random access to the examples of a TFDS dataset."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds


class TfdsSource:
    """One split of a dataset that was prepared as array_record, as an ExampleSource.

    That format can be read at any index, so that a whole dataset is shuffled without a buffer.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        """Opens the split of a prepared dataset with the features image, label and name."""
        skip = tfds.decode.SkipDecoding()
        self._split = split
        self._records = builder.as_data_source(split, decoders={"image": skip, "label": skip})

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
        image = tf.io.decode_image(image, channels=3, expand_animations=False)
        image.set_shape([None, None, 3])
        # Stored as grey pictures, of which TensorFlow's decoder gives the values.
        label = tf.cast(tf.io.decode_png(label, channels=1)[:, :, 0], tf.int32)
        return {"image": image, "label": label, "name": name}

    def _encoded(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self._records[int(index)]
        # Arrays of objects: numpy's own byte strings lose zeros at their end.
        return tuple(np.array(record[key], object) for key in ("image", "label", "name"))

    def name(self, index: int) -> str:
        """Its split and name."""
        return f"{self._split} {self._records[index]['name'].decode()}"
