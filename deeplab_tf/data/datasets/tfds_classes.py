"""Classification datasets of TFDS' own catalog, by name."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from deeplab_tf.data.datasets.image_classes import IGNORE_LABEL
from deeplab_tf.data.datasets.tfds_catalog import OfCatalog, name_feature
from deeplab_tf.data.sources import ClassRecordSource
from deeplab_tf.recipe.dataset_spec import DatasetSpec, OpenDataset, distinct_palette
from deeplab_tf.recipe.lazy import tfds
from deeplab_tf.recipe.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsClasses(OfCatalog):
    """A classification dataset of TFDS' own catalog."""

    kind: ClassVar[str] = "tfds_classes"

    # paper: DeepLabv3+ Sec. 4.3
    name: str = option("imagenet2012", "name in TFDS' catalog, NAME or NAME/CONFIG")

    def open(self, data_dir: str | None = None) -> OpenDataset:
        """Opens a dataset that has an image and its class.

        Args:
          data_dir: where prepared datasets are; None: TFDS' default place.

        Returns:
          The dataset, with all splits that it has; ImageNet's are 'train', 'validation' and 'test',
          whose labels are void.

        Raises:
          FileNotFoundError: it is not prepared.
          ValueError: there is no such dataset, it cannot be read by index, or it has no such
            features.
        """
        builder = self.prepared(data_dir)
        features = builder.info.features
        image, label = _image_and_class(builder)
        sources = {
            split: ClassRecordSource(
                builder, split, image=image, label=label, name=name_feature(features)
            )
            for split in builder.info.splits
        }
        names = tuple(features[label].names)
        spec = DatasetSpec(
            name=builder.name,
            class_names=names,
            ignore_label=IGNORE_LABEL,
            palette=distinct_palette(len(names)),
            splits={split: len(source) for split, source in sources.items()},
        )
        return OpenDataset(spec=spec, sources=sources)


def _image_and_class(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    features = builder.info.features
    pictures = {n: f for n, f in features.items() if isinstance(f, tfds.features.Image)}
    images = [n for n, f in pictures.items() if f.shape[-1] == 3] or list(pictures)
    classes = [n for n, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if "label" in classes:
        classes = ["label"]
    if len(images) != 1 or len(classes) != 1:
        raise ValueError(
            f"{builder.name} must have one image and one class per example; its features are"
            f" {', '.join(f'{name} ({type(f).__name__})' for name, f in features.items())}."
        )
    return images[0], classes[0]
