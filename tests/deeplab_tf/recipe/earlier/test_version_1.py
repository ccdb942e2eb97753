"""Recipes of version 1, whose networks had fine_tune_batch_norm."""

import pytest

from deeplab_tf import zoo
from deeplab_tf.recipe.as_json import from_tree, to_tree


def version_1(name, fine_tune_batch_norm):
    """The tree of a recipe as version 1 wrote it."""
    tree = {**to_tree(zoo.RECIPES[name]), "version": 1}
    del tree["model"]["batch_norm"]
    tree["model"]["fine_tune_batch_norm"] = fine_tune_batch_norm
    return tree


@pytest.mark.parametrize("name", ["quickstart_shapes", "fastfcn_quickstart_shapes"])
@pytest.mark.parametrize(("old", "new"), [(True, "synchronized"), (False, "frozen")])
def test_a_recipe_has_the_batch_norm_that_its_network_trained_with(name, old, new):
    read = from_tree(version_1(name, old), zoo.PARTS)
    assert read.model == zoo.RECIPES[name].model.replace(batch_norm=new)
    assert to_tree(read) | {"model": None} == to_tree(zoo.RECIPES[name]) | {"model": None}


def test_a_recipe_without_the_option_has_its_default():
    tree = version_1("quickstart_shapes", True)
    del tree["model"]["fine_tune_batch_norm"]
    assert from_tree(tree, zoo.PARTS) == zoo.RECIPES["quickstart_shapes"]


@pytest.mark.parametrize("value", ["yes", 1, None, [], 1.0])
def test_a_bad_value_is_refused_by_its_name(value):
    with pytest.raises(ValueError) as caught:
        from_tree(version_1("quickstart_shapes", value), zoo.PARTS)
    message = "model.fine_tune_batch_norm must be true or false; got"
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("model", [None, 1, "text", [[]]])
def test_a_network_that_is_no_object_is_refused(model):
    with pytest.raises(ValueError, match="^model must be an object; got"):
        from_tree({**version_1("quickstart_shapes", True), "model": model}, zoo.PARTS)
