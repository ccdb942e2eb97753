import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from deeplab_tf.evaluation.metrics import Counts
from deeplab_tf.evaluation.scores.comparison import Comparison
from deeplab_tf.pages.comparison import comparison_page
from deeplab_tf.pages.examples import BOTH_WRONG, FIRST_RIGHT, SECOND_RIGHT
from deeplab_tf.pages.html import percent
from deeplab_tf.recipe.parts import Eval


def test_rows_have_both_scores_the_difference_and_what_it_says(scored, compared, read_page):
    one, other = scored(), scored(seed=1)
    comparison = Comparison(names=("a", "b"), results=(one.result, other.result))
    page = read_page(compared())
    scores = {row[0]: row[1:] for row in page.tables[0][1:]}
    found = comparison.differences["mean_iou"]
    assert page.tables[0][0][:3] == ["score", "difference, percentage points", "reading"]
    assert scores["mean IoU"][2:] == [
        percent(result.scores["mean_iou"]) for result in comparison.results
    ]
    signed = [percent(x, signed=True) for x in (found.value, found.low, found.high)]
    assert scores["mean IoU"][0] == f"{signed[0]} {signed[1]} to {signed[2]}"
    assert found.low > 0 and scores["mean IoU"][1].endswith("is better")
    assert "mean boundary IoU" in scores
    assert "An interval that holds 0 says" in page.text
    for table, name in zip(page.tables[1:3], ("iou", "boundary_iou"), strict=True):
        found = comparison.differences[name]
        values = [percent(x, signed=True) for x in found.value]
        assert [row[1].split()[0] for row in table[1:]] == values
        better = [row[2].endswith("is better") for row in table[1:]]
        assert better == ((found.low > 0) | (found.high < 0)).tolist() and any(better)
    assert [row[0] for row in page.tables[3]] == ["width", "1", "3"]
    for width, row in zip((1, 3), page.tables[3][1:], strict=True):
        found = comparison.trimap_differences[width]["mean_iou"]
        signed = [percent(x, signed=True) for x in (found.value, found.low, found.high)]
        assert row[1] == f"{signed[0]} {signed[1]} to {signed[2]}" and found.value > 0
        assert row[2].endswith("is better")
        assert row[3:] == [
            percent(result.trimap_scores[width]["mean_iou"]) for result in comparison.results
        ]


def test_bands_that_both_have_are_compared(scored, read_page):
    one, other = scored(widths=(1, 3)), scored(seed=1, widths=(3, 5))
    comparison = Comparison(names=("a", "b"), results=(one.result, other.result))
    page = read_page(comparison_page(comparison, [], {}, {}))
    assert [row[0] for row in page.tables[3]] == ["width", "3"]
    assert "Near void: trimap" in page.text
    other = scored(seed=1, widths=(5,))
    comparison = Comparison(names=("a", "b"), results=(one.result, other.result))
    assert "trimap" not in read_page(comparison_page(comparison, [], {}, {})).text


def test_the_same_model_twice_is_the_same_and_differs_nowhere(scored, read_page):
    one = scored()
    comparison = Comparison(names=("a", "b"), results=(one.result, one.result))
    page = read_page(comparison_page(comparison, [], {}, {}))
    assert {row[2] for table in page.tables[:3] for row in table[1:]} == {"the same"}
    assert {row[1] for row in page.tables[0][1:]} == {"0.00 0.00 to 0.00"}
    assert "a is better on 0 and b on 0 of 4 images" in page.text
    assert "No image's mean IoU differs." in page.text


def test_a_difference_that_may_be_chance_is_not_the_same(scored, read_page):
    one, other = scored(shapes=((40, 60),) * 2), scored(shapes=((40, 60),) * 2)
    # Two images trade their scores: the difference is 0, its interval is not.
    swapped = Counts(*(part[::-1] for part in dataclasses.astuple(other.result.images)))
    labels = dataclasses.replace(swapped, label=one.result.images.label)
    result = dataclasses.replace(other.result, images=labels, boundaries=None)
    comparison = Comparison(names=("a", "b"), results=(one.result, result))
    page = read_page(comparison_page(comparison, [], {}, {}))
    rows = {row[0]: row[2] for row in page.tables[0][1:]}
    assert rows["pixel accuracy"] == "may be chance"


def test_classes_have_their_notes(scored, read_page):
    options = Eval(excluded_classes=(1,))
    results = [dataclasses.replace(scored(seed=i).result, options=options) for i in (0, 1)]
    page = read_page(comparison_page(Comparison(names=("a", "b"), results=results), [], {}, {}))
    for table in page.tables[1:3]:
        assert [row[0].endswith(" excluded") for row in table[1:]] == [False, True, False]


def test_the_layer_of_differences_says_which_model_is_right(scored, read_page):
    one, other = scored(), scored(seed=1)
    comparison = Comparison(names=("a", "b"), results=(one.result, other.result))
    index = comparison.image_ranking[0]
    _, label, first = one.images[index]
    second = other.images[index][2]
    second[:20] = np.where(first != label, 3 - first - label, second)[:20]  # the third class
    second[20:30] = label[20:30]
    second[label == one.spec.ignore_label] = 0
    source = comparison_page(comparison, [(index, one.example(index, other))], {}, {})
    (drawn,) = (a for a in read_page(source).all("img") if a.get("data-layer") == "errors")
    picture = Image.open(io.BytesIO(base64.b64decode(drawn["src"].partition(",")[2])))
    pixels = np.asarray(picture.convert("RGBA"))
    counted = label != one.spec.ignore_label
    for colors, expected in (
        ([FIRST_RIGHT], (first == label) & (second != label)),
        ([SECOND_RIGHT], (first != label) & (second == label)),
        (BOTH_WRONG, (first != label) & (second != label) & (first != second)),
    ):
        each = [(pixels[..., :3] == c).all(axis=-1) & (pixels[..., 3] > 0) for c in colors]
        np.testing.assert_array_equal(np.any(each, axis=0), expected & counted)
        assert all(found.any() for found in each)


@pytest.mark.parametrize("options", [{"widths": ()}, {"num_classes": 300}, {"num_classes": 1}])
def test_few_and_many_classes_and_no_trimap_are_a_page(compared, read_page, options):
    page = read_page(compared(shapes=((30, 40),) * 3, **options))
    assert len(page.tables) == (3 if options == {"widths": ()} else 4)
    assert not any("nan" in row for table in page.tables for cells in table for row in cells)


def test_no_images_on_request(compared, read_page):
    page = read_page(compared(0))
    assert "is better on" in page.text and not page.all("img")
