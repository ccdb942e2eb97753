"""Annotations of COCO that are damaged or odd."""

import json

import pytest


def _coco(release, **changes) -> None:
    names = ["airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"]
    names += ["dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep"]
    region = {"image_id": 7, "category_id": 0, "segmentation": [[0, 0, 50, 0, 50, 40, 0, 40]]}
    region.update(changes.pop("region", {}))
    image = {"id": 7, "file_name": "a.jpg", "height": 40, "width": 50, **changes.pop("image", {})}
    tree = {
        "images": [{k: v for k, v in image.items() if v is not None}],
        "annotations": [{k: v for k, v in region.items() if v != "none"}],
        "categories": [
            {"id": i, "name": name} for i, name in enumerate([*names, "couch", "train", "tv"])
        ],
        **changes,
    }
    for split in ("train", "val"):
        release.image(f"{split}2017/a.jpg", size=(40, 50))
        release.write(f"annotations/instances_{split}2017.json", json.dumps(tree))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"categories": []},
            r"train2017\.json is not a complete COCO annotation: KeyError",
        ),
        ({"images": None}, r"instances_train2017\.json is not a complete COCO annotation"),
        ({"region": {"image_id": 8}}, r"not a complete COCO annotation: KeyError\(8\)"),
        ({"region": {"segmentation": [["x"]]}}, "not a complete COCO annotation"),
        ({"region": {"segmentation": None}}, r"annotation of .*a\.jpg is damaged"),
        ({"region": {"segmentation": "none"}}, r"annotation of .*a\.jpg is damaged"),
        ({"region": {"segmentation": {"counts": "PPYo0", "size": [40, 50]}}}, "a compressed one"),
        ({"region": {"segmentation": {"counts": [None], "size": [40, 50]}}}, "a.jpg is damaged"),
        ({"region": {"segmentation": {"counts": [2000], "size": 40}}}, "a.jpg is damaged"),
        ({"image": {"height": None}}, r"annotation of .*a\.jpg is damaged: KeyError\('height'\)"),
        ({"image": {"height": "40"}}, "a.jpg is damaged"),
        ({"image": {"height": 41}}, r"a\.jpg has 40x50 pixels .* its label  41x50"),
        ({"image": {"file_name": "b.jpg"}}, r"1 files of coco_voc train are missing: .*b\.jpg"),
    ],
)
def test_damaged_annotations_of_coco_are_refused_by_name(release, changes, message):
    _coco(release, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        release.prepare("coco_voc")
    assert release.prepared() == []


def test_empty_polygons_are_nothing_and_an_empty_split_is_refused(release):
    _coco(release, region={"segmentation": []})
    with pytest.raises(ValueError, match=r"all 1 examples of coco_voc train were left out"):
        release.prepare("coco_voc")
    assert release.prepared() == []
