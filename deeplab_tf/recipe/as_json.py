"""Recipes as JSON, and how two of them differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from deeplab_tf.recipe.options import SECTIONS, Recipe, lookup

_T = TypeVar("_T")


def to_json(recipe: Recipe) -> str:
    """The recipe as indented JSON; `from_json` reads it back."""
    tree = {
        "model": {"kind": recipe.model.kind, **dataclasses.asdict(recipe.model)},
        **{name: dataclasses.asdict(getattr(recipe, name)) for name in SECTIONS},
        "expected_mean_iou": recipe.expected_mean_iou,
    }
    return json.dumps(tree, indent=2) + "\n"


def from_json(text: str, model_configs: Mapping[str, type]) -> Recipe:
    """The recipe that `to_json` wrote.

    Args:
      text: JSON.
      model_configs: kind -> dataclass, e.g. {"deeplabv3plus": DeepLabV3Plus}.

    Raises:
      ValueError: the model kind or a field is unknown, or a value does not validate.
    """
    tree = json.loads(text)
    fields = dict(tree["model"])
    model_class = lookup(model_configs, fields.pop("kind"), "model kind")
    sections = {name: _from_tree(cls, tree[name]) for name, cls in SECTIONS.items()}
    return Recipe(
        model=_from_tree(model_class, fields),
        expected_mean_iou=tree.get("expected_mean_iou"),
        **sections,
    )


def _from_tree(cls: type[_T], fields: Mapping[str, Any]) -> _T:
    known = {field.name: None for field in dataclasses.fields(cls)}
    for name in fields:
        lookup(known, name, f"field of {cls.__name__}")
    return cls(**{name: _as_tuple(value) for name, value in fields.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list) else value


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Fields in which a run that resumes may not differ, as 'train.base_lr: 0.01 -> 0.02'."""
    found = []
    if old.model != new.model:
        was, now = (json.loads(to_json(r))["model"] for r in (old, new))
        names = sorted({*was, *now})
        found += [
            f"model.{name}: {was.get(name)} -> {now.get(name)}"
            for name in names
            if was.get(name) != now.get(name)
        ]
    for section, cls in SECTIONS.items():
        for field in dataclasses.fields(cls):
            was, now = (getattr(getattr(r, section), field.name) for r in (old, new))
            if was != now and not field.metadata.get("may_change"):
                found.append(f"{section}.{field.name}: {was} -> {now}")
    return found
