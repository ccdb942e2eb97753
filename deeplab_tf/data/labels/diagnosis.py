"""What is wrong with labels, as guessed from what all of them show, and what to do about it."""

from __future__ import annotations

import dataclasses

from deeplab_tf.data.labels.facts import Gathered, scattered
from deeplab_tf.data.labels.files import GatheredFiles
from deeplab_tf.recipe.messages import shortened

# ours: of labels whose classes nothing names; ADE20K's 150 and background are the most that a
# benchmark here has.
MOST_COUNTED = 151
_WHITE = 255
_PHOTO = 64  # ours: more values than that are not classes if they change from pixel to pixel
_MOST_LINES = 40  # ours: of a file of colors in a message
_OFTEN = 0.5  # ours: share of the labels in which void is, and one class is not
_COLORS_FILE = "in a file for --dataset.colors_file, one line 'R G B name' per color"


@dataclasses.dataclass
class Diagnosis:
    """Guesses, each one line with numbers and a remedy."""

    faults: list[str] = dataclasses.field(default_factory=list)  # no example alone is faulty
    hints: list[str] = dataclasses.field(default_factory=list)  # why examples are faulty
    warnings: list[str] = dataclasses.field(default_factory=list)  # valid labels, maybe wrong


def diagnose(
    gathered: Gathered,
    files: GatheredFiles,
    *,
    ignore_label: int,
    num_classes: int | None = None,
) -> Diagnosis:
    """Guesses what is wrong with the labels of a dataset.

    Args:
      gathered: facts of all labels that could be read, also those with wrong values.
      files: what the labels' files are.
      ignore_label: label value of void.
      num_classes: number of classes; None: nothing names them.
    """
    found = Diagnosis()
    found.hints += _about_files(files)
    if files.disagreement is not None:
        index, color, path, other, other_path = files.disagreement
        found.warnings.append(
            f"palettes disagree: value {index} is {_triple(color)} in {path} and {_triple(other)}"
            f" in {other_path}. If a program numbered the colors of each label separately, name"
            f" them {_COLORS_FILE}"
        )
    if gathered.labels:
        _about_values(found, gathered, ignore_label, num_classes)
    return found


def _about_files(files: GatheredFiles) -> list[str]:
    lines = []
    for kind, (number, path) in files.examples.items():
        why = " JPEG changes values along borders." * (kind in ("JPEG", "MPO"))
        lines.append(
            f"{number} labels are {kind} files that are named .png (e.g. {path}).{why} Save them as"
            " PNG where they were drawn"
        )
    if files.masks_in_alpha:
        lines.append(
            f"{files.masks_in_alpha} labels have one color and a varying alpha channel: is the mask"
            " in alpha? Save that channel as a gray PNG of class indices"
        )
    if files.photos:
        lines.append(
            f"{files.many_colors} labels have the many colors of photos: are"
            " --dataset.images_dir and --dataset.labels_dir swapped, or were drawings saved as"
            " JPEG?"
        )
    elif files.many_colors or files.colors.blurred:
        lines.append(
            f"{files.many_colors or files.colors.labels} labels are drawings with more colors than"
            " were drawn: they were saved as JPEG or resized with interpolation. Save them again"
            " where they were drawn, as PNG, and resize them with nearest neighbor"
        )
    elif files.colors.labels:
        lines.append(
            f"{files.colors.labels} labels have {len(files.colors.seen)} colors that are no class:"
            f" map these {len(files.colors.seen)} colors with --dataset.colors_file, in place of"
            " class_names_file: a file of these lines with your names, void for no"
            f" class{_colors_file(files)}"
        )
    return lines


def _colors_file(files: GatheredFiles) -> str:
    """The lines of a file for --dataset.colors_file, most frequent color first."""
    lines = [f"{_triple(color)} class_{i}" for i, color in enumerate(files.frequent_colors())]
    return "\n    " + shortened(lines, separator="\n    ", most=_MOST_LINES)


def _about_values(
    found: Diagnosis, gathered: Gathered, ignore_label: int, num_classes: int | None
) -> None:
    seen = gathered.seen
    values = sorted(value for value in seen if value != ignore_label)
    limit = num_classes if num_classes is not None else MOST_COUNTED
    wrong = [value for value in values if not 0 <= value < limit]
    guesses = found.hints if wrong else found.warnings
    if set(seen) == {0, _WHITE}:
        # If 255 is void, every other pixel is class 0, and nothing else would be faulty.
        (guesses if wrong else found.faults).append(
            f"all labels have the values 0 ({gathered.share(0)}) and 255"
            f" ({gathered.share(_WHITE)}) alone{', and 255 is void' * (ignore_label == _WHITE)}."
            " Where these are masks of two classes, name them in a file for --dataset.colors_file:"
            " '0 0 0 background' and '255 255 255 object', one per line"
        )
    elif factor := _factor(values, ignore_label):
        guesses.append(
            f"all label values are multiples of {factor}, up to {values[-1]}: classes that were"
            f" scaled to 16 bits? Divide them by {factor}"
        )
    elif gathered.blurred:
        guesses.append(
            f"{gathered.steps} pixels have a value between those of both neighbors, as after JPEG"
            f" or interpolation; most pixels are {_most_frequent(gathered)}. Save the labels again"
            " where they were drawn, as PNG, and resize them with nearest neighbor"
        )
    elif wrong and scattered(gathered.runs, gathered.pixels) and len(seen) > _PHOTO:
        guesses.append(
            f"the labels have {len(seen)} values that change from pixel to pixel, as in photos: are"
            " --dataset.images_dir and --dataset.labels_dir swapped?"
        )
    elif wrong and values[-1] > _WHITE:
        deep = [value for value in values if value > _WHITE]
        guesses.append(
            f"{len(deep)} values are above 255, up to {deep[-1]} (e.g. {seen[deep[0]].example}):"
            " instance ids, or classes that were scaled to 16 bits? Labels must have class"
            " indices"
        )
    elif (wrong or num_classes is None) and has_gaps(gathered, ignore_label):
        void = [f"{ignore_label} (void)"] * (ignore_label in seen)
        guesses.append(
            f"the labels have {len(values)} values far apart, {shortened([*values, *void])}: colors"
            " that were saved as gray? Use the colored labels, or name these values"
            f" {_COLORS_FILE}, such as '{values[-1]} {values[-1]} {values[-1]} name'"
        )
    elif wrong:
        guesses.append(_beyond(gathered, wrong, ignore_label, limit))
    elif len(values) > 1 and values[0] == 1:
        guesses.append(
            f"no label has the value 0, and values are 1..{values[-1]}: do they start at 1?"
            " Then subtract 1, or class 0 is learned from nothing"
        )
    if len(values) == 1 and not wrong and not found.faults:
        found.warnings.append(
            f"all {gathered.labels} labels have one class alone, {values[0]}: a network learns"
            " nothing from them"
        )


def _beyond(gathered: Gathered, wrong: list[int], ignore_label: int, limit: int) -> str:
    """What a few values beyond the classes may be."""
    seen, value = gathered.seen, wrong[0]
    if value < 0:
        return f"labels have numbers that are no class of this dataset (e.g. {seen[value].example})"
    often = seen[value].labels >= _OFTEN * gathered.labels
    where = f"is in {seen[value].labels} of {gathered.labels} labels ({gathered.share(value)})"
    if wrong == [limit] and 0 not in seen:
        return (
            f"values are 1..{limit} and never 0, for the classes 0..{limit - 1}: they start at 1."
            " Subtract 1, or name 0 too, in a first line of --dataset.class_names_file"
        )
    if len(wrong) == 1 and often:
        void = seen[ignore_label].labels if ignore_label in seen else "none"
        return (
            f"value {value} {where}, and {ignore_label} (void) in {void}: is {value} void?"
            f" --dataset.ignore_label={value}. If it is a class, --dataset.class_names_file must"
            " name it"
        )
    if len(wrong) == 1:
        return (
            f"value {value} {where}, e.g. {seen[value].example}: does --dataset.class_names_file"
            " lack a class, or do its classes start at 1, and 0 is void?"
        )
    listed = shortened(
        (f"{v} (in {seen[v].labels} of {gathered.labels} labels)" for v in wrong), most=10
    )
    return (
        f"{len(wrong)} values are beyond the {limit} classes: {listed}. Name more classes in"
        " --dataset.class_names_file, or change the labels"
    )


def has_gaps(gathered: Gathered, ignore_label: int) -> bool:
    """Whether more values are missing below the largest than rare classes explain.

    ours: rare classes are missing in a small dataset, but then others occur in one or two labels
    only. Colors that were saved as gray are in most labels, and between them is nothing.
    """
    seen = {value: s for value, s in gathered.seen.items() if value not in (ignore_label, _WHITE)}
    if not seen:
        return False
    missing = max(seen) + 1 - len(seen)
    rare = sum(s.labels <= 2 for s in seen.values())
    return missing > max(2 * len(seen), 10 * rare)


def _factor(values: list[int], ignore_label: int) -> int | None:
    """What all values were multiplied by to fill 16 bits."""
    if not values or values[-1] <= _WHITE or ignore_label > _WHITE:
        return None
    return next((f for f in (257, 256) if not any(value % f for value in values)), None)


def _most_frequent(gathered: Gathered) -> str:
    top = sorted(gathered.seen, key=lambda value: -gathered.seen[value].pixels)[:5]
    return ", ".join(map(str, sorted(top)))


def _triple(color: tuple[int, int, int]) -> str:
    return " ".join(map(str, color))
