"""Damaged JSON: what is read is what the file says, and anything else is refused by its name.

FUZZ is the number of mutations of each file; each is a function of its number alone.
"""

import json
import os
import pathlib
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import keras
import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe.as_json import to_json, to_tree, upgraded
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.json_files import parse
from deeplab_tf.training.workdir import contents
from deeplab_tf.training.workdir.checkpoints import Checkpointer
from deeplab_tf.training.workdir.class_weights import class_weights

MUTATIONS = int(os.environ.get("FUZZ", "400"))
_MOST_BYTES = 2**26  # ours: what a read may allocate; the files have a few thousand bytes

_NAMES = ("sky", "road", "größer")
_SPEC = DatasetSpec(
    name="toy",
    class_names=_NAMES,
    ignore_label=255,
    palette=bit_palette(3),
    splits={"train": 4, "val": 2},
)
_MODEL = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])


def _version_1() -> str:
    tree = {**to_tree(zoo.RECIPES["fastfcn_quickstart_shapes"]), "version": 1}
    del tree["model"]["batch_norm"]
    tree["model"]["fine_tune_batch_norm"] = True
    return json.dumps(tree)


def _version_0(root: pathlib.Path) -> str:
    return (root / "tests/expected/version_0/mix.json").read_text()


def _weights(workdir: str) -> dict[str, Any]:
    found = class_weights(workdir, None, _SPEC)
    return {"class_weights": dict(zip(_NAMES, found, strict=True))}


def _best(workdir: str) -> dict[str, Any]:
    step, score = Checkpointer(workdir, _MODEL).best()
    return {"step": step, "mean_iou": score}


def _recipe(workdir: str) -> dict[str, Any]:
    return to_tree(contents.load_recipe(workdir, zoo.PARTS))


def _spec(workdir: str) -> dict[str, Any]:
    return json.loads(contents.load_spec(workdir).to_json())


# Name -> (file in a workdir, its text, what is read from a workdir as a tree, tree -> the same
# tree in the form of this version).
FILES: dict[str, tuple[str, Callable[[pathlib.Path], str], Callable, Callable]] = {
    "recipe": (
        "recipe.json",
        lambda root: to_json(zoo.RECIPES["quickstart_shapes"]),
        _recipe,
        upgraded,
    ),
    "recipe of version 1": ("recipe.json", lambda root: _version_1(), _recipe, upgraded),
    "recipe of version 0": ("recipe.json", _version_0, _recipe, upgraded),
    "classes": ("dataset.json", lambda root: _SPEC.to_json(), _spec, dict),
    "class weights": (
        "class_weights.json",
        lambda root: json.dumps({"class_weights": dict.fromkeys(_NAMES, 1.5)}),
        _weights,
        dict,
    ),
    "best": ("best/best.json", lambda root: '{"step": 3, "mean_iou": 0.25}', _best, dict),
}

_DEEP: Any = 1
for _ in range(40):
    _DEEP = [_DEEP]
_JUNK = [
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, -0.0, 1e308, 10**17, 10**30, -(10**400), float("nan"),
    float("inf"), "", "false", "1", "none", "sgd", "x" * 10**4, "\n", "\0", "\ud800", [], {}, [[]],
    [None], [1, 2], [1, 2, 3], ["a"], {"kind": "sgd"}, {"kind": []}, {"a": {"b": [1]}}, _DEEP,
]  # fmt: skip


def mutated(text: str, number: int) -> bytes:
    """The text after one to three mutations, of the text or of the tree."""
    chance = random.Random(number)
    if chance.random() < 0.4:
        data = bytearray(text.encode())
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            _change_bytes(data, chance)
        return bytes(data)
    tree = json.loads(text)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _change_tree(tree, chance)
    text = json.dumps(tree, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.1:  # a key twice
        key, value = chance.choice(list(tree.items()) or [("a", 1)])
        text = f"{{{json.dumps(key)}: {json.dumps(value)}, {text[1:]}"
    return text.encode(errors="surrogatepass")


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    if not data:
        return
    at = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            del data[at : at + chance.randrange(1, 20)]
        case 2:
            del data[at:]
        case 3:
            data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 4)))
        case _:
            data[at:at] = data[at : at + chance.randrange(1, 100)]


def _change_tree(tree: Any, chance: random.Random) -> None:
    places = list(_places(tree))
    if not places:
        return
    holder, key = chance.choice(places)
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1:
            holder[key] = [holder[key]]
        case 2:
            other, other_key = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[other_key]))
        case 3 if isinstance(holder, dict):
            holder[str(key) + chance.choice(("", "s", "\n", "é"))] = holder.pop(key)
        case _:
            holder[key] = chance.choice(_JUNK)


def _places(tree: Any):
    """(holder, key) of every value in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def is_in(part: Any, whole: Any) -> bool:
    """Whether all that a tree says is in another one, to the type: 1 is neither 1.0 nor true."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_in(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(is_in, part, whole))
    return type(part) is type(whole) and part == whole


@pytest.mark.slow  # 2400 files
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_as_it_is_or_refused_by_name(tmp_path, root, name):
    file, make, read, in_this_form = FILES[name]
    text = make(root)
    Checkpointer(str(tmp_path), _MODEL).save(1)  # class_weights.json counts in a trained workdir
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    whole = in_this_form(parse(text))
    if name == "best":
        whole["mean_iou"] = float(whole["mean_iou"])
    assert is_in(whole, read(str(tmp_path)))
    refused = 0
    tracemalloc.start()
    for number in range(MUTATIONS):
        path.write_bytes(mutated(text, number))
        try:
            found = read(str(tmp_path))
        except ValueError as error:
            refused += 1
            message = str(error)
            assert str(path) in message, f"mutation {number}: {message}"
            assert len(message.splitlines()) == 1 and len(message) < 3000, f"mutation {number}"
        else:
            said = in_this_form(parse(path.read_bytes().decode("utf-8-sig")))
            if name == "best":  # a score of 1 is 1.0; other scores are not asked for
                said = {"step": said["step"], "mean_iou": float(said["mean_iou"])}
            assert is_in(said, found), f"mutation {number} reads as {found}"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < _MOST_BYTES
    assert refused > MUTATIONS / 3


def test_mutations_are_reproducible_and_many():
    text = _SPEC.to_json()
    found = [mutated(text, number) for number in range(200)]
    assert found == [mutated(text, number) for number in range(200)]
    assert len(set(found)) > 150
