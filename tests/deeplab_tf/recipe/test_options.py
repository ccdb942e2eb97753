import dataclasses
from typing import ClassVar, Literal

import pytest

from deeplab_tf.recipe import options as config
from deeplab_tf.recipe import as_json as recipe_json
from deeplab_tf.recipe.options import DataConfig, EvalConfig, Recipe, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Net:
    """A model config; its network is not needed here."""

    kind: ClassVar[str] = "net"
    width: int = 8
    rates: tuple[int, ...] | None = None
    pairs: tuple[tuple[int, int], ...] = ((3, 256),)


RECIPE = Recipe(
    model=Net(rates=(6, 12)),
    data=DataConfig(scale_range=(0.5, 1.5)),
    train=TrainConfig(steps=10, lr_multipliers=(("decoder", 10.0),)),
    eval=EvalConfig(scales=(0.5, 1.0)),
    expected_mean_iou=51.05,
)


def test_lookup_names_what_is_known_and_the_closest():
    with pytest.raises(ValueError, match=r"unknown backbone 'resnet-50'; known: resnet50, xc") as e:
        config.lookup({"xception65": 1, "resnet50": 2}, "resnet-50", "backbone")
    assert str(e.value).endswith("Did you mean 'resnet50'?")


def test_lookup_guesses_nothing_where_nothing_is_close():
    with pytest.raises(ValueError) as error:
        config.lookup({"xception65": 1}, "zzz", "backbone")
    assert "Did you mean" not in str(error.value)


def test_json_gives_back_the_recipe():
    assert recipe_json.from_json(recipe_json.to_json(RECIPE), {"net": Net}) == RECIPE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"net"', '"nets"', "unknown model kind 'nets'"),
        ('"width"', '"widht"', "unknown field of Net 'widht'.*Did you mean 'width'"),
        ('"crop_size"', '"crop"', "unknown field of DataConfig 'crop'"),
        ('"crop_size": 513', '"crop_size": 0', "crop_size must be at least 1"),
    ],
)
def test_json_that_does_not_fit_says_what(old, new, message):
    text = recipe_json.to_json(RECIPE)
    assert old in text
    with pytest.raises(ValueError, match=message):
        recipe_json.from_json(text.replace(old, new), {"net": Net})


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (DataConfig, {"crop_size": 0}, "data.crop_size must be at least 1"),
        (DataConfig, {"batch_size": 0}, "data.batch_size must be at least 1"),
        (DataConfig, {"scale_range": (2.0, 0.5)}, "data.scale_range must be"),
        (DataConfig, {"scale_range": (0.0, 0.5)}, "data.scale_range must be"),
        (DataConfig, {"scale_step": -0.1}, "data.scale_step must not be negative"),
        (DataConfig, {"val_fraction": 1.0}, "data.val_fraction must be in"),
        (DataConfig, {"num_examples": 3}, "data.num_examples must be at least 4"),
        (TrainConfig, {}, "exactly one of train.steps and train.epochs.*steps=None"),
        (TrainConfig, {"steps": 1, "epochs": 2}, "exactly one of.*steps=1 and epochs=2"),
        (TrainConfig, {"steps": 0}, "length of training must be positive; got 0"),
        (TrainConfig, {"epochs": -1.0}, "length of training must be positive; got -1.0"),
        (TrainConfig, {"steps": 1, "save_every": 0}, "train.save_every must be at least 1"),
        (TrainConfig, {"steps": 1, "base_lr": -1.0}, "train.base_lr must not be negative"),
        (TrainConfig, {"steps": 9, "end_lr": -0.1}, "train.end_lr must not be negative"),
        (TrainConfig, {"steps": 9, "slow_start_lr": -0.1}, "train.slow_start_lr must not be neg"),
        (DataConfig, {"base_size": 1, "scale_range": (0.6, 2.0)}, "data.base_size times the"),
        (TrainConfig, {"steps": 9, "slow_start_steps": -1}, "train.slow_start_steps must not be"),
        (TrainConfig, {"steps": 9, "decay_steps": 0}, "train.decay_steps must be at least 1"),
        (TrainConfig, {"steps": 9, "class_weights": (1.0, -1.0)}, "class_weights must not be neg"),
        (TrainConfig, {"steps": 9, "top_k_percent_pixels": 0.0}, r"must be in \(0, 1\], 1 for"),
        (TrainConfig, {"steps": 9, "top_k_percent_pixels": 25.0}, "every pixel; got 25.0"),
        (TrainConfig, {"steps": 9, "hard_example_mining_step": 5}, "needs train.top_k_percent"),
        (DataConfig, {"resize_min_side": 0}, "data.resize_min_side must be at least 1"),
        (DataConfig, {"resize_max_side": 512}, "none or at least .*resize_min_side, 513; got 512"),
        (DataConfig, {"resize_factor": 0}, "data.resize_factor must be at least 1"),
        (EvalConfig, {"scales": ()}, "eval.scales must be one or more positive"),
        (EvalConfig, {"scales": (1.0, 0.0)}, "eval.scales must be one or more positive"),
    ],
)
def test_a_bad_value_is_refused(cls, fields, message):
    with pytest.raises(ValueError, match=message):
        cls(**fields)


def test_epochs_become_steps():
    assert TrainConfig(epochs=3).total_steps(num_examples=100, batch_size=8) == 38  # 37.5
    assert TrainConfig(epochs=0.001).total_steps(num_examples=100, batch_size=8) == 1
    assert TrainConfig(steps=7).total_steps(num_examples=100, batch_size=8) == 7


def test_slow_start_of_the_whole_training_is_refused():
    config = TrainConfig(epochs=2, slow_start_steps=20)
    assert config.total_steps(num_examples=105, batch_size=10) == 21
    with pytest.raises(ValueError, match="must be below the length of training, 20 steps; got 20"):
        config.total_steps(num_examples=100, batch_size=10)


def test_differences_are_those_a_resumed_run_may_not_have():
    data = dataclasses.replace(RECIPE.data, crop_size=65, images_dir="elsewhere")
    train = dataclasses.replace(RECIPE.train, save_every=1, base_lr=0.1)
    other = dataclasses.replace(RECIPE, model=Net(rates=(6, 12), width=4), data=data, train=train)
    assert recipe_json.differences(RECIPE, RECIPE) == []
    assert recipe_json.differences(RECIPE, other) == [
        "model.width: 8 -> 4",
        "data.crop_size: 513 -> 65",
        "train.base_lr: 0.007 -> 0.1",
    ]


def test_field_types_are_without_none():
    assert config.field_types(Net) == {
        "width": int,
        "rates": tuple[int, ...],
        "pairs": tuple[tuple[int, int], ...],
    }
    assert config.field_types(TrainConfig)["weight_decay_on"] == Literal["kernels", "all"]


def test_every_field_has_a_help_text():
    for cls in config.SECTIONS.values():
        for field in dataclasses.fields(cls):
            assert field.metadata["help"], f"{cls.__name__}.{field.name}"
