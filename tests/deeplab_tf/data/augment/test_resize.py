import json

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.augment import compose
from deeplab_tf.data.augment.crop import RandomCrop
from deeplab_tf.data.augment.resize import (
    RandomScale,
    ResizeToRange,
    resize,
    scaled_size,
    select,
    size_in_range,
)

# Red holds 10 times the label, which shows whether image and label move together.
_LABEL = np.arange(7 * 9, dtype=np.int32).reshape(7, 9) % 13
_IMAGE = np.stack([_LABEL * 10, _LABEL * 0, _LABEL * 0 + 3], axis=-1).astype(np.float32)


def _seed(number):
    return tf.constant([1, number], tf.int64)


def _scaled(image, label, scale):
    size = scaled_size(tf.shape(label), tf.constant(scale))
    return resize(tf.constant(image), tf.constant(label), size)


def test_scaling_keeps_corner_pixels_and_truncates_sizes():
    image, label = _scaled(_IMAGE, _LABEL, 1.75)
    assert label.shape == (12, 15) and image.shape == (12, 15, 3)  # 12.25 and 15.75
    for row in (0, -1):
        for column in (0, -1):
            assert label[row, column] == _LABEL[row, column]
            assert image[row, column, 0] == _IMAGE[row, column, 0]


def test_scaled_label_has_only_values_that_were_there():
    spread = np.where(_LABEL > 6, 255, 0).astype(np.int32)
    _, label = _scaled(_IMAGE, spread, 1.6)
    assert set(np.unique(label)) == {0, 255}


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
        scaled, scaled_label = _scaled(image, label, scale)
        expected = tf.compat.v1.image.resize_bilinear(
            tf.cast(image, tf.float32)[None], size, align_corners=True
        )
        np.testing.assert_array_equal(scaled, expected[0])
        expected = tf.compat.v1.image.resize_nearest_neighbor(
            label[None, :, :, None], size, align_corners=True
        )
        np.testing.assert_array_equal(scaled_label, expected[0, :, :, 0])


def _heights(augmentation, height, number):
    image, label = tf.zeros([height, height, 3]), tf.zeros([height, height], tf.int32)
    return [augmentation(image, label, _seed(i))[1].shape[0] for i in range(number)]


def test_scales_are_the_steps_of_the_range():
    augmentation = RandomScale(low=0.5, high=2.0, step=0.25)
    assert set(_heights(augmentation, 40, 120)) == {20, 30, 40, 50, 60, 70, 80}


def test_continuous_scales_stay_in_the_range():
    heights = _heights(RandomScale(low=0.5, high=2.0, step=0.0), 100, 30)
    assert 50 <= min(heights) < 80 and 130 < max(heights) <= 200 and len(set(heights)) > 15


def test_one_scale_is_a_range():
    assert set(_heights(RandomScale(low=1.5, high=1.5), 40, 5)) == {60}


def test_the_smallest_scale_may_not_exceed_the_largest():
    with pytest.raises(ValueError, match=r"^low must be at most high, 0\.4; got 0\.5\."):
        RandomScale(high=0.4)


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (7, 90)])
def test_scale_and_crop_at_once_equal_the_two_in_turn(size):
    rng = np.random.default_rng(1)
    image = tf.constant(rng.integers(0, 256, (*size, 3), np.uint8))
    label = tf.constant(rng.integers(0, 9, size).astype(np.int32))
    scale, crop = RandomScale(), RandomCrop(size=33)
    for i in range(12):  # scales both below and above the crop
        seeds = [tf.random.experimental.stateless_fold_in(_seed(i), place) for place in (0, 1)]
        at_once = compose([scale, crop])(image, label, _seed(i))
        in_turn = crop(*scale(image, label, seeds[0]), seeds[1])
        for a, b in zip(at_once, in_turn, strict=True):
            np.testing.assert_array_equal(a, b)


def test_resizing_to_a_range_moves_label_with_image():
    # 7x9 -> 5 * 9/7 = 6.4 would exceed 5, so 9 -> 5 and 7 -> 3.9; factor 2 makes 3 of that.
    augmentation = ResizeToRange(min_side=5, max_side=6, factor=2)
    image, label = augmentation(tf.constant(_IMAGE), tf.constant(_LABEL), _seed(0))
    assert label.shape == (3, 5) and image.shape == (3, 5, 3)
    np.testing.assert_array_equal(label, _LABEL[::3, ::2])
    np.testing.assert_allclose(image[:, :, 0], 10 * _LABEL[::3, ::2], atol=1e-4)


def test_sizes_in_a_range_equal_the_released_codes(shared_dir):
    path = shared_dir / "reference" / "deeplab" / "x4_resize_to_range.json"
    cases = json.loads(path.read_text())
    for case in cases:
        size = size_in_range(
            tf.constant([case["height"], case["width"]]),
            min_side=case["min_size"],
            max_side=case["max_size"],
            factor=case["factor"],
        )
        assert size.numpy().tolist() == case["out"], case
    assert len(cases) == 8


def test_the_longer_sides_limit_may_not_be_below_the_shorter_side():
    with pytest.raises(ValueError, match=r"^max_side must be none or at least min_side, 600; got"):
        ResizeToRange(min_side=600)
    assert ResizeToRange(min_side=600, max_side=None).max_side is None


def test_selection_takes_rows_and_columns():
    label = np.arange(6 * 7).reshape(6, 7)
    rows, columns = [0, 0, 5], [6, 2]
    selected = select(tf.constant(label), tf.constant(rows), tf.constant(columns))
    np.testing.assert_array_equal(selected, label[rows][:, columns])
