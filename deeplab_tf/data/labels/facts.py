"""What labels show: of one label, and gathered over all in memory that their number does not fill.

A label is seen as runs: neighbors in a row with the same value. Drawn labels have long runs. Where
a label was resized with interpolation or compressed as JPEG, values that nobody drew are between
two classes, mostly in runs of one pixel.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# ours: photos have 0.66 runs per pixel or more; CamVid's, VOC's and ADE20K's labels have 0.02, and
# 0.36 at most after JPEG.
_SCATTERED = 0.5


def scattered(runs: int, pixels: int) -> bool:
    """Whether values change from pixel to pixel, as in photos."""
    return runs > _SCATTERED * pixels


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LabelFacts:
    """What one label shows."""

    values: np.ndarray  # [V], those that occur, sorted
    pixels: np.ndarray  # int64 [V], number of each
    runs: int
    single: int  # runs of one pixel
    steps: int  # those of them whose value is between those on both sides


def label_facts(label: np.ndarray) -> LabelFacts:
    """Counts values and runs.

    Args:
      label: int [H, W] with at least one pixel.
    """
    flat = label.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    drawn, lengths = flat[starts], np.diff(starts, append=flat.size)
    # Runs are few, so this is many times faster than sorting the pixels.
    values, inverse = np.unique(drawn, return_inverse=True)
    before, here, after = drawn[:-2], drawn[1:-1], drawn[2:]
    between = ((before < here) & (here < after)) | ((before > here) & (here > after))
    return LabelFacts(
        values=values,
        pixels=np.bincount(inverse, weights=lengths).astype(np.int64),
        runs=len(drawn),
        single=int(np.count_nonzero(lengths == 1)),
        steps=int(np.count_nonzero(between & (lengths[1:-1] == 1))),
    )


@dataclasses.dataclass
class Seen:
    """How often a value occurs."""

    labels: int
    pixels: int
    example: str  # the first label with it


class Gathered:
    """The sum of the facts of many labels."""

    def __init__(self) -> None:
        """Starts without labels."""
        self.labels = self.pixels = self.runs = self.single = self.steps = 0
        self.seen: dict[int, Seen] = {}

    def add(self, name: str, facts: LabelFacts) -> None:
        """Adds those of a label; `name` is what messages call it."""
        self.labels += 1
        self.pixels += int(facts.pixels.sum())
        self.runs += facts.runs
        self.single += facts.single
        self.steps += facts.steps
        for value, pixels in zip(facts.values.tolist(), facts.pixels.tolist(), strict=True):
            seen = self.seen.setdefault(value, Seen(0, 0, name))
            seen.labels += 1
            seen.pixels += pixels

    def share(self, value: int) -> str:
        """The share of the pixels that a value has, in words."""
        percent = 100 * self.seen[value].pixels / self.pixels
        return f"{percent:.1f} % of pixels" if percent >= 0.1 else "below 0.1 % of pixels"

    @property
    def blurred(self) -> bool:
        """Whether values that nobody drew are between those that were drawn.

        ours: correct labels of CamVid, VOC and ADE20K, also resized with nearest neighbor, have up
        to 0.21 of their runs of one pixel and 0.02 between; after JPEG of any quality or
        interpolation, at least 0.34 and 0.036. Masks of cracks or wires have many thin runs, but
        none between.
        """
        enough = self.runs >= 1000 and not scattered(self.runs, self.pixels)
        return enough and self.single > 0.3 * self.runs and self.steps > 0.03 * self.runs
