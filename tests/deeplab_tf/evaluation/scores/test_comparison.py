import dataclasses
import json

import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import METRICS, ConfusionMatrix, Counts
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.comparison import Comparison
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import Eval

SPEC = DatasetSpec(
    name="reds",
    class_names=("red", "green", "blue"),
    ignore_label=255,
    palette=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    splits={"val": 4},
)
LABELS = [[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 0, 1]]
FIRST = LABELS
SECOND = [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]]


def evaluated(label_maps, names=("a", "b", "c", "d"), **changes) -> EvalResult:
    confusion = ConfusionMatrix(3, 255)
    images = [
        Counts.of(confusion.update(np.array(label), np.array(label_map)))
        for label, label_map in zip(LABELS, label_maps, strict=True)
    ]
    found = EvalResult(
        spec=SPEC,
        options=Eval(),
        predict=None,
        matrix=confusion.matrix,
        num_examples=len(names),
        names=names,
        images=Counts.stack(images),
    )
    return dataclasses.replace(found, **changes)


def compared(second=SECOND, **changes) -> Comparison:
    results = evaluated(FIRST), evaluated(second, **changes)
    return Comparison(names=("good", "bad"), results=results)


def test_differences_are_the_first_less_the_second():
    found = compared().differences
    first, second = compared().results
    for name, score in first.scores.items():
        assert found[name].value == pytest.approx(score - second.scores[name]) and score == 1
        assert 0 <= found[name].low <= found[name].value <= found[name].high
    assert found["iou"].value.shape == (3,) and np.isnan(found["iou"].value[2])
    back = Comparison(names=("bad", "good"), results=(second, first)).differences
    assert back["mean_iou"].low == -found["mean_iou"].high


def test_images_come_with_the_largest_difference_first():
    rows = compared().image_differences
    assert [row[0] for row in rows[:2]] == ["c", "b"]
    assert rows[0][1:] == (1, 0, 1)
    # Image b: 2 of 3 red, 1 of 2 green.
    assert rows[1][1:] == pytest.approx((1, (2 / 3 + 1 / 2) / 2, 1 - 7 / 12))
    assert [row[3] for row in rows[2:]] == [0, 0]


def test_images_whose_scores_are_the_same_do_not_differ_most():
    assert compared().image_ranking == [2, 1]
    table = compared().text().partition("the examples that differ most:\n")[2]
    assert [line.split()[0] for line in table.splitlines()] == ["example,", "c", "b"]
    same = compared(FIRST)
    assert same.image_ranking == [] and len(same.image_differences) == 4
    assert same.text().endswith("good is better on 0, bad on 0 of 4; no example differs")


def test_a_class_that_one_model_alone_predicts_is_not_absent_for_both():
    assert compared().class_note(2) == "absent, left out" and compared().class_note(0) == ""
    assert compared([[0, 0, 0, 2], *SECOND[1:]]).class_note(2) == "good: absent, left out"
    excluded = Eval(excluded_classes=(1,))
    both = tuple(dataclasses.replace(one, options=excluded) for one in compared().results)
    lines = Comparison(names=("good", "bad"), results=both).text().splitlines()
    (green,) = (line for line in lines if line.startswith("IoU, green"))
    assert green.endswith("  excluded")


def test_text_and_json_have_scores_classes_and_images():
    lines = compared().text().splitlines()
    assert "good less bad" in lines[0]
    (mean,) = (line.split() for line in lines if line.startswith("mean IoU  "))
    second = compared().results[1].scores["mean_iou"]
    assert mean[:5] == [
        *("mean", "IoU", "100.00"),
        f"{100 * second:.2f}",
        f"{100 * (1 - second):+.2f}",
    ]
    assert "IoU, blue - - - - absent, left out" in [" ".join(line.split()) for line in lines]
    assert "good is better on 2, bad on 0 of 4" in compared().text()
    assert ["c", "100.00", "0.00", "+100.00"] in [line.split() for line in lines]
    tree = json.loads(compared().to_json(), parse_constant=pytest.fail)
    assert tree["models"] == ["good", "bad"] and tree["num_examples"] == 4
    row = tree["differences"]["mean_iou"]
    assert row["first"] == 1 and row["second"] == pytest.approx(second)
    assert row["low"] <= row["difference"] <= row["high"]
    assert tree["differences"]["iou"]["blue"]["difference"] is None
    assert [image["name"] for image in tree["images"][:2]] == ["c", "b"]


def test_scores_near_contours_are_compared_where_both_have_them():
    both = [evaluated(each) for each in (FIRST, SECOND)]
    with_them = tuple(dataclasses.replace(one, boundaries=one.images) for one in both)
    found = Comparison(names=("a", "b"), results=with_them)
    assert found.differences["mean_boundary_iou"] == found.differences["mean_iou"]
    assert "boundary IoU, red" in found.text()
    assert "mean_boundary_iou" not in compared().differences


def with_bands(label_maps, *widths) -> EvalResult:
    """Every pixel is in each band."""
    one = evaluated(label_maps)
    return dataclasses.replace(one, trimap=dict.fromkeys(widths, one.images))


def test_bands_that_both_have_are_compared():
    results = with_bands(FIRST, 1, 5), with_bands(SECOND, 5, 9)
    found = Comparison(names=("good", "bad"), results=results)
    assert list(found.trimap_differences) == [5]
    assert found.trimap_differences[5] == {name: found.differences[name] for name in METRICS}
    words = [line.split() for line in found.text().splitlines()]
    mean = next(row[2:] for row in words if row[:2] == ["mean", "IoU"])
    assert ["trimap", "mean", "IoU,", "width", "5", *mean] in words
    tree = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert tree["trimap"] == {"5": {name: tree["differences"][name] for name in METRICS}}
    assert "trimap" not in compared().text() and "trimap" not in compared().to_json()


def test_a_result_differs_from_itself_by_0_to_0_in_each_band():
    one = with_bands(SECOND, 2)
    found = Comparison(names=("a", "b"), results=(one, one)).trimap_differences[2]
    assert found.keys() == METRICS.keys()
    assert {(each.value, each.low, each.high) for each in found.values()} == {(0, 0, 0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "b", "d", "c")}, "^both models must be scored on the same images in the"),
        (
            {"spec": dataclasses.replace(SPEC, class_names=("red", "green", "grey"))},
            "^both models must be scored on the same classes; got red, green, blue and red",
        ),
        (
            {"images": Counts(*[np.ones((4, 3), int)] * 3)},
            "^both models must be scored against the same labels",
        ),
    ],
)
def test_what_is_not_of_the_same_images_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        compared(**changes)
