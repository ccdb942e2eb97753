"""What holds for every augmentation, and for a list of them.

The tests go over the tables, so a new row is tested by being a row.
"""

import dataclasses
import inspect
import json
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from deeplab_tf.data import augment
from deeplab_tf.data.augment import ADDED_LABEL, compose
from deeplab_tf.data.augment.crop import RandomCrop
from deeplab_tf.data.augment.flip import RandomFlip
from deeplab_tf.data.augment.resize import RandomScale, Resizing
from deeplab_tf.recipe import as_json
from deeplab_tf.recipe import flags as recipe_flags
from deeplab_tf.recipe.options import Options
from deeplab_tf.recipe.parts import Recipe
from jpu_tf import augment as jpu_augment

TABLE = augment.AUGMENTATIONS | jpu_augment.AUGMENTATIONS
RANDOM = sorted(kind for kind in TABLE if kind.startswith("random_"))
RESIZINGS = sorted(kind for kind, cls in TABLE.items() if issubclass(cls, Resizing))


def _seed(number):
    return tf.constant([1, number], tf.int64)


def _example(size, dtype=tf.uint8):
    rng = np.random.default_rng(size[1])
    image = tf.constant(rng.integers(0, 256, (*size, 3)), dtype)
    return image, tf.constant(rng.integers(0, 9, size), tf.int32)


def _in_turn(augmentations, image, label, seed):
    """`compose` without its shortcut."""
    for i, augmentation in enumerate(augmentations):
        own_seed = tf.random.experimental.stateless_fold_in(seed, i)
        image, label = augmentation(image, label, own_seed)
    return tf.cast(image, tf.float32), label


def _assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_augmentation_is_in_both_tables():
    assert len(TABLE) == len(augment.AUGMENTATIONS) + len(jpu_augment.AUGMENTATIONS)


@pytest.mark.parametrize("kind", TABLE)
def test_a_row_is_a_part_of_that_name_with_a_short_description(kind):
    cls = TABLE[kind]
    assert cls.kind == kind and issubclass(cls, Options)
    assert cls.__doc__ and len(inspect.getdoc(cls).splitlines()[0]) <= 75
    with pytest.raises(dataclasses.FrozenInstanceError):
        cls().kind = "another"


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
@pytest.mark.parametrize("kind", TABLE)
def test_image_and_label_keep_their_forms(kind, dtype):
    image, label = compose([TABLE[kind]()])(*_example((30, 41), dtype), _seed(2))
    assert image.dtype == tf.float32 and label.dtype == tf.int32
    assert image.shape == (*label.shape, 3)
    assert 0 <= image.numpy().min() < image.numpy().max() <= 255
    assert set(np.unique(label)) <= {ADDED_LABEL, *range(9)}


@pytest.mark.parametrize("kind", TABLE)
def test_same_seed_gives_the_same_in_a_dataset_as_outside(kind):
    augmented, seeds = compose([TABLE[kind]()]), [[1, 0], [1, 1], [5, 2]]
    example = tf.data.Dataset.from_tensors(_example((30, 41))).repeat()
    inside = tf.data.Dataset.zip(example, tf.data.Dataset.from_tensor_slices(seeds))
    inside = inside.map(lambda example, seed: augmented(*example, seed))
    image, label = inside.element_spec
    assert image.shape[-1] == 3 and label.shape.rank == 2
    for seed, results in zip(seeds, inside, strict=True):
        _assert_equal(results, augmented(*_example((30, 41)), tf.constant(seed)))


@pytest.mark.parametrize("kind", TABLE)
def test_the_seed_decides_a_random_augmentation_and_no_other(kind):
    augmented, example = compose([TABLE[kind]()]), _example((520, 530))  # larger than the crops
    results = [augmented(*example, _seed(number)) for number in range(8)]
    different = {b"".join(part.numpy().tobytes() for part in result) for result in results}
    assert (len(different) > 1) == (kind in RANDOM)


_LIMITED = [
    (kind, field.name, value)
    for kind, cls in TABLE.items()
    for field in dataclasses.fields(cls)
    for limit, step in zip(field.metadata["limits"], (-1, 1, 0, 0), strict=True)
    if limit is not None
    for value in [limit + step]
    # A tuple of numbers has the limits of each.
    for value in [(value,) * 3 if field.name == "pad_rgb" else value]
]


@pytest.mark.parametrize(("kind", "name", "value"), _LIMITED)
def test_a_value_out_of_limits_is_refused(kind, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be (at least|at most|above|below) "):
        TABLE[kind](**{name: value})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Other(Options):
    """A part of a recipe that does not matter here."""


@pytest.mark.parametrize("kind", TABLE)
def test_json_keeps_an_augmentation(kind):
    parts = {field.name: _Other for field in dataclasses.fields(Recipe)}
    del parts["expected_mean_iou"]
    others = {name: _Other() for name in parts}
    for augmentations in [(TABLE[kind](),), (RandomFlip(), TABLE[kind](), TABLE[kind]())]:
        recipe = Recipe(**{**others, "augment": augmentations})
        text = as_json.to_json(recipe)
        assert as_json.from_json(text, {**parts, "augment": TABLE}) == recipe
        assert json.loads(text)["augment"][-1]["kind"] == kind


def _from_flags(augmentations, *arguments):
    values = flags.FlagValues()
    recipe_flags.define({"augment": TABLE}, values)
    values(["program", *arguments])
    return recipe_flags.part_from_flags("augment", augmentations, TABLE, values)


def test_flags_set_two_options_of_one_augmentation():
    old = (RandomScale(), RandomCrop(size=65), RandomFlip())
    # Either of the two alone would be refused.
    new = _from_flags(old, "--augment.random_scale.low=3", "--augment.random_scale.high=4")
    assert new == (RandomScale(low=3.0, high=4.0), *old[1:])
    new = _from_flags(old, "--augment.random_crop.size=33", "--augment.random_crop.pad_label=0")
    assert new == (old[0], RandomCrop(size=33, pad_label=0), old[2])


def test_flags_choose_augmentations_of_both_tables():
    new = _from_flags(
        (RandomScale(low=0.75), RandomCrop(size=65)),
        "--augment=random_short_side,random_crop,random_blur",
        "--augment.random_blur.radius=1.2",
        "--augment.random_short_side.short_side=80",
    )
    assert new == (
        jpu_augment.RandomShortSide(short_side=80),
        RandomCrop(size=65),
        jpu_augment.RandomBlur(radius=1.2),
    )
    assert _from_flags(new, "--augment=") == ()


def test_flags_refuse_values_by_the_options_name():
    with pytest.raises(ValueError, match=r"^--augment\.random_scale\.low must be at most high, 2"):
        _from_flags((RandomScale(),), "--augment.random_scale.low=3")
    with pytest.raises(
        ValueError, match=r"^--augment\.random_crop\.size must be at least 1; got 0"
    ):
        _from_flags((RandomCrop(),), "--augment.random_crop.size=0")


def test_without_augmentations_the_image_becomes_float():
    image, label = _example((5, 6))
    _assert_equal(compose(())(image, label, _seed(0)), (tf.cast(image, tf.float32), label))


@pytest.mark.parametrize("side", [33, 600])
@pytest.mark.parametrize("kind", RESIZINGS)
def test_resizing_and_crop_at_once_equal_the_two_in_turn(kind, side):
    augmentations = (TABLE[kind](), RandomCrop(size=side))
    for number in range(4):
        example = (*_example((30, 41)), _seed(number))
        _assert_equal(compose(augmentations)(*example), _in_turn(augmentations, *example))


def test_a_list_equals_its_augmentations_in_turn():
    crop = RandomCrop(size=33)
    augmentations = (RandomFlip(), RandomScale(), crop, RandomScale(), RandomFlip(), crop, crop)
    for number in range(8):
        example = (*_example((30, 41)), _seed(number))
        _assert_equal(compose(augmentations)(*example), _in_turn(augmentations, *example))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Observed(RandomScale):
    """Scales, and keeps the windows that were computed."""

    windows: ClassVar[list] = []

    def resize(self, image, label, size, window=None):
        self.windows.append(window)
        return super().resize(image, label, size, window)


def test_of_a_resized_image_only_the_crop_is_computed():
    example = (*_example((30, 41)), _seed(0))
    compose([_Observed(), RandomCrop(size=13)])(*example)
    compose([_Observed(), RandomFlip(), RandomCrop(size=13)])(*example)
    (corner, shape), whole = _Observed.windows
    assert tuple(shape.numpy()) == (13, 13) and whole is None


def test_two_equal_augmentations_draw_differently():
    scale, example = RandomScale(step=0), _example((50, 50))
    own_seed = tf.random.experimental.stateless_fold_in(_seed(0), 0)
    same_draw = scale(*scale(*example, own_seed), own_seed)
    assert compose([scale, scale])(*example, _seed(0))[1].shape != same_draw[1].shape
