import dataclasses
from typing import ClassVar, Literal

import pytest
from absl import flags

from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.options import Options, option
from deeplab_tf.recipe.parts import Recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clashing(Options):
    kind: ClassVar[str] = "clashing"

    stride: int = option(8, "a stride")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Free(Options):
    kind: ClassVar[str] = "free"

    stride: Literal[8, 16] | None = option(8, "a stride")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unwritable(Options):
    kind: ClassVar[str] = "unwritable"

    table: dict[str, int] | None = option(None, "a table")


@pytest.fixture
def recipe_of(parts, recipes):
    """A function: arguments of the command line -> the recipe."""

    def recipe_of(*arguments: str, recipe: str = "small_photos") -> Recipe:
        values = flags.FlagValues()
        recipe_flags.define_recipe(values)
        recipe_flags.define(parts, values)
        values(["program", f"--recipe={recipe}", *arguments])
        return recipe_flags.recipe_from_flags(recipes, parts, values)

    return recipe_of


def defined(parts) -> flags.FlagValues:
    values = flags.FlagValues()
    recipe_flags.define(parts, values)
    return values


def test_without_flags_it_is_the_recipe(recipe_of, recipes):
    for name, recipe in recipes.items():
        assert recipe_of(recipe=name) == recipe


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--train.batch_size=65", 65),
        ("--schedule.base_lr=1e-3", 0.001),
        ("--schedule.base_lr=1", 1.0),
        ("--dataset.images_dir=a,b=c", "a,b=c"),
        ("--dataset.images_dir=none", None),
        ("--dataset.images_dir=", ""),
        ("--train.split=none", "none"),
        ("--predict.flip", True),
        ("--predict.flip=true", True),
        ("--nopredict.flip", False),
        ("--predict.flip=false", False),
        ("--optimizer.decay_on=all", "all"),
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
        ("--dataset.names=sky,road", ("sky", "road")),
        ("--dataset.names=", ()),
        ("--predict.scales=0.5,2", (0.5, 2.0)),
        ("--optimizer.lr_multipliers=decoder:10,logits:0.5", (("decoder", 10.0), ("logits", 0.5))),
        ("--train.loss_normalization=replica", "replica"),
        ("--eval.excluded_classes=0,3", (0, 3)),
    ],
)
def test_a_flag_sets_its_option(recipe_of, argument, value):
    part, name = argument.split("=")[0].removeprefix("--").removeprefix("no").split(".")
    given = getattr(getattr(recipe_of(argument), part), name)
    assert given == value
    assert type(given) is type(value)


def test_a_flag_sets_its_option_alone(recipe_of, recipe):
    expected = dataclasses.replace(recipe, schedule=recipe.schedule.replace(base_lr=0.5))
    assert recipe_of("--schedule.base_lr=0.5") == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--train.batch_size=6.5", "--train.batch_size=6.5: expected integer; got '6.5'"),
        ("--train.batch_size=none", "expected integer; got 'none'"),
        ("--schedule.base_lr=fast", "expected number; got 'fast'"),
        ("--schedule.base_lr=nan", "expected number; got 'nan'"),
        ("--schedule.base_lr=1e999", "expected number; got '1e999'"),
        ("--schedule=cosin", r"expected poly\|cosine\|step; got 'cosin'"),
        ("--model.stride=4", r"expected 8\|16; got '4'"),
        ("--optimizer.decay_on=some", r"expected kernels\|all; got 'some'"),
        ("--model.rates=1,x", "expected integer; got 'x'"),
        ("--model.rates=1,", "expected integer; got ''"),
        ("--dataset.names=sky,", "expected text; got ''"),
        ("--model.convs=3", "expected integer:integer; got '3'"),
        ("--model.convs=1:2:3", "expected integer:integer; got '1:2:3'"),
        ("--optimizer.lr_multipliers=decoder", "expected text:number; got 'decoder'"),
        ("--predict.flip=maybe", "flag --predict.flip=maybe"),
        ("--augment=crop,", "expected text; got ''"),
        (
            "--train.batch_siz=65",
            "Unknown command line flag 'train.batch_siz'. Did you mean: train",
        ),
    ],
)
def test_a_value_that_does_not_parse_names_flag_and_form(recipe_of, argument, message):
    with pytest.raises(flags.Error, match=message):
        recipe_of(argument)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--train.batch_size=0", "--train.batch_size must be at least 1; got 0."),
        ("--model.rates=0", "--model.rates must be at least 1; got (0,)."),
        ("--augment.crop.size=0", "--augment.crop.size must be at least 1; got 0."),
        ("--augment.scale.low=3", "--augment.scale.low must be at most high, 2.0; got 3.0."),
        (
            "--loss.hard_example_mining_step=5",
            "--loss.hard_example_mining_step must be 0 where top_k_percent_pixels is 1, every"
            " pixel; got 5.",
        ),
    ],
)
def test_a_value_that_its_option_may_not_have_is_refused_by_the_flags_name(
    recipe_of, argument, message
):
    with pytest.raises(ValueError) as error:
        recipe_of(argument)
    assert str(error.value) == message


def test_a_value_of_a_nested_part_is_refused_by_the_flags_name(recipe_of):
    with pytest.raises(ValueError, match=r"^--model\.head\.channels must be at least 1; got 0\.$"):
        recipe_of("--model.head.channels=0", recipe="other_photos")


def test_a_kind_has_its_own_defaults_unless_it_is_the_recipes(recipe_of, recipe, parts):
    cosine = parts["schedule"]["cosine"]
    assert recipe_of("--schedule=cosine").schedule == cosine()
    assert recipe_of("--schedule=cosine", "--schedule.end_lr=0.1").schedule == cosine(end_lr=0.1)
    assert recipe_of("--schedule=poly").schedule == recipe.schedule
    assert recipe_of("--schedule=poly", "--schedule.base_lr=1").schedule == recipe.schedule.replace(
        base_lr=1.0
    )
    assert recipe_of("--model=other").model == parts["model"]["other"]()


def test_flags_of_a_nested_part(recipe_of, recipes):
    def head(*arguments):
        return recipe_of(*arguments, recipe="other_photos").model.head

    old = recipes["other_photos"].model.head
    kinds = {type(head).kind: type(head) for head in (old, head("--model.head=psp"))}
    assert head("--model.head=psp") == kinds["psp"]()
    assert head("--model.head=psp", "--model.head.channels=64") == kinds["psp"](channels=64)
    assert head("--model.head=encoding") == old
    assert head("--model.head.channels=64") == old.replace(channels=64)
    assert recipe_of("--model=other", "--model.head.channels=64").model.head == kinds["encoding"](
        channels=64
    )


def test_the_list_of_augmentations_is_set_as_a_whole(recipe_of, recipe, parts):
    scale, crop = recipe.augment
    flip = parts["augment"]["flip"]()
    assert recipe_of("--augment=flip,crop").augment == (flip, crop)
    assert recipe_of("--augment=crop, scale").augment == (crop, scale)
    assert recipe_of("--augment=").augment == ()
    assert recipe_of("--augment=scale", recipe="other_photos").augment == (type(scale)(),)


def test_an_option_of_an_augmentation_names_its_kind(recipe_of, recipe):
    scale, crop = recipe.augment
    assert recipe_of("--augment.crop.size=321").augment == (scale, crop.replace(size=321))
    given = recipe_of("--augment=crop", "--augment.crop.size=321", recipe="other_photos")
    assert given.augment == (type(crop)(size=321),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--augment=crop,blur"],
            "unknown kind of --augment 'blur'; known: crop, flip, scale.",
        ),
        (
            ["--augment=flip,scale", "--augment.crop.size=9"],
            "--augment.crop.size needs crop in the list --augment; it has flip,scale.",
        ),
        (
            ["--augment=", "--augment.crop.size=9"],
            "--augment.crop.size needs crop in the list --augment; it has nothing.",
        ),
        (
            ["--model.head=psp"],
            "--model.head does not apply to model small, which has --model.convs, --model.decoder,"
            " --model.mode, --model.rates, --model.stride.",
        ),
        (
            ["--model.head.channels=64"],
            "--model.head.channels does not apply to model small, which has --model.convs,"
            " --model.decoder, --model.mode, --model.rates, --model.stride.",
        ),
        (
            ["--model=other", "--model.head=psp", "--model.head.codewords=4"],
            "--model.head.codewords does not apply to model.head psp, which has"
            " --model.head.channels.",
        ),
        (
            ["--schedule=cosine", "--schedule.power=2"],
            "--schedule.power does not apply to schedule cosine, which has --schedule.base_lr,"
            " --schedule.end_lr, --schedule.warmup, --schedule.warmup_lr, --schedule.warmup_steps.",
        ),
    ],
)
def test_a_flag_of_another_kind_is_refused_with_the_options_that_apply(
    recipe_of, arguments, message
):
    with pytest.raises(ValueError) as error:
        recipe_of(*arguments)
    assert str(error.value) == message


def test_one_length_of_training_takes_back_the_other(recipe_of):
    assert recipe_of("--train.epochs=3").train.steps is None
    assert recipe_of("--train.epochs=3").train.epochs == 3
    assert recipe_of("--train.steps=3", recipe="other_photos").train.epochs is None
    for arguments in (["--train.steps=3", "--train.epochs=3"], ["--train.steps=none"]):
        with pytest.raises(ValueError, match="--train.steps or epochs must be set, and not both"):
            recipe_of(*arguments)


def test_an_unknown_recipe_suggests_the_closest(recipe_of):
    with pytest.raises(ValueError, match="unknown recipe 'smal_photos'.*mean 'small_photos'"):
        recipe_of(recipe="smal_photos")


def test_no_recipe_lists_all(parts, recipes):
    values = flags.FlagValues()
    recipe_flags.define_recipe(values)
    values(["program"])
    with pytest.raises(ValueError, match="--recipe is missing; known: other_photos, small_photos"):
        recipe_flags.recipe_from_flags(recipes, parts, values)


def test_a_program_may_have_the_flags_of_some_parts(parts, recipe):
    some = {name: parts[name] for name in ("dataset", "eval")}
    values = defined(some)
    values(["program", "--dataset.images_dir=elsewhere"])
    assert "schedule" not in values and "train.steps" not in values
    dataset = recipe_flags.part_from_flags("dataset", recipe.dataset, some["dataset"], values)
    assert dataset == recipe.dataset.replace(images_dir="elsewhere")
    assert recipe_flags.apply(recipe, some, values) == dataclasses.replace(recipe, dataset=dataset)


def test_two_types_of_one_option_are_refused(parts):
    clashing = {"model": {"small": parts["model"]["small"], "clashing": Clashing}}
    with pytest.raises(TypeError, match="--model.stride must have one type; clashing gives it"):
        defined(clashing)


def test_a_choice_and_a_plain_option_of_one_name_are_refused(parts):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Plain(Options):
        head: str = option("psp", "a head")

    with pytest.raises(TypeError, match="--model.head must have one type"):
        defined({"model": {"other": parts["model"]["other"], "plain": Plain}})


@pytest.mark.parametrize("order", [1, -1])
def test_none_is_for_the_kind_that_takes_it(parts, order):
    small = parts["model"]["small"]
    kinds = {"model": dict([("small", small), ("free", Free)][::order])}
    values = defined(kinds)
    values(["program", "--model.stride=none"])
    free = recipe_flags.part_from_flags("model", Free(), kinds["model"], values)
    assert free == Free(stride=None)
    with pytest.raises(ValueError, match=r"^--model.stride must be 8\|16; got None"):
        recipe_flags.part_from_flags("model", small(), kinds["model"], values)


def test_a_type_without_a_form_is_refused():
    with pytest.raises(TypeError, match="cannot be given on the command line"):
        defined({"model": {"unwritable": Unwritable}})


def test_help_prints_the_parts_in_order_with_a_line_for_each_kind(parts):
    text = recipe_flags.help_text(parts)
    lines = text.splitlines()
    heads = [line for line in lines if line.startswith("--")]
    assert [line.split("=")[0].split(".")[0].removeprefix("--") for line in heads] == list(parts)
    assert "--model=KIND" in heads
    assert "--augment=KIND,KIND,..." in heads
    for name, kinds in parts.items():
        if isinstance(kinds, dict):
            for kind, cls in kinds.items():
                (line,) = (line for line in lines if line.split()[:1] == [kind])
                assert line.endswith(f"  {cls.__doc__.splitlines()[0]}")
        else:
            assert f"--{name}.*  {kinds.__doc__.splitlines()[0]}" in heads
    assert all(len(line) <= 100 for line in lines)


def test_help_of_an_option_has_its_form_and_the_kinds_it_is_of_unless_it_is_of_all(parts):
    text = recipe_flags.help_text(parts)
    rates = (
        "  --model.rates=integer,... or none\n        atrous rates; none: the stride's [small]\n"
    )
    assert rates in text
    strides = "        output stride [small]\n        output stride; none: the head's [other]\n"
    assert f"  --model.stride=8|16 or none\n{strides}" in text
    assert "  --model.head=encoding|psp\n        what classifies [other]\n" in text
    assert "  --model.head.channels=integer\n        filters [encoding, psp]\n" in text
    assert "  --augment.crop.size=integer\n        side of the square, pixels\n" in text
    assert "  --train.split=text\n        split to train on\n" in text


def test_help_lists_every_flag_and_no_other(parts):
    lines = recipe_flags.help_text(parts).splitlines()
    listed = {line.strip().split("=")[0] for line in lines if line.strip().startswith("--")}
    listed = {name.removeprefix("--") for name in listed if ".*" not in name}
    values = defined(parts)
    assert listed == set(values)
