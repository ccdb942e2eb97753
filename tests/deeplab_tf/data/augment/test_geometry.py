"""Augmentations: image and label move together, and only the seed decides how."""

import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.recipe.options import DataConfig
from deeplab_tf.data import augment as augmentations
from deeplab_tf.data.augment import geometry as transforms

_DATA = DataConfig(crop_size=5)
# Red holds 10 times the label, so that what happens to one can be seen to happen to the other.
_LABEL = np.arange(7 * 9, dtype=np.int32).reshape(7, 9) % 13
_IMAGE = np.stack([_LABEL * 10, _LABEL * 0, _LABEL * 0 + 3], axis=-1).astype(np.float32)


def _seeds(number):
    return [tf.constant([1, i], tf.int64) for i in range(number)]


def _both(name, seed, data=_DATA, image=_IMAGE, label=_LABEL):
    return augmentations.AUGMENTATIONS[name](
        tf.constant(image), tf.constant(label), seed, data=data, ignore_label=255
    )


@pytest.mark.parametrize("name", sorted(augmentations.AUGMENTATIONS))
def test_same_seed_gives_the_same_in_a_dataset_as_outside(name):
    for seed in _seeds(3):
        outside = _both(name, seed)
        inside = next(iter(tf.data.Dataset.from_tensors(seed).map(lambda s: _both(name, s))))
        for a, b in zip(outside, inside, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(n for n in augmentations.AUGMENTATIONS if "random" in n))
def test_seeds_make_a_difference(name):
    results = {
        b"".join(part.numpy().tobytes() for part in _both(name, seed)) for seed in _seeds(16)
    }
    assert len(results) > 1


@pytest.mark.parametrize("name", ["random_crop", "random_flip"])
def test_label_moves_with_the_image(name):
    for seed in _seeds(6):
        image, label = _both(name, seed)
        np.testing.assert_array_equal(image[:, :, 0], label * 10)


def test_flip_mirrors_left_and_right():
    image, label = transforms.flip_left_right(tf.constant(_IMAGE), tf.constant(_LABEL))
    np.testing.assert_array_equal(label, _LABEL[:, ::-1])
    np.testing.assert_array_equal(image, _IMAGE[:, ::-1])


def test_scaling_puts_corners_on_corners_and_truncates_sizes():
    image, label = transforms.scale_by(tf.constant(_IMAGE), tf.constant(_LABEL), tf.constant(1.75))
    assert label.shape == (12, 15) and image.shape == (12, 15, 3)  # 12.25 and 15.75
    for row in (0, -1):
        for column in (0, -1):
            assert label[row, column] == _LABEL[row, column]
            assert image[row, column, 0] == _IMAGE[row, column, 0]


def test_scaled_label_has_only_values_that_were_there():
    spread = np.where(_LABEL > 6, 255, 0).astype(np.int32)
    _, label = transforms.scale_by(tf.constant(_IMAGE), tf.constant(spread), tf.constant(1.6))
    assert set(np.unique(label)) == {0, 255}


def test_resizing_to_a_range_moves_label_with_image():
    # 7x9 -> 5 * 9/7 = 6.4 would exceed 5, so 9 -> 5 and 7 -> 3.9; factor 2 makes 3 of that.
    data = DataConfig(resize_min_side=5, resize_max_side=6, resize_factor=2)
    image, label = _both("resize_to_range", _seeds(1)[0], data)
    assert label.shape == (3, 5) and image.shape == (3, 5, 3)
    np.testing.assert_array_equal(label, _LABEL[::3, ::2])
    np.testing.assert_allclose(image[:, :, 0], 10 * _LABEL[::3, ::2], atol=1e-4)


def test_sizes_in_a_range_equal_the_released_codes(shared_dir):
    path = shared_dir / "reference" / "deeplab" / "x4_resize_to_range.json"
    cases = json.loads(path.read_text())
    for case in cases:
        size = transforms.size_in_range(
            tf.constant([case["height"], case["width"]]),
            min_side=case["min_size"],
            max_side=case["max_size"],
            factor=case["factor"],
        )
        assert size.numpy().tolist() == case["out"], case
    assert len(cases) == 8


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (7, 90)])
def test_scale_and_crop_at_once_are_the_two_in_turn(size):
    data = DataConfig(crop_size=33)
    rng = np.random.default_rng(1)
    image = tf.constant(rng.integers(0, 256, (*size, 3), np.uint8))
    label = tf.constant(rng.integers(0, 9, size).astype(np.int32))
    for i in range(12):  # scales both below and above the crop
        seeds = _seeds(40)[i], _seeds(40)[20 + i]
        options = {"data": data, "ignore_label": 255}
        at_once = transforms.scale_and_crop(image, label, seeds, **options)
        scaled = transforms.random_scale(image, label, seeds[0], **options)
        in_turn = transforms.random_crop(*scaled, seeds[1], **options)
        for a, b in zip(at_once, in_turn, strict=True):
            np.testing.assert_array_equal(a, b)


def test_scaling_equals_tensorflows_kernels_with_aligned_corners():
    rng = np.random.default_rng(2)
    for scale in (0.5, 0.75, 1.25, 2.0, 1.37):
        height, width = rng.integers(20, 90, 2)
        image = tf.constant(rng.integers(0, 256, (height, width, 3), np.uint8))
        label = tf.constant(rng.integers(0, 9, (height, width)).astype(np.int32))
        size = [
            int(np.float32(height) * np.float32(scale)),
            int(np.float32(width) * np.float32(scale)),
        ]
        scaled, scaled_label = transforms.scale_by(image, label, tf.constant(scale))
        expected = tf.compat.v1.image.resize_bilinear(
            tf.cast(image, tf.float32)[None], size, align_corners=True
        )
        np.testing.assert_array_equal(scaled, expected[0])
        expected = tf.compat.v1.image.resize_nearest_neighbor(
            label[None, :, :, None], size, align_corners=True
        )
        np.testing.assert_array_equal(scaled_label, expected[0, :, :, 0])


def test_scales_are_the_steps_of_the_range():
    data = DataConfig(scale_range=(0.5, 2.0), scale_step=0.25)
    label = np.zeros((40, 40), np.int32)
    image = np.zeros((40, 40, 3), np.float32)
    sizes = {_both("random_scale", s, data, image, label)[1].shape[0] for s in _seeds(120)}
    assert sizes == {20, 30, 40, 50, 60, 70, 80}


def test_continuous_scales_stay_in_the_range():
    data = DataConfig(scale_range=(0.5, 2.0), scale_step=0.0)
    label = np.zeros((100, 100), np.int32)
    image = np.zeros((100, 100, 3), np.float32)
    sizes = [_both("random_scale", s, data, image, label)[1].shape[0] for s in _seeds(30)]
    assert 50 <= min(sizes) < 80 and 130 < max(sizes) <= 200 and len(set(sizes)) > 15


def test_padding_is_mean_pixel_and_void_at_the_bottom_and_right():
    image, label = transforms.pad_to(tf.constant(_IMAGE), tf.constant(_LABEL), 10, 127.5, 255)
    assert label.shape == (10, 10)
    np.testing.assert_array_equal(label[:7, :9], _LABEL)
    np.testing.assert_allclose(image[:7, :9], _IMAGE, atol=1e-4)
    assert np.all(label.numpy()[7:] == 255) and np.all(label.numpy()[:, 9:] == 255)
    assert np.all(image.numpy()[7:] == 127.5) and np.all(image.numpy()[:, 9:] == 127.5)


def test_crops_come_from_every_place():
    corners = {tuple(_both("random_crop", seed)[1].numpy()[0, :2]) for seed in _seeds(150)}
    expected = {tuple(_LABEL[r, c : c + 2]) for r in range(3) for c in range(5)}
    assert corners == expected


def test_small_image_is_padded_to_the_crop():
    data = DataConfig(crop_size=12)
    image, label = _both("random_crop", _seeds(1)[0], data)
    assert image.shape == (12, 12, 3)
    assert (label.numpy() == 255).sum() == 12 * 12 - 7 * 9


_SAME = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
_PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.float32)


def _recolored(**changes):
    return transforms.change_color(tf.constant(_PHOTO), **{**_SAME, **changes}).numpy()


def test_colors_that_are_not_changed_stay():
    np.testing.assert_allclose(_recolored(), _PHOTO, atol=1e-3)
    np.testing.assert_allclose(_recolored(hue=1.0), _PHOTO, atol=1e-2)  # once around
    image, label = _both("random_color", _seeds(1)[0], DataConfig(color_jitter=0), image=_PHOTO)
    np.testing.assert_allclose(image, _PHOTO, atol=1e-3)
    np.testing.assert_array_equal(label, _LABEL)


def test_brightness_contrast_and_saturation_do_what_they_say():
    grey = _PHOTO @ np.float32([0.299, 0.587, 0.114])
    np.testing.assert_allclose(_recolored(brightness=0.5), _PHOTO / 2, atol=1e-3)
    np.testing.assert_allclose(_recolored(contrast=0.0), grey.mean(), atol=1e-2)
    np.testing.assert_allclose(_recolored(saturation=0.0), grey[:, :, None] + 0 * _PHOTO, atol=0.1)


def test_hue_turns_colors_but_not_grey():
    red = np.zeros((2, 2, 3), np.float32) + np.float32([128, 64, 64])
    turned = transforms.change_color(tf.constant(red), **{**_SAME, "hue": 1 / 3}).numpy()
    assert turned[0, 0].argmax() != 0
    np.testing.assert_allclose(turned @ [0.299, 0.587, 0.114], red @ [0.299, 0.587, 0.114], atol=1)
    even = np.full((2, 2, 3), 90, np.float32)
    turned = transforms.change_color(tf.constant(even), **{**_SAME, "hue": 1 / 3})
    np.testing.assert_allclose(turned, even, atol=0.1)


def test_jitter_changes_colors_within_bounds_and_leaves_labels():
    data = DataConfig(color_jitter=1.0)
    for seed in _seeds(20):
        image, label = _both("random_color", seed, data, image=_PHOTO)
        assert image.numpy().min() >= 0 and image.numpy().max() <= 255
        assert np.abs(image.numpy() - _PHOTO).mean() > 1
        np.testing.assert_array_equal(label, _LABEL)


def test_color_jitter_is_off_unless_it_is_asked_for():
    assert "random_color" not in DataConfig().augmentations
    with pytest.raises(ValueError, match=r"color_jitter must be in 0\.\.1; got 1\.5"):
        DataConfig(color_jitter=1.5)
