"""The one place where JSON is read: what a text may be, and what its values must be."""

from __future__ import annotations

import json
import math
import os
import stat
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from deeplab_tf.recipe.messages import shown
from deeplab_tf.recipe.options import describe, is_of, lookup, without_none

T = TypeVar("T")

_MOST_BYTES = 2**23  # ours: twice the spec of a dataset with 65535 classes, the largest file
_MOST_DEPTH = 32  # ours: a recipe nests 5 deep
_MOST_DIGITS = 18  # of an integer; those of any 18 digits fit into 64 bits


def read_json(path: str, convert: Callable[[dict[str, Any]], T]) -> T:
    """Reads a file that is a JSON object.

    Args:
      path: of the file.
      convert: makes the result of the object, e.g. `lambda tree: checked(tree, {"step": int})`. Its
        ValueError names the key.

    Raises:
      OSError: the file does not exist or cannot be read.
      ValueError: the file is not what it must be; the message names the file and the key.
    """
    try:
        return convert(parse(_text(path)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _text(path: str) -> str:
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for a writer
        raise ValueError("it must be a regular file.")
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it must have at most {_MOST_BYTES:,} bytes; it has more.")
    try:
        return data.decode("utf-8-sig")  # editors may begin it with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"it must be text in UTF-8 ({error}).") from error


def parse(text: str) -> dict[str, Any]:
    """The object that a JSON text is. Integers of more than 18 digits become floats.

    Raises:
      ValueError: the text is no JSON or no object, nests more than 32 deep, or has a key twice, a
        number that is not finite or text that is not Unicode. The message names the key.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_Pairs, parse_int=_integer)
    except RecursionError:
        raise ValueError(f"JSON must nest at most {_MOST_DEPTH} deep.") from None
    except ValueError as error:
        raise ValueError(f"not readable JSON: {error}") from error
    if not isinstance(tree, _Pairs):
        raise ValueError(f"the top level must be an object; got {shown(tree)}.")
    return _plain(tree, "", 1)


class _Pairs(list):
    """The (key, value) pairs of an object, in which a key may occur twice."""


def _integer(text: str) -> int | float:
    return int(text) if len(text.lstrip("-")) <= _MOST_DIGITS else float(text)


def _plain(value: Any, path: str, depth: int) -> Any:
    """The value with dicts for pairs; `path` is that of its key."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"{path} must nest at most {_MOST_DEPTH} deep.")
    if isinstance(value, _Pairs):
        found: dict[str, Any] = {}
        for key, item in value:
            if key in found:
                raise ValueError(f"{join(path, key)} must be there once; it is there twice.")
            _check_text(key, join(path, key))
            found[key] = _plain(item, join(path, key), depth + 1)
        return found
    if isinstance(value, list):
        return [_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} must be a finite number; got {value}.")
    if isinstance(value, str):
        _check_text(value, path)
    return value


def _check_text(value: str, path: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair of \ud800 and \udc00: cannot be printed or written
        raise ValueError(f"{path} must be Unicode text; got {shown(value)}.") from None


def join(path: str, key: str) -> str:
    """The path of a key in messages, e.g. "train.steps"."""
    readable = key if key.isprintable() and len(key) <= 80 else shown(key)
    return f"{path}.{readable}" if path else readable


def checked(
    tree: Mapping[str, Any], schema: Mapping[str, Any], *, others: Any = None, path: str = ""
) -> dict[str, Any]:
    """The values of an object, each of the type that it must have.

    Args:
      tree: of `parse`, or an object in it.
      schema: key -> type of its value, as of an option, or dict[str, <type>] for an object. All
        keys must be there.
      others: the type of values of other keys; None: there may be no others.
      path: of the object in the file.

    Returns:
      The values by key, with tuples for lists.

    Raises:
      ValueError: a key is missing or unknown, or a value is of another type; the message names it.
    """
    for key in schema:
        if key not in tree:
            raise ValueError(f"{join(path, key)} must be there; it is missing.")
    if others is None:
        for key in tree:
            lookup(schema, key, f"key of {path}" if path else "key")
    return {
        key: _of_type(value, schema.get(key, others), join(path, key))
        for key, value in tree.items()
    }


def _of_type(value: Any, hint: Any, path: str) -> Any:
    bare = without_none(hint)
    if value is None and bare is not hint:
        return None
    origin, items = typing.get_origin(bare), typing.get_args(bare)
    if bare is dict or origin is dict:
        require(isinstance(value, dict), path, "an object", value)
        return checked(value, {}, others=items[1], path=path) if items else value
    if origin is tuple:
        require(isinstance(value, list), path, "a list", value)
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        require(len(value) == len(items), path, f"a list of {len(items)}", value)
        return tuple(
            _of_type(item, kind, f"{path}[{i}]")
            for i, (item, kind) in enumerate(zip(value, items, strict=True))
        )
    require(is_of(value, hint), path, describe(hint), value)
    return value


def require(holds: bool, path: str, wanted: str, got: Any) -> None:
    """Raises the ValueError of a value that is not what it must be."""
    if not holds:
        raise ValueError(f"{path} must be {wanted}; got {shown(got)}.")
