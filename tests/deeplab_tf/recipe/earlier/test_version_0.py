"""Recipes of version 0.1, whose options were flat. Some are files in tests/expected/version_0."""

import dataclasses
import json

import pytest

from deeplab_tf import zoo
from deeplab_tf.data.augment import RandomColor, RandomCrop, RandomFlip, RandomScale, ResizeToRange
from deeplab_tf.data.datasets.folder import Folder
from deeplab_tf.data.datasets.release import Release
from deeplab_tf.data.datasets.shapes import Shapes
from deeplab_tf.data.datasets.tfds_catalog import TfdsCatalog
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.recipe.as_json import differences, from_tree, upgraded
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import SGD
from deeplab_tf.training.schedules import Poly
from jpu_tf.augment import CenterCrop, RandomBlur, RandomRotation, RandomShortSide
from jpu_tf.heads import ASPP, FCN, PSP, DeepLab, Encoding
from jpu_tf.sliding_window import SlidingWindow
from jpu_tf.upsamplers import FPN, JPU, JPUX, Bilinear, NoUpsampling


@pytest.fixture
def old(root):
    """A function: name of a file -> its tree, with sections of options changed."""

    def old(name: str, **sections):
        tree = json.loads((root / f"tests/expected/version_0/{name}.json").read_text())
        for section, options in sections.items():
            assert options.keys() <= tree[section].keys()
            tree[section] |= options
        return tree

    return old


def read(tree):
    return from_tree(tree, zoo.PARTS)


@pytest.mark.parametrize("name", ["quickstart_shapes", "fastfcn_quickstart_shapes"])
def test_a_quickstart_is_the_recipe_of_its_name(old, name):
    """--data.num_examples=64 --train.steps=60 and how often to log, save and evaluate."""
    recipe = zoo.RECIPES[name]
    often = {"eval_every": 30, "save_every": 30, "log_every": 5}
    expected = dataclasses.replace(
        recipe,
        dataset=Shapes(num_examples=64),
        train=recipe.train.replace(steps=60, **often),
    )
    assert read(old(name)) == expected


def test_flags_of_a_quickstart_are_its_options(old):
    """The flags were:

    --data.num_examples=64 --train.steps=40 --train.top_k_percent_pixels=0.5
    --data.augmentations=random_flip,random_scale,random_crop,random_color,random_blur
    --train.hard_example_mining_step=20 --train.class_weights=1,2,2,2,2
    --train.slow_start_steps=5 --train.lr_multipliers=backbone_:0.5,logits/bias:2
    --train.eval_every=20 --train.log_every=5
    """
    recipe = zoo.RECIPES["quickstart_shapes"]
    expected = dataclasses.replace(
        recipe,
        dataset=Shapes(num_examples=64),
        augment=(
            RandomFlip(),
            RandomScale(low=0.75, high=1.5, step=0.25),
            RandomCrop(size=128, pad_color=127.5, pad_label=None),
            RandomColor(strength=0.25),
            RandomBlur(),
        ),
        optimizer=SGD(
            momentum=0.9,
            weight_decay=4e-5,
            decay_on="kernels",
            lr_multipliers=(("backbone_", 0.5), ("logits/bias", 2.0)),
        ),
        schedule=Poly(base_lr=0.05, power=0.9, warmup_steps=5, warmup_lr=1e-4, warmup="constant"),
        loss=CrossEntropy(
            class_weights=(1.0, 2.0, 2.0, 2.0, 2.0),
            top_k_percent_pixels=0.5,
            hard_example_mining_step=20,
        ),
        train=recipe.train.replace(steps=40, eval_every=20, log_every=5),
    )
    assert read(old("mix")) == expected


@pytest.mark.parametrize(
    ("data", "dataset"),
    [
        ({"dataset": "voc2012"}, Release(name="voc2012")),
        ({"dataset": "pascal_context"}, Release(name="pascal_context")),
        (
            {"dataset": "tfds:oxford_iiit_pet/3", "class_names_file": "n.txt", "ignore_label": 0},
            TfdsCatalog(name="oxford_iiit_pet/3", class_names_file="n.txt", ignore_label=0),
        ),
        (
            {
                "dataset": "folder",
                "images_dir": "a",
                "labels_dir": "b",
                "val_images_dir": "c",
                "val_labels_dir": "d",
                "val_list": "e",
                "val_fraction": 0.5,
                "class_names_file": "f",
                "ignore_label": 7,
            },
            Folder(
                images_dir="a",
                labels_dir="b",
                val_images_dir="c",
                val_labels_dir="d",
                val_list="e",
                val_fraction=0.5,
                class_names_file="f",
                ignore_label=7,
            ),
        ),
    ],
)
def test_a_dataset_has_the_options_of_its_kind(old, data, dataset):
    assert read(old("mix", data=data)).dataset == dataset


def test_each_augmentation_has_the_options_that_it_used(old):
    data = {
        "augmentations": [
            "random_short_side", "random_rotation", "resize_to_range", "random_scale",
            "random_crop", "random_color", "center_crop", "random_blur", "random_flip",
        ],
        "scale_range": [0.5, 3],
        "scale_step": 0.5,
        "crop_size": 65,
        "base_size": 100,
        "pad_color": 99.5,
        "pad_label": 0,
        "color_jitter": 0.75,
        "resize_min_side": 10,
        "resize_max_side": None,
        "resize_factor": 8,
    }  # fmt: skip
    assert read(old("mix", data=data)).augment == (
        RandomShortSide(short_side=100, low=0.5, high=3),
        RandomRotation(pad_color=99, pad_label=0),
        ResizeToRange(min_side=10, max_side=None, factor=8),
        RandomScale(low=0.5, high=3, step=0.5),
        RandomCrop(size=65, pad_color=99.5, pad_label=0),
        RandomColor(strength=0.75),
        CenterCrop(size=65),
        RandomBlur(),
        RandomFlip(),
    )


def test_a_training_has_the_options_of_several_parts(old):
    data = {"batch_size": 5, "train_split": "trainaug", "on_bad_example": "skip"}
    train = {
        "steps": None,
        "epochs": 2.5,
        "end_lr": 0.01,
        "decay_steps": 7,
        "burn_in": "linear",
        "poly_power": 2,
        "momentum": 0.5,
        "weight_decay_on": "all",
        "loss_normalization": "replica",
        "seed": 9,
        "devices": ["CPU:0"],
        "max_to_keep": 1,
    }
    recipe = read(old("mix", data=data, train=train))
    assert (recipe.train.steps, recipe.train.epochs, recipe.train.batch_size) == (None, 2.5, 5)
    assert (recipe.train.split, recipe.train.on_bad_example) == ("trainaug", "skip")
    assert (recipe.train.loss_normalization, recipe.train.seed) == ("replica", 9)
    assert (recipe.train.devices, recipe.train.max_to_keep) == (("CPU:0",), 1)
    assert (recipe.schedule.power, recipe.schedule.end_lr) == (2, 0.01)
    assert (recipe.schedule.decay_steps, recipe.schedule.warmup) == (7, "linear")
    assert (recipe.optimizer.momentum, recipe.optimizer.decay_on) == (0.5, "all")


@pytest.mark.parametrize(
    ("options", "predict"),
    [
        (
            {"protocol": "whole_image", "pad_size": [9, 17], "output_stride": 8},
            WholeImage(pad_size=(9, 17), scales=(0.5, 1.0), flip=True, output_stride=8),
        ),
        (
            {"protocol": "sliding_window", "base_size": 300, "crop_size": 200},
            SlidingWindow(long_side=300, window_size=200, scales=(0.5, 1.0), flip=True),
        ),
    ],
)
def test_a_prediction_has_the_options_of_its_kind(old, options, predict):
    more = {"scales": [0.5, 1.0], "flip": True, "excluded_classes": [0], "split": "test"}
    recipe = read(old("mix", eval={**options, **more}))
    assert recipe.predict == predict
    assert (recipe.eval.split, recipe.eval.excluded_classes) == ("test", (0,))


_NO_CHANNELS = {"upsampler_channels": None, "head_channels": None}


@pytest.mark.parametrize(
    ("model", "upsampler", "head"),
    [
        (_NO_CHANNELS, JPU(), Encoding(dropout=0.1)),
        ({"jpu_final_conv": True}, JPU(channels=32, final_conv=True), Encoding(channels=64)),
        ({"se_weight": 0.0, "head_kernel_size": 3},
         JPU(channels=32), Encoding(channels=64, se_weight=0.0, kernel_size=3)),
        ({"upsampler": "none", "head_lateral": True},
         NoUpsampling(), Encoding(channels=64, lateral=True)),
        ({"upsampler": "bilinear"}, Bilinear(), Encoding(channels=64)),
        ({"upsampler": "fpn", **_NO_CHANNELS}, FPN(), Encoding()),
        ({"upsampler": "jpu_x", "upsampler_channels": 64},
         JPUX(channels=64), Encoding(channels=64)),
        ({"head": "aspp", "aspp_dropout": 0.25}, JPU(channels=32),
         ASPP(channels=64, aspp_dropout=0.25)),
        ({"head": "psp", "dropout": 0.5}, JPU(channels=32), PSP(channels=64, dropout=0.5)),
        ({"head": "fcn", **_NO_CHANNELS}, JPU(), FCN()),
        ({"head": "deeplab", "aspp_dropout": 0.25}, JPU(channels=32), DeepLab(channels=64)),
    ],
)  # fmt: skip
def test_a_fastfcn_has_an_upsampler_and_a_head(old, model, upsampler, head):
    found = read(old("fastfcn_quickstart_shapes", model=model)).model
    assert (found.upsampler, found.head) == (upsampler, head)
    assert (found.backbone, found.aux_weight) == ("resnet_deep_stem_tiny", 0.2)


def test_a_run_of_version_0_resumes_with_its_new_recipe(old):
    for name in ("quickstart_shapes", "fastfcn_quickstart_shapes", "mix"):
        recipe = read(old(name))
        assert differences(upgraded(old(name)), recipe) == []
        other = dataclasses.replace(recipe, schedule=recipe.schedule.replace(base_lr=1.0))
        assert differences(upgraded(old(name)), other) == ["schedule.base_lr: 0.05 -> 1.0"]


_JUNK = (None, 1, "text", [], [[]])


@pytest.mark.parametrize("section", ["model", "data", "train", "eval"])
def test_a_section_that_is_damaged_is_named(old, section):
    for junk in _JUNK:
        with pytest.raises(ValueError, match=f"^{section} must be an object; got "):
            read({**old("mix"), section: junk})
    tree = old("mix")
    del tree[section]
    with pytest.raises(ValueError, match=f"^{section} must be there|^version must be 3; got None"):
        read(tree)


def test_every_field_of_a_file_is_needed_or_of_another_kind(old):
    used = 0
    for name in ("mix", "fastfcn_quickstart_shapes"):
        for section in ("model", "data", "train", "eval"):
            for key in old(name)[section]:
                tree = old(name)
                del tree[section][key]
                try:
                    read(tree)
                except ValueError as error:
                    missing = str(error).startswith(f"{section}.{key} must be there; it is missing")
                    assert missing or f"{section}.kind must be" in str(error)
                    used += missing
    assert used > 80


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("data", "crop_sise", "unknown key of data 'crop_sise'; known: .*Did you mean 'crop_size'"),
        ("train", "step", "unknown key of train 'step'"),
        ("eval", "best", "unknown key of eval 'best'"),
        ("model", "decodr", "unknown option of model 'decodr'"),
    ],
)
def test_an_unknown_field_is_refused(old, section, key, message):
    tree = old("mix")
    tree[section][key] = 1
    with pytest.raises(ValueError, match=f"^{message}"):
        read(tree)


@pytest.mark.parametrize(
    ("section", "options", "message"),
    [
        ("data", {"dataset": 5}, "data.dataset must be text; got 5"),
        ("data", {"augmentations": "flip"}, "data.augmentations must be a list; got 'flip'"),
        (
            "data",
            {"augmentations": ["random_jump"]},
            r"unknown data.augmentations\[0\] 'random_jump'",
        ),
        ("data", {"scale_range": [1]}, "data.scale_range must be a list of 2; got"),
        ("data", {"scale_range": ["a", 1]}, r"data.scale_range\[0\] must be a number; got 'a'"),
        ("train", {"loss": "hinge"}, "train.loss must be one of cross_entropy; got 'hinge'"),
        ("eval", {"protocol": ["whole_image"]}, "eval.protocol must be one of whole_image, slid"),
    ],
)
def test_a_value_that_decides_about_others_is_refused_by_its_name(old, section, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read(old("mix", **{section: options}))


def test_any_other_bad_value_is_refused_by_its_new_name(old):
    with pytest.raises(ValueError, match="^schedule.base_lr must be a number; got 'fast'"):
        read(old("mix", train={"base_lr": "fast"}))
    with pytest.raises(ValueError, match="^unknown model.kind 'unet'"):
        read(old("mix", model={"kind": "unet"}))
