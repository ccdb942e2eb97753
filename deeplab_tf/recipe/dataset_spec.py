"""What is known of a dataset without opening it, and what an open dataset offers."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import typing
from collections.abc import Mapping
from typing import Any, Protocol

from deeplab_tf.recipe.files import json_object
from deeplab_tf.recipe.options import as_tuple, describe, is_of

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The classes of a dataset: all that scoring, coloring and exporting predictions needs."""

    name: str
    class_names: tuple[str, ...]  # in label order, background included, void not
    ignore_label: int  # value of pixels without a class
    palette: tuple[Color, ...]  # one color per class, RGB 0..255
    splits: Mapping[str, int]  # split -> number of examples

    def __post_init__(self) -> None:
        if len(self.palette) != self.num_classes:
            raise ValueError(
                f"dataset {self.name}: palette must have one color per class ({self.num_classes});"
                f" got {len(self.palette)}."
            )
        if not all(0 <= value <= 255 for color in self.palette for value in color):
            raise ValueError(
                f"dataset {self.name}: palette must have colors of 0..255; got {self.palette}."
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
        """The spec that `to_json` wrote.

        Raises:
          ValueError: the text is not that of a spec; the message names the key.
        """
        tree = json_object(text, "a dataset's spec")
        hints = {**typing.get_type_hints(cls), "splits": tuple[tuple[str, int], ...]}
        try:
            values = {name: as_tuple(tree.get(name)) for name in hints}
        except RecursionError as error:
            raise ValueError(f"not a dataset's spec, which nests less deeply: {error}") from error
        if isinstance(values["splits"], dict):
            values["splits"] = tuple(values["splits"].items())
        for name, hint in hints.items():
            if not is_of(values[name], hint):
                raise ValueError(
                    f"{name} must be {describe(hint)}; got {reprlib.repr(values[name])}."
                )
        return cls(**{**values, "splits": dict(values["splits"])})


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
