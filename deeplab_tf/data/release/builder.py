"""How examples of an official release are checked and written."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from deeplab_tf.data.decoding import decode_image, exif_orientation
from deeplab_tf.data.release.archives import Progress
from deeplab_tf.data.picture_files import open_picture

IGNORE_LABEL = 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawExample:
    """One example of a release."""

    name: str
    image: str  # path of a JPEG or PNG
    label: str | None = None  # path, where the label is a file
    # Gives uint8 [H, W] of stored classes, or None for an example to be left out. Without it the
    # example has no label, and all of its pixels are void.
    read_label: Callable[[RawExample], np.ndarray | None] | None = None


class RawBuilderConfig(tfds.core.BuilderConfig):
    """What is prepared."""

    def __init__(
        self,
        name: str,
        examples: Mapping[str, Sequence[RawExample]],
        complete: bool | None,
        progress: Progress | None,
    ):
        """Reads nothing.

        Args:
          name: of the directory.
          examples: of each split.
          complete: whether they are all that the release has; None: to read, not to prepare.
          progress: is told what is done.
        """
        self.examples, self.complete = examples, complete
        self.progress = progress or (lambda *_: None)
        super().__init__(name=name, description="")


class RawBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes examples in the order of the lists, each checked, images as they are."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, dataset: str, **options):
        """`dataset` names the directory; for `options` see TFDS."""
        self.name = dataset  # of the directory; TFDS would take the class's
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            disable_shuffling=True,  # the pipeline does
            metadata=tfds.core.MetadataDict(complete=self.builder_config.complete),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in self.builder_config.examples}

    def _generate_examples(self, split: str):
        examples = self.builder_config.examples[split]
        left_out = 0
        for index, example in enumerate(examples):
            stored = encode(example)
            if stored is not None:
                yield index, stored
            left_out += stored is None
            self.builder_config.progress(f"preparing {self.name} {split}", index + 1, len(examples))
        if left_out == len(examples):
            raise ValueError(
                f"all {left_out} examples of {self.name} {split} were left out; are the labels"
                " those of the official release?"
            )


def encode(example: RawExample) -> dict[str, object] | None:
    """Reads and checks one example.

    Returns:
      {"image": bytes of a file, "label": PNG, "name": string}, bytes as file objects; None if the
      example is to be left out.

    Raises:
      ValueError: image or label cannot be read, or they differ in size.
    """
    with open(example.image, "rb") as file:
        image = file.read()
    try:
        with open_picture(io.BytesIO(image), formats=("JPEG", "PNG")):
            pass
        if exif_orientation(image) != 1:
            # ours: the releases are of years in which labelling tools showed pixels as stored.
            image = without_exif(image)
            if exif_orientation(image) != 1:
                raise ValueError("its EXIF says that it is to be turned; remove the note")
        # By the decoder that training will use, which refuses more than others do.
        height, width, _ = decode_image(tf.constant(image)).shape
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        reason = "damaged or cut off" if isinstance(error, tf.errors.OpError) else error
        raise ValueError(
            f"{example.image} is no readable JPEG or PNG ({len(image)} bytes): {reason}"
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
    encoded = io.BytesIO()
    Image.fromarray(label).save(encoded, "PNG")
    encoded.seek(0)
    return {"image": io.BytesIO(image), "label": encoded, "name": example.name}


def without_exif(image: bytes) -> bytes:
    """A JPEG without its EXIF, by which a reader would turn it; the pixels stay as they are."""
    kept, start = [image[:2]], 2
    # Up to the start of the scan there are segments: 0xFF, marker, length of what follows.
    while image[start : start + 1] == b"\xff" and image[start + 1] != 0xDA:
        end = start + 2 + int.from_bytes(image[start + 2 : start + 4])
        if image[start + 1] != 0xE1 or image[start + 4 : start + 8] != b"Exif":
            kept.append(image[start:end])
        start = end
    return b"".join([*kept, image[start:]])
