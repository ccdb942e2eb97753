"""Command-line flags of the parts of a recipe.

One rule for all: --<part>=<kind> chooses, --<part>.<option>=value sets. The augmentations are a
list: --augment=random_scale,random_crop and --augment.random_crop.size=321. No flag has a default:
one that is not given leaves the recipe's value alone.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from absl import flags

from deeplab_tf.recipe.options import (
    SEPARATORS,
    Options,
    hints,
    lookup,
    syntax,
    without_none,
)
from deeplab_tf.recipe.parts import Recipe

# Name of a part -> its kinds by name, or the class of a part that has no kinds.
Parts = Mapping[str, Mapping[str, type[Options]] | type[Options]]

LISTS = ("augment",)  # parts of a recipe that are a list of kinds
MODULE = "recipe"  # under which absl keeps these flags; `help_text` prints them


def define(parts: Parts, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of some parts.

    Args:
      parts: those that the program has a use for, e.g. all of `zoo.PARTS`.
      flag_values: where to define them.

    Raises:
      TypeError: two kinds of a part give one option different types, or a type has no form on the
        command line.
    """
    for name, rows in _rows(parts).items():
        for row in rows:
            if row.hint != rows[0].hint:
                raise TypeError(
                    f"--{name} must have one type; {row.owner} gives it {row.hint}, {rows[0].owner}"
                    f" {rows[0].hint}. Rename one of the options."
                )
        # What one kind takes, the flag takes; `part_from_flags` knows which kind is chosen.
        row = dataclasses.replace(rows[0], optional=any(row.optional for row in rows))
        flags.DEFINE_flag(_flag(name, row), flag_values, module_name=MODULE)


def define_recipe(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines --recipe."""
    text = "name of the recipe; an unknown name lists them all"
    flags.DEFINE_string("recipe", None, text, flag_values=flag_values, module_name="general")


def recipe_from_flags(
    recipes: Mapping[str, Recipe], parts: Parts, flag_values: flags.FlagValues = flags.FLAGS
) -> Recipe:
    """The recipe that --recipe names, with the given flags in place of its values.

    Raises:
      ValueError: there is no such recipe, a flag does not apply to the kind that is chosen, or a
        value is not what its option may be.
    """
    name = flag_values["recipe"].value
    if name is None:
        raise ValueError(f"--recipe is missing; known: {', '.join(sorted(recipes))}.")
    return apply(lookup(recipes, name, "recipe"), parts, flag_values)


def apply(recipe: Recipe, parts: Parts, flag_values: flags.FlagValues = flags.FLAGS) -> Recipe:
    """A recipe with the given flags of some parts in place of its values; errors as above."""
    changed = {
        name: part_from_flags(name, getattr(recipe, name), kinds, flag_values)
        for name, kinds in parts.items()
    }
    return dataclasses.replace(recipe, **changed)


def part_from_flags(
    name: str,
    value: Any,
    kinds: Mapping[str, type[Options]] | type[Options],
    flag_values: flags.FlagValues = flags.FLAGS,
) -> Any:
    """One part with the given flags in place of its values.

    Args:
      name: of the part, e.g. "schedule".
      value: what it is without flags; None: the flags must choose a kind.
      kinds: its kinds by name, or its class.
      flag_values: where the flags are.

    Raises:
      ValueError: as in `recipe_from_flags`.
    """
    given = {key: flag_values[key].value for key in flag_values if flag_values[key].present}
    given = {key: new for key, new in given.items() if f"{key}.".startswith(f"{name}.")}
    if name in LISTS:
        return _list_from(name, value, kinds, given)
    if value is None:
        if name not in given:
            raise ValueError(f"--{name} is missing; it must be one of {', '.join(kinds)}.")
        value = kinds[given[name]]()
    return _part_from(name, value, kinds, given)


def _list_from(
    name: str,
    values: tuple[Options, ...],
    kinds: Mapping[str, type[Options]],
    given: Mapping[str, Any],
) -> tuple[Options, ...]:
    if name in given:
        old = {value.kind: value for value in values}
        chosen = [(kind, lookup(kinds, kind, f"kind of --{name}")) for kind in given[name]]
        values = tuple(old.get(kind) or cls() for kind, cls in chosen)
    missing = [
        key for key in given if key != name and key.split(".")[1] not in {v.kind for v in values}
    ]
    if missing:
        kind = missing[0].split(".")[1]
        listed = ",".join(value.kind for value in values)
        raise ValueError(
            f"--{missing[0]} needs {kind} in the list --{name}; it has {listed or 'nothing'}."
        )
    return tuple(_part_from(f"{name}.{value.kind}", value, type(value), given) for value in values)


def _part_from(
    name: str,
    value: Options,
    kinds: Mapping[str, type[Options]] | type[Options],
    given: Mapping[str, Any],
) -> Options:
    if name in given:
        cls = lookup(kinds, given[name], name)
        value = value if type(value) is cls else cls()
    prefix = f"{name}."
    changes = {}
    for field in dataclasses.fields(value):
        own = field.metadata.get("kinds")
        if own is not None:
            nested = _part_from(prefix + field.name, getattr(value, field.name), own, given)
            if nested != getattr(value, field.name):
                changes[field.name] = nested
        elif prefix + field.name in given:
            changes[field.name] = given[prefix + field.name]
    known = {prefix + field.name for field in dataclasses.fields(value)}
    for key in given:
        if key.startswith(prefix) and not any(f"{key}.".startswith(f"{k}.") for k in known):
            options = ", ".join(f"--{k}" for k in sorted(known)) or "no options"
            raise ValueError(
                f"--{key} does not apply to {name} {getattr(value, 'kind', '')}, which has"
                f" {options}."
            )
    if not changes:
        return value
    try:
        return value.replace(**changes)
    except ValueError as error:
        raise ValueError(f"--{prefix}{error}") from None


@dataclasses.dataclass(frozen=True)
class _Row:
    """One option of one class: what its flag reads."""

    owner: str  # kind, or name of the part
    hint: Any  # the type without Optional; a tuple of kinds for a choice
    optional: bool
    help: str


def _rows(parts: Parts) -> dict[str, list[_Row]]:
    """Flag -> the options that it sets, one of each class that has it."""
    found: dict[str, list[_Row]] = {}
    for name, row in _all_rows(parts):
        found.setdefault(name, []).append(row)
    return found


def _all_rows(parts: Parts) -> Iterator[tuple[str, _Row]]:
    for name, kinds in parts.items():
        if isinstance(kinds, Mapping):
            hint = tuple[str, ...] if name in LISTS else Literal[tuple(kinds)]
            what = "the kinds, in their order" if name in LISTS else "the kind"
            yield name, _Row(name, hint, False, what)
            for kind, cls in kinds.items():
                yield from _rows_of(f"{name}.{kind}" if name in LISTS else name, kind, cls)
        else:
            yield from _rows_of(name, name, kinds)


def _rows_of(prefix: str, owner: str, cls: type[Options]) -> Iterator[tuple[str, _Row]]:
    for field in dataclasses.fields(cls):
        name, text = f"{prefix}.{field.name}", field.metadata["help"]
        own = field.metadata["kinds"]
        if own is not None:
            yield name, _Row(owner, Literal[tuple(own)], False, text)
            for kind, nested in own.items():
                yield from _rows_of(name, kind, nested)
        else:
            hint = hints(cls)[field.name]
            bare = without_none(hint)
            yield name, _Row(owner, bare, bare is not hint, text)


def _flag(name: str, row: _Row) -> flags.Flag:
    if row.hint is bool and not row.optional:  # absl's own, understood as --name and --noname too
        flag = flags.BooleanFlag(name, None, row.help)
        flag.parser = _Parser(row)  # for its messages
        return flag
    return flags.Flag(_Parser(row), None, name, None, row.help)


class _Parser(flags.ArgumentParser):
    """Reads a flag's text as a value of an option's type."""

    def __init__(self, row: _Row):
        self._row = row
        self.syntactic_help = syntax(row.hint) + ("; none: no value" * row.optional)

    def parse(self, argument: str) -> Any:
        """The value.

        Raises:
          ValueError: the text is not of the type.
        """
        if self._row.optional and argument == "none":
            return None
        return _value(argument, self._row.hint)

    def flag_type(self) -> str:
        """How the text is written."""
        return self.syntactic_help


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _value(text: str, hint: Any, depth: int = 0) -> Any:
    """The text as a `hint`; `depth` counts the tuples around it."""
    failure = ValueError(f"expected {syntax(hint, depth)}; got {text!r}")
    if typing.get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in typing.get_args(hint)}
        if text not in choices:
            raise failure
        return choices[text]
    if typing.get_origin(hint) is tuple:
        parts = [] if text in ("", "()") else text.split(SEPARATORS[depth])
        items = typing.get_args(hint)
        if items[-1] is Ellipsis:
            items = items[:1] * len(parts)
        if len(parts) != len(items):
            raise failure
        return tuple(
            _value(part.strip(), item, depth + 1) for part, item in zip(parts, items, strict=True)
        )
    if hint is str and depth and not text:
        raise failure
    try:
        value = _BOOLEANS[text.lower()] if hint is bool else hint(text)
    except (KeyError, ValueError):
        raise failure from None
    if hint is float and not math.isfinite(value):
        raise failure
    return value


_WIDTH = 100  # of a line of help


def help_text(parts: Parts) -> str:
    """The text of --help: the parts in their order, a line for each kind, then the options."""
    lines = []
    for name, kinds in parts.items():
        if isinstance(kinds, Mapping):
            shape = "KIND,KIND,..." if name in LISTS else "KIND"
            lines += ["", f"--{name}={shape}"]
            lines += _kind_lines(kinds)
        else:
            lines += ["", f"--{name}.*  {_first_line(kinds)}"]
        for flag, rows in _rows({name: kinds}).items():
            if flag != name:
                lines += _option_lines(flag, rows, kinds)
    return "\n".join(lines)


def _kind_lines(kinds: Mapping[str, type]) -> list[str]:
    width = max(map(len, kinds))
    return [f"    {kind:<{width}}  {_first_line(cls)}" for kind, cls in kinds.items()]


def _first_line(cls: type) -> str:
    return inspect.getdoc(cls).splitlines()[0]


def _option_lines(flag: str, rows: list[_Row], kinds: Any) -> list[str]:
    shown = syntax(rows[0].hint) + " or none" * any(row.optional for row in rows)
    owners = [row.owner for row in rows]
    # Said already by a name such as augment.random_crop.size, or true of all kinds.
    common = owners[0] in flag.split(".") or not isinstance(kinds, Mapping) or owners == [*kinds]
    texts: dict[str, list[str]] = {}  # kinds may describe one option each in its own words
    for row in rows:
        texts.setdefault(row.help, []).append(row.owner)
    indent = {"initial_indent": " " * 8, "subsequent_indent": " " * 8}
    lines = [f"  --{flag}={shown}"]
    for text, owners in texts.items():
        text = text if common and len(texts) == 1 else f"{text} [{', '.join(owners)}]"
        lines += textwrap.wrap(text, _WIDTH, break_on_hyphens=False, **indent)
    return lines
