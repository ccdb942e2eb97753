"""Parts of a recipe that depend on no other room, and a recipe of them."""

import dataclasses
from typing import ClassVar, Literal

import pytest

from deeplab_tf.recipe.options import Options, option
from deeplab_tf.recipe.parts import Eval, Recipe, Train
from deeplab_tf.training.losses import CrossEntropy
from deeplab_tf.training.optimizers import OPTIMIZERS, SGD
from deeplab_tf.training.schedules import SCHEDULES, Poly


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding(Options):
    """A head with codewords."""

    kind: ClassVar[str] = "encoding"

    channels: int = option(512, "filters", minimum=1)
    codewords: int = option(32, "codewords", minimum=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PSP(Options):
    """A head with pyramid pooling."""

    kind: ClassVar[str] = "psp"

    channels: int = option(512, "filters", minimum=1)


HEADS = {"encoding": Encoding, "psp": PSP}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Small(Options):
    """A small network."""

    kind: ClassVar[str] = "small"

    stride: Literal[8, 16] = option(16, "output stride")
    mode: Literal["a", "b"] = option("a", "a mode")
    rates: tuple[int, ...] | None = option(None, "atrous rates; none: the stride's", minimum=1)
    convs: tuple[tuple[int, int], ...] = option((), "kernel size and filters", minimum=1)
    decoder: bool = option(True, "a decoder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(Options):
    """A network with a head."""

    kind: ClassVar[str] = "other"

    stride: Literal[8, 16] | None = option(None, "output stride; none: the head's")
    head: Encoding | PSP = option(Encoding(), "what classifies", kinds=HEADS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Photos(Options):
    """Photos in a directory."""

    kind: ClassVar[str] = "photos"

    images_dir: str | None = option(None, "directory of the photos", may_change=True)
    names: tuple[str, ...] = option((), "classes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(Options):
    """Scales at random."""

    kind: ClassVar[str] = "scale"

    low: float = option(0.5, "smallest factor", above=0)
    high: float = option(2.0, "largest factor", above=0)

    def __post_init__(self):
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(f"low must be at most high, {self.high}; got {self.low}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop(Options):
    """Crops at random."""

    kind: ClassVar[str] = "crop"

    size: int = option(513, "side of the square, pixels", minimum=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flip(Options):
    """Flips at random."""

    kind: ClassVar[str] = "flip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole(Options):
    """Predicts the image as a whole."""

    kind: ClassVar[str] = "whole"

    scales: tuple[float, ...] = option((1.0,), "factors of the image's size", above=0)
    flip: bool = option(False, "average over the image and its mirror image")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window(Options):
    """Predicts window by window."""

    kind: ClassVar[str] = "window"

    size: int | None = option(None, "side of a window; none: the crop's", minimum=1)


_PARTS = {
    "model": {"small": Small, "other": Other},
    "dataset": {"photos": Photos},
    "augment": {"scale": Scale, "crop": Crop, "flip": Flip},
    # These alone: a new kind changes no expected message.
    "optimizer": {kind: OPTIMIZERS[kind] for kind in ("sgd", "adamw")},
    "schedule": {kind: SCHEDULES[kind] for kind in ("poly", "cosine", "step")},
    "loss": {"cross_entropy": CrossEntropy},
    "train": Train,
    "predict": {"whole": Whole, "window": Window},
    "eval": Eval,
}


@pytest.fixture(scope="session")
def parts():
    """Kinds by name, for every part of a recipe."""
    return _PARTS


@pytest.fixture(scope="session")
def recipes():
    return {
        "small_photos": Recipe(
            model=Small(rates=(6, 12)),
            dataset=Photos(images_dir="photos"),
            augment=(Scale(low=0.75), Crop(size=65)),
            optimizer=SGD(lr_multipliers=(("head", 2.0),)),
            schedule=Poly(power=0.5),
            loss=CrossEntropy(),
            train=Train(steps=100),
            predict=Whole(scales=(0.5, 1.0)),
            expected_mean_iou=51.05,
        ),
        "other_photos": Recipe(
            model=Other(head=Encoding(codewords=8)),
            dataset=Photos(),
            augment=(),
            optimizer=SGD(),
            schedule=Poly(),
            loss=CrossEntropy(),
            train=Train(epochs=2),
            predict=Window(),
        ),
    }


@pytest.fixture(scope="session")
def recipe(recipes):
    return recipes["small_photos"]
