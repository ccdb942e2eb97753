"""What the classes of a dataset may be, and reading them back."""

import dataclasses
import itertools
import json

import pytest

from deeplab_tf import zoo
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette, distinct_palette

_SPEC = DatasetSpec(
    name="toy",
    class_names=("sky", "größer Baum", 'the "old" car'),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4, "val": 0},
)


@pytest.mark.parametrize("spec", [_SPEC, *map(zoo.released_spec, RELEASES)], ids=lambda s: s.name)
def test_a_spec_reads_back(spec):
    assert DatasetSpec.from_json(spec.to_json()) == spec
    assert DatasetSpec.from_tree(json.loads(spec.to_json())) == spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ()}, "class_names must name one or more classes; got none."),
        ({"class_names": ("a", "", "c")}, "class_names[1] must be a printable name; got ''."),
        ({"class_names": ("a", "b", " ")}, "class_names[2] must be a printable name; got ' '."),
        (
            {"class_names": ("a", "b\n", "c")},
            "class_names[1] must be a printable name; got 'b\\n'.",
        ),
        (
            {"class_names": ("\x1b[1m", "b", "c")},
            "class_names[0] must be a printable name; got '\\x",
        ),
        ({"class_names": ("a", "b", "a")}, "class_names must differ; 'a' is the name of classes 0"),
        ({"class_names": ("a", "b")}, "palette must have one color per class (2); got 3."),
        ({"palette": ((0, 0, 0), (1, 1, 256), (2, 2, 2))}, "palette[1] must be a color of 0..255;"),
        ({"palette": ((0, 0, -1),) * 3}, "palette[0] must be a color of 0..255; got (0, 0, -1)."),
        ({"ignore_label": 0}, "ignore_label must not be one of the classes 0..2; got 0."),
        ({"ignore_label": 2**31}, "ignore_label must be an integer of 32 bits; got 2147483648."),
        ({"ignore_label": -(2**31) - 1}, "ignore_label must be an integer of 32 bits; got -214"),
        ({"splits": {"val": -1}}, "splits.val must be at least 0; got -1."),
    ],
)
def test_classes_that_could_not_be_told_apart_or_shown_are_refused(changes, message):
    with pytest.raises(ValueError) as caught:
        dataclasses.replace(_SPEC, **changes)
    assert str(caught.value).startswith(f"dataset toy: {message}")


def test_a_class_for_each_image_may_ignore_a_negative_label():
    assert dataclasses.replace(_SPEC, ignore_label=-1).ignore_label == -1


def distance(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Weighted distance in RGB ("redmean"), another approximation of what people see."""
    red = (one[0] + other[0]) / 2
    squares = [(a - b) ** 2 for a, b in zip(one, other, strict=True)]
    weights = (2 + red / 256, 4, 2 + (255 - red) / 256)
    return sum(w * s for w, s in zip(weights, squares, strict=True)) ** 0.5


@pytest.mark.parametrize("num_colors", [2, 5, 11, 21])
def test_distinct_colors_differ_more_than_those_of_voc(num_colors):
    def least(palette):
        return min(distance(a, b) for a, b in itertools.combinations(palette, 2))

    assert least(distinct_palette(num_colors)) > 1.2 * least(bit_palette(num_colors))


def test_distinct_colors_are_neither_dark_nor_pale_nor_gray():
    for color in distinct_palette(60):
        assert max(color) >= 90 and min(color) <= 210 and max(color) - min(color) >= 40


def test_a_longer_palette_begins_with_a_shorter_one():
    assert distinct_palette(50)[:7] == distinct_palette(7)
    assert distinct_palette(0) == ()


@pytest.mark.parametrize("num_colors", [255, 1000])
def test_there_are_distinct_colors_for_any_number_of_classes(num_colors):
    palette = distinct_palette(num_colors)
    assert len(set(palette)) == num_colors
    assert all(0 <= value <= 255 for color in palette for value in color)
