"""Datasets with an official release, by name."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.data.datasets import (
    ade20k,
    camvid,
    cityscapes,
    coco_voc,
    pascal_context,
    voc2012,
)
from deeplab_tf.data.release.archives import Progress
from deeplab_tf.data.release.dataset import ReleasedDataset
from deeplab_tf.recipe.dataset_spec import OpenDataset
from deeplab_tf.recipe.options import Options, option

RELEASES: dict[str, ReleasedDataset] = {
    "ade20k": ade20k.DATASET,
    "camvid": camvid.DATASET,
    "cityscapes": cityscapes.DATASET,
    "coco_voc": coco_voc.DATASET,
    "coco_voc_fastfcn": coco_voc.DATASET_FASTFCN,
    "coco_voc_first": coco_voc.DATASET_FIRST,
    "pascal_context": pascal_context.DATASET,
    "pascal_context60": pascal_context.DATASET_60,
    "voc2012": voc2012.DATASET,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release(Options):
    """A dataset from an official release, prepared by prepare_dataset.py."""

    kind: ClassVar[str] = "release"

    # paper: DeepLabv3+ Sec. 4
    name: str = option(
        "voc2012",
        f"name of the dataset: {', '.join(RELEASES)}",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in RELEASES:
            raise ValueError(f"name must be one of {', '.join(RELEASES)}; got {self.name!r}.")

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Opens what is prepared; see `ReleasedDataset.open`."""
        return RELEASES[self.name].open(data_dir)

    def prepare(
        self,
        data_dir: str | None = None,
        *,
        raw_dir: str | None = None,
        allow_subset: bool = False,
        progress: Progress | None = None,
    ) -> OpenDataset:
        """Prepares what is not prepared yet, and opens the dataset.

        Args:
          data_dir: where prepared datasets are; None: TFDS' default place.
          raw_dir: directory with the archives of the release or their contents; None: only opens
            what is prepared.
          allow_subset: accept fewer examples than the release has.
          progress: called with what is in progress, how much is done and how much there is.

        Raises:
          FileNotFoundError: files are missing.
          ValueError: files are damaged, or the number of examples is not that of the release.
          OSError: files cannot be written, e.g. the disk is full.
        """
        released = RELEASES[self.name]
        if raw_dir is not None:
            released.prepare(raw_dir, data_dir, allow_subset=allow_subset, progress=progress)
        return released.open(data_dir)
