"""The datasets by name."""

from __future__ import annotations

from collections.abc import Callable

from deeplab_tf.recipe.options import DataConfig, lookup
from deeplab_tf.data.datasets import ade20k
from deeplab_tf.data.datasets import camvid
from deeplab_tf.data.datasets import cityscapes
from deeplab_tf.data.datasets import coco_voc
from deeplab_tf.data.datasets import pascal_context
from deeplab_tf.data.datasets import voc2012
from deeplab_tf.data.datasets.folder import open_folder
from deeplab_tf.data.release.dataset import RawDataset
from deeplab_tf.data.release.archives import Progress
from deeplab_tf.data.datasets.shapes import open_shapes
from deeplab_tf.recipe.dataset_spec import DatasetSpec, OpenDataset
from deeplab_tf.data.datasets.tfds_catalog import PREFIX, open_catalog, prepare_catalog

__all__ = [
    "DATASETS",
    "RAW_DATASETS",
    "DatasetSpec",
    "OpenDataset",
    "open_dataset",
    "prepare_dataset",
]

# Those that are prepared from the files of an official release.
RAW_DATASETS: dict[str, RawDataset] = {
    "ade20k": ade20k.DATASET,
    "camvid": camvid.DATASET,
    "cityscapes": cityscapes.DATASET,
    "coco_voc": coco_voc.DATASET,
    "pascal_context": pascal_context.DATASET,
    "pascal_context60": pascal_context.DATASET_60,
    "voc2012": voc2012.DATASET,
}

# name -> (settings, directory of prepared datasets) -> the dataset, ready to be read
DATASETS: dict[str, Callable[[DataConfig, str | None], OpenDataset]] = {
    "ade20k": ade20k.DATASET.open,
    "camvid": camvid.DATASET.open,
    "cityscapes": cityscapes.DATASET.open,
    "coco_voc": coco_voc.DATASET.open,
    "folder": open_folder,
    "pascal_context": pascal_context.DATASET.open,
    "pascal_context60": pascal_context.DATASET_60.open,
    "shapes": open_shapes,
    "voc2012": voc2012.DATASET.open,
}


def open_dataset(data: DataConfig, data_dir: str | None) -> OpenDataset:
    """Opens the dataset that `data` names.

    Args:
      data: which one, and where its files are if it is the user's own. 'tfds:NAME' is the dataset
        NAME of TFDS' catalogue.
      data_dir: where prepared datasets are; None: TFDS' default place.

    Raises:
      ValueError: the dataset is unknown or faulty.
      FileNotFoundError: its files are not there.
    """
    if data.dataset.startswith(PREFIX):
        return open_catalog(data, data_dir)
    return lookup(DATASETS, data.dataset, "dataset")(data, data_dir)


def prepare_dataset(
    data: DataConfig,
    data_dir: str | None,
    *,
    raw_dir: str | None = None,
    allow_subset: bool = False,
    progress: Progress | None = None,
) -> OpenDataset:
    """Prepares the dataset that `data` names, as far as it is not, and opens it.

    Args:
      data: which one.
      data_dir: where prepared datasets are; None: TFDS' default place.
      raw_dir: files of the official release, for a dataset that is made of them.
      allow_subset: take fewer examples than the release has.
      progress: is told (what is done, how much of it, how much there is).

    Raises:
      ValueError: the dataset is unknown or faulty, or `raw_dir` does not fit.
      FileNotFoundError: files are not there.
    """
    if data.dataset.startswith(PREFIX):
        prepare_catalog(data, data_dir)
    elif raw_dir is not None:
        if data.dataset not in RAW_DATASETS and data.dataset in DATASETS:
            raise ValueError(
                f"--raw_dir is for datasets with an official release; {data.dataset} is made"
                " without."
            )
        lookup(RAW_DATASETS, data.dataset, "dataset").prepare(
            raw_dir, data_dir, allow_subset=allow_subset, progress=progress
        )
    return open_dataset(data, data_dir)
