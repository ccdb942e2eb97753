"""COCO 2017 (Lin et al. 2014) with the 21 classes of PASCAL VOC, for training before VOC itself."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplab_tf.data.datasets import voc2012
from deeplab_tf.data.release.archives import Archive, ReleaseFiles
from deeplab_tf.data.release.dataset import Part, ReleasedDataset
from deeplab_tf.data.release.examples import IGNORE_LABEL, ReleasedExample

# VOC's name of a class -> COCO's, where they differ.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
# cited: Chen et al. 2017 (DeepLabv3), Sec. 4.3: images with annotated regions larger than this are
# kept; pixels of none of VOC's classes are background.
MOST_PIXELS_LEFT_OUT = 1000

# Given the masks of an image's regions and its label, whether the image is kept.
Rule = Callable[[Sequence[np.ndarray], np.ndarray], bool]


def _images(split: str, size: str) -> Archive:
    return Archive(
        file=f"{split}2017.zip",
        base="",
        holds=f"{split}2017",
        source=f"http://images.cocodataset.org/zips/{split}2017.zip, {size}",
    )


_IMAGES = {"train": _images("train", "18 GB"), "val": _images("val", "778 MB")}
_ANNOTATIONS = Archive(
    file="annotations_trainval2017.zip",
    base="",
    holds="annotations",
    source="http://images.cocodataset.org/annotations/annotations_trainval2017.zip, 241 MB",
)


def _list(
    files: ReleaseFiles, split: str, *, keeps: Rule, first_wins: bool
) -> list[ReleasedExample]:
    images = os.path.join(files.folder(_IMAGES[split]), f"{split}2017")
    file = os.path.join(files.folder(_ANNOTATIONS), "annotations", f"instances_{split}2017.json")
    if not os.path.isfile(file):
        raise FileNotFoundError(f"there is no {file}, which belongs to the official release.")
    with open(file, encoding="utf-8") as opened:
        try:
            # 450 MB of text, most of it coordinates, which are packed as soon as they are read.
            tree = json.load(opened, object_hook=_packed)
            class_of = _classes(tree["categories"])
            regions: dict[int, list[dict]] = {image["id"]: [] for image in tree["images"]}
            for annotation in tree["annotations"]:
                if annotation["category_id"] in class_of:
                    regions[annotation["image_id"]].append(annotation)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is not a complete COCO annotation: {error!r}") from error
    return [
        ReleasedExample(
            name=os.path.splitext(image["file_name"])[0],
            image=os.path.join(images, image["file_name"]),
            read_label=functools.partial(
                _read,
                image=image,
                regions=regions[image["id"]],
                class_of=class_of,
                keeps=keeps,
                first_wins=first_wins,
            ),
        )
        for image in tree["images"]
    ]


def _packed(tree: dict[str, Any]) -> dict[str, Any]:
    polygons = tree.get("segmentation")
    if isinstance(polygons, list):
        tree["segmentation"] = [np.array(polygon, np.float32) for polygon in polygons]
    return tree


def _classes(categories: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Category id -> class of VOC, for the categories that VOC has."""
    ids = {category["name"]: category["id"] for category in categories}
    names = enumerate(voc2012.CLASS_NAMES)
    return {ids[_COCO_NAMES.get(name, name)]: index for index, name in names if index > 0}


def _read(
    example: ReleasedExample,
    *,
    image: Mapping[str, Any],
    regions: Sequence[Mapping[str, Any]],
    class_of: Mapping[int, int],
    keeps: Rule,
    first_wins: bool,
) -> np.ndarray | None:
    try:
        size = image["height"], image["width"]
        masks = [region_mask(region["segmentation"], *size) for region in regions]
        classes = [class_of[region["category_id"]] for region in regions]
        label = combined(classes, masks, *size, first_wins=first_wins)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the annotation of {example.image} is damaged: {error!r}") from error
    return label if keeps(masks, label) else None


def has_large_region(masks: Sequence[np.ndarray], label: np.ndarray) -> bool:
    """Whether one annotated region is large enough.

    cited: Chen et al. 2017 (DeepLabv3), Sec. 4.3, "annotation regions larger than 1000 pixels".
    ours: one such region is enough; the text can also be read otherwise.

    Args:
      masks: bool [H, W] of each region.
      label: uint8 [H, W].
    """
    return any(np.count_nonzero(mask) > MOST_PIXELS_LEFT_OUT for mask in masks)


def has_many_labeled_pixels(masks: Sequence[np.ndarray], label: np.ndarray) -> bool:
    """Whether all regions together have enough pixels. code: FastFCN, as EncNet.

    Args:
      masks: bool [H, W] of each region.
      label: uint8 [H, W].
    """
    return np.count_nonzero(label) > MOST_PIXELS_LEFT_OUT


def region_mask(
    shape: Sequence[np.ndarray] | Mapping[str, Any], height: int, width: int
) -> np.ndarray:
    """Draws a region.

    ours: a pixel is inside if its center is; COCO's own tools differ at the outlines.

    Args:
      shape: polygons x0, y0, x1, y1, ... or a run length code.
      height: of the image, pixels.
      width: of the image, pixels.

    Returns:
      bool [height, width].

    Raises:
      ValueError: the region has neither of these forms, or is of another size.
    """
    if isinstance(shape, Mapping):
        return _run_lengths(shape, height, width)
    inside = np.zeros((height, width), bool)
    for polygon in shape:
        inside |= _polygon(polygon, height, width)
    return inside


def combined(
    classes: Sequence[int],
    masks: Sequence[np.ndarray],
    height: int,
    width: int,
    *,
    first_wins: bool,
) -> np.ndarray:
    """Makes a label of regions.

    Where regions of different classes overlap, the data does not say which one is in front.

    Args:
      classes: of each region.
      masks: bool [height, width] of each region.
      height: of the label, pixels.
      width: of the label, pixels.
      first_wins: overlaps have the class of the first region (code: FastFCN); False: they are
        void (ours: DeepLab's code for COCO was not released).

    Returns:
      uint8 [height, width]; 0 where there is no region.
    """
    label = np.zeros((height, width), np.uint8)
    for class_index, inside in zip(classes, masks, strict=True):
        if first_wins:
            label[inside & (label == 0)] = class_index
        else:
            others = inside & (label != 0) & (label != class_index)
            label[inside] = class_index
            label[others] = IGNORE_LABEL
    return label


def _polygon(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose centers are inside; bool [height, width]."""
    if len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all():
        raise ValueError(f"a polygon must have three or more corners; got {len(polygon)} numbers")
    x0, y0 = np.asarray(polygon, np.float64).reshape(-1, 2).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    # Each edge toggles the pixels right of it, in the rows whose center line it crosses.
    toggles = np.zeros((height, width + 1), bool)
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, height).astype(int)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, height).astype(int)
    edge = np.repeat(np.arange(len(x0)), last - first)
    row = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    if edge.size:
        slope = (x1 - x0)[edge] / (y1 - y0)[edge]
        crossing = x0[edge] + (row + 0.5 - y0[edge]) * slope
        column = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
        np.logical_xor.at(toggles, (row.astype(int), column), True)
    return np.logical_xor.accumulate(toggles, axis=1)[:, :width]


def _run_lengths(code: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """COCO's code of a crowd: lengths of alternating runs outside and inside, down the columns."""
    counts = code["counts"]
    if not isinstance(counts, list):
        raise ValueError("a run length code must be a list of numbers; got a compressed one")
    if list(code["size"]) != [height, width] or sum(counts) != height * width or min(counts) < 0:
        raise ValueError(
            f"a run length code must cover {height}x{width} pixels; got {sum(counts)} for"
            f" {code['size']}"
        )
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape((height, width), order="F")


def _dataset(
    name: str, part: str, expected: str, *, keeps: Rule, first_wins: bool
) -> ReleasedDataset:
    return ReleasedDataset(
        name=name,
        class_names=voc2012.CLASS_NAMES,
        palette=voc2012.PALETTE,
        parts=(
            Part(
                name=part,
                # cited: Lin et al. 2014, release of 2017: all images, before some are left out.
                # Its train is the trainval minus minival of 2014, which DeepLabv3 trains on.
                splits={"train": 118287, "val": 5000},
                needs=((_IMAGES["train"],), (_IMAGES["val"],), (_ANNOTATIONS,)),
                list_examples=functools.partial(_list, keeps=keeps, first_wins=first_wins),
                expected_kept={"train": expected},
            ),
        ),
    )


_DEEPLAB = "DeepLabv3, Sec. 4.3: about 60K"  # cited
DATASET = _dataset("coco_voc", "large_regions", _DEEPLAB, keeps=has_large_region, first_wins=False)
DATASET_FIRST = _dataset(
    "coco_voc_first", "large_regions", _DEEPLAB, keeps=has_large_region, first_wins=True
)
DATASET_FASTFCN = _dataset(
    "coco_voc_fastfcn",
    "many_pixels",
    # A user's count, in issue 6335 of tensorflow/models.
    "FastFCN's authors state no number; a user of its rule reports more than 90K",
    keeps=has_many_labeled_pixels,
    first_wins=True,
)
