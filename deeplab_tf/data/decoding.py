"""From the bytes of image and label files to tensors."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

# Modes in which a pixel is an index; "P" is one whose colours do not matter here.
_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16B")


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG or PNG, grey or colour, 8 or 16 bit; an alpha channel is dropped.

    Args:
      encoded: string scalar, the file's bytes.

    Returns:
      uint8 [H, W, 3] RGB.
    """
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def decode_label(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a PNG of class indices; of a palette picture the index, never the colour.

    TensorFlow's own decoder gives a palette picture's luminance, so Pillow reads it.

    Args:
      encoded: string scalar, the file's bytes.

    Returns:
      int32 [H, W].
    """
    # Outside a graph the bytes come in an array without axes.
    label = tf.numpy_function(
        lambda value: label_from_bytes(np.asarray(value, object).item()),
        [encoded],
        tf.int32,
        stateful=False,
    )
    label.set_shape([None, None])
    return label


def label_from_bytes(encoded: bytes) -> np.ndarray:
    """`decode_label` outside a graph.

    Raises:
      ValueError: the bytes are no readable picture, or one of colours.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            mode = picture.mode
            label = np.asarray(picture)
    except UnidentifiedImageError as error:
        raise ValueError("not a picture, by its first bytes") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable picture: {error}") from error
    if mode not in _INDEX_MODES:
        raise ValueError(
            f"a label must be a PNG of class indices, grey or with a palette; it has mode {mode}."
            " Convert colours to indices first."
        )
    return label.astype(np.int32)
