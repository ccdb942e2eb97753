"""From the bytes of image and label files to tensors."""

from __future__ import annotations

import io

import numpy as np
from PIL import ExifTags, ImageOps

from deeplab_tf.data.labels.colors import ColorClasses
from deeplab_tf.data.labels.files import INDEX_MODES
from deeplab_tf.data.picture_files import DAMAGED, open_picture
from deeplab_tf.recipe.lazy import tf


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes JPEG or PNG, gray or color, 8 or 16 bit; an alpha channel is dropped.

    A photo with an EXIF orientation is turned upright, as viewers and labeling tools show it.

    Args:
      encoded: string scalar, the file's bytes.

    Returns:
      uint8 [H, W, 3] RGB.
    """
    orientation = tf.numpy_function(
        lambda value: np.int32(exif_orientation(np.asarray(value, object).item())),
        [encoded],
        tf.int32,
        stateful=False,
    )
    orientation.set_shape([])
    with tf.control_dependencies([orientation]):  # it also checks the size
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return tf.cond(orientation == 1, lambda: image, lambda: _upright(image, orientation))


def exif_orientation(encoded: bytes) -> int:
    """The EXIF orientation, 1..8; 1, upright, if the picture has none.

    Raises:
      ValueError: the bytes are not a picture, or claim too many pixels.
    """
    with open_picture(io.BytesIO(encoded)) as picture:
        # To find no EXIF in a PNG, Pillow would decode all of it.
        if picture.format == "PNG" and b"eXIf" not in encoded:
            return 1
        try:
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
        except DAMAGED:  # then the pixels stay as they are, as in a viewer
            return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    # EXIF 2.3, tag 0x0112: in 5..8 rows and columns are exchanged before axes are mirrored.
    image = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    mirrored_rows = tf.reduce_any(orientation == [3, 4, 7, 8])
    mirrored_columns = tf.reduce_any(orientation == [2, 3, 6, 7])
    image = tf.cond(mirrored_rows, lambda: tf.reverse(image, [0]), lambda: image)
    return tf.cond(mirrored_columns, lambda: tf.reverse(image, [1]), lambda: image)


def decode_label(encoded: tf.Tensor, colors: ColorClasses | None = None) -> tf.Tensor:
    """Decodes a PNG label: its class indices, or the classes of its colors.

    TensorFlow's own decoder would give the luminance of palette pictures, so Pillow reads the file.
    A label with an EXIF orientation is turned upright, like an image.

    Args:
      encoded: string scalar, the file's bytes.
      colors: the classes of the colors; None: pixels are class indices, and a palette picture gives
        its indices, not its colors.

    Returns:
      int32 [H, W].
    """
    # Outside a graph, the bytes come in an array without axes.
    label = tf.numpy_function(
        lambda value: label_from_bytes(np.asarray(value, object).item(), colors),
        [encoded],
        tf.int32,
        stateful=False,
    )
    label.set_shape([None, None])
    return label


def label_from_bytes(encoded: bytes, colors: ColorClasses | None = None) -> np.ndarray:
    """`decode_label` outside a graph.

    Raises:
      ValueError: the bytes are not a readable PNG, or, without `colors`, are a PNG of colors; or a
        color has no class.
    """
    # Only PNG: a JPEG that was renamed does not have the values that were drawn.
    with open_picture(io.BytesIO(encoded), formats=("PNG",)) as picture:
        mode = picture.mode
        if b"eXIf" in encoded:
            ImageOps.exif_transpose(picture, in_place=True)
        picture.load()
    if colors is not None:
        return colors.label(picture)
    if mode not in INDEX_MODES:
        raise ValueError(
            f"a label must be a PNG of class indices, gray or with a palette; it has mode {mode}."
            " Convert colors to indices first."
        )
    return np.asarray(picture).astype(np.int32)


def label_everywhere(image: tf.Tensor, class_index: tf.Tensor) -> tf.Tensor:
    """The label of an image [H, W, 3] with one class; int32 [H, W]."""
    return tf.fill(tf.shape(image)[:2], tf.cast(class_index, tf.int32))
