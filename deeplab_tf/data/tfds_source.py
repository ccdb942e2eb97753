"""Random access to the examples of a TFDS dataset."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from deeplab_tf.data.decoding import decode_image


class TfdsSource:
    """One split of a dataset that was prepared as array_record, as an ExampleSource.

    That format can be read at any index, so that a whole dataset is shuffled without a buffer.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, split: str):
        """Opens the split of a prepared dataset with the features image, label and name."""
        skip = tfds.decode.SkipDecoding()
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
        # Stored as grey pictures, of which TensorFlow's decoder gives the values.
        label = tf.cast(tf.io.decode_png(label, channels=1)[:, :, 0], tf.int32)
        return {"image": decode_image(image), "label": label, "name": name}

    def _encoded(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self._records[int(index)]
        # Arrays of objects: numpy's own byte strings lose zeros at their end.
        return tuple(np.array(record[key], object) for key in ("image", "label", "name"))

    def name(self, index: int) -> str:
        """The name that it was stored under."""
        return self._records[index]["name"].decode()
