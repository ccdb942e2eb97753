"""Examples of official releases: how they are read, checked and encoded for storage."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable

import numpy as np

from deeplab_tf.data.decoding import decode_image, exif_orientation
from deeplab_tf.data.picture_files import open_picture, png_file, read_file
from deeplab_tf.recipe.lazy import tf

IGNORE_LABEL = 255  # code: void in both references


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReleasedExample:
    """One example of a release."""

    name: str
    image: str  # path of a JPEG or PNG
    label: str | None = None  # path, where the label is a file
    # Returns uint8 [H, W] of stored classes, or None to leave the example out. Without this
    # function the example has no label, and all of its pixels are void.
    read_label: Callable[[ReleasedExample], np.ndarray | None] | None = None


def is_kept(example: ReleasedExample) -> bool:
    """Whether `encode` stores the example.

    Raises:
      ValueError: the label cannot be read.
    """
    return example.read_label is None or example.read_label(example) is not None


def encode(example: ReleasedExample) -> dict[str, object] | None:
    """Reads and checks one example.

    The pixels are stored as they are in the file, and the label must fit these: an EXIF orientation
    is removed. ours: the labeling tools of the time of these releases showed pixels as stored. The
    images of a folder dataset are turned upright instead, as viewers and today's tools show them.

    Returns:
      {"image": file, "label": PNG file, "name": string}, the files as open objects; None to leave
      the example out.

    Raises:
      ValueError: image or label cannot be read, or they differ in size.
    """
    try:
        image = read_file(example.image)
        with open_picture(io.BytesIO(image), formats=("JPEG", "PNG")):
            pass
        if exif_orientation(image) != 1:
            image = without_exif(image)
            if exif_orientation(image) != 1:
                raise ValueError("its EXIF orientation would turn it; remove the orientation")
        # This is the decoder that training uses, which refuses more than others do.
        height, width, _ = decode_image(tf.constant(image)).shape
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        reason = "damaged or truncated" if isinstance(error, tf.errors.OpError) else error
        raise ValueError(
            f"{example.image} is not a readable JPEG or PNG"
            f" ({os.path.getsize(example.image)} bytes): {reason}"
        ) from error
    if example.read_label is None:
        label = np.full((height, width), IGNORE_LABEL, np.uint8)
    else:
        label = example.read_label(example)
    if label is None:
        return None
    if label.shape != (height, width):
        raise ValueError(
            f"{example.image} has {height}x{width} pixels (height x width), its label"
            f" {example.label or ''} {label.shape[0]}x{label.shape[1]}."
        )
    return {"image": io.BytesIO(image), "label": png_file(label), "name": example.name}


def without_exif(image: bytes) -> bytes:
    """A JPEG without its EXIF, so that no reader turns it; the pixels stay as they are."""
    kept, start = [image[:2]], 2
    # Segments precede the scan, each with 0xFF, a marker and the length of the rest.
    while image[start : start + 1] == b"\xff" and image[start + 1 : start + 2] != b"\xda":
        end = start + 2 + int.from_bytes(image[start + 2 : start + 4])
        if image[start + 1 : start + 2] != b"\xe1" or image[start + 4 : start + 8] != b"Exif":
            kept.append(image[start:end])
        start = end
    return b"".join([*kept, image[start:]])
