"""The classes of labels that nothing names."""

from __future__ import annotations

from collections.abc import Sequence

from deeplab_tf.data.decoding import label_from_bytes
from deeplab_tf.data.labels.diagnosis import MOST_COUNTED, diagnose, has_gaps
from deeplab_tf.data.labels.facts import Gathered, LabelFacts, label_facts
from deeplab_tf.data.labels.faults import Faults
from deeplab_tf.data.labels.files import GatheredFiles, LabelFile, check_picture_file, look_at
from deeplab_tf.data.labels.threads import map_in_threads
from deeplab_tf.recipe.messages import shortened

_NEXT_LINE = "\n  "


def counted_classes(labels: Sequence[str], ignore_label: int) -> tuple[str, ...]:
    """Names for the classes 0..largest value in the labels.

    Args:
      labels: paths of PNG files with class indices.
      ignore_label: label value of void.

    Raises:
      ValueError: a label cannot be read, or their values are hardly class indices; the message
        has a guess at what they are.
    """
    faults, gathered, files = Faults(), Gathered(), GatheredFiles()
    for path, found in zip(labels, map_in_threads(_read, labels), strict=True):
        facts, file, fault = found
        if facts is not None:
            gathered.add(path, facts)
        if file is not None:
            files.add(path, file, None)
        if fault is not None:
            faults.add("", path, fault)
    guesses = diagnose(gathered, files, ignore_label=ignore_label)
    hints = "".join(f"\n  hint: {hint}" for hint in (*guesses.faults, *guesses.hints))
    if faults.number():
        lines = shortened(faults.lines(), separator=_NEXT_LINE)
        raise ValueError(
            "the classes cannot be counted, because labels cannot be read:\n  " + lines + hints
        )
    values = [value for value in gathered.seen if value != ignore_label]
    largest = max(values, default=0)
    if largest < 1:
        raise ValueError(
            "the labels must show at least two classes; all of their pixels are 0 or"
            f" {ignore_label}. If this is right, name the classes in --dataset.class_names_file."
            f"{hints}"
        )
    doubtful = largest >= MOST_COUNTED or gathered.blurred or has_gaps(gathered, ignore_label)
    if doubtful:
        reasons = hints or "".join(f"\n  hint: {warning}" for warning in guesses.warnings)
        raise ValueError(
            f"{gathered.seen[largest].example} has the label value {largest}, and {len(values)}"
            f" values occur: without --dataset.class_names_file, values must be 0..number of"
            f" classes - 1, and {MOST_COUNTED - 1} at most.{reasons}"
        )
    return tuple(f"class_{i}" for i in range(largest + 1))


def _read(path: str) -> tuple[LabelFacts | None, LabelFile | None, str | None]:
    """What a label shows, what its file is where it cannot be read, and why it cannot."""
    try:
        check_picture_file(path)
        with open(path, "rb") as file:
            return label_facts(label_from_bytes(file.read())), None, None
    except (ValueError, OSError) as error:
        fault = str(error)
    try:
        return None, look_at(path), fault
    except (ValueError, OSError):  # its fault is known
        return None, None, fault
