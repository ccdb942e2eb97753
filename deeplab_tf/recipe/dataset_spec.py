"""What is known of a dataset without opening it, and what an open dataset offers."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from deeplab_tf.recipe.json_files import checked, parse
from deeplab_tf.recipe.messages import shown

Color = tuple[int, int, int]
_LABELS = 2**31  # labels are int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The classes of a dataset: all that scoring, coloring and exporting predictions needs."""

    name: str
    class_names: tuple[str, ...]  # in label order, background included, void not
    ignore_label: int  # value of pixels without a class
    palette: tuple[Color, ...]  # one color per class, RGB 0..255
    splits: Mapping[str, int]  # split -> number of examples

    def __post_init__(self) -> None:
        _check_class_names(self.name, self.class_names)
        if len(self.palette) != self.num_classes:
            raise ValueError(
                f"dataset {self.name}: palette must have one color per class ({self.num_classes});"
                f" got {len(self.palette)}."
            )
        for i, color in enumerate(self.palette):
            if not all(0 <= value <= 255 for value in color):
                raise ValueError(
                    f"dataset {self.name}: palette[{i}] must be a color of 0..255; got {color}."
                )
        if not -_LABELS <= self.ignore_label < _LABELS:
            raise ValueError(
                f"dataset {self.name}: ignore_label must be an integer of 32 bits;"
                f" got {self.ignore_label}."
            )
        if 0 <= self.ignore_label < self.num_classes:
            raise ValueError(
                f"dataset {self.name}: ignore_label must not be one of the classes"
                f" 0..{self.num_classes - 1}; got {self.ignore_label}."
            )
        for split, number in self.splits.items():
            if number < 0:
                raise ValueError(
                    f"dataset {self.name}: splits.{split} must be at least 0; got {number}."
                )

    @property
    def num_classes(self) -> int:
        """Number of classes, background counted, void not."""
        return len(self.class_names)

    def check_outputs(self, num_outputs: int) -> None:
        """Checks that a model has one output per class.

        Raises:
          ValueError: it does not.
        """
        if num_outputs != self.num_classes:
            raise ValueError(
                f"the model must have one output per class of {self.name} ({self.num_classes});"
                f" it has {num_outputs}."
            )

    def to_json(self) -> str:
        """The spec as indented JSON; `from_json` reads it back."""
        fields = {**dataclasses.asdict(self), "splits": dict(self.splits)}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DatasetSpec:
        """The spec that `to_json` wrote; see `from_tree`."""
        return cls.from_tree(parse(text))

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> DatasetSpec:
        """The spec that a JSON object describes.

        Args:
          tree: of `json_files.parse`.

        Raises:
          ValueError: the object is not that of a spec; the message names the key.
        """
        return cls(**checked(tree, {**typing.get_type_hints(cls), "splits": dict[str, int]}))


def _check_class_names(dataset: str, names: Sequence[str]) -> None:
    """Refuses names that tables, pictures and JSON cannot tell apart or cannot show."""
    if not names:
        raise ValueError(f"dataset {dataset}: class_names must name one or more classes; got none.")
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if not name.strip() or not name.isprintable():
            raise ValueError(
                f"dataset {dataset}: class_names[{i}] must be a printable name; got {shown(name)}."
            )
        if name in seen:
            raise ValueError(
                f"dataset {dataset}: class_names must differ; {shown(name)} is the name of classes"
                f" {seen[name]} and {i}."
            )
        seen[name] = i


class ExampleSource(Protocol):
    """Random access to the examples of one split, usable inside a tf.data map."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def read(self, index: Any) -> dict[str, Any]:
        """Reads and decodes one example.

        Args:
          index: int64 scalar tensor, 0..len-1.

        Returns:
          {"image": uint8 [H,W,3] RGB, "label": int32 [H,W], "name": string []}.
        """
        ...

    def name(self, index: int) -> str:
        """The name of example `index` in messages: its file or key."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenDataset:
    """A dataset that is ready to be read: its spec, and one source per split."""

    spec: DatasetSpec
    sources: Mapping[str, ExampleSource]
    # missing split -> why it is missing, and what to do
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    # lines for those who prepare it, such as how many examples were kept
    notes: tuple[str, ...] = ()

    def source(self, split: str) -> ExampleSource:
        """The examples of `split`.

        Raises:
          ValueError: the dataset has no such split.
        """
        if split in self.absent:
            raise ValueError(f"no {split!r} split of {self.spec.name}: {self.absent[split]}")
        if split not in self.sources:
            raise ValueError(
                f"no {split!r} split of {self.spec.name}; known: {', '.join(self.sources)}."
                " train.split and eval.split name them."
            )
        return self.sources[split]


def bit_palette(num_colors: int) -> tuple[Color, ...]:
    """The PASCAL VOC palette: the bits of the class index are spread over the three channels."""
    colors = []
    for index in range(num_colors):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append(tuple(rgb))
    return tuple(colors)


@functools.cache
def distinct_palette(num_colors: int) -> tuple[Color, ...]:
    """Colors that are easy to tell apart, for classes that have none of their own.

    Each is the one of a fixed set that differs most from those before it and from what an overlay
    has besides classes: white boundaries, black, and the gray of void. So the first colors of a
    longer palette are those of a shorter one. No color is dark, which would dim a photo.

    Args:
      num_colors: how many; beyond about 200, those of `bit_palette` follow.
    """
    levels = range(0, 256, 51)
    places = {color: _cie_lab(color) for color in itertools.product(levels, repeat=3)}
    # ours: neither as dark as shadows nor as pale as void, and not gray
    left = {
        color: place
        for color, place in places.items()
        if 35 <= place[0] <= 92 and math.hypot(*place[1:]) >= 25
    }
    taken = [(0, 0, 0), (255, 255, 255), (204, 204, 204)]
    nearest = {
        color: min(math.dist(place, places[t]) for t in taken) for color, place in left.items()
    }
    found: list[Color] = []
    while nearest and len(found) < num_colors:
        color = max(nearest, key=nearest.__getitem__)
        del nearest[color]
        found.append(color)
        nearest = {c: min(d, math.dist(left[c], left[color])) for c, d in nearest.items()}
    more = (color for color in bit_palette(num_colors + len(left)) if color not in left)
    return (*found, *itertools.islice(more, num_colors - len(found)))


def _cie_lab(color: Color) -> tuple[float, float, float]:
    """CIE L*a*b* of an sRGB color 0..255, in which distances are about those that people see.

    cited: IEC 61966-2-1 (sRGB, white point D65) and CIE 15 (L*a*b*).
    """

    def linear(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    def root(value: float) -> float:
        return value ** (1 / 3) if value > (6 / 29) ** 3 else value * (29 / 6) ** 2 / 3 + 4 / 29

    red, green, blue = map(linear, color)
    x = root((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505)
    y = root(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    z = root((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.0890)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
