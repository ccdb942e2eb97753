"""Command-line flags made from the configuration dataclasses: one flag for each field.

A field is declared once, in its dataclass; `--train.base_lr` is `Recipe.train.base_lr`. No flag
has a default: a flag that is not given leaves the recipe's value alone.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from absl import flags

from deeplab_tf.recipe import options as config
from deeplab_tf.recipe.options import ModelConfig, Recipe

T = TypeVar("T")


def define(*model_configs: type[ModelConfig], flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines --recipe and a flag for each field of a recipe.

    Args:
      *model_configs: the architectures; --model.* has the fields of all of them.
      flag_values: where to define them.

    Raises:
      TypeError: two architectures give one field name different types.
    """
    recipe = "name of the recipe; an unknown name lists them all"
    flags.DEFINE_string("recipe", None, recipe, flag_values=flag_values, module_name="recipe")
    define_section("model", *model_configs, flag_values=flag_values)
    for section, cls in config.SECTIONS.items():
        define_section(section, cls, flag_values=flag_values)


def define_section(
    section: str, *classes: type, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines the flag --<section>.<field> for each field of the dataclasses.

    Args:
      section: first part of the flags' names, e.g. "data".
      *classes: dataclasses; a field that several have gives one flag.
      flag_values: where to define them.

    Raises:
      TypeError: a type has no form on the command line, or two classes give one field name
        different types.
    """
    heading = f"{section} (default: the recipe's, where there is one)"  # in --help, above
    for name, (type_, help_text) in _fields(section, classes).items():
        flag = _flag(f"{section}.{name}", type_, help_text)
        flags.DEFINE_flag(flag, flag_values, module_name=heading)


def recipe_from_flags(
    recipes: Mapping[str, Recipe], flag_values: flags.FlagValues = flags.FLAGS
) -> Recipe:
    """The recipe that --recipe names, with the given flags in place of its values.

    Raises:
      ValueError: there is no such recipe, a flag does not apply to its model, or the result does
        not validate.
    """
    name = flag_values["recipe"].value
    if name is None:
        raise ValueError(f"--recipe is missing; known: {', '.join(sorted(recipes))}.")
    recipe = config.lookup(recipes, name, "recipe")
    return dataclasses.replace(
        recipe,
        **{
            section: section_from_flags(section, getattr(recipe, section), flag_values)
            for section in ("model", *config.SECTIONS)
        },
    )


def section_from_flags(section: str, values: T, flag_values: flags.FlagValues = flags.FLAGS) -> T:
    """The dataclass `values` with the given --<section>.* flags in place of its values.

    Raises:
      ValueError: a flag is of another class's field, or the result does not validate.
    """
    given = _given(section, flag_values)
    full, bare = typing.get_type_hints(type(values)), config.field_types(type(values))
    for name, value in given.items():
        if name not in bare:
            raise ValueError(
                f"--{section}.{name} does not apply to {type(values).__name__}"
                f" (fields: {', '.join(bare)})."
            )
        if value is None and full[name] == bare[name]:
            raise ValueError(
                f"--{section}.{name} of {type(values).__name__} must be"
                f" {_syntax(bare[name])}; got none."
            )
    # The two lengths of training exclude each other: giving one takes back the recipe's other.
    if section == "train" and len(given.keys() & {"steps", "epochs"}) == 1:
        given = {"steps": None, "epochs": None, **given}
    return dataclasses.replace(values, **given)


def _given(section: str, flag_values: flags.FlagValues) -> dict[str, Any]:
    """Field name -> value of the section's flags that were given; the value may be None."""
    prefix = f"{section}."
    return {
        name.removeprefix(prefix): flag_values[name].value
        for name in flag_values
        if name.startswith(prefix) and not flag_values[name].using_default_value
    }


@dataclasses.dataclass(frozen=True)
class _Type:
    """What a flag reads: a field's type without Optional, and whether None is a value too."""

    hint: Any
    optional: bool


def _fields(section: str, classes: Sequence[type]) -> dict[str, tuple[_Type, str]]:
    """Field name -> (type, help text), over all classes."""
    found: dict[str, tuple[_Type, str]] = {}
    for cls in classes:
        full, bare = typing.get_type_hints(cls), config.field_types(cls)
        for field in dataclasses.fields(cls):
            hint, optional = bare[field.name], full[field.name] != bare[field.name]
            known, text = found.get(field.name, (_Type(hint, optional), field.metadata["help"]))
            if known.hint != hint:
                raise TypeError(
                    f"--{section}.{field.name} must have one type; {cls.__name__} gives it"
                    f" {hint}, a class before it {known.hint}. Rename one of the fields."
                )
            # What one class takes, the flag takes; `section_from_flags` knows the class.
            found[field.name] = (_Type(hint, known.optional or optional), text)
    return found


def _flag(name: str, type_: _Type, help_text: str) -> flags.Flag:
    if type_ == _Type(bool, optional=False):  # absl's own, understood as --name and --noname too
        return flags.BooleanFlag(name, None, help_text)
    return flags.Flag(_Parser(type_), None, name, None, help_text)


class _Parser(flags.ArgumentParser):
    """Reads a flag's text as a value of a field's type."""

    def __init__(self, type_: _Type):
        self._type = type_
        self.syntactic_help = _syntax(type_.hint) + ("; none: no value" * type_.optional)

    def parse(self, argument: str) -> Any:
        """The value.

        Raises:
          ValueError: the text is not of the type.
        """
        if self._type.optional and argument == "none":
            return None
        return _value(argument, self._type.hint)

    def flag_type(self) -> str:
        """What --help says of the text."""
        return self.syntactic_help


_SEPARATORS = (",", ":")  # of the items of a tuple, and of the tuples in it: decoder:10,logits:10
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_KINDS = {int: "integer", float: "number", str: "text", bool: "true or false"}


def _value(text: str, hint: Any, depth: int = 0) -> Any:
    """The text as a `hint`; `depth` counts the tuples around it."""
    failure = ValueError(f"expected {_syntax(hint, depth)}; got {text!r}")
    if typing.get_origin(hint) is Literal:
        choices = {str(choice): choice for choice in typing.get_args(hint)}
        if text not in choices:
            raise failure
        return choices[text]
    if typing.get_origin(hint) is tuple:
        parts = [] if text in ("", "()") else text.split(_SEPARATORS[depth])
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


def _syntax(hint: Any, depth: int = 0) -> str:
    """What --help says of a type, e.g. "text:number,..." for pairs.

    Raises:
      TypeError: the type has no form on the command line.
    """
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple and depth < len(_SEPARATORS):
        items = ["..." if i is Ellipsis else _syntax(i, depth + 1) for i in typing.get_args(hint)]
        return _SEPARATORS[depth].join(items)
    if hint in _KINDS:
        return _KINDS[hint]
    raise TypeError(f"a field of type {hint} cannot be given on the command line.")
