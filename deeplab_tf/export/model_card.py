"""model_card.md beside an export: what it is, how good it is, and how to use it."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deeplab_tf.recipe.as_json import part_text
from deeplab_tf.recipe.dataset_spec import DatasetSpec
from deeplab_tf.recipe.files import write_text
from deeplab_tf.recipe.json_files import checked
from deeplab_tf.recipe.lazy import keras, tf

NAME = "model_card.md"

# Dataset -> the terms of its images and labels, as their sources state them, and the source.
_TERMS = {
    "shapes": ("drawn by this project; there are no terms", "deeplab_tf/data/datasets/shapes.py"),
    "voc2012": (
        "images from Flickr, whose terms of use apply",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/#rights",
    ),
    "cityscapes": (
        "for non-commercial purposes, under an agreement with the makers",
        "https://www.cityscapes-dataset.com/license/",
    ),
    "ade20k": (
        "for non-commercial research and education; labels under a BSD 3-clause license",
        "https://groups.csail.mit.edu/vision/datasets/ADE20K/terms/",
    ),
    "pascal_context": (
        "images of PASCAL VOC 2010 from Flickr, whose terms of use apply",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/",
    ),
    "camvid": (
        "CC BY-NC 4.0 according to copies of it; ask its makers",
        "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData/",
    ),
    "coco_voc": (
        "labels under CC BY 4.0; images from Flickr, whose terms of use apply",
        "https://cocodataset.org/#termsofuse",
    ),
}
_TERMS["pascal_context60"] = _TERMS["pascal_context"]
_TERMS["coco_voc_first"] = _TERMS["coco_voc_fastfcn"] = _TERMS["coco_voc"]

_OPEN = {
    "saved_model": """\
import tensorflow as tf
model = tf.saved_model.load("DIRECTORY")  # of this file
outputs = model.serve(images)  # {"label_map", "probabilities"}""",
    "keras": """\
import deeplab_tf, keras
model = keras.saving.load_model("model.keras")
label_map = model.predict(images).argmax(-1)""",
    "litert": """\
import tensorflow as tf
run = tf.lite.Interpreter("model.tflite").get_signature_runner()
label_map = run(image=images)["label_map"]""",
    "onnx": """\
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
label_map, probabilities = session.run(["label_map", "probabilities"], {"image": images})""",
}
_OUTPUTS = {
    "saved_model": "`label_map` int32 [N, H, W] and `probabilities` float32 [N, H, W, K]",
    "keras": "logits float32 [N, H, W, K]",
    "litert": "`label_map` int32 [1, H, W]",
    "onnx": "`label_map` int32 [N, H, W] and `probabilities` float32 [N, H, W, K]",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the exported weights come from.

    Attributes:
      recipe: as JSON; of converted weights what is known of it.
      weights: which weights of the training run, in words.
      scores: the content of evaluation.json, of these weights, see `checked_scores`; None: not
        known.
      titles: name of a score -> its title.
      how_to_score: the command that finds the scores.
      prediction: how the export predicts, in words.
    """

    recipe: str
    weights: str
    scores: Mapping[str, Any] | None
    titles: Mapping[str, str]
    how_to_score: str
    prediction: str


def checked_scores(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of evaluation.json, after a check of what a card shows of it.

    Raises:
      ValueError: something is missing or of another type; the message names the key.
    """
    checked({key: tree[key] for key in _NEEDED if key in tree}, _NEEDED)
    _check_present(tree, _SHOWN)
    _check_present(tree["eval"], {"split": str, "excluded_classes": tuple[int, ...]}, "eval")
    intervals = tree.get("intervals") or {}
    scores = {name: _ENDS for name, value in tree.items() if isinstance(value, float)}
    of_intervals = {"level": float, "iou": dict[str, _ENDS], **scores}
    _check_present(intervals, of_intervals, "intervals")
    return tree


_ENDS = tuple[float | None, float | None]
_NEEDED = {"dataset": str, "num_examples": int, "eval": dict}
_SHOWN = {
    "iou": dict[str, float | None],
    "alarms": tuple[str, ...],
    "intervals": dict | None,
    "predict": dict | None,
}


def _check_present(tree: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> None:
    there = {key: kind for key, kind in schema.items() if key in tree}
    checked({key: tree[key] for key in there}, there, path=path)


def write_card(
    directory: str,
    kind: str,
    spec: DatasetSpec,
    agreement: str,
    *,
    size: tuple[int, int] | None = None,
    precision: str = "float32",
    extra: str = "",
    origin: Origin | None = None,
) -> None:
    """Writes model_card.md.

    Args:
      directory: of the export.
      kind: "saved_model", "keras", "litert" or "onnx".
      spec: of the dataset whose classes it predicts.
      agreement: with the model, in words; see `check_agreement`.
      size: height and width of the images in pixels; None: any.
      precision: of the numbers in it.
      extra: more about inputs and outputs, in words.
      origin: of the weights; None: not known.
    """
    sections = [
        f"# Model card: classes of {_plain(spec.name)}\n\nA network for semantic segmentation: it"
        f" gives each pixel of an image one of {spec.num_classes} classes.",
        _usage(kind, spec, size, extra if precision == "float32" else f" Precision: {precision}."),
        f"## Agreement with the trained network\n\nWhen this file was exported, {agreement}.",
        _scores(origin, precision),
        _limits(kind, size),
        _data(spec),
        _recipe(origin),
        f"## Versions\n\nExported with TensorFlow {tf.__version__} and Keras {keras.__version__}.",
    ]
    write_text(os.path.join(directory, NAME), "\n\n".join(sections) + "\n")


def _usage(kind: str, spec: DatasetSpec, size: tuple[int, int] | None, extra: str) -> str:
    shape = "[N, H, W, 3], any size" if size is None else f"[1, {size[0]}, {size[1]}, 3]"
    of_numbers = "numbers of 0..255" if kind == "keras" else "`image`, uint8"
    classes = ", ".join(f"{i} {_plain(name)}" for i, name in enumerate(spec.class_names))
    return "\n\n".join(
        [
            "## Use",
            f"```python\n{_OPEN[kind]}\n```",
            f"- Input: {of_numbers}, {shape}: RGB, not normalized, upright (a camera's"
            " orientation must be applied first).",
            f"- Output: {_OUTPUTS[kind]}, at the size of the images; K = {spec.num_classes}."
            + extra,
            f"- Classes, also in labels.txt: {classes}.",
        ]
    )


def _scores(origin: Origin | None, precision: str) -> str:
    title = "## Scores"
    if origin is None:
        return f"{title}\n\nNot known. `scripts/evaluate.py` scores the workdir of a network."
    own = f"This file predicts {origin.prediction}"
    own += "." if precision == "float32" else f", in {precision}."
    if origin.scores is None:
        how = f"`{origin.how_to_score}` finds them; then export again."
        return f"{title}\n\nNot known yet. {how} {own}"
    scores = origin.scores
    intervals = scores.get("intervals") or {}
    excluded = scores["eval"].get("excluded_classes") or ()
    found = (
        f"Of the trained network in float32, not of this file: {scores['num_examples']} images of"
        f" {_plain(scores['dataset'])}, split {scores['eval'].get('split', '')}"
    )
    if scores.get("predict"):
        found += f", predicted by {part_text(scores['predict'])}"
    if excluded:
        found += f"; left out of the means: classes {', '.join(map(str, excluded))}"
    if intervals:
        level = 100 * intervals.get("level", 0.95)
        found += f". Intervals: {level:.0f} %, bootstrap over the images"
    lines = [
        title,
        f"{found}. {own} Where that differs, so may its scores.",
        "\n".join(
            [
                "| score | % | interval |",
                "| --- | --- | --- |",
                *_rows(scores, intervals, origin.titles),
            ]
        ),
    ]
    alarms = [f"- {alarm}" for alarm in scores.get("alarms", ())]
    return "\n\n".join([*lines, *alarms])


def _rows(
    scores: Mapping[str, Any], intervals: Mapping[str, Any], titles: Mapping[str, str]
) -> Iterator[str]:
    """Lines of the table: the scores of the whole dataset, then the IoU of each class."""
    for name, value in scores.items():
        if isinstance(value, float):
            yield _row(titles.get(name, name), value, intervals.get(name))
    of_classes = intervals.get("iou") or {}
    for name, value in (scores.get("iou") or {}).items():
        yield _row(f"IoU of {_plain(name)}", value, of_classes.get(name))


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, also in a table."""
    return re.sub(r"([\\`*\[\]<>|~])", r"\\\1", text)


def _row(name: str, value: float | None, ends: Any) -> str:
    cells = ["-" if value is None else f"{100 * value:.2f}", ""]
    if ends and not any(end is None or math.isnan(end) for end in ends):
        cells[1] = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"
    return f"| {name} | {' | '.join(cells)} |"


def _limits(kind: str, size: tuple[int, int] | None) -> str:
    lines = [
        "Every pixel gets one of the classes, also where an image shows none of them.",
        "Images that differ from the training data in content, scale, camera or weather are"
        " predicted worse than the scores say.",
    ]
    if "label_map" not in _OUTPUTS[kind] or "probabilities" in _OUTPUTS[kind]:
        lines.append("The probabilities are not calibrated.")
    if size is not None:
        lines.append(
            f"Images of other sizes must be resized to {size[0]}x{size[1]} pixels first; another"
            " shape distorts them."
        )
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _data(spec: DatasetSpec) -> str:
    splits = ", ".join(f"{name} {number:,}" for name, number in spec.splits.items())
    examples = f" Examples: {splits}." if splits else ""
    terms = "not known to the exporter; ask the owner of the data."
    if spec.name in _TERMS:
        terms = "{} ({}).".format(*_TERMS[spec.name])
    return (
        f"## Data\n\nDataset `{spec.name}`.{examples}\n\nTerms of the data: {terms} A network that"
        " began with other weights, such as those of ImageNet, also depends on their data."
    )


def _recipe(origin: Origin | None) -> str:
    if origin is None:
        return "## Recipe\n\nNot known: the network was exported from Python."
    return (
        f"## Recipe\n\nWeights: {_plain(origin.weights)}.\n\n```json\n{origin.recipe.strip()}\n```"
    )
