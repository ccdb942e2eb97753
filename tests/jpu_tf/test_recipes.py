"""FastFCN's recipes: each fits its network, its dataset and its paper."""

import dataclasses

import pytest

from deeplab_tf import camvid_recipes as deeplab_camvid_recipes
from deeplab_tf import imagenet_recipes, zoo
from deeplab_tf import recipes as deeplab_recipes
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.recipe import as_json
from deeplab_tf.training.optimizers import decay_factors, learning_rate_factors
from deeplab_tf.weights import weights_by_name
from jpu_tf import camvid_recipes as jpu_camvid_recipes
from jpu_tf import recipes as jpu_recipes
from jpu_tf.recipes import RECIPES
from jpu_tf.upsamplers import UPSAMPLERS

PUBLISHED = {name: r for name, r in RECIPES.items() if r.dataset.kind == "release"}


def test_no_name_is_given_twice():
    modules = (
        deeplab_recipes,
        imagenet_recipes,
        deeplab_camvid_recipes,
        jpu_recipes,
        jpu_camvid_recipes,
    )
    assert len(zoo.RECIPES) == sum(len(module.RECIPES) for module in modules)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert name.startswith("fastfcn_")
    assert recipe.model.backbone in BACKBONES
    assert as_json.from_json(as_json.to_json(recipe), zoo.PARTS) == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_what_its_name_says(name):
    recipe = PUBLISHED[name]
    model, multi_scale = recipe.model, len(recipe.predict.scales) > 1
    backbone = model.backbone.removesuffix("_deep_stem")
    parts = [backbone, recipe.dataset.name, model.head.kind, model.upsampler.kind]
    assert name.removesuffix("_test") == "_".join(["fastfcn", *parts] + ["ms"] * multi_scale)
    assert recipe.predict.flip == multi_scale
    if name.endswith("_test"):  # scored by a server
        assert recipe.expected_mean_iou is None and recipe.train.split == "trainval"
        return
    # Of no row of the paper less than that of bilinear upsampling.
    assert (30 if "ade20k" in name else 46) < recipe.expected_mean_iou < 55


@pytest.mark.parametrize("name", RECIPES)
def test_windows_have_the_size_of_the_training_crops(name):
    augment = {augmentation.kind: augmentation for augmentation in RECIPES[name].augment}
    assert augment["random_crop"].size == RECIPES[name].predict.window_size


def test_a_recipe_trains_as_long_as_the_paper_says():
    pascal_context = RECIPES["fastfcn_resnet50_pascal_context_encoding_jpu"]
    ade20k = RECIPES["fastfcn_resnet50_ade20k_encoding_jpu_ms"]
    for recipe, epochs in ((pascal_context, 80), (ade20k, 120)):
        (part,) = (p for p in RELEASES[recipe.dataset.name].parts if "train" in p.splits)
        images = part.splits["train"]
        assert recipe.train.total_steps(images) * 16 == pytest.approx(epochs * images, abs=16)


_COMBINATIONS = {(r.model.upsampler.kind, r.model.head.kind): r for r in PUBLISHED.values()}


@pytest.mark.parametrize("combination", _COMBINATIONS)
def test_new_layers_learn_ten_times_as_fast_and_every_weight_decays(combination, tiny, loss):
    recipe = _COMBINATIONS[combination]
    upsampler, head = combination
    model = tiny(upsampler=upsampler, head=head).build(3, auxiliary=True)
    factors = learning_rate_factors(model, recipe.optimizer.lr_multipliers)
    names = {id(weight): name for name, weight in weights_by_name(model).items()}
    for weight, factor in zip(model.trainable_variables, factors, strict=True):
        name = names[id(weight)]
        assert factor == (1.0 if name.startswith("backbone_") else 10.0), name
    assert set(decay_factors(model, recipe.optimizer)) == {1e-4}
    assert recipe.model.losses(loss).keys() == model.output.keys()


def test_the_auxiliary_losses_have_the_released_weights(loss):
    jpu = RECIPES["fastfcn_resnet50_pascal_context_encoding_jpu"].model
    weights = {name: weight for name, (_, weight) in jpu.losses(loss).items()}
    assert weights == {"logits": 1.0, "aux_logits": 0.2, "se_logits": 0.2}


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_the_quickstart_needs_no_other_flag_for_another_upsampler(upsampler):
    recipe = RECIPES["fastfcn_quickstart_shapes"]
    config = dataclasses.replace(recipe.model, upsampler=upsampler)
    model = config.build(5, auxiliary=True)
    learning_rate_factors(model, recipe.optimizer.lr_multipliers)
