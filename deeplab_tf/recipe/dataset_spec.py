"""What is known of a dataset without opening it, and what opening one gives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Protocol

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The classes of a dataset: enough to score, colour and export predictions."""

    name: str
    class_names: tuple[str, ...]  # in label order, background included, void not
    ignore_label: int  # value of pixels without a class
    palette: tuple[Color, ...]  # RGB 0..255 a class
    splits: Mapping[str, int]  # split -> number of examples

    def __post_init__(self) -> None:
        if len(self.palette) != self.num_classes:
            raise ValueError(
                f"dataset {self.name}: palette must have a colour a class ({self.num_classes});"
                f" got {len(self.palette)}."
            )
        if 0 <= self.ignore_label < self.num_classes:
            raise ValueError(
                f"dataset {self.name}: ignore_label must not be one of the classes"
                f" 0..{self.num_classes - 1}; got {self.ignore_label}."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes, background counted, void not."""
        return len(self.class_names)

    def to_json(self) -> str:
        """The spec as indented JSON; `from_json` reads it back."""
        fields = {**dataclasses.asdict(self), "splits": dict(self.splits)}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DatasetSpec:
        """The spec that `to_json` wrote."""
        tree = json.loads(text)
        return cls(
            name=tree["name"],
            class_names=tuple(tree["class_names"]),
            ignore_label=tree["ignore_label"],
            palette=tuple(tuple(color) for color in tree["palette"]),
            splits=tree["splits"],
        )


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
        """What to call example `index` in a message: its file or key."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenDataset:
    """A dataset ready to be read: its spec and a source a split."""

    spec: DatasetSpec
    sources: Mapping[str, ExampleSource]
    # split that the dataset could have -> why it is not there and what to do
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def source(self, split: str) -> ExampleSource:
        """The examples of `split`.

        Raises:
          ValueError: there is no such split.
        """
        if split in self.absent:
            raise ValueError(f"no {split!r} split of {self.spec.name}: {self.absent[split]}")
        if split not in self.sources:
            raise ValueError(
                f"no {split!r} split of {self.spec.name}; known: {', '.join(self.sources)}."
            )
        return self.sources[split]


def bit_palette(num_colors: int) -> tuple[Color, ...]:
    """The PASCAL VOC palette: the bits of the class index spread over the three channels."""
    colors = []
    for index in range(num_colors):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append(tuple(rgb))
    return tuple(colors)
