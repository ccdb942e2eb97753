import json

import numpy as np
import pytest

from deeplab_tf.evaluation.metrics import CLASS_METRICS, METRICS, Metric
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.parts import Eval

SPEC = DatasetSpec(
    name="reds",
    class_names=("red", "green", "blue"),
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
    heading, red, green, blue, mean, accuracy, *_, last = lines
    assert heading.split() == ["class", "IoU", "%", "label", "pixels"]
    assert red.split() == ["red", "66.67", "2", "excluded"]
    assert green.split() == ["green", "50.00", "2"]
    assert blue.split() == ["blue", "-", "0", "absent,", "left", "out"]
    assert mean.split() == ["mean", "IoU", "50.00"]
    assert accuracy.split() == ["pixel", "accuracy", "75.00"]
    assert last == "2 examples of reds, split val"
    counted = result(absent_classes="zero").text().splitlines()[3]
    assert counted.split() == ["blue", "-", "0", "absent,", "counted", "as", "0"]


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
    assert list(scores) == ["mean_iou", "pixel_accuracy", "iou/red", "iou/green", "iou/blue"]
    expected = [7 / 12, 3 / 4, 2 / 3, 1 / 2, np.nan]
    np.testing.assert_allclose(list(scores.values()), expected)


def test_a_metric_of_one_row_is_in_scores_text_and_json(monkeypatch):
    monkeypatch.setitem(METRICS, "pixels", Metric("half", lambda matrix, options: 0.5))
    rows = Metric("share of labels", lambda matrix, options: matrix.sum(1) / matrix.sum())
    monkeypatch.setitem(CLASS_METRICS, "share", rows)
    found = result()
    assert found.scores["pixels"] == 0.5
    tree = json.loads(found.to_json())
    assert tree["pixels"] == 0.5 and tree["share"] == {"red": 0.5, "green": 0.5, "blue": 0.0}
    lines = found.text().splitlines()
    assert lines[0].split() == ["class", "IoU", "%", *"share of labels % label pixels".split()]
    assert lines[1].split() == ["red", "66.67", "50.00", "2"]
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
