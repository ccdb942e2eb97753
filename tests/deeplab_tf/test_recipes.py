"""DeepLabv3+'s recipes: each fits its network, its dataset and a row of the paper's tables."""

import dataclasses

import pytest

from deeplab_tf import zoo
from deeplab_tf.backbones import BACKBONES
from deeplab_tf.data.datasets.release import RELEASES
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe.parts import Recipe
from deeplab_tf.recipes import RECIPES
from deeplab_tf.released import RELEASED
from deeplab_tf.training.optimizers import learning_rate_factors
from deeplab_tf.weights import weights_by_name

VOC = {n: r for n, r in RECIPES.items() if "_voc2012_" in n}
CITYSCAPES = {n: r for n, r in RECIPES.items() if "_cityscapes_" in n}
PUBLISHED = VOC | CITYSCAPES

# Every option of every recipe, as published results were trained; rows below change some.
_OPTIONS = {
    "model": "deeplabv3plus",
    "model.backbone": "xception65",
    "model.output_stride": 16,
    "model.atrous_rates": None,
    "model.multi_grid": None,
    "model.image_pooling": True,
    "model.aspp_channels": 256,
    "model.decoder": True,
    "model.low_level_channels": 48,
    "model.decoder_features": ("conv2",),
    "model.decoder_convs": ((3, 256), (3, 256)),
    "model.separable": True,
    "model.decoder_separable": None,
    "model.dropout": 0.1,
    "model.upsample_logits": True,
    "model.batch_norm": "synchronized",
    "model.batch_norm_momentum": None,
    "dataset": "release",
    "augment": ("random_scale", "random_crop", "random_flip"),
    "augment.random_scale.low": 0.5,
    "augment.random_scale.high": 2.0,
    "augment.random_scale.step": 0.25,
    "augment.random_crop.size": 513,
    "augment.random_crop.pad_color": 127.5,
    "augment.random_crop.pad_label": None,
    "augment.random_crop.pad_rgb": None,
    "augment.random_crop.width": None,
    "optimizer": "sgd",
    "optimizer.weight_decay": 4e-5,
    "optimizer.decay_on": "kernels",
    "optimizer.clip_norm": None,
    "optimizer.lr_multipliers": (("logits/bias", 2.0),),
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "schedule": "poly",
    "schedule.base_lr": 0.007,
    "schedule.warmup_steps": 0,
    "schedule.warmup_lr": 1e-4,
    "schedule.warmup": "constant",
    "schedule.power": 0.9,
    "schedule.end_lr": 0.0,
    "schedule.decay_steps": None,
    "loss": "cross_entropy",
    "loss.class_weights": (),
    "loss.class_balance": "none",
    "loss.class_balance_power": 1.0,
    "loss.label_smoothing": 0.0,
    "loss.top_k_percent_pixels": 1.0,
    "loss.hard_example_mining_step": 0,
    "train.steps": 30_000,
    "train.epochs": None,
    "train.batch_size": 16,
    "train.split": "train",
    "train.seed": 1,
    "train.loss_normalization": "global",
    "train.on_bad_example": "fail",
    "train.devices": (),
    "train.strategy": "auto",
    "train.accumulation_steps": 1,
    "train.scale_lr": False,
    "train.ema_decay": None,
    "train.precision": "float32",
    "train.remat": False,
    "train.jit_compile": False,
    "train.recover": False,
    "train.patience": None,
    "train.log_every": 20,
    "train.save_every": 1_000,
    "train.eval_every": 5_000,
    "train.max_to_keep": 3,
    "predict": "whole_image",
    "predict.scales": (1.0,),
    "predict.flip": False,
    "predict.output_stride": None,
    "predict.pad_size": None,
    "predict.tile": None,
    "eval.split": "val",
    "eval.excluded_classes": (),
    "eval.absent_classes": "exclude",
    "eval.best_metric": "mean_iou",
    "eval.trimap_widths": (),
    "eval.boundary_iou": False,
    "expected_mean_iou": None,
}
_VOC = {"dataset.name": "voc2012", "train.split": "trainaug", "predict.pad_size": (513, 513)}
_CITYSCAPES = {
    "dataset.name": "cityscapes",
    "augment.random_crop.size": 769,
    "train.steps": 90_000,
    "predict.pad_size": (1025, 2049),
}
_VOC_BEST = {
    **_VOC,
    "predict.scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    "predict.flip": True,
    "predict.output_stride": 8,
    "train.eval_every": 30_000,
}
_CITYSCAPES_BEST = {
    **_CITYSCAPES,
    "predict.scales": (0.75, 1.0, 1.25),
    "predict.flip": True,
    "predict.output_stride": 8,
    "train.eval_every": 90_000,
}
_OS32 = {"model.output_stride": 32, "train.batch_size": 24}
_CONV = {"model.decoder_convs": ((3, 256),)}
_FROM_COCO = {"schedule.base_lr": 1e-4}
_SECOND_STAGE = {
    "model.output_stride": 8,
    "model.batch_norm": "frozen",
    "schedule.base_lr": 1e-3,
}
_NO_DECODER = {"model.decoder": False}
_NOT_SEPARABLE = {"model.separable": False}
_NO_POOLING = {"model.image_pooling": False}
_RESNET101 = {
    **_NOT_SEPARABLE,
    "model.backbone": "resnet101",
    "optimizer.weight_decay": 1e-4,
}
_QUICKSTART = {
    "model.backbone": "mobilenet_v2_tiny",
    "model.atrous_rates": (1, 2, 4),
    "model.aspp_channels": 64,
    "model.low_level_channels": 24,
    "model.decoder_convs": ((3, 64), (3, 64)),
    "model.batch_norm_momentum": 0.97,
    "dataset": "shapes",
    "dataset.num_examples": 1000,
    "augment.random_scale.low": 0.75,
    "augment.random_scale.high": 1.5,
    "augment.random_crop.size": 128,
    "optimizer.lr_multipliers": (),
    "schedule.base_lr": 0.05,
    "train.steps": None,
    "train.epochs": 20,
    "train.batch_size": 8,
    "train.save_every": 500,
    "train.eval_every": 500,
}
_FINETUNE = {
    "model.backbone": "mobilenet_v2",
    "model.atrous_rates": (4, 8, 12),
    "model.batch_norm_momentum": 0.99,
    "dataset": "folder",
    "dataset.images_dir": None,
    "dataset.labels_dir": None,
    "dataset.val_images_dir": None,
    "dataset.val_labels_dir": None,
    "dataset.val_list": None,
    "dataset.val_fraction": 0.2,
    "dataset.colors_file": None,
    "dataset.label_suffix": "",
    "dataset.class_names_file": None,
    "dataset.ignore_label": 255,
    "augment.random_crop.size": 321,
    "optimizer.lr_multipliers": (("backbone_", 0.3),),
    "schedule.base_lr": 0.02,
    "train.steps": None,
    "train.epochs": 40,
    "train.batch_size": 8,
    "train.save_every": 200,
    "train.eval_every": 400,
}
# Recipe -> (what differs from _OPTIONS, expected mean IoU in percent).
_ROWS = {
    "quickstart_shapes": (_QUICKSTART, None),
    "quickstart_shapes_no_decoder": (_QUICKSTART | _NO_DECODER, None),
    "deeplabv3plus_mobilenet_v2_finetune": (_FINETUNE, None),
    "deeplabv3plus_resnet101_voc2012_os16_conv": (_VOC | _RESNET101 | _CONV, 78.21),
    **{
        f"deeplabv3plus_resnet101_voc2012_os16_conv_low_level_{channels}": (
            _VOC | _RESNET101 | _CONV | {"model.low_level_channels": channels},
            mean_iou,
        )
        for channels, mean_iou in ((8, 77.61), (16, 77.92), (32, 78.16), (64, 77.94))
    },
    "deeplabv3plus_resnet101_voc2012_os16_three_convs": (
        _VOC | _RESNET101 | {"model.decoder_convs": ((3, 256), (3, 256), (3, 256))},
        78.02,
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_128": (
        _VOC | _RESNET101 | {"model.decoder_convs": ((3, 128),)},
        77.25,
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv_1x1": (
        _VOC | _RESNET101 | {"model.decoder_convs": ((1, 256),)},
        78.07,
    ),
    "deeplabv3plus_resnet101_voc2012_os16_conv3_conv2": (
        _VOC | _RESNET101 | _CONV | {"model.decoder_features": ("conv3", "conv2")},
        78.61,
    ),
    "deeplabv3_resnet101_voc2012_os16": (_VOC | _RESNET101 | _NO_DECODER, 77.21),
    "deeplabv3_resnet101_voc2012_os32": (_VOC | _RESNET101 | _NO_DECODER | _OS32, 75.43),
    "deeplabv3plus_resnet101_voc2012_os16": (_VOC | _RESNET101, 78.85),
    "deeplabv3plus_resnet101_voc2012_os16_best": (_VOC_BEST | _RESNET101, 80.57),
    "deeplabv3plus_resnet101_voc2012_os32": (_VOC | _RESNET101 | _OS32, 77.37),
    "deeplabv3_xception65_voc2012_os16": (_VOC | _NOT_SEPARABLE | _NO_DECODER, 79.17),
    "deeplabv3plus_xception65_voc2012_os16_not_separable": (_VOC | _NOT_SEPARABLE, 79.93),
    "deeplabv3plus_xception65_voc2012_os16": (_VOC, 79.79),
    "deeplabv3plus_xception65_voc2012_os16_best": (_VOC_BEST, 81.39),
    "deeplabv3plus_xception65_coco_voc_os16": (
        {"dataset.name": "coco_voc", "train.steps": None, "train.epochs": 30},
        None,
    ),
    "deeplabv3plus_xception65_coco_voc2012_os16": (_VOC | _FROM_COCO, 82.20),
    "deeplabv3plus_xception65_coco_voc2012_os16_best": (_VOC_BEST | _FROM_COCO, 83.58),
    "deeplabv3plus_xception65_coco_voc2012_os8_test": (
        _VOC_BEST | _SECOND_STAGE | {"train.split": "trainval_hard"},
        None,
    ),
    "deeplabv3_xception65_cityscapes_os16": (_CITYSCAPES | _NO_DECODER, 77.33),
    "deeplabv3plus_xception65_cityscapes_os16": (_CITYSCAPES, 78.79),
    "deeplabv3plus_xception65_cityscapes_os16_no_pooling": (_CITYSCAPES | _NO_POOLING, 79.14),
    "deeplabv3plus_xception71_cityscapes_os16_no_pooling": (
        _CITYSCAPES | _NO_POOLING | {"model.backbone": "xception71"},
        79.55,
    ),
    "deeplabv3plus_xception71_cityscapes_os8_no_pooling_test": (
        _CITYSCAPES_BEST
        | _NO_POOLING
        | _SECOND_STAGE
        | {"model.backbone": "xception71", "train.split": "trainval_extra"},
        None,
    ),
    "deeplabv3plus_xception65_cityscapes_os16_best": (_CITYSCAPES_BEST, 80.42),
}


def _flat(recipe: Recipe) -> dict:
    """Flag -> value."""
    flat = {"augment": tuple(part.kind for part in recipe.augment)}
    parts = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    parts |= {f"augment.{part.kind}": part for part in parts.pop("augment")}
    for name, part in parts.items():
        if not dataclasses.is_dataclass(part):
            flat[name] = part
            continue
        if hasattr(part, "kind") and not name.startswith("augment."):
            flat[name] = part.kind
        flat |= {f"{name}.{f.name}": getattr(part, f.name) for f in dataclasses.fields(part)}
    return flat


def test_every_option_of_every_recipe_has_its_value():
    assert _ROWS.keys() == RECIPES.keys()
    for name, (changes, mean_iou) in _ROWS.items():
        expected = {**_OPTIONS, **changes, "expected_mean_iou": mean_iou}
        assert _flat(RECIPES[name]) == expected, name


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_exists(name):
    recipe = RECIPES[name]
    assert recipe.model.backbone in BACKBONES
    assert as_json.from_json(as_json.to_json(recipe), zoo.PARTS) == recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_is_what_its_name_says(name):
    recipe = PUBLISHED[name]
    assert recipe.model.backbone in name
    assert recipe.dataset.name in name
    assert f"_os{recipe.model.output_stride}" in name
    assert name.startswith("deeplabv3plus_") == recipe.model.decoder
    assert name.endswith(("_best", "_test")) == recipe.predict.flip
    assert ("_no_pooling" in name) != recipe.model.image_pooling
    if name.endswith("_test"):  # scored by a server
        assert recipe.expected_mean_iou is None and recipe.model.batch_norm == "frozen"
    else:
        assert 75 < recipe.expected_mean_iou < 85


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_splits_are_of_the_dataset(name):
    recipe = PUBLISHED[name]
    dataset = RELEASES[recipe.dataset.name]
    splits = {*dataset.joined, *(split for part in dataset.parts for split in part.splits)}
    assert {recipe.train.split, recipe.eval.split} <= splits


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_suit_the_output_stride(name):
    recipe = PUBLISHED[name]
    (crop,) = (part for part in recipe.augment if part.kind == "random_crop")
    for side in (crop.size, *recipe.predict.pad_size):
        assert side % recipe.model.output_stride == 1


def test_a_recipe_for_cityscapes_scores_as_the_released_network():
    released = RELEASED["xception65_cityscapes_trainfine"]
    plain = RECIPES["deeplabv3plus_xception65_cityscapes_os16"]
    best = RECIPES["deeplabv3plus_xception65_cityscapes_os16_best"]
    assert plain.model == best.model == released.model
    for recipe, score in zip((plain, best), released.scores, strict=True):
        assert recipe.expected_mean_iou == score.mean_iou
        assert (recipe.predict.output_stride or 16) == score.output_stride
        assert (recipe.predict.scales, recipe.predict.flip) == (score.scales, score.flip)
        assert recipe.predict.pad_size == released.image_size


def test_the_classifiers_bias_alone_learns_twice_as_fast():
    recipe = RECIPES["deeplabv3plus_xception65_voc2012_os16"]
    small = recipe.model.replace(
        backbone="resnet_tiny", aspp_channels=8, decoder_convs=((3, 8), (3, 8))
    )
    model = small.build(3, auxiliary=True)
    factors = learning_rate_factors(model, recipe.optimizer.lr_multipliers)
    names = {id(weight): name for name, weight in weights_by_name(model).items()}
    doubled = {
        names[id(weight)]
        for weight, factor in zip(model.trainable_variables, factors, strict=True)
        if factor != 1.0
    }
    assert doubled == {"logits/bias"}
    assert max(factors) == 2.0
    assert recipe.model.losses(recipe.loss).keys() == model.output.keys()
