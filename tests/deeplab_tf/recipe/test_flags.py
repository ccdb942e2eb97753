import dataclasses
from typing import Any, ClassVar, Literal

import pytest
from absl import flags

from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.options import DataConfig, Recipe, TrainConfig


def option(default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": "an option"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small:
    kind: ClassVar[str] = "small"
    stride: Literal[8, 16] = option(16)
    mode: Literal["a", "b"] = option("a")
    rates: tuple[int, ...] | None = option(None)
    convs: tuple[tuple[int, int], ...] = option(())
    deep: bool = option(False)

    def __post_init__(self):
        if self.rates == (0,):
            raise ValueError("rates must be positive.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other:
    kind: ClassVar[str] = "other"
    stride: Literal[8, 16] = option(8)
    head: str = option("psp")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clashing:
    kind: ClassVar[str] = "clashing"
    stride: int = option(8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free:
    kind: ClassVar[str] = "free"
    stride: Literal[8, 16] | None = option(8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unwritable:
    table: dict[str, int] | None = option(None)


RECIPES = {
    "small_shapes": Recipe(
        model=Small(rates=(6, 12)),
        data=DataConfig(images_dir="photos"),
        train=TrainConfig(steps=100, lr_multipliers=(("head", 2.0),)),
        expected_mean_iou=50.0,
    ),
    "other_shapes": Recipe(model=Other(), data=DataConfig(), train=TrainConfig(epochs=2)),
}


def recipe_of(*arguments: str, recipe: str = "small_shapes") -> Recipe:
    values = flags.FlagValues()
    recipe_flags.define(Small, Other, flag_values=values)
    values(["program", f"--recipe={recipe}", *arguments])
    return recipe_flags.recipe_from_flags(RECIPES, values)


def test_without_flags_it_is_the_recipe():
    assert recipe_of() == RECIPES["small_shapes"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--data.crop_size=65", 65),
        ("--train.base_lr=1e-3", 0.001),
        ("--train.base_lr=1", 1.0),
        ("--data.dataset=folder", "folder"),
        ("--data.labels_dir=a,b=c", "a,b=c"),
        ("--data.images_dir=none", None),
        ("--data.dataset=none", "none"),
        ("--eval.flip", True),
        ("--eval.flip=true", True),
        ("--noeval.flip", False),
        ("--eval.flip=false", False),
        ("--train.weight_decay_on=all", "all"),
        ("--model.stride=8", 8),
        ("--model.mode=b", "b"),
        ("--model.rates=1,2,3", (1, 2, 3)),
        ("--model.rates=1, 2", (1, 2)),
        ("--model.rates=7", (7,)),
        ("--model.rates=()", ()),
        ("--model.rates=", ()),
        ("--model.rates=none", None),
        ("--model.convs=3:256,1:64", ((3, 256), (1, 64))),
        ("--model.convs=()", ()),
        ("--data.scale_range=0.5,2", (0.5, 2.0)),
        ("--data.augmentations=random_flip", ("random_flip",)),
        ("--data.augmentations=", ()),
        ("--train.lr_multipliers=decoder:10,logits:0.5", (("decoder", 10.0), ("logits", 0.5))),
        ("--eval.output_stride=none", None),
        ("--eval.excluded_classes=0,3", (0, 3)),
    ],
)
def test_a_flag_sets_its_field(argument, value):
    section, name = argument.split("=")[0].removeprefix("--").removeprefix("no").split(".")
    given = getattr(getattr(recipe_of(argument), section), name)
    assert given == value
    assert type(given) is type(value)


def test_a_flag_sets_its_field_alone():
    old, new = RECIPES["small_shapes"], recipe_of("--data.crop_size=65")
    assert new == dataclasses.replace(old, data=dataclasses.replace(old.data, crop_size=65))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--data.crop_size=6.5", "--data.crop_size=6.5: expected integer; got '6.5'"),
        ("--data.crop_size=none", "expected integer; got 'none'"),
        ("--train.base_lr=fast", "expected number; got 'fast'"),
        ("--train.base_lr=nan", "expected number; got 'nan'"),
        ("--model.stride=4", r"expected 8\|16; got '4'"),
        ("--train.weight_decay_on=some", r"expected kernels\|all; got 'some'"),
        ("--model.rates=1,x", "expected integer; got 'x'"),
        ("--model.rates=1,", "expected integer; got ''"),
        ("--data.augmentations=random_flip,", "expected text; got ''"),
        ("--data.scale_range=1", "expected number,number; got '1'"),
        ("--data.scale_range=1,2,3", "expected number,number; got '1,2,3'"),
        ("--model.convs=3", "expected integer:integer; got '3'"),
        ("--train.lr_multipliers=decoder", "expected text:number; got 'decoder'"),
        ("--data.crop_siz=65", "Unknown command line flag 'data.crop_siz'. Did you mean: data.cr"),
    ],
)
def test_a_value_that_does_not_parse_names_flag_and_form(argument, message):
    with pytest.raises(flags.Error, match=message):
        recipe_of(argument)


def test_the_result_is_validated_like_any_recipe():
    with pytest.raises(ValueError, match="data.crop_size must be at least 1"):
        recipe_of("--data.crop_size=0")
    with pytest.raises(ValueError, match="rates must be positive"):
        recipe_of("--model.rates=0")


def test_one_length_of_training_takes_back_the_other():
    assert recipe_of("--train.epochs=3").train.steps is None
    assert recipe_of("--train.epochs=3").train.epochs == 3
    assert recipe_of("--train.steps=3", recipe="other_shapes").train.epochs is None
    with pytest.raises(ValueError, match="exactly one of train.steps and train.epochs"):
        recipe_of("--train.steps=3", "--train.epochs=3")
    with pytest.raises(ValueError, match="exactly one of train.steps and train.epochs"):
        recipe_of("--train.steps=none")


def test_a_flag_of_another_architecture_is_an_error():
    with pytest.raises(ValueError) as error:
        recipe_of("--model.head=aspp")
    assert str(error.value) == (
        "--model.head does not apply to Small (fields: stride, mode, rates, convs, deep)."
    )
    assert recipe_of("--model.head=aspp", recipe="other_shapes").model.head == "aspp"


def test_an_unknown_recipe_suggests_the_closest():
    with pytest.raises(ValueError, match="unknown recipe 'smal_shapes'.*mean 'small_shapes'"):
        recipe_of(recipe="smal_shapes")


def test_no_recipe_lists_all():
    values = flags.FlagValues()
    recipe_flags.define(Small, flag_values=values)
    values(["program"])
    with pytest.raises(ValueError, match="--recipe is missing; known: other_shapes, small_shapes"):
        recipe_flags.recipe_from_flags(RECIPES, values)


def test_one_section_alone():
    values = flags.FlagValues()
    recipe_flags.define_section("data", DataConfig, flag_values=values)
    values(["program", "--data.ignore_label=0"])
    assert "train.steps" not in values
    data = recipe_flags.section_from_flags("data", DataConfig(crop_size=65), values)
    assert data == DataConfig(crop_size=65, ignore_label=0)


def test_two_types_of_one_model_field_are_refused():
    with pytest.raises(TypeError, match="--model.stride must have one type; Clashing"):
        recipe_flags.define(Small, Clashing, flag_values=flags.FlagValues())


@pytest.mark.parametrize("classes", [(Small, Free), (Free, Small)])
def test_none_is_for_the_architecture_that_takes_it(classes):
    values = flags.FlagValues()
    recipe_flags.define(*classes, flag_values=values)
    values(["program", "--model.stride=none"])
    assert recipe_flags.section_from_flags("model", Free(), values) == Free(stride=None)
    with pytest.raises(ValueError, match=r"--model.stride of Small must be 8\|16; got none"):
        recipe_flags.section_from_flags("model", Small(), values)


def test_a_type_without_a_form_is_refused():
    with pytest.raises(TypeError, match="cannot be given on the command line"):
        recipe_flags.define_section("model", Unwritable, flag_values=flags.FlagValues())
