import csv
import dataclasses
import json

import numpy as np
import pytest

from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.evaluation.metrics import (
    BENCHMARK_SCORES,
    CLASS_METRICS,
    METRICS,
    Counts,
    Metric,
)
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import Eval

COLORS = ("red", "green", "blue")
SPEC = DatasetSpec(
    name="reds",
    class_names=COLORS,
    ignore_label=255,
    palette=((255, 0, 0), (0, 255, 0), (0, 0, 255)),
    splits={"val": 2},
)


def result(**options) -> EvalResult:
    return EvalResult(
        spec=SPEC,
        options=Eval(**options),
        predict=WholeImage(flip=True),
        matrix=np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]]),
        num_examples=2,
    )


def test_text_gives_percent_and_notes_what_is_absent_or_excluded():
    lines = result(excluded_classes=(0,)).text().splitlines()
    heading, red, green, blue, mean, accuracy, mean_accuracy, weighted, last = lines
    assert heading.split() == ["class", "IoU", "%", "accuracy", "%", "label", "pixels"]
    assert red.split() == ["red", "66.67", "100.00", "2", "excluded"]
    assert green.split() == ["green", "50.00", "50.00", "2"]
    assert blue.split() == ["blue", "-", "-", "0", "absent,", "left", "out"]
    assert mean.split() == ["mean", "IoU", "50.00"]
    assert accuracy.split() == ["pixel", "accuracy", "75.00"]
    assert mean_accuracy.split() == ["mean", "class", "accuracy", "50.00"]
    assert weighted.split() == ["frequency-weighted", "IoU", "50.00"]
    assert last == "2 examples of reds, split val"
    counted = result(absent_classes="zero").text().splitlines()[3]
    assert counted.split() == ["blue", "-", "-", "0", "absent,", "counted", "as", "0"]


def test_json_is_strict_and_has_null_for_absent_classes():
    tree = json.loads(result().to_json(), parse_constant=pytest.fail)
    assert tree["mean_iou"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert tree["pixel_accuracy"] == pytest.approx(3 / 4)
    assert tree["iou"]["red"] == pytest.approx(2 / 3)
    assert tree["iou"]["blue"] is None
    assert tree["absent_classes"] == ["blue"]
    assert tree["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert tree["eval"]["split"] == "val"
    assert tree["predict"]["kind"] == "whole_image" and tree["predict"]["flip"] is True


def test_all_scores_are_those_of_the_dataset_and_of_each_class():
    scores = result().all_scores
    of_all = ["mean_iou", "pixel_accuracy", "mean_class_accuracy", "frequency_weighted_iou"]
    of_classes = [f"{kind}/{name}" for kind in ("iou", "class_accuracy") for name in COLORS]
    assert list(scores) == [*of_all, *of_classes]
    expected = [7 / 12, 3 / 4, 3 / 4, 7 / 12, 2 / 3, 1 / 2, np.nan, 1, 1 / 2, np.nan]
    np.testing.assert_allclose(list(scores.values()), expected)


def test_a_metric_of_one_row_is_in_scores_text_and_json(monkeypatch):
    monkeypatch.setitem(METRICS, "pixels", Metric("half", lambda counts, options: 0.5))
    rows = Metric("share of labels", lambda counts, options: counts.label / counts.label.sum())
    monkeypatch.setitem(CLASS_METRICS, "share", rows)
    found = result()
    assert found.scores["pixels"] == 0.5
    tree = json.loads(found.to_json())
    assert tree["pixels"] == 0.5 and tree["share"] == {"red": 0.5, "green": 0.5, "blue": 0.0}
    lines = found.text().splitlines()
    heading = "class IoU % accuracy % share of labels % label pixels"
    assert lines[0].split() == heading.split()
    assert lines[1].split() == ["red", "66.67", "100.00", "50.00", "2"]
    assert ["half", "50.00"] in [line.split() for line in lines]
    assert len({len(line) for line in lines[:3]}) == 1


def scored(matrix, **options) -> EvalResult:
    return EvalResult(
        spec=SPEC,
        options=Eval(**options),
        predict=None,
        matrix=np.array(matrix),
        num_examples=1,
    )


def test_predictions_of_one_class_alone_are_an_alarm_where_the_labels_show_several():
    found = scored([[5, 0, 0], [3, 0, 0], [0, 0, 0]])
    (alarm,) = found.alarms
    assert alarm.startswith("all pixels are predicted as red, while the labels show 2 classes.")
    assert found.text().splitlines()[-1] == f"warning: {alarm}"
    assert json.loads(found.to_json())["alarms"] == [alarm]
    of_an_absent_class = scored([[0, 0, 5], [0, 0, 3], [0, 0, 0]])
    assert of_an_absent_class.alarms[0].startswith("all pixels are predicted as blue, while")


def test_other_predictions_are_no_alarm():
    assert result().alarms == ()
    assert json.loads(result().to_json())["alarms"] == []
    assert scored([[5, 0, 0], [0, 0, 0], [0, 0, 0]]).alarms == ()  # the labels show one class too
    assert scored([[0, 0, 5], [0, 0, 0], [0, 0, 0]]).alarms == ()
    assert scored([[5, 1, 0], [3, 0, 0], [0, 0, 0]]).alarms == ()


def test_a_mean_of_no_class_is_an_alarm():
    (alarm,) = scored([[5, 1, 0], [0, 0, 0], [0, 0, 0]], excluded_classes=(0, 1)).alarms
    assert alarm.startswith("no class counts: ")
    with_zeros = {"excluded_classes": (0, 1), "absent_classes": "zero"}
    assert scored([[5, 1, 0], [0, 0, 0], [0, 0, 0]], **with_zeros).alarms == ()


def with_trimap(*bands, images=2, **options) -> EvalResult:
    """`result()` with bands of two images, or of one: a matrix each, of each band."""
    widths, trimap = (1, 20), {}
    for width, matrices in zip(widths, bands, strict=True):
        trimap[width] = Counts.stack([Counts.of(np.array(one)) for one in matrices[:images]])
    found = result(trimap_widths=widths, **options)
    return dataclasses.replace(found, trimap=trimap, num_examples=images)


NOTHING = [[0, 0, 0]] * 3
RED, MIXED = [[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
BANDS = [RED, NOTHING], [RED, MIXED]


def test_bands_are_a_table_below_and_a_tree_of_scores():
    found = with_trimap(*BANDS)
    plain = result().text().splitlines()
    *before, heading, one, twenty = found.text().splitlines()
    assert before == plain
    assert (
        heading.split()
        == (
            "trimap, pixels from void mean IoU % pixel accuracy % mean class accuracy %"
            " frequency-weighted IoU % label pixels of all %"
        ).split()
    )
    assert " ".join(one.split()) == "1 100.00 (100.0 to 100.0) 100.00 100.00 100.00 1 25.00"
    # One of four draws is the first image twice, one of four the second.
    assert " ".join(twenty.split()) == "20 50.00 (25.0 to 100.0) 66.67 75.00 50.00 3 75.00"
    assert len(heading) == len(one) == len(twenty)
    tree = json.loads(found.to_json(), parse_constant=pytest.fail)["trimap"]
    assert list(tree) == ["1", "20"]
    assert tree["20"] == {
        "pixels": 3,
        "share_of_pixels": 3 / 4,
        "mean_iou": 1 / 2,
        "pixel_accuracy": pytest.approx(2 / 3),
        "mean_class_accuracy": 3 / 4,
        "frequency_weighted_iou": 1 / 2,
        "iou": {"red": 1 / 2, "green": 1 / 2, "blue": None},
        "class_accuracy": {"red": 1, "green": 1 / 2, "blue": None},
        "intervals": {
            "mean_iou": [1 / 4, 1],
            "pixel_accuracy": [1 / 2, 1],
            "mean_class_accuracy": [1 / 2, 1],
            "frequency_weighted_iou": [1 / 2, 1],
        },
    }
    assert found.alarms == ()


def test_bands_of_one_image_have_no_intervals():
    found = with_trimap(*BANDS, images=1)
    assert found.trimap_intervals == {}
    assert found.text().splitlines()[-1].split() == ["20", *["100.00"] * 4, "1", "25.00"]
    tree = json.loads(found.to_json(), parse_constant=pytest.fail)["trimap"]
    assert [band["intervals"] for band in tree.values()] == [None, None]


def test_bands_are_scored_by_the_same_options():
    tree = json.loads(with_trimap(*BANDS, absent_classes="zero").to_json())
    assert tree["trimap"]["20"]["mean_iou"] == pytest.approx(1 / 3)
    assert tree["eval"]["trimap_widths"] == [1, 20]


def test_without_bands_text_and_json_do_not_mention_them():
    assert "trimap" not in result().text()
    assert "trimap" not in result().to_json()


def test_bands_without_a_pixel_are_an_alarm_that_says_why():
    found = with_trimap([NOTHING, NOTHING], [NOTHING, NOTHING])
    (alarm,) = found.alarms
    assert alarm.startswith("no pixel is in a trimap band: no label has void (ignore_label 255)")
    assert found.text().splitlines()[-1] == f"warning: {alarm}"
    assert found.text().splitlines()[-2].split() == ["20", *"----", "0", "0.00"]
    tree = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert tree["alarms"] == [alarm] and tree["trimap"]["20"]["mean_iou"] is None
    assert tree["trimap"]["20"]["intervals"]["mean_iou"] == [None, None]
    one_is_empty = with_trimap([NOTHING, NOTHING], BANDS[1])
    assert one_is_empty.alarms == ()


@pytest.mark.parametrize(
    ("dataset", "key", "title", "value"),
    [
        ("ade20k", "final_score", "final score", (7 / 12 + 3 / 4) / 2),
        (
            "pascal_context",
            "mean_iou_background_as_0",
            "mean IoU of 60 classes, background as 0",
            7 / 12 * 3 / 4,  # 59/60 for 59 classes
        ),
    ],
)
def test_the_score_of_a_benchmark_is_shown_for_its_dataset_alone(dataset, key, title, value):
    spec = dataclasses.replace(SPEC, name=dataset)
    found = dataclasses.replace(result(), spec=spec)
    assert found.benchmark_scores == {key: pytest.approx(value)}
    assert json.loads(found.to_json())[key] == pytest.approx(value)
    assert [*title.split(), f"{100 * value:.2f}"] in [x.split() for x in found.text().splitlines()]
    assert key not in found.scores  # which metrics.csv and the training curve show
    assert result().benchmark_scores == {}
    assert key not in result().to_json() and title not in result().text()


def test_the_names_of_benchmark_scores_are_those_of_releases():
    assert BENCHMARK_SCORES.keys() <= RELEASES.keys()
    assert len(RELEASES["pascal_context"].class_names) == 59


def of_images(**changes) -> EvalResult:
    """`result()` as two images: the second is labeled green and half of it is predicted so."""
    images = Counts(
        intersection=np.array([[2, 0, 0], [0, 1, 0]]),
        label=np.array([[2, 0, 0], [0, 2, 0]]),
        predicted=np.array([[2, 0, 0], [1, 1, 0]]),
    )
    return dataclasses.replace(result(), names=("a", "b"), images=images, **changes)


def test_the_interval_stands_beside_its_score_in_text_and_json():
    found = of_images()
    interval = found.intervals["mean_iou"]
    # One of four draws is the first image twice, one of four the second.
    assert (interval.low, interval.high) == (1 / 4, 1)
    assert interval.value == pytest.approx(found.scores["mean_iou"])
    lines = found.text().splitlines()
    assert "mean IoU                  58.33 (25.0 to 100.0)" in lines
    assert lines[-1] == "in parentheses: 95 % intervals, bootstrap over the examples (2,000 draws)"
    tree = json.loads(found.to_json(), parse_constant=pytest.fail)["intervals"]
    assert tree["mean_iou"] == [1 / 4, 1] and tree["level"] == 0.95
    assert tree["iou"]["blue"] == [None, None]
    assert tree["iou"]["green"][1] == pytest.approx(1 / 2)
    assert tree.keys() - {"level", "draws", "seed"} == {*METRICS, *CLASS_METRICS}


def test_without_two_images_there_are_no_intervals():
    assert result().intervals == {} and "parentheses" not in result().text()
    assert json.loads(result().to_json())["intervals"] is None
    one = dataclasses.replace(of_images(), num_examples=1)
    assert one.intervals == {}


def test_the_score_of_an_image_is_over_the_classes_that_it_shows():
    for how in ("exclude", "zero"):
        found = of_images(options=Eval(absent_classes=how))
        np.testing.assert_allclose(found.image_scores, [1, (0 + 1 / 2) / 2])


def test_pixels_near_contours_have_scores_of_their_own():
    near = Counts(*(np.array([[1, 0, 0], [0, 1, 0]]) * n for n in (1, 2, 1)))
    found = of_images(boundaries=near)
    assert found.boundary_scores == {"mean_boundary_iou": 1 / 2}
    assert "mean_boundary_iou" not in found.scores  # which metrics.csv and the curve show
    tree = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert tree["mean_boundary_iou"] == 1 / 2
    assert tree["boundary_iou"] == {"red": 1 / 2, "green": 1 / 2, "blue": None}
    assert tree["intervals"]["mean_boundary_iou"] == [1 / 2, 1 / 2]
    assert "mean boundary IoU" in found.text() and "boundary IoU %" in found.text()
    assert "boundary" not in of_images(options=Eval()).text()


def test_the_table_of_the_classes_has_a_row_for_each_and_nothing_where_there_is_no_score():
    rows = list(csv.DictReader(of_images().to_csv().splitlines()))
    assert [row["class"] for row in rows] == list(COLORS)
    assert rows[0]["iou"] == "0.666667" and rows[0]["class_accuracy"] == "1.000000"
    assert (rows[1]["label_pixels"], rows[1]["predicted_pixels"]) == ("2", "1")
    assert rows[1]["iou_high"] == "0.500000"
    assert rows[2]["iou"] == rows[2]["iou_low"] == ""
    assert "iou_low" not in result().to_csv()
