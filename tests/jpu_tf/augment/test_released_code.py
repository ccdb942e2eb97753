"""FastFCN's training and validation crops, as its released code makes them of the same draws."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.augment import ADDED_LABEL, compose
from deeplab_tf.data.augment.crop import RandomCrop, pad_to
from deeplab_tf.data.augment.flip import RandomFlip, flip_left_right
from jpu_tf.augment import RandomBlur, RandomRotation, RandomShortSide, pillow_ops
from jpu_tf.augment.resize import CenterCrop, size_of_short_side

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
    """FastFCN's augmentation for training with the draws of `case`."""
    crop = case["crop_size"]
    (_, flip), (_, *_, short_side), (_, *_, left), (_, *_, top), (_, blurs), *radius = case[
        "draws_in_order"
    ]
    if flip < 0.5:
        image, label = flip_left_right(image, label)
    size = size_of_short_side(tf.shape(label), tf.constant(short_side))
    window = tf.constant([top, left]), tf.minimum(size, crop)
    image, label = pillow_ops.resize(image, label, size, window)
    image, label = pad_to(image, label, (crop, crop), color=0, added=ADDED_LABEL)
    if blurs < 0.5:
        image = pillow_ops.gaussian_blur(image, tf.constant(radius[0][1]))
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
        image, label = CenterCrop(size=case["crop_size"])(image, label, tf.constant([0, 0]))
    np.testing.assert_array_equal(image, arrays[f"{key}/image"])
    # The released code has -1 for void and for padding.
    expected = arrays[f"{key}/mask"].astype(np.int32)
    np.testing.assert_array_equal(np.where(label == _VOID, -1, label), expected)


def test_the_whole_list_makes_crops_of_whole_numbers():
    augmented = compose(
        (
            RandomFlip(),
            RandomShortSide(short_side=26),
            RandomRotation(),
            RandomCrop(size=24, pad_color=0),
            RandomBlur(),
        )
    )
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(0, 256, (30, 41, 3)).astype(np.float32))
    label = tf.constant(rng.integers(0, 9, (30, 41)).astype(np.int32))
    image, label = augmented(image, label, tf.constant([3, 0], tf.int64))
    assert image.shape == (24, 24, 3) and label.shape == (24, 24)
    np.testing.assert_array_equal(image, np.round(image))
