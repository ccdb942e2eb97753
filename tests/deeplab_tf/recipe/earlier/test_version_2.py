"""Recipes of version 2, whose ResNets gave the decoder an activated conv3."""

import dataclasses

import pytest

from deeplab_tf import zoo
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.recipe.as_json import from_tree, to_tree


def version_2(**options):
    """The tree of a recipe as version 2 wrote it."""
    recipe = zoo.RECIPES["quickstart_shapes"]
    if options:
        recipe = dataclasses.replace(recipe, model=DeepLabV3PlusConfig(**options))
    return {**to_tree(recipe), "version": 2}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backbone": "resnet_tiny"},
        {"backbone": "resnet_tiny", "decoder_features": ("conv3", "conv2"), "decoder": False},
        {"backbone": "xception_tiny", "decoder_features": ("conv3", "conv2")},
        {"backbone": "resnet_deep_stem_tiny", "decoder_features": ("conv3", "conv2")},
    ],
)
def test_a_recipe_whose_network_is_the_same_is_read(options):
    tree = version_2(**options)
    assert to_tree(from_tree(tree, zoo.PARTS)) == {**tree, "version": 3}


@pytest.mark.parametrize("features", [("conv3", "conv2"), ("conv3",)])
def test_weights_for_another_conv3_are_refused(features):
    tree = version_2(backbone="resnet_tiny", decoder_features=features)
    with pytest.raises(ValueError, match=r"^model\.decoder_features must not have conv3.*0\.5"):
        from_tree(tree, zoo.PARTS)


@pytest.mark.parametrize("model", [None, 1, "text", [[]]])
def test_a_network_that_is_no_object_is_refused(model):
    with pytest.raises(ValueError, match="^model must be an object; got"):
        from_tree({**version_2(), "model": model}, zoo.PARTS)
