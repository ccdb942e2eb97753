"""Recipes of version 1, whose networks had fine_tune_batch_norm."""

import json

import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe.as_json import from_json, to_json, to_tree
from deeplab_tf.recipe.version_1 import upgraded


def version_1(name, fine_tune_batch_norm):
    """The tree of a recipe as version 1 wrote it."""
    tree = {**to_tree(zoo.RECIPES[name]), "version": 1}
    del tree["model"]["batch_norm"]
    tree["model"]["fine_tune_batch_norm"] = fine_tune_batch_norm
    return tree


@pytest.mark.parametrize("name", ["quickstart_shapes", "fastfcn_quickstart_shapes"])
@pytest.mark.parametrize(("old", "new"), [(True, "synchronized"), (False, "frozen")])
def test_a_recipe_has_the_batch_norm_that_its_network_trained_with(name, old, new):
    read = from_json(upgraded(json.dumps(version_1(name, old))), zoo.PARTS)
    assert read.model == zoo.RECIPES[name].model.replace(batch_norm=new)
    assert to_tree(read) | {"model": None} == to_tree(zoo.RECIPES[name]) | {"model": None}


def test_a_recipe_without_the_option_has_its_default():
    tree = version_1("quickstart_shapes", True)
    del tree["model"]["fine_tune_batch_norm"]
    read = from_json(upgraded(json.dumps(tree)), zoo.PARTS)
    assert read == zoo.RECIPES["quickstart_shapes"]


def test_a_bad_value_is_refused_by_its_new_name():
    for value in ("yes", 1, None, []):
        text = upgraded(json.dumps(version_1("quickstart_shapes", value)))
        with pytest.raises(ValueError, match="^model.batch_norm must be synchronized|"):
            from_json(text, zoo.PARTS)


def test_any_other_text_is_left_alone():
    tree = version_1("quickstart_shapes", True)
    texts = ["", "{", "[]", "null", "{}", '{"version": 1}', "[" * 10**5]
    texts += [json.dumps({**tree, "model": junk}) for junk in (None, 1, "text", [[]])]
    texts += [json.dumps({**tree, "version": 3}), to_json(zoo.RECIPES["quickstart_shapes"])]
    for text in texts:
        assert upgraded(text) == text
