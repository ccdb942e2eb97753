"""Checks a whole dataset before training, and names every fault."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from deeplab_tf.data.datasets.folder import FolderSource
from deeplab_tf.data.decoding import exif_orientation
from deeplab_tf.data.labels.colors import ColorClasses
from deeplab_tf.data.labels.diagnosis import diagnose
from deeplab_tf.data.labels.facts import Gathered, LabelFacts, label_facts
from deeplab_tf.data.labels.faults import Faults
from deeplab_tf.data.labels.files import GatheredFiles, LabelFile, check_picture_file, look_at
from deeplab_tf.data.labels.threads import map_in_threads
from deeplab_tf.data.pipeline import first_line
from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset
from deeplab_tf.recipe.messages import shortened

_MOST_LINES = 50  # ours: faults listed before the number of all others
_MOST_VALUES = 10  # ours: of one label, likewise


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a check found."""

    spec: DatasetSpec
    faults: Faults  # of examples
    fatal: tuple[str, ...]  # faults that no example has alone, such as a split that is all void
    hints: tuple[str, ...]  # why examples are faulty, as a guess
    warnings: tuple[str, ...]
    num_examples: Mapping[str, int]  # split -> number
    pixels: Mapping[str, np.ndarray]  # split -> int64 [K + 1], pixels per class, void last
    smallest: tuple[int, int]  # smallest height and smallest width, maybe of different images
    largest: tuple[int, int]

    @property
    def problems(self) -> tuple[str, ...]:
        """One line per kind of fault; empty if there are none."""
        return (*self.faults.lines(), *self.fatal)

    def text(self) -> str:
        """A table of each class's share of the pixels, then faults, hints and warnings."""
        names = [*self.spec.class_names, "void"]
        width = max(map(len, names))
        shares = {
            split: 100 * counts / max(1, counts.sum()) for split, counts in self.pixels.items()
        }
        heading = "".join(f"{split + ' %':>10}" for split in shares)
        lines = [f"{'class':<{width}}{heading}"]
        for i, name in enumerate(names):
            row = "".join(f"{share[i]:>10.2f}" for share in shares.values())
            lines.append(f"{name:<{width}}{row}")
        counts = ", ".join(f"{split} {number}" for split, number in self.num_examples.items())
        lines.append(f"examples: {counts}; sides {self.smallest} to {self.largest} (height, width)")
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"fault: {fault}" for fault in _listed(self.problems)]
        lines += [f"hint: {hint}" for hint in self.hints]
        return "\n".join(lines)

    def raise_if_bad(self, forgiven: str | None = None) -> None:
        """Refuses the dataset if there are faults.

        Args:
          forgiven: a split whose faulty examples do not count, unless all of its examples are
            faulty; None: all count.

        Raises:
          ValueError: there are faults; the message has one line per kind of fault, and what they
            may come from.
        """
        if forgiven and self.faults.number(forgiven) >= self.num_examples.get(forgiven, 0):
            forgiven = None
        lines = self.faults.lines(without=forgiven)
        number = self.faults.number() - (self.faults.number(forgiven) if forgiven else 0)
        if not lines and not self.fatal:
            return
        heading = f"{number} faulty examples" if lines else "faulty labels"
        shown = "\n  ".join(
            [*_listed([*lines, *self.fatal]), *(f"hint: {hint}" for hint in self.hints)]
        )
        raise ValueError(
            f"{self.spec.name} has {heading}:\n  {shown}\n"
            "fix or remove these files and start again."
        )


def check_dataset(
    dataset: OpenDataset,
    splits: Iterable[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Reads every example once and checks its files, sizes and label values.

    A split without a single pixel of a class is a fault, unless it is called "test": releases keep
    the labels of their test images to themselves.

    Args:
      dataset: the open dataset.
      splits: the splits to read; None: all.
      progress: called with (examples done, examples in all).

    Returns:
      What was found; a fault does not end the check.
    """
    spec = dataset.spec
    chosen = {split: dataset.source(split) for split in (splits or dataset.sources)}
    total = sum(map(len, chosen.values()))
    sums = _Sums(spec, chosen)
    done = 0
    for split, source in chosen.items():
        for found in map_in_threads(_examiner(source, spec), range(len(source))):
            sums.add(split, found)
            done += 1
            if progress is not None:
                progress(done, total)
    guesses = diagnose(
        sums.labels, sums.files, ignore_label=spec.ignore_label, num_classes=spec.num_classes
    )
    void = [
        f"the {len(chosen[split]) - sums.faults.number(split)} labels of {split!r} without other"
        f" faults are void ({spec.ignore_label}) everywhere: there is nothing to train on or to"
        " score"
        for split, counts in sums.pixels.items()
        if split != "test" and counts[-1] and not counts[:-1].any()
    ]
    return CheckReport(
        spec=spec,
        faults=sums.faults,
        fatal=(*void, *guesses.faults),
        hints=(*guesses.hints, *sums.about_sizes(total)),
        warnings=(*_unseen(spec, sums.pixels), *guesses.warnings, *sums.about_orientation()),
        num_examples={split: len(source) for split, source in chosen.items()},
        pixels=sums.pixels,
        smallest=tuple(map(int, np.minimum(sums.smallest, sums.largest))),
        largest=tuple(map(int, sums.largest)),
    )


def _listed(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *[f"and {more} more kinds of faults"] * (more > 0)]


def _unseen(spec: DatasetSpec, pixels: Mapping[str, np.ndarray]) -> list[str]:
    if "train" not in pixels:
        return []
    unseen = [f"{i} ({name})" for i, name in enumerate(spec.class_names) if not pixels["train"][i]]
    return [f"no pixel in 'train' of class {shortened(unseen)}"] if unseen else []


@dataclasses.dataclass(kw_only=True)
class _Found:
    """What one example shows."""

    name: str
    label: str  # what messages call its label
    fault: str | None = None
    pattern: str | None = None  # of the fault, if it is not its text
    size: tuple[int, int] | None = None  # height and width of the image
    label_size: tuple[int, int] | None = None  # where it is another
    facts: LabelFacts | None = None
    file: LabelFile | None = None
    turned: bool = False  # by EXIF, unlike its label, and nobody would see it from the sizes


def _examiner(source: ExampleSource, spec: DatasetSpec) -> Callable[[int], _Found]:
    def examine(index: int) -> _Found:
        paths, colors = None, None
        if isinstance(source, FolderSource):
            paths, colors = source.paths(index), source.colors
        name = source.name(index)
        found = _Found(name=name, label=paths[1] if paths else name)
        try:
            for path in paths or ():
                check_picture_file(path)
            example = source.read(tf.constant(index, tf.int64))
        except (tf.errors.OpError, ValueError, OSError) as error:
            found.fault = first_line(error)
            found.file = _look_again(paths[1], colors) if paths else None
            return found
        label = example["label"].numpy()
        found.size, found.facts = tuple(example["image"].shape[:2]), label_facts(label)
        if paths:
            found.file = look_at(paths[1]) if colors is None else None
            found.turned = _turned(*paths, found.size)
        if found.size != label.shape:
            found.label_size = label.shape
            found.fault = _wrong_size(found.size, label.shape)
        elif wrong := _wrong_values(found.facts, spec):
            found.fault, found.pattern = wrong, "values"
        return found

    return examine


def _look_again(label: str, colors: ColorClasses | None) -> LabelFile | None:
    """What a label that cannot be read is; None if it is no picture at all."""
    try:
        return look_at(label, colors)
    except (ValueError, OSError):  # it has been named as faulty
        return None


def _turned(image: str, label: str, size: tuple[int, int]) -> bool:
    with open(image, "rb") as file:
        orientation = exif_orientation(file.read())
    # 5..8 exchange the sides, which shows unless these are equal.
    if orientation == 1 or (orientation >= 5 and size[0] != size[1]):
        return False
    with open(label, "rb") as file:
        return exif_orientation(file.read()) == 1


def _wrong_size(size: tuple[int, int], label_size: tuple[int, int]) -> str:
    text = f"the image has {size} pixels (height, width), its label {label_size}"
    if size == label_size[::-1]:
        text += (
            "; photos are turned by their EXIF orientation: turn the label the same way,"
            " or remove the orientation"
        )
    return text


def _wrong_values(facts: LabelFacts, spec: DatasetSpec) -> str | None:
    values, counts = facts.values, facts.pixels
    wrong = (values != spec.ignore_label) & ((values < 0) | (values >= spec.num_classes))
    if not wrong.any():
        return None
    found = [
        f"{value} ({count} pixels)"
        for value, count in zip(values[wrong], counts[wrong], strict=True)
    ]
    more = len(found) - _MOST_VALUES
    listed = ", ".join(found[:_MOST_VALUES] + [f"and {more} more values"] * (more > 0))
    return (
        f"label values must be 0..{spec.num_classes - 1} or {spec.ignore_label} (void);"
        f" got {listed}"
    )


class _Sums:
    """What all examples show together."""

    def __init__(self, spec: DatasetSpec, splits: Iterable[str]):
        self.faults, self.labels, self.files = Faults(), Gathered(), GatheredFiles()
        self.pixels = {split: np.zeros(spec.num_classes + 1, np.int64) for split in splits}
        self.smallest, self.largest = np.array([2**31, 2**31]), np.array([0, 0])
        self._spec = spec
        self._ratios: collections.Counter[tuple[float, float]] = collections.Counter()
        self._transposed = 0
        self._turned: list[str] = []

    def add(self, split: str, found: _Found) -> None:
        """Adds an example."""
        if found.facts is not None:
            self.labels.add(found.label, found.facts)
        if found.file is not None:
            self.files.add(found.label, found.file, found.facts and found.facts.values)
        if found.turned:
            self._turned.append(found.name)
        if found.label_size is not None:
            height, width = np.divide(found.label_size, found.size).round(2).tolist()
            self._ratios[height, width] += 1
            self._transposed += found.label_size == found.size[::-1]
        if found.fault is not None:
            self.faults.add(split, found.name, found.fault, found.pattern)
            return
        values = found.facts.values
        rows = np.where(values == self._spec.ignore_label, self._spec.num_classes, values)
        self.pixels[split][rows] += found.facts.pixels
        self.smallest = np.minimum(self.smallest, found.size)
        self.largest = np.maximum(self.largest, found.size)

    def about_sizes(self, total: int) -> list[str]:
        """Labels whose sizes have one ratio to those of their images."""
        lines = []
        for (height, width), number in self._ratios.items():
            if number > 1 and height == width:
                lines.append(
                    f"{number} of {total} labels have {height:g} times the height and width of"
                    " their images: save them at the size of the images, with nearest neighbor"
                )
        if self._transposed > 1:
            lines.append(
                f"{self._transposed} of {total} labels have the height of their images as width:"
                " they, or the images, were turned or transposed"
            )
        return lines

    def about_orientation(self) -> list[str]:
        """Photos that are turned while their labels may not be."""
        if not self._turned:
            return []
        return [
            f"{len(self._turned)} photos are turned or mirrored by their EXIF orientation, which"
            " sizes do not show, and their labels are not: check that these labels were drawn on"
            f" the photo as viewers show it: {shortened(self._turned, most=3)}"
        ]
