"""DeepLabv3+'s recipes: each fits its network, its dataset and a row of the paper's tables."""

import dataclasses

import pytest
import zoo
from benchmark_tables import TABLES

from deeplab_tf.recipe import as_json as recipe_json
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.data import DATASETS, RAW_DATASETS
from deeplab_tf.data.augment import augmenter
from deeplab_tf.training.losses import masked_cross_entropy
from deeplab_tf.training.optimizers import learning_rate_factors
from deeplab_tf.recipes import RECIPES
from deeplab_tf.released import RELEASED
from deeplab_tf.weights import weights_by_name

VOC = {name: r for name, r in RECIPES.items() if r.data.dataset == "voc2012"}
CITYSCAPES = {name: r for name, r in RECIPES.items() if r.data.dataset == "cityscapes"}
PUBLISHED = VOC | CITYSCAPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert recipe.model.backbone in BACKBONES
    assert recipe.data.dataset in DATASETS
    augmenter(recipe.data, ignore_label=255)  # raises if it does not know an augmentation
    assert recipe_json.from_json(recipe_json.to_json(recipe), zoo.MODEL_CONFIGS) == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_what_its_name_says(name):
    recipe = PUBLISHED[name]
    assert recipe.model.backbone in name
    assert recipe.data.dataset in name
    assert f"_os{recipe.model.output_stride}" in name
    assert name.startswith("deeplabv3plus_") == recipe.model.decoder
    assert name.endswith("_best") == recipe.eval.flip
    assert name.endswith("_no_pooling") != recipe.model.image_pooling
    assert 75 < recipe.expected_mean_iou < 85


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_splits_are_of_the_dataset(name):
    recipe = PUBLISHED[name]
    dataset = RAW_DATASETS[recipe.data.dataset]
    splits = {*dataset.joined, *(split for part in dataset.parts for split in part.splits)}
    assert {recipe.data.train_split, recipe.eval.split} <= splits


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_suit_the_output_stride(name):
    recipe = PUBLISHED[name]
    for side in (recipe.data.crop_size, *recipe.eval.pad_size):
        assert side % recipe.model.output_stride == 1


@pytest.mark.parametrize("name", VOC)
def test_a_recipe_for_voc_is_a_row_of_a_table(name):
    recipe = VOC[name]
    stride = recipe.eval.output_stride or recipe.model.output_stride
    evaluated = dataclasses.replace(recipe.model, output_stride=stride)
    (row,) = (
        row
        for table in (TABLES["deeplab3"], TABLES["deeplab5"])
        for row in table.rows
        if (row.train_output_stride, row.model) == (recipe.model.output_stride, evaluated)
        and (row.scales, row.flip) == (recipe.eval.scales, recipe.eval.flip)
        and ("COCO" in row.marks) == ("_coco_" in name)
        and "JFT" not in row.marks
    )
    assert row.mean_iou == recipe.expected_mean_iou


def test_a_recipe_for_cityscapes_scores_as_the_released_network():
    released = RELEASED["xception65_cityscapes_trainfine"]
    plain = RECIPES["deeplabv3plus_xception65_cityscapes_os16"]
    best = RECIPES["deeplabv3plus_xception65_cityscapes_os16_best"]
    assert plain.model == best.model == released.model
    for recipe, score in zip((plain, best), released.scores, strict=True):
        assert recipe.expected_mean_iou == score.mean_iou
        assert (recipe.eval.output_stride or 16) == score.output_stride
        assert (recipe.eval.scales, recipe.eval.flip) == (score.scales, score.flip)
        assert recipe.eval.pad_size == released.image_size


def test_the_classifier_s_bias_alone_learns_twice_as_fast():
    recipe = RECIPES["deeplabv3plus_xception65_voc2012_os16"]
    small = dataclasses.replace(
        recipe.model, backbone="resnet_tiny", aspp_channels=8, decoder_convs=((3, 8), (3, 8))
    )
    model = small.build(3, auxiliary=True)
    factors = learning_rate_factors(model, recipe.train.lr_multipliers)
    names = {id(weight): name for name, weight in weights_by_name(model).items()}
    doubled = {
        names[id(weight)]
        for weight, factor in zip(model.trainable_variables, factors, strict=True)
        if factor != 1.0
    }
    assert doubled == {"logits/bias"}
    assert max(factors) == 2.0
    assert recipe.model.losses(masked_cross_entropy).keys() == model.output.keys()


def test_published_recipes_are_trained_alike():
    multipliers = (("logits/bias", 2.0),)
    for name, recipe in PUBLISHED.items():
        assert (recipe.train.base_lr, recipe.data.batch_size) == (0.007, 16), name
        assert recipe.train.lr_multipliers == multipliers, name
        assert recipe.train.weight_decay == (1e-4 if "resnet" in name else 4e-5), name
