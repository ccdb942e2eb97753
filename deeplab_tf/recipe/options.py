"""Options of a frozen dataclass: each declared once, with its default, its help and its limits.

Command-line flags, JSON and the checks of values all follow from that declaration.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from deeplab_tf.recipe.messages import shown

T = TypeVar("T")

_MOST_CLASSES = 2**16 - 1  # of a label with 16 bits
_LARGEST = 2**63 - 1  # of the integers that TensorFlow holds


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns `table[name]`.

    Raises:
      ValueError: `name` is unknown; the message lists the known names and the closest one.
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(str(name), table, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown {what} {shown(name)}; known: {', '.join(sorted(table))}.{hint}")


def option(
    default: Any,
    help_text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    kinds: Mapping[str, type] | None = None,
    may_change: bool = False,
) -> Any:
    """A field of an `Options` dataclass. What it may be otherwise follows from its type.

    Args:
      default: its value unless another is given.
      help_text: its text in --help.
      minimum: smallest value; for a tuple, of each number in it.
      maximum: largest value; for a tuple, of each number in it.
      above: values are larger than this.
      below: values are smaller than this.
      kinds: the value is a part, one of these classes; its name stands for its default options.
      may_change: a run that resumes may have another value.
    """
    metadata = {
        "help": help_text,
        "limits": (minimum, maximum, above, below),
        "kinds": kinds,
        "may_change": may_change,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Base of every part of a recipe: checks types and limits of its options.

    A message begins with the option's name, as in "size must be ...". Flags and JSON put the
    part's place in front of it: "--augment.random_crop.size must be ...".
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            kinds = field.metadata.get("kinds")
            value = getattr(self, field.name)
            if kinds is not None:
                if isinstance(value, str):
                    value = lookup(kinds, value, field.name)()
                    object.__setattr__(self, field.name, value)
                elif type(value) not in kinds.values():
                    raise ValueError(
                        f"{field.name} must be one of {', '.join(kinds)}; got {shown(value)}."
                    )
                continue
            if isinstance(value, list):  # of JSON, or from a notebook
                value = as_tuple(value)
                object.__setattr__(self, field.name, value)
            hint = hints(type(self))[field.name]
            if not is_of(value, hint):
                raise ValueError(f"{field.name} must be {describe(hint)}; got {shown(value)}.")
            if value is not None:
                _check_limits(field, value)

    def replace(self, **changes: Any) -> Self:
        """A copy with some options changed.

        Raises:
          ValueError: a value is not what its option may be.
        """
        return dataclasses.replace(self, **changes)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """Option name -> type."""
    resolved = typing.get_type_hints(cls)
    return {field.name: resolved[field.name] for field in dataclasses.fields(cls)}


def without_none(hint: Any) -> Any:
    """The type with Optional removed."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    return hint


def check_num_classes(num_classes: Any) -> None:
    """Checks a number of classes.

    Raises:
      ValueError: it is not an integer of 2 to 65535.
    """
    if not is_of(num_classes, int) or not 2 <= num_classes <= _MOST_CLASSES:
        raise ValueError(
            f"num_classes must be an integer of 2 to {_MOST_CLASSES}; got {shown(num_classes)}."
        )


_NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
_ITEMS = {int: "integer", float: "number", str: "text", bool: "true|false"}
SEPARATORS = (",", ":")  # of the items of a tuple, and of the tuples in it: decoder_:10,logits:10


def describe(hint: Any) -> str:
    """What a value of the type is, in words."""
    bare = without_none(hint)
    text = _NAMES.get(bare) or syntax(bare)
    return text if bare is hint else f"{text}, or none"


def syntax(hint: Any, depth: int = 0) -> str:
    """How a value is written on the command line, e.g. "text:number,..." for pairs.

    Raises:
      TypeError: the type has no form on the command line.
    """
    hint = without_none(hint)
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple and depth < len(SEPARATORS):
        items = ["..." if i is Ellipsis else syntax(i, depth + 1) for i in typing.get_args(hint)]
        return SEPARATORS[depth].join(items)
    if hint in _ITEMS:
        return _ITEMS[hint]
    raise TypeError(f"an option of type {hint} cannot be given on the command line.")


def is_of(value: Any, hint: Any) -> bool:
    """Whether the value is of a type that an option may have."""
    bare = without_none(hint)
    if value is None:
        return bare is not hint
    if typing.get_origin(bare) is Literal:
        # True equals 1, but is not one of Literal[1, 2].
        return any(value == c and type(value) is type(c) for c in typing.get_args(bare))
    if typing.get_origin(bare) is tuple:
        items = typing.get_args(bare)
        if not isinstance(value, tuple):
            return False
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        return len(value) == len(items) and all(map(is_of, value, items))
    if bare is float:
        return is_number(value)
    if bare is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, bare)


def is_number(value: Any) -> bool:
    """Whether the value is a finite number, and no boolean."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # also of integers that no float holds; false for NaN


def as_tuple(value: Any) -> Any:
    """The value with tuples for lists, at every depth."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def _check_limits(field: dataclasses.Field, value: Any) -> None:
    minimum, maximum, above, below = field.metadata["limits"]
    for number in _numbers(value):
        if isinstance(number, int) and abs(number) > _LARGEST:
            raise ValueError(f"{field.name} must be at most {_LARGEST}; got {shown(value)}.")
        for limit, fits, words in (
            (minimum, minimum is None or number >= minimum, "at least"),
            (maximum, maximum is None or number <= maximum, "at most"),
            (above, above is None or number > above, "above"),
            (below, below is None or number < below, "below"),
        ):
            if not fits:
                raise ValueError(f"{field.name} must be {words} {limit}; got {shown(value)}.")


def _numbers(value: Any) -> Sequence[Any]:
    if isinstance(value, tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []
