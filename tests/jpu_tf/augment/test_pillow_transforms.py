"""FastFCN's augmentations, against what its released code made of the same draws."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data import augment as augmentations
from jpu_tf.augment import pillow_ops
from jpu_tf.augment import pillow_transforms
from deeplab_tf.data.augment import geometry as transforms

_DATA = DataConfig(crop_size=24, base_size=26, pad_color=0, scale_step=0)
_VOID = 255
_KEYS = [
    f"aug/{shape}/{case}"
    for shape in ("land_60x80", "port_80x60")
    for case in (*(f"train_seed{i}" for i in range(6)), "val_seed0")
]


@pytest.fixture(scope="module")
def released(shared_dir):
    directory = shared_dir / "reference" / "fastfcn"
    if not directory.is_dir():
        pytest.skip(f"no {directory}, the released code's results")
    described = json.loads((directory / "extras_small.json").read_text())["augmentation"]
    assert described["cases"][0]["key"] == _KEYS[0] and len(described["cases"]) == len(_KEYS)
    with np.load(directory / "extras_small.npz") as arrays:
        kept = {key: arrays[key] for key in arrays.files if key.startswith("aug/")}
    return {case["key"]: case for case in described["cases"]}, kept


def _augment(image, label, case):
    """FastFCN's training protocol with the draws of `case`."""
    crop = case["crop_size"]
    (_, flip), (_, *_, short_side), (_, *_, left), (_, *_, top), (_, blurs), *radius = case[
        "draws_in_order"
    ]
    if flip < 0.5:
        image, label = transforms.flip_left_right(image, label)
    size = pillow_transforms.size_of_short_side(tf.shape(label), tf.constant(short_side))
    window = tf.constant([top, left]), tf.minimum(size, crop)
    image, label = pillow_transforms.resize(image, label, size, window)
    image, label = transforms.pad_to(image, label, crop, 0, _VOID)
    if blurs < 0.5:
        blurred = pillow_ops.gaussian_blur(tf.cast(image, tf.uint8), tf.constant(radius[0][1]))
        image = tf.cast(blurred, tf.float32)
    return image, label


@pytest.mark.parametrize("key", _KEYS)
def test_augmentation_equals_the_released_codes(released, key):
    cases, arrays = released
    image = tf.constant(arrays[f"{key.rpartition('/')[0]}/image"], tf.float32)
    raw = arrays[f"{key.rpartition('/')[0]}/mask_raw"].astype(np.int32)
    label = tf.constant(np.where(raw == 0, _VOID, raw - 1))
    case = cases[key]
    if case["draws_in_order"]:
        image, label = _augment(image, label, case)
    else:
        image, label = pillow_transforms.center_crop(
            image, label, None, data=DataConfig(crop_size=case["crop_size"]), ignore_label=_VOID
        )
    np.testing.assert_array_equal(image, arrays[f"{key}/image"].astype(np.float32))
    expected = arrays[f"{key}/mask"].astype(np.int32)
    np.testing.assert_array_equal(label, np.where(expected == -1, _VOID, expected))


def _seed(number):
    return tf.constant([3, number], tf.int64)


def _example(size, seed=0):
    rng = np.random.default_rng(seed)
    image = tf.constant(rng.integers(0, 256, (*size, 3)).astype(np.float32))
    return image, tf.constant(rng.integers(0, 9, size).astype(np.int32))


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (9, 90)])
def test_both_at_once_are_the_two_in_turn(size):
    image, label = _example(size)
    for i in range(8):  # scales both below and above the crop
        seeds = _seed(i), _seed(100 + i)
        at_once = pillow_transforms.short_side_and_crop(
            image, label, seeds, data=_DATA, ignore_label=_VOID
        )
        resized = pillow_transforms.random_short_side(
            image, label, seeds[0], data=_DATA, ignore_label=_VOID
        )
        in_turn = transforms.random_crop(*resized, seeds[1], data=_DATA, ignore_label=_VOID)
        for a, b in zip(at_once, in_turn, strict=True):
            np.testing.assert_array_equal(a, b)


def test_short_side_is_an_integer_of_the_range_and_the_long_one_is_truncated():
    image, label = _example((20, 33))

    def resized(seed):
        resized = pillow_transforms.random_short_side(
            image, label, seed, data=_DATA, ignore_label=_VOID
        )
        return tuple(map(tf.shape, resized))

    seeds = tf.data.Dataset.range(120).map(lambda i: resized(tf.stack([3, i])))
    shapes = set()
    for image_shape, label_shape in seeds.as_numpy_iterator():
        assert tuple(image_shape) == (*label_shape, 3)
        shapes.add(tuple(label_shape))
    assert {short for short, _ in shapes} <= set(range(13, 53))
    assert min(shapes)[0] < 17 and max(shapes)[0] > 48
    assert all(long == short * 33 // 20 for short, long in shapes)


@pytest.mark.parametrize("size", [(20, 33), (33, 20), (24, 24)])
def test_center_crop_is_the_middle_of_the_resized_image(size):
    image, label = _example(size)
    cropped = pillow_transforms.center_crop(image, label, None, data=_DATA, ignore_label=_VOID)
    new = pillow_transforms.size_of_short_side(tf.constant(size), tf.constant(24))
    whole = pillow_transforms.resize(image, label, new)
    top, left = (round((side - 24) / 2) for side in new.numpy())
    for part, full in zip(cropped, whole, strict=True):
        np.testing.assert_array_equal(part, full[top : top + 24, left : left + 24])


@pytest.mark.parametrize(("pad_label", "expected"), [(None, _VOID), (0, 0)])
def test_what_is_added_has_the_padding_class(pad_label, expected):
    data = DataConfig(crop_size=60, pad_color=0, pad_label=pad_label)
    image, label = _example((20, 33))
    label += 1
    image, label = transforms.random_crop(image, label, _seed(0), data=data, ignore_label=_VOID)
    assert np.all(label.numpy()[20:] == expected) and np.all(label.numpy()[:, 33:] == expected)
    assert np.all(image.numpy()[20:] == 0)
    assert np.all(image.numpy()[:, 33:] == 0)


@pytest.mark.parametrize(("pad_label", "expected"), [(None, _VOID), (0, 0)])
def test_corners_that_rotation_adds_are_padding(pad_label, expected):
    data = DataConfig(pad_color=0, pad_label=pad_label)
    image, label = _example((40, 60))
    turned, turned_label = pillow_transforms.random_rotation(
        tf.maximum(image, 1), label + 1, _seed(2), data=data, ignore_label=_VOID
    )
    added = turned_label.numpy() == expected
    assert added[0, 0] and added[-1, -1] and not added[20, 30] and turned.shape == image.shape
    black = (turned.numpy() == 0).all(axis=-1)
    assert (black != added).mean() < 0.02  # the edge alone


def test_rotations_go_both_ways_up_to_ten_degrees():
    image, label = _example((61, 61))
    label = tf.tensor_scatter_nd_update(label * 0, [[30, 55]], [1])  # 25 pixels right of the middle
    rows = []
    for i in range(40):
        _, turned = pillow_transforms.random_rotation(
            image, label, _seed(i), data=_DATA, ignore_label=_VOID
        )
        rows += list(np.argwhere(turned.numpy() == 1)[:, 0] - 30)
    # 25 * sin(10 degrees) = 4.3
    assert min(rows) in (-5, -4) and max(rows) in (4, 5)


def test_half_of_the_images_are_blurred_and_no_label_is():
    image, label = _example((12, 15))
    results = [
        pillow_transforms.random_blur(image, label, _seed(i), data=_DATA, ignore_label=_VOID)
        for i in range(60)
    ]
    assert all(np.array_equal(result[1], label) for result in results)
    unchanged = sum(np.array_equal(result[0], image) for result in results)
    assert 20 <= unchanged <= 44  # of which a few were blurred by next to nothing
    for blurred, _ in results:
        assert blurred.shape == image.shape and np.var(blurred) < 1.001 * np.var(image)


def test_whole_protocol_makes_crops_in_whole_numbers():
    data = DataConfig(
        crop_size=24,
        base_size=26,
        pad_color=0,
        augmentations=(
            "random_flip",
            "random_short_side",
            "random_rotation",
            "random_crop",
            "random_blur",
        ),
    )
    augment = augmentations.augmenter(data, _VOID)
    image, label = augment(*_example((30, 41)), _seed(0))
    assert image.shape == (24, 24, 3) and label.shape == (24, 24)
    np.testing.assert_array_equal(image, np.round(image))
