import dataclasses
import json

import numpy as np
import pytest

from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.evaluation.metrics import Counts
from deeplab_tf.evaluation.report import EvalResult
from deeplab_tf.evaluation.scores.bootstrap import LEVEL
from deeplab_tf.evaluation.scores.comparison import TITLES
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.export.model_card import Origin, checked_scores, write_card
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval

SPEC = DatasetSpec(
    name="shapes",
    class_names=("background", "disc", "größer"),
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 1200, "val": 2},
)


def card(tmp_path, kind="onnx", **options) -> str:
    write_card(str(tmp_path), kind, SPEC, "99.5 % of the pixels agree", **options)
    return (tmp_path / "model_card.md").read_text(encoding="utf-8")


def origin(scores=None) -> Origin:
    return Origin(
        recipe='{"version": 3}',
        weights="best of shapes",
        scores=scores,
        titles=TITLES,
        how_to_score="python scripts/evaluate.py --workdir=runs/shapes",
        prediction="images as a whole",
    )


def evaluation() -> dict:
    """What evaluate.py writes."""
    images = Counts(
        label=np.array([[6, 4, 0], [5, 5, 0]]),
        predicted=np.array([[7, 3, 0], [5, 5, 0]]),
        intersection=np.array([[6, 3, 0], [4, 4, 0]]),
    )
    result = EvalResult(
        spec=SPEC,
        options=Eval(),
        predict=WholeImage(),
        matrix=np.array([[10, 1, 0], [2, 7, 0], [0, 0, 0]]),
        num_examples=2,
        names=("a", "b"),
        images=images,
    )
    return json.loads(result.to_json())


def test_a_card_says_how_to_use_the_export_and_what_it_is_of(tmp_path):
    text = card(tmp_path)
    assert "session.run([" in text and "onnxruntime" in text
    assert "0 background, 1 disc, 2 größer" in text
    assert "99.5 % of the pixels agree" in text
    assert "any size" in text and "train 1,200, val 2" in text
    assert "drawn by this project" in text
    assert "Not known: the network was exported from Python." in text
    assert "[1, 33, 65, 3]" in card(tmp_path, "litert", size=(33, 65))


def test_without_scores_a_card_says_how_to_get_them(tmp_path):
    text = card(tmp_path, origin=origin())
    assert "Not known yet. `python scripts/evaluate.py --workdir=runs/shapes` finds them" in text
    assert "Weights: best of shapes." in text and '{"version": 3}' in text
    assert "then export again. This file predicts images as a whole." in text


def test_scores_of_evaluate_are_in_the_card_with_their_intervals(tmp_path):
    scores = evaluation()
    text = card(tmp_path, origin=origin(scores))
    low, high = scores["intervals"]["mean_iou"]
    assert (
        f"| mean IoU | {100 * scores['mean_iou']:.2f} | {100 * low:.1f} to {100 * high:.1f} |"
        in text
    )
    assert f"| frequency-weighted IoU | {100 * scores['frequency_weighted_iou']:.2f} |" in text
    low, high = scores["intervals"]["iou"]["disc"]
    of_disc = f"{100 * scores['iou']['disc']:.2f} | {100 * low:.1f} to {100 * high:.1f}"
    assert f"| IoU of disc | {of_disc} |" in text
    assert "| IoU of größer | - |  |" in text  # in neither labels nor predictions
    assert (
        "Of the trained network in float32, not of this file: 2 images of shapes, split val,"
        " predicted by whole_image, scales [1.0], flip false. Intervals:"
        f" {100 * LEVEL:.0f} %, bootstrap over the images. This file predicts images as a whole."
    ) in text

    int8 = card(tmp_path, "litert", size=(9, 9), precision="int8", origin=origin(scores))
    assert "This file predicts images as a whole, in int8. Where that differs, so may" in int8


def test_classes_that_do_not_count_are_named_in_the_scores(tmp_path):
    scores = {**evaluation(), "eval": {"split": "test", "excluded_classes": [0, 2]}}
    text = card(tmp_path, origin=origin(scores))
    assert "split test" in text and "left out of the means: classes 0, 2" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_examples": None}, "num_examples must be an integer"),
        ({"iou": 5}, "iou must be an object"),
        ({"iou": {"disc": "high"}}, "iou.disc must be"),
        ({"intervals": {"mean_iou": [0.1]}}, "intervals.mean_iou must be a list of 2"),
        ({"intervals": {"iou": {"disc": 1}}}, "intervals.iou.disc must be a list"),
        ({"alarms": "none"}, "alarms must be a list"),
        ({"eval": {"split": 1}}, "eval.split must be"),
    ],
)
def test_scores_that_a_card_cannot_show_are_named(change, message):
    assert checked_scores(evaluation())["dataset"] == "shapes"
    with pytest.raises(ValueError, match=message):
        checked_scores({**evaluation(), **change})
    with pytest.raises(ValueError, match="num_examples must be there; it is missing"):
        checked_scores({"dataset": "shapes", "eval": {}})


def test_only_what_gives_probabilities_says_that_they_are_not_calibrated(tmp_path):
    sentence = "The probabilities are not calibrated."
    assert sentence in card(tmp_path) and sentence in card(tmp_path, "keras")
    assert sentence not in card(tmp_path, "litert", size=(33, 65))


def test_every_released_dataset_has_terms(tmp_path):
    for name in RELEASES:
        spec = dataclasses.replace(SPEC, name=name)
        write_card(str(tmp_path), "keras", spec, "all agree")
        assert "not known to the exporter" not in (tmp_path / "model_card.md").read_text()


def test_scores_of_one_image_have_no_intervals(tmp_path):
    scores = {**evaluation(), "intervals": None}
    text = card(tmp_path, origin=origin(scores))
    assert f"| mean IoU | {100 * scores['mean_iou']:.2f} |  |" in text
    assert "Intervals" not in text


def test_names_with_marks_of_markdown_are_shown_as_they_are(tmp_path):
    names = ("a|b", "<b>c</b>", "`d` *e*")
    spec = dataclasses.replace(SPEC, class_names=names)
    scores = {**evaluation(), "iou": dict.fromkeys(names, 0.5), "intervals": None}
    write_card(str(tmp_path), "keras", spec, "all agree", origin=origin(scores))
    text = (tmp_path / "model_card.md").read_text()
    assert r"0 a\|b, 1 \<b\>c\</b\>, 2 \`d\` \*e\*." in text
    assert r"| IoU of a\|b | 50.00 |" in text


def test_data_whose_terms_are_not_known_is_said_to_be_so(tmp_path):
    spec = DatasetSpec(
        name="mine", class_names=("a",), ignore_label=255, palette=bit_palette(1), splits={}
    )
    write_card(str(tmp_path), "keras", spec, "all agree")
    text = (tmp_path / "model_card.md").read_text()
    assert "Terms of the data: not known to the exporter; ask the owner of the data." in text
