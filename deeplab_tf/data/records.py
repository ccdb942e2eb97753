"""Datasets that this package writes as array_record files, through TFDS.

That format can be read at any index, which shuffles a whole dataset without a buffer. This module
imports TFDS: import it where it is used.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format

from deeplab_tf.recipe.lock import locked

# Split -> (key, {"image": file, "label": file, "name": string}) of each example
Examples = Mapping[str, Iterator[tuple[int | str, dict[str, Any]]]]


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A dataset in the directory <data_dir>/<dataset>/<config>/1.0.0."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        dataset: str,
        config: str,
        data_dir: str | None,
        *,
        examples: Examples | None = None,
        in_order: bool = True,
        image_format: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ):
        """Reads the description of the directory, if it exists.

        Args:
          dataset: name of the dataset.
          config: name of its variant.
          data_dir: where prepared datasets are; None: TFDS' default place.
          examples: what to write; None: the builder only reads.
          in_order: write in the order of `examples`, whose keys are then integers. False: in the
            order of hashes of the keys.
          image_format: "png" if all images have this format; None: they may differ.
          metadata: written beside the examples.

        Raises:
          ValueError: the directory is damaged.
        """
        self.name = dataset  # TFDS would take the name of the class
        self._root, self._examples, self._in_order = data_dir, examples, in_order
        self._image_format, self._metadata = image_format, metadata
        remedy = "Remove this directory and prepare the dataset again."
        try:
            super().__init__(
                data_dir=data_dir,
                config=tfds.core.BuilderConfig(name=config, description=""),
                file_format="array_record",
            )
        except json_format.ParseError as error:
            raise ValueError(
                f"{config} of {dataset} in {data_dir} is damaged: {error}. {remedy}"
            ) from error
        if os.path.isdir(self.data_dir) and not self.info.splits:
            raise ValueError(f"{self.data_dir} is damaged: it lacks dataset_info.json. {remedy}")

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images with a label and a name each.",
            disable_shuffling=self._in_order,
            metadata=None if self._metadata is None else tfds.core.MetadataDict(self._metadata),
            features=tfds.features.FeaturesDict(
                {
                    "image": image(shape=(None, None, 3), encoding_format=self._image_format),
                    "label": image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self._examples}

    def _generate_examples(self, split: str):
        return self._examples[split]

    def write(self) -> Self:
        """Writes the examples, unless they are there; the directory appears when it is complete.

        One process at a time writes a dataset. Another one waits and then reads what was written.

        Returns:
          A builder to read with.

        Raises:
          OSError: files cannot be written, e.g. the disk is full.
        """
        lock = f"{self.data_dir}.lock"
        # A process may have been killed between its last two steps, and have left the lock alone.
        if os.path.isdir(self.data_dir) and not os.access(lock, os.W_OK):
            return self
        parent, version = os.path.split(self.data_dir)
        with preparation(self.name, lock, parent, [f"incomplete.*_{version}"]):
            if not os.path.isdir(self.data_dir):
                self.download_and_prepare(
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
                )
                return self
        return type(self)(self.name, self.builder_config.name, self._root)


@contextlib.contextmanager
def preparation(
    dataset: str, lock: str, directory: str, unfinished: Sequence[str]
) -> Iterator[None]:
    """Surrounds what prepares a dataset: one process at a time, and nothing unfinished is left.

    TFDS writes to temporary directories. It removes some of them when it fails, and none when it is
    killed, so they are removed before and after.

    Args:
      dataset: its name, for messages.
      lock: path of the lock file.
      directory: where to look for what is left.
      unfinished: patterns of TFDS' temporary directories, relative to `directory`. A process
        that writes there holds the lock.

    Raises:
      OSError: files cannot be read or written, e.g. the disk is full.
    """
    try:
        with locked(lock, f"the directory {directory}", wait=True):
            _remove(directory, unfinished)
            try:
                yield
            finally:
                _remove(directory, unfinished)
    # RuntimeError is from the writer of records.
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        raise OSError(f"{dataset} cannot be prepared in {directory}: {error}") from error


def _remove(directory: str, patterns: Sequence[str]) -> None:
    for pattern in patterns:
        for path in glob.glob(pattern, root_dir=directory, recursive=True):
            # A directory may be another user's, or that of a download whose thread has not ended.
            shutil.rmtree(os.path.join(directory, path), ignore_errors=True)
