"""COCO's instances as labels of VOC's classes."""

import json

import numpy as np
import pytest

from deeplab_tf.data.datasets import coco_voc

CATEGORIES = [
    {"id": 1, "name": "person"},
    {"id": 5, "name": "airplane"},
    {"id": 11, "name": "fire hydrant"},
    {"id": 63, "name": "couch"},
]
OTHERS = ["bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table"]
OTHERS += ["dog", "horse", "motorcycle", "potted plant", "sheep", "train", "tv"]
CATEGORIES += [{"id": 100 + i, "name": name} for i, name in enumerate(OTHERS)]
SQUARE = [2, 3, 42, 3, 42, 33, 2, 33]  # 40 wide, 30 high


def _rectangle(x0, y0, x1, y1):
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], np.float32)


def _label(regions, height, width, *, first_wins=False):
    """The label of regions, each a class and its shape."""
    masks = [coco_voc.region_mask(shape, height, width) for _, shape in regions]
    classes = [index for index, _ in regions]
    return coco_voc.combined(classes, masks, height, width, first_wins=first_wins)


@pytest.fixture
def coco(release):
    """'train': a couch above 1000 pixels, a small one, a hydrant; 'val': a crowd of people."""
    for split, count in {"train": 3, "val": 1}.items():
        images = [
            {"id": 10 + i, "file_name": f"{split}{i}.jpg", "height": 40, "width": 50}
            for i in range(count)
        ]
        for image in images:
            release.image(f"{split}2017/{image['file_name']}", size=(40, 50))
        if split == "train":
            annotations = [
                {"image_id": 10, "category_id": 63, "segmentation": [SQUARE]},
                {"image_id": 11, "category_id": 63, "segmentation": [[1, 1, 9, 1, 9, 9]]},
                {"image_id": 12, "category_id": 11, "segmentation": [SQUARE]},
            ]
        else:
            counts = [40 * 10, 40 * 30, 40 * 10]
            crowd = {"size": [40, 50], "counts": counts}
            annotations = [{"image_id": 10, "category_id": 1, "segmentation": crowd}]
        tree = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        release.write(f"annotations/instances_{split}2017.json", json.dumps(tree))
    return release


def test_images_with_enough_labeled_pixels_are_kept(coco, labels):
    for archive, member in {
        "train2017.zip": "train2017",
        "val2017.zip": "val2017",
        "annotations_trainval2017.zip": "annotations",
    }.items():
        coco.pack(archive, member)
    dataset = coco.prepare("coco_voc")
    assert dataset.spec.splits == {"train": 1, "val": 1}
    note = "train: kept 1 of 3; DeepLabv3, Sec. 4.3: about 60K"
    assert dataset.notes == coco.open("coco_voc").notes == (note,)
    expected = np.zeros((40, 50))
    expected[3:33, 2:42] = dataset.spec.class_names.index("sofa")
    np.testing.assert_array_equal(labels(dataset, "train")["train0"], expected)
    expected = np.zeros((40, 50))
    expected[:, 10:40] = dataset.spec.class_names.index("person")
    np.testing.assert_array_equal(labels(dataset, "val")["val0"], expected)


def test_every_class_of_voc_has_one_of_coco():
    classes = coco_voc._classes(CATEGORIES)
    assert sorted(classes.values()) == list(range(1, 21))
    assert classes[5] == 1 and 11 not in classes


def test_a_pixel_is_inside_if_its_center_is():
    for x0, y0, x1, y1 in [(1, 2, 4, 5), (0.5, 0.4, 3.5, 2.6), (0.6, 0.2, 3.7, 2.8)]:
        label = _label([(7, [_rectangle(x0, y0, x1, y1)])], 6, 5)
        rows, columns = np.mgrid[:6, :5] + 0.5
        inside = (rows >= y0) & (rows < y1) & (columns >= x0) & (columns < x1)
        np.testing.assert_array_equal(label == 7, inside)


def test_a_drawn_triangle_has_its_area():
    label = _label([(1, [np.array([5.0, 5, 95, 10, 40, 80])])], 100, 100)
    area = abs(90 * 75 - 35 * 5) / 2
    assert np.count_nonzero(label) == pytest.approx(area, rel=0.01)


def test_polygons_may_reach_beyond_the_image_and_have_several_parts():
    beyond = _label([(2, [_rectangle(-9, -9, 99, 99)])], 4, 5)
    assert np.all(beyond == 2)
    parts = [_rectangle(0, 0, 2, 4), _rectangle(1, 0, 3, 4), _rectangle(4, 0, 5, 4)]
    assert _label([(2, parts)], 4, 5)[0].tolist() == [2, 2, 2, 0, 2]


def test_overlaps_of_different_classes_are_void():
    regions = [(1, [_rectangle(0, 0, 3, 2)]), (1, [_rectangle(1, 0, 4, 2)])]
    assert _label(regions, 2, 6)[0].tolist() == [1, 1, 1, 1, 0, 0]
    regions.append((2, [_rectangle(3, 0, 6, 2)]))
    assert _label(regions, 2, 6)[0].tolist() == [1, 1, 1, 255, 2, 2]
    regions.append((1, [_rectangle(3, 0, 4, 2)]))
    assert _label(regions, 2, 6)[0].tolist() == [1, 1, 1, 255, 2, 2]


def test_the_first_of_overlapping_regions_may_win():
    regions = [(1, [_rectangle(0, 0, 3, 2)]), (2, [_rectangle(1, 0, 5, 2)])]
    assert _label(regions, 2, 6, first_wins=True)[0].tolist() == [1, 1, 1, 2, 2, 0]
    assert _label(regions[::-1], 2, 6, first_wins=True)[0].tolist() == [1, 2, 2, 2, 2, 0]
    regions.append((3, [_rectangle(0, 0, 6, 2)]))
    assert _label(regions, 2, 6, first_wins=True)[0].tolist() == [1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("sizes", "by_region", "by_label"),
    [
        ([1000], False, False),
        ([1001], True, True),
        ([600, 600], False, True),
        ([500, 500], False, False),
        ([], False, False),
    ],
)
def test_the_two_rules_count_a_region_or_all_of_them(sizes, by_region, by_label):
    masks = []
    for i, size in enumerate(sizes):
        mask = np.zeros((4, 2000), bool)
        mask[i, :size] = True
        masks.append(mask)
    label = coco_voc.combined([1, 2][: len(masks)], masks, 4, 2000, first_wins=True)
    assert coco_voc.has_large_region(masks, label) == by_region
    assert coco_voc.has_many_labeled_pixels(masks, label) == by_label


_KEPT = {
    "coco_voc": (["train0", "train3"], [20, 255, 15]),
    "coco_voc_first": (["train0", "train3"], [20, 20, 15]),
    "coco_voc_fastfcn": (["train0", "train1", "train3"], [20, 20, 15]),
}


@pytest.mark.parametrize("name", _KEPT)
def test_the_three_readings_of_coco_keep_and_label_differently(coco, labels, name):
    path = coco.raw_dir / "annotations/instances_train2017.json"
    tree = json.loads(path.read_text())
    # Two regions of 600 pixels each; then a TV and a person who overlap, each above 1000 pixels.
    halves = [[0, 0, 30, 0, 30, 20, 0, 20], [0, 20, 30, 20, 30, 40, 0, 40]]
    tv = next(c["id"] for c in CATEGORIES if c["name"] == "tv")
    tree["annotations"] += [
        {"image_id": 11, "category_id": 1, "segmentation": [half]} for half in halves
    ]
    tree["images"].append({"id": 13, "file_name": "train3.jpg", "height": 40, "width": 50})
    tree["annotations"] += [
        {"image_id": 13, "category_id": tv, "segmentation": [[0, 0, 30, 0, 30, 40, 0, 40]]},
        {"image_id": 13, "category_id": 1, "segmentation": [[20, 0, 50, 0, 50, 40, 20, 40]]},
    ]
    path.write_text(json.dumps(tree))
    coco.image("train2017/train3.jpg", size=(40, 50))
    dataset = coco.prepare(name)
    found = labels(dataset, "train")
    kept, row = _KEPT[name]
    assert list(found) == kept
    assert found["train3"][0, [0, 25, 49]].tolist() == row
    (note,) = dataset.notes
    assert note.startswith(f"train: kept {len(kept)} of 4; ")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([np.array([1.0, 2, 3, 4])], "three or more corners; got 4 numbers"),
        ([np.array([1.0, 2, 3, 4, 5])], "three or more corners; got 5 numbers"),
        ([np.array([1.0, 2, 3, 4, 5, np.nan])], "three or more corners"),
        ({"size": [4, 5], "counts": [3, 16]}, "must cover 4x5 pixels; got 19"),
        ({"size": [5, 4], "counts": [3, 17]}, "must cover 4x5 pixels"),
        ({"size": [4, 5], "counts": "abc"}, "must be a list of numbers"),
    ],
)
def test_damaged_regions_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        coco_voc.region_mask(shape, 4, 5)


def test_a_damaged_annotation_file_is_named(coco):
    path = coco.raw_dir / "annotations/instances_val2017.json"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ValueError, match=r"val2017\.json is not a complete COCO annotation"):
        coco.prepare("coco_voc")
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"COCO annotation: KeyError\('categories'\)"):
        coco.prepare("coco_voc")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*instances_val2017\.json"):
        coco.prepare("coco_voc")
