import dataclasses
import json
import sys

import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe.as_json import differences, from_json, to_json, to_tree
from deeplab_tf.recipe.options import Options
from deeplab_tf.recipe.parts import Eval, Train


def defaults(parts) -> list[tuple[str, Options]]:
    """(part, a value of it): every kind of every part, with every kind of its own options."""
    found = [("train", Train(steps=1)), ("eval", Eval())]
    for name, kinds in parts.items():
        for cls in kinds.values() if isinstance(kinds, dict) else ():
            found.append((name, cls()))
            for field in dataclasses.fields(cls):
                for kind in field.metadata["kinds"] or ():
                    found.append((name, cls(**{field.name: kind})))
    return found


@pytest.mark.parametrize("name", zoo.RECIPES)
def test_every_recipe_of_the_zoo_reads_back(name):
    assert from_json(to_json(zoo.RECIPES[name]), zoo.PARTS) == zoo.RECIPES[name]


@pytest.mark.parametrize(("part", "value"), defaults(zoo.PARTS))
def test_every_kind_of_the_zoo_reads_back(part, value):
    changed = {part: (value, value) if part == "augment" else value}
    recipe = dataclasses.replace(zoo.RECIPES["quickstart_shapes"], **changed)
    assert from_json(to_json(recipe), zoo.PARTS) == recipe


def test_recipes_of_tests_read_back(recipes, parts):
    for recipe in recipes.values():
        assert from_json(to_json(recipe), parts) == recipe


def test_the_file_has_a_version_kinds_and_plain_values(recipe):
    tree = to_tree(recipe)
    assert tree["version"] == 3
    assert tree["augment"] == [
        {"kind": "scale", "low": 0.75, "high": 2.0},
        {"kind": "crop", "size": 65},
    ]
    assert tree["optimizer"]["lr_multipliers"] == [["head", 2.0]]
    assert "kind" not in tree["train"]
    assert json.loads(to_json(recipe)) == tree


def test_an_option_that_is_left_out_has_its_default(recipe, parts):
    tree = to_tree(recipe)
    tree["schedule"] = {"kind": "poly"}
    del tree["expected_mean_iou"]
    read = from_json(json.dumps(tree), parts)
    assert read == dataclasses.replace(
        recipe, schedule=parts["schedule"]["poly"](), expected_mean_iou=None
    )


_REMOVED = object()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 4, "version must be 3; got 4. The recipe is of another version of this"),
        ("version", _REMOVED, "version must be 3; got None."),
        ("shedule", {}, "unknown part of a recipe 'shedule'; known: augment, "),
        ("loss", _REMOVED, "loss must be there; got None."),
        ("loss", None, "loss must be an object; got None."),
        ("loss", "cross_entropy", "loss must be an object; got 'cross_entropy'."),
        ("loss", [], "loss must be an object; got []."),
        ("loss.kind", _REMOVED, "loss.kind must be one of cross_entropy; got None."),
        (
            "loss.kind",
            ["cross_entropy"],
            "loss.kind must be one of cross_entropy; got",
        ),
        (
            "schedule.kind",
            "polly",
            "unknown schedule.kind 'polly'; known: cosine, poly, step. Did you mean 'poly'?",
        ),
        ("schedule.kind", "cosine", "unknown option of schedule 'power'; known: base_lr, "),
        ("schedule.base_rl", 1, "unknown option of schedule 'base_rl'; known: base_lr, "),
        ("schedule.base_lr", -1, "schedule.base_lr must be at least 0; got -1."),
        ("schedule.base_lr", "1", "schedule.base_lr must be a number; got '1'."),
        ("schedule.base_lr", None, "schedule.base_lr must be a number; got None."),
        ("schedule.base_lr", True, "schedule.base_lr must be a number; got True."),
        ("schedule.base_lr", float("nan"), "schedule.base_lr must be a finite number; got nan."),
        ("schedule.base_lr", 10**400, "schedule.base_lr must be a finite number; got inf."),
        ("predict.flip", "false", "predict.flip must be true or false; got 'false'."),
        ("predict.flip", 0, "predict.flip must be true or false; got 0."),
        ("predict.scales", 1.0, "predict.scales must be number,...; got 1.0."),
        ("predict.scales", {"0": 1.0}, "predict.scales must be number,...; got {'0': 1.0}."),
        ("augment", {"kind": "crop"}, "augment must be a list; got {'kind': 'crop'}."),
        ("augment", None, "augment must be a list; got None."),
        ("augment", ["crop"], "augment[0] must be an object; got 'crop'."),
        ("augment.1.size", 0, "augment[1].size must be at least 1; got 0."),
        ("augment.0.low", 3, "augment[0].low must be at most high, 2.0; got 3."),
        ("augment.1.kind", "crob", "unknown augment[1].kind 'crob'; known: crop, flip, scale."),
        ("train.steps", None, "train.steps or epochs must be set, and not both; got steps=None"),
        ("train.kind", "train", "unknown option of train 'kind'"),
        ("train.steps", 1.0, "train.steps must be an integer, or none; got 1.0."),
        ("train.steps", 10**30, "train.steps must be an integer, or none; got 1e+30."),
        ("train.remat", 1, "train.remat must be true or false; got 1."),
        ("version", 2.0, "version must be 3; got 2.0."),
        ("version", True, "version must be 3; got True."),
        ("expected_mean_iou", "51", "expected_mean_iou must be a number or null; got '51'."),
        ("expected_mean_iou", True, "expected_mean_iou must be a number or null; got True."),
        ("expected_mean_iou", float("nan"), "expected_mean_iou must be a finite number; got nan."),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_key(recipe, parts, path, value, message):
    tree = to_tree(recipe)
    *outer, last = path.split(".")
    place = tree
    for key in outer:
        place = place[int(key) if isinstance(place, list) else key]
    if value is _REMOVED:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(ValueError) as error:
        from_json(json.dumps(tree), parts)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("psp", "model.head must be an object; got 'psp'."),
        ({}, "model.head.kind must be one of encoding, psp; got None."),
        ({"kind": "pspp"}, "unknown model.head.kind 'pspp'; known: encoding, psp."),
        ({"kind": "psp", "codewords": 8}, "unknown option of model.head 'codewords'; known: chan"),
        ({"kind": "psp", "channels": 0}, "model.head.channels must be at least 1; got 0."),
    ],
)
def test_a_nested_part_is_refused_by_its_key(recipes, parts, head, message):
    tree = to_tree(recipes["other_photos"])
    tree["model"]["head"] = head
    with pytest.raises(ValueError) as error:
        from_json(json.dumps(tree), parts)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("text", ["", "{", "no JSON", '{"version": 2,}', "\0"])
def test_a_text_that_is_no_json_is_refused(parts, text):
    with pytest.raises(ValueError, match="^not readable JSON: "):
        from_json(text, parts)


@pytest.mark.parametrize("text", ["[]", "null", "1", '"recipe"', "true"])
def test_json_that_is_no_object_is_refused(parts, text):
    with pytest.raises(ValueError, match="^the top level must be an object; got "):
        from_json(text, parts)


@pytest.mark.parametrize("depth", [3, 300, 900, 1000, 1100, 3000, 100_000])
@pytest.mark.parametrize(
    "path", [("predict", "scales"), ("augment",), ("loss",), ("schedule", "kind")]
)
def test_deep_nesting_is_refused(recipe, parts, path, depth):
    tree = to_tree(recipe)
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "DEEP"
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        deep = opened * depth + "1" + closed * depth
        with pytest.raises(ValueError, match=f"^{path[0]}|^JSON must nest"):
            from_json(json.dumps(tree).replace('"DEEP"', deep), parts)


def test_a_file_imports_nothing(recipe, parts):
    before = set(sys.modules)
    for kind in ("antigravity", "this.Poly", "deeplab_tf.zoo:load_model", "__import__('this')"):
        tree = to_tree(recipe)
        tree["schedule"]["kind"] = kind
        with pytest.raises(ValueError, match="^unknown schedule.kind "):
            from_json(json.dumps(tree), parts)
    assert set(sys.modules) == before


def test_a_run_resumes_with_the_same_recipe(recipes):
    for recipe in recipes.values():
        assert differences(to_tree(recipe), recipe) == []
        assert differences(json.loads(to_json(recipe)), recipe) == []


def test_differences_are_the_options_that_a_resumed_run_may_not_change(recipe):
    scale, crop = recipe.augment
    other = dataclasses.replace(
        recipe,
        model=recipe.model.replace(stride=8, rates=None),
        augment=(scale, crop.replace(size=33)),
        schedule=recipe.schedule.replace(base_lr=0.1),
        train=recipe.train.replace(seed=2),
    )
    assert differences(to_tree(recipe), other) == [
        "model.stride: 16 -> 8",
        "model.rates: [6, 12] -> None",
        "augment[1].size: 65 -> 33",
        "schedule.base_lr: 0.007 -> 0.1",
        "train.seed: 1 -> 2",
    ]


def test_options_that_may_change_are_no_differences(recipe, parts):
    other = dataclasses.replace(
        recipe,
        dataset=recipe.dataset.replace(images_dir="elsewhere"),
        train=recipe.train.replace(
            log_every=1, save_every=1, eval_every=1, max_to_keep=1, devices=("CPU:0",)
        ),
        eval=recipe.eval.replace(split="test", excluded_classes=(1,), absent_classes="zero"),
        expected_mean_iou=None,
    )
    assert differences(to_tree(recipe), other) == []
    for predict in (recipe.predict.replace(flip=True), parts["predict"]["window"](size=9)):
        assert differences(to_tree(recipe), dataclasses.replace(other, predict=predict)) == []


def test_another_kind_is_one_difference(recipe, parts):
    (line,) = differences(
        to_tree(recipe), dataclasses.replace(recipe, schedule=parts["schedule"]["cosine"]())
    )
    assert line == "schedule: poly -> cosine"
    (line,) = differences(to_tree(recipe), dataclasses.replace(recipe, augment=recipe.augment[:1]))
    assert line == "augment: scale,crop -> scale"


def test_differences_of_a_nested_part(recipes, parts):
    recipe = recipes["other_photos"]
    head = recipe.model.head
    narrow = dataclasses.replace(recipe, model=recipe.model.replace(head=head.replace(channels=9)))
    assert differences(to_tree(recipe), narrow) == ["model.head.channels: 512 -> 9"]
    psp = dataclasses.replace(recipe, model=recipe.model.replace(head="psp"))
    (line,) = differences(to_tree(recipe), psp)
    assert line == "model.head: encoding -> psp"


def test_an_option_of_one_version_alone_differs_unless_it_has_its_default(recipe):
    tree = to_tree(recipe)
    del tree["schedule"]["warmup_steps"]
    assert differences(tree, recipe) == []
    warm = dataclasses.replace(recipe, schedule=recipe.schedule.replace(warmup_steps=5))
    assert differences(tree, warm) == ["schedule.warmup_steps: 0 -> 5"]
    tree["schedule"]["cycles"] = 3
    assert differences(tree, recipe) == ["schedule.cycles: 3 -> None"]


@pytest.mark.parametrize("junk", [None, 1, "text", [], {}, [[]], {"kind": []}])
def test_differences_from_a_damaged_tree_are_found(recipe, junk):
    for name in ("model", "augment", "train", "schedule"):
        assert differences({**to_tree(recipe), name: junk}, recipe)
    assert differences({}, recipe)
