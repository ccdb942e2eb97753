"""Checks a whole dataset before training, and names every fault."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from deeplab_tf.data.pipeline import first_line
from deeplab_tf.recipe.dataset_spec import DatasetSpec, ExampleSource, OpenDataset

_MOST_PROBLEMS = 50  # ours: listed before the number of all others
_MOST_VALUES = 10  # ours: of one label, likewise


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a check found."""

    spec: DatasetSpec
    problems: tuple[str, ...]  # one per fault, with file and value
    num_examples: Mapping[str, int]  # split -> number
    pixels: Mapping[str, np.ndarray]  # split -> int64 [K + 1], pixels per class, void last
    smallest: tuple[int, int]  # smallest height and smallest width, maybe of different images
    largest: tuple[int, int]

    def text(self) -> str:
        """A table of each class's share of the pixels, then the faults."""
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
        if "train" in self.pixels:
            unseen = [
                f"{i} ({name})"
                for i, name in enumerate(self.spec.class_names)
                if not self.pixels["train"][i]
            ]
            if unseen:
                lines.append(f"warning: no pixel in 'train' of class {', '.join(unseen)}")
        lines += [f"fault: {problem}" for problem in self.problems[:_MOST_PROBLEMS]]
        if len(self.problems) > _MOST_PROBLEMS:
            lines.append(f"and {len(self.problems) - _MOST_PROBLEMS} more faults")
        return "\n".join(lines)

    def raise_if_bad(self, forgiven: str | None = None) -> None:
        """Refuses the dataset if there are faults.

        Args:
          forgiven: a split whose faults do not count; None: all faults count.

        Raises:
          ValueError: there are faults; the message has the first ones.
        """
        problems = [p for p in self.problems if not (forgiven and p.startswith(f"{forgiven}: "))]
        if problems:
            shown = "\n  ".join(problems[:_MOST_PROBLEMS])
            raise ValueError(
                f"{self.spec.name} has {len(problems)} faulty examples:\n  {shown}\n"
                "fix or remove these files and start again."
            )


def check_dataset(
    dataset: OpenDataset,
    splits: Iterable[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Reads every example and checks its files, sizes and label values.

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
    problems: list[str] = []
    pixels = {split: np.zeros(spec.num_classes + 1, np.int64) for split in chosen}
    sides: list[tuple[int, int]] = []
    done = 0
    with ThreadPoolExecutor() as threads:
        for split, source in chosen.items():
            examine = _examiner(source, spec)
            for problem, counts, size in threads.map(examine, range(len(source))):
                if problem:
                    problems.append(f"{split}: {problem}")
                else:
                    pixels[split] += counts
                    sides.append(size)
                done += 1
                if progress is not None:
                    progress(done, total)
    extremes = np.array(sides or [(0, 0)])
    return CheckReport(
        spec=spec,
        problems=tuple(problems),
        num_examples={split: len(source) for split, source in chosen.items()},
        pixels=pixels,
        smallest=tuple(map(int, extremes.min(0))),
        largest=tuple(map(int, extremes.max(0))),
    )


_Finding = tuple[str | None, np.ndarray | None, tuple[int, int] | None]


def _examiner(source: ExampleSource, spec: DatasetSpec) -> Callable[[int], _Finding]:
    def examine(index: int) -> _Finding:
        try:
            example = source.read(tf.constant(index, tf.int64))
        except (tf.errors.OpError, ValueError) as error:
            return f"{source.name(index)}: {first_line(error)}", None, None
        label = example["label"].numpy()
        size = tuple(example["image"].shape[:2])
        if size != label.shape:
            problem = f"the image has {size} pixels (height, width), its label {label.shape}"
            if size == label.shape[::-1]:
                problem += (
                    "; photos are turned by their EXIF orientation: turn the label the same way,"
                    " or remove the orientation"
                )
            return f"{source.name(index)}: {problem}", None, None
        values, counts = np.unique(label, return_counts=True)
        wrong = (values != spec.ignore_label) & ((values < 0) | (values >= spec.num_classes))
        if wrong.any():
            found = [
                f"{value} ({count} pixels)"
                for value, count in zip(values[wrong], counts[wrong], strict=True)
            ]
            more = len(found) - _MOST_VALUES
            listed = ", ".join(found[:_MOST_VALUES] + [f"and {more} more values"] * (more > 0))
            problem = (
                f"label values must be 0..{spec.num_classes - 1} or {spec.ignore_label} (void);"
                f" got {listed}"
            )
            return f"{source.name(index)}: {problem}", None, None
        per_class = np.zeros(spec.num_classes + 1, np.int64)
        per_class[np.where(values == spec.ignore_label, spec.num_classes, values)] = counts
        return None, per_class, size

    return examine
