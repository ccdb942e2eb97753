"""FastFCN's recipes: each fits its network, its dataset and its paper."""

import dataclasses

import pytest
import zoo

from deeplab_tf.recipe import as_json as recipe_json
from deeplab_tf import recipes as deeplab_recipes
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.data import DATASETS, RAW_DATASETS
from deeplab_tf.data.augment import augmenter
from deeplab_tf.training.losses import masked_cross_entropy
from deeplab_tf.training.optimizers import decayed_weights, learning_rate_factors
from deeplab_tf.weights import weights_by_name
from jpu_tf.recipes import RECIPES

PUBLISHED = {name: r for name, r in RECIPES.items() if r.data.dataset != "shapes"}


def test_no_name_is_given_twice():
    assert len(zoo.RECIPES) == len(RECIPES) + len(deeplab_recipes.RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert name.startswith("fastfcn_")
    assert recipe.model.backbone in BACKBONES
    assert recipe.data.dataset in DATASETS
    augmenter(recipe.data, ignore_label=255)  # raises if it does not know an augmentation
    assert recipe_json.from_json(recipe_json.to_json(recipe), zoo.MODEL_CONFIGS) == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_what_its_name_says(name):
    recipe = PUBLISHED[name]
    backbone = recipe.model.backbone.removesuffix("_deep_stem")
    parts = [backbone, recipe.data.dataset, recipe.model.head, recipe.model.upsampler]
    assert name == "_".join(["fastfcn", *parts] + ["ms"] * (len(recipe.eval.scales) > 1))
    assert recipe.eval.flip == (len(recipe.eval.scales) > 1)
    # Of no row of the paper less than that of bilinear upsampling.
    assert (30 if "ade20k" in name else 46) < recipe.expected_mean_iou < 55


def test_a_recipe_trains_as_long_as_the_paper_says():
    pascal_context = RECIPES["fastfcn_resnet50_pascal_context_encoding_jpu"]
    ade20k = RECIPES["fastfcn_resnet50_ade20k_encoding_jpu_ms"]
    for recipe, epochs in ((pascal_context, 80), (ade20k, 120)):
        (part,) = (p for p in RAW_DATASETS[recipe.data.dataset].parts if "train" in p.splits)
        images = part.splits["train"]
        steps = recipe.train.total_steps(images, recipe.data.batch_size)
        assert steps * 16 == pytest.approx(epochs * images, abs=16)


_COMBINATIONS = {
    (r.model.upsampler, r.model.head): r for r in RECIPES.values() if r.data.dataset != "shapes"
}


@pytest.mark.parametrize("upsampler_and_head", _COMBINATIONS)
def test_what_is_new_learns_ten_times_as_fast_and_every_weight_decays(upsampler_and_head):
    recipe = _COMBINATIONS[upsampler_and_head]
    small = dataclasses.replace(
        recipe.model, backbone="resnet_deep_stem_tiny", upsampler_channels=8, head_channels=8
    )
    model = small.build(3, auxiliary=True)
    factors = learning_rate_factors(model, recipe.train.lr_multipliers)
    names = {id(weight): name for name, weight in weights_by_name(model).items()}
    for weight, factor in zip(model.trainable_variables, factors, strict=True):
        name = names[id(weight)]
        assert factor == (1.0 if name.startswith("backbone_") else 10.0), name
    decayed = decayed_weights(model, recipe.train.weight_decay_on)
    assert len(decayed) == len(model.trainable_variables)
    assert recipe.model.losses(masked_cross_entropy).keys() == model.output.keys()


def test_the_auxiliary_losses_have_the_released_weights():
    jpu = RECIPES["fastfcn_resnet50_pascal_context_encoding_jpu"].model
    weights = {name: weight for name, (_, weight) in jpu.losses(masked_cross_entropy).items()}
    assert weights == {"logits": 1.0, "aux_logits": 0.2, "se_logits": 0.2}


def test_the_quickstart_needs_no_other_flag_for_another_upsampler():
    recipe = RECIPES["fastfcn_quickstart_shapes"]
    for upsampler in ("none", "bilinear", "fpn"):
        model = dataclasses.replace(recipe.model, upsampler=upsampler).build(5, auxiliary=True)
        learning_rate_factors(model, recipe.train.lr_multipliers)
