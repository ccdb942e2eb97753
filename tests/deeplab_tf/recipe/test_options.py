import dataclasses
import math
from typing import Any, ClassVar, Literal

import pytest

from deeplab_tf.recipe.messages import shown
from deeplab_tf.recipe.options import Options, describe, hints, lookup, option, syntax
from deeplab_tf.recipe.parts import Train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaf(Options):
    """A nested part."""

    kind: ClassVar[str] = "leaf"

    width: int = option(3, "width", minimum=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Branch(Options):
    """Another one."""

    kind: ClassVar[str] = "branch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Everything(Options):
    """An option of every type."""

    number: int = option(5, "an integer", minimum=1, maximum=9)
    share: float = option(0.5, "a number", above=0, below=1)
    text: str = option("a", "text")
    switch: bool = option(False, "true or false")
    choice: Literal["a", "b"] = option("a", "a word")
    stride: Literal[1, 2] = option(1, "a number of a few")
    maybe: int | None = option(None, "an integer or none", minimum=0)
    maybe_switch: bool | None = option(None, "true, false or none")
    rates: tuple[int, ...] = option((), "integers", minimum=1)
    scales: tuple[float, float] = option((0.5, 2.0), "two numbers", maximum=4)
    maybe_rates: tuple[int, ...] | None = option(None, "integers or none")
    factors: tuple[tuple[str, float], ...] = option((), "pairs", minimum=0)
    words: tuple[Literal["x", "y"], ...] = option((), "words")
    part: Leaf | Branch = option(Leaf(), "a part", kinds={"leaf": Leaf, "branch": Branch})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"number": 1.0}, "number must be an integer; got 1.0."),
        ({"number": "1"}, "number must be an integer; got '1'."),
        ({"number": True}, "number must be an integer; got True."),
        ({"number": None}, "number must be an integer; got None."),
        ({"number": 0}, "number must be at least 1; got 0."),
        ({"number": 10}, "number must be at most 9; got 10."),
        ({"share": "0.5"}, "share must be a number; got '0.5'."),
        ({"share": True}, "share must be a number; got True."),
        ({"share": math.nan}, "share must be a number; got nan."),
        ({"share": -math.inf}, "share must be a number; got -inf."),
        ({"share": 10**400}, f"share must be a number; got {shown(10**400)}."),
        ({"share": 0}, "share must be above 0; got 0."),
        ({"share": 1.0}, "share must be below 1; got 1.0."),
        ({"text": 1}, "text must be text; got 1."),
        ({"text": None}, "text must be text; got None."),
        ({"switch": 1}, "switch must be true or false; got 1."),
        ({"switch": "false"}, "switch must be true or false; got 'false'."),
        ({"choice": "c"}, "choice must be a|b; got 'c'."),
        ({"choice": ["a"]}, "choice must be a|b; got ('a',)."),
        ({"stride": 3}, "stride must be 1|2; got 3."),
        ({"stride": True}, "stride must be 1|2; got True."),
        ({"stride": 1.0}, "stride must be 1|2; got 1.0."),
        ({"maybe": 1.5}, "maybe must be an integer, or none; got 1.5."),
        ({"maybe": -1}, "maybe must be at least 0; got -1."),
        ({"maybe_switch": 0}, "maybe_switch must be true or false, or none; got 0."),
        ({"rates": 1}, "rates must be integer,...; got 1."),
        ({"rates": "12"}, "rates must be integer,...; got '12'."),
        ({"rates": (1, True)}, "rates must be integer,...; got (1, True)."),
        ({"rates": None}, "rates must be integer,...; got None."),
        ({"rates": (2, 0)}, "rates must be at least 1; got (2, 0)."),
        ({"scales": (1.0,)}, "scales must be number,number; got (1.0,)."),
        ({"scales": (1.0, math.nan)}, "scales must be number,number; got (1.0, nan)."),
        ({"scales": (1, 5)}, "scales must be at most 4; got (1, 5)."),
        ({"maybe_rates": (0.5,)}, "maybe_rates must be integer,..., or none; got (0.5,)."),
        ({"factors": (("a", "b"),)}, "factors must be text:number,...; got (('a', 'b'),)."),
        ({"factors": ("a", 1.0)}, "factors must be text:number,...; got ('a', 1.0)."),
        ({"factors": (("a", -1.0),)}, "factors must be at least 0; got (('a', -1.0),)."),
        ({"words": ("x", "z")}, "words must be x|y,...; got ('x', 'z')."),
        ({"part": None}, "part must be one of leaf, branch; got None."),
        ({"part": Leaf}, f"part must be one of leaf, branch; got {Leaf!r}."),
        (
            {"part": Train(steps=1)},
            f"part must be one of leaf, branch; got {shown(Train(steps=1))}.",
        ),
        ({"part": "leav"}, "unknown part 'leav'; known: branch, leaf. Did you mean 'leaf'?"),
    ],
)
def test_a_value_that_an_option_may_not_have_is_refused_by_name(values, message):
    with pytest.raises(ValueError) as error:
        Everything(**values)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "values",
    [
        {"number": 1},
        {"number": 9},
        {"share": 0.999},
        {"text": ""},
        {"switch": True},
        {"choice": "b"},
        {"stride": 2},
        {"maybe": 0},
        {"maybe_switch": False},
        {"rates": (1,)},
        {"scales": (1, 2.5)},
        {"maybe_rates": ()},
        {"factors": (("a", 0), ("b", 2.0))},
        {"words": ("y", "x", "y")},
        {"part": Branch()},
    ],
)
def test_a_value_that_fits_is_kept_as_it_is(values):
    ((name, value),) = values.items()
    assert getattr(Everything(**values), name) is value


def test_lists_become_tuples_at_every_depth():
    options = Everything(rates=[1, 2], factors=[["a", 1.0], ["b", 2.0]])
    assert options.rates == (1, 2)
    assert options.factors == (("a", 1.0), ("b", 2.0))
    assert isinstance(hash(options), int)


def test_the_name_of_a_nested_kind_stands_for_its_defaults():
    assert Everything(part="leaf").part == Leaf()
    assert Everything(part="branch").part == Branch()
    assert Everything(part=Leaf(width=7)).part.width == 7


def test_replace_checks_the_new_values():
    assert Everything().replace(number=2) == Everything(number=2)
    with pytest.raises(ValueError, match="number must be at least 1; got 0"):
        Everything().replace(number=0)


def test_an_option_cannot_be_assigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Everything().number = 3


def test_hints_are_resolved_and_leave_out_the_kind():
    assert hints(Leaf) == {"width": int}
    assert hints(Everything)["maybe"] == int | None


@pytest.mark.parametrize(
    ("hint", "form", "words"),
    [
        (int, "integer", "an integer"),
        (str | None, "text", "text, or none"),
        (Literal[8, 16], "8|16", "8|16"),
        (tuple[float, float], "number,number", "number,number"),
        (tuple[int, ...] | None, "integer,...", "integer,..., or none"),
        (tuple[tuple[str, float], ...], "text:number,...", "text:number,..."),
    ],
)
def test_a_type_has_a_form_on_the_command_line_and_in_messages(hint, form, words):
    assert syntax(hint) == form
    assert describe(hint) == words


@pytest.mark.parametrize("hint", [dict[str, int], Any, tuple[tuple[tuple[int, ...], ...], ...]])
def test_a_type_without_a_form_is_refused(hint):
    with pytest.raises(TypeError, match="cannot be given on the command line"):
        syntax(hint)


def test_lookup_names_what_is_known_and_the_closest():
    with pytest.raises(ValueError) as error:
        lookup({"xception65": 1, "resnet50": 2}, "resnet-50", "backbone")
    assert str(error.value) == (
        "unknown backbone 'resnet-50'; known: resnet50, xception65. Did you mean 'resnet50'?"
    )


def test_lookup_guesses_nothing_where_nothing_is_close():
    with pytest.raises(ValueError) as error:
        lookup({"xception65": 1}, "zzz", "backbone")
    assert "Did you mean" not in str(error.value)
