"""Recipes as JSON, and how two of them differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from deeplab_tf.recipe.earlier import version_0, version_1, version_2
from deeplab_tf.recipe.flags import LISTS, Parts
from deeplab_tf.recipe.json_files import parse, require
from deeplab_tf.recipe.messages import shown
from deeplab_tf.recipe.options import Options, is_number, is_of, lookup
from deeplab_tf.recipe.parts import Recipe

VERSION = 3  # of the file's form. An option that is added has a default, and needs no new one.


def to_json(recipe: Recipe) -> str:
    """The recipe as indented JSON; `from_json` reads it back."""
    return json.dumps(to_tree(recipe), indent=2) + "\n"


def to_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a tree of dicts, lists and plain values."""
    tree = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    return {"version": VERSION, **{name: _tree(value) for name, value in tree.items()}}


def part_text(tree: Mapping[str, Any]) -> str:
    """A part of a recipe's tree in a line: its kind and its options, None left out."""
    options = [
        f"{key} {json.dumps(value)}"
        for key, value in tree.items()
        if key != "kind" and value is not None
    ]
    return ", ".join([str(tree.get("kind")), *options])


def _tree(value: Any) -> Any:
    if isinstance(value, Options):
        own = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        return {**kind, **{name: _tree(item) for name, item in own.items()}}
    return [_tree(item) for item in value] if isinstance(value, tuple) else value


def from_json(text: str, parts: Parts) -> Recipe:
    """The recipe that `to_json` wrote; see `from_tree`."""
    return from_tree(parse(text), parts)


def from_tree(tree: Mapping[str, Any], parts: Parts) -> Recipe:
    """The recipe that a JSON object describes, in the form of this version or of an earlier one.

    Args:
      tree: of `json_files.parse`.
      parts: the kinds of every part; the object chooses among them, and imports nothing.

    Raises:
      ValueError: the object is no recipe of a known version, or a kind, an option or a value in it
        is not one of those there are; the message says which key, what it must be and what it is.
    """
    tree = upgraded(tree)
    names = {"version", "expected_mean_iou", *parts}
    for name in tree:
        lookup(dict.fromkeys(names), name, "part of a recipe")
    for name in parts:
        require(name in tree, name, "there", None)
    read = {name: _read_part(name, tree[name], kinds) for name, kinds in parts.items()}
    expected = tree.get("expected_mean_iou")
    holds = expected is None or is_number(expected)
    require(holds, "expected_mean_iou", "a number or null", expected)
    return Recipe(**read, expected_mean_iou=expected)


def upgraded(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of a recipe of any version in the form of this one; its values are not checked yet.

    Raises:
      ValueError: it is of no known version, or a key that an earlier version had is missing.
    """
    if version_0.is_version_0(tree):
        tree = version_0.as_version_1(tree)
    if is_of(tree.get("version"), int) and tree["version"] == 1:
        tree = version_1.as_version_2(tree)
    if is_of(tree.get("version"), int) and tree["version"] == 2:
        tree = version_2.as_version_3(tree)
    version = tree.get("version")
    if not is_of(version, int) or version != VERSION:
        raise ValueError(
            f"version must be {VERSION}; got {shown(version)}. The recipe is of another"
            " version of this package: read it with that version, or name its weights with"
            " train.py --init_weights."
        )
    return dict(tree)


def _read_part(name: str, tree: Any, kinds: Any) -> Any:
    if name in LISTS:
        require(isinstance(tree, list), name, "a list", tree)
        return tuple(_part(f"{name}[{i}]", item, kinds) for i, item in enumerate(tree))
    return _part(name, tree, kinds)


def _part(name: str, tree: Any, kinds: Mapping[str, type[Options]] | type[Options]) -> Options:
    require(isinstance(tree, dict), name, "an object", tree)
    cls, values = kinds, dict(tree)
    if isinstance(kinds, Mapping):
        kind = values.pop("kind", None)
        require(isinstance(kind, str), f"{name}.kind", f"one of {', '.join(kinds)}", kind)
        cls = lookup(kinds, kind, f"{name}.kind")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    arguments = {}
    for key, value in values.items():
        own = lookup(fields, key, f"option of {name}").metadata["kinds"]
        arguments[key] = _part(f"{name}.{key}", value, own) if own else value
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from None


def differences(old: Mapping[str, Any], new: Recipe) -> list[str]:
    """Options in which a run that resumes may not differ, as 'schedule.base_lr: 0.01 -> 0.02'.

    Args:
      old: the tree of the recipe that was trained, as from `to_tree`.
      new: the recipe to resume with.
    """
    return [
        f"{path}: {was} -> {now}"
        for field in dataclasses.fields(new)
        if field.name != "expected_mean_iou"
        for path, was, now in _differing(
            field.name,
            old.get(field.name),
            getattr(new, field.name),
            may_change=field.metadata.get("may_change", False),
        )
    ]


def _differing(path: str, old: Any, new: Any, *, may_change: bool):
    """(path, old, new) of each option below `path` that differs and may not."""
    tree = _tree(new)
    if may_change or old == tree:
        return
    if isinstance(new, Options) and isinstance(old, dict) and old.get("kind") == tree.get("kind"):
        for field in dataclasses.fields(new):
            yield from _differing(
                f"{path}.{field.name}",
                old.get(field.name, _tree(field.default)),
                getattr(new, field.name),
                may_change=field.metadata["may_change"],
            )
        for name in sorted(old.keys() - tree.keys()):  # of another version of this package
            yield f"{path}.{name}", old[name], None
    elif isinstance(new, tuple) and isinstance(old, list) and len(old) == len(new) > 0:
        for i, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _differing(f"{path}[{i}]", was, now, may_change=False)
    else:
        yield path, _short(old), _short(tree)


def _short(tree: Any) -> Any:
    """A part as its kind, a list of parts as their kinds, anything else as it is."""
    if isinstance(tree, list) and tree and all(isinstance(item, dict) for item in tree):
        return ",".join(str(_short(item)) for item in tree)
    return tree.get("kind", tree) if isinstance(tree, dict) else tree
