"""The datasets by name."""

from __future__ import annotations

from collections.abc import Callable

from deeplab_tf.config import DataConfig, lookup
from deeplab_tf.data.folder import open_folder
from deeplab_tf.data.shapes import open_shapes
from deeplab_tf.data.spec import DatasetSpec, OpenDataset

__all__ = ["DATASETS", "DatasetSpec", "OpenDataset", "open_dataset"]

# name -> (settings, directory of prepared datasets) -> the dataset, ready to be read
DATASETS: dict[str, Callable[[DataConfig, str | None], OpenDataset]] = {
    "shapes": open_shapes,
    "folder": open_folder,
}


def open_dataset(data: DataConfig, data_dir: str | None) -> OpenDataset:
    """Opens the dataset that `data` names.

    Args:
      data: which one, and where its files are if it is the user's own.
      data_dir: where prepared datasets are; None: TFDS' default place.

    Raises:
      ValueError: the dataset is unknown or faulty.
      FileNotFoundError: its files are not there.
    """
    return lookup(DATASETS, data.dataset, "dataset")(data, data_dir)
