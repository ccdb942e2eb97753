import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.augment import compose
from deeplab_tf.data.augment.crop import RandomCrop
from jpu_tf.augment import pillow_ops
from jpu_tf.augment.resize import CenterCrop, RandomShortSide, size_of_short_side


def _seed(number):
    return tf.constant([3, number], tf.int64)


def _example(size):
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(0, 256, (*size, 3)).astype(np.float32))
    return image, tf.constant(rng.integers(0, 9, size).astype(np.int32))


def test_short_side_is_an_integer_of_the_range_and_the_long_side_is_truncated():
    image, label = _example((20, 33))
    resizing = RandomShortSide(short_side=26, low=0.5, high=2.0)

    def shapes_of(seed):
        return tuple(map(tf.shape, resizing(image, label, seed)))

    seeds = tf.data.Dataset.range(120).map(lambda i: shapes_of(tf.stack([3, i])))
    shapes = set()
    for image_shape, label_shape in seeds.as_numpy_iterator():
        assert tuple(image_shape) == (*label_shape, 3)
        shapes.add(tuple(label_shape))
    assert {short for short, _ in shapes} <= set(range(13, 53))
    assert min(shapes)[0] < 17 and max(shapes)[0] > 48
    assert all(long == short * 33 // 20 for short, long in shapes)


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (9, 90)])
def test_resizing_and_crop_at_once_equal_the_two_in_turn(size):
    image, label = _example(size)
    resizing, crop = RandomShortSide(short_side=26), RandomCrop(size=24, pad_color=0)
    for i in range(8):  # sizes both below and above the crop
        seeds = [tf.random.experimental.stateless_fold_in(_seed(i), place) for place in (0, 1)]
        at_once = compose([resizing, crop])(image, label, _seed(i))
        in_turn = crop(*resizing(image, label, seeds[0]), seeds[1])
        for a, b in zip(at_once, in_turn, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [(20, 33), (33, 20), (24, 24)])
def test_center_crop_is_the_center_of_the_resized_image(size):
    image, label = _example(size)
    cropped = CenterCrop(size=24)(image, label, _seed(0))
    new = size_of_short_side(tf.constant(size), tf.constant(24))
    whole = pillow_ops.resize(image, label, new)
    top, left = (round((side - 24) / 2) for side in new.numpy())
    for part, full in zip(cropped, whole, strict=True):
        np.testing.assert_array_equal(part, full[top : top + 24, left : left + 24])


def test_short_sides_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"^low must be at most high, 0\.4; got 0\.5\."):
        RandomShortSide(high=0.4)
    with pytest.raises(ValueError, match=r"^low times short_side must be at least 1 pixel; got 0"):
        RandomShortSide(short_side=3, low=0.3)
    assert RandomShortSide(short_side=2, low=0.5).low == 0.5
