import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.augment import ADDED_LABEL
from jpu_tf.augment.rotation import RandomRotation


def _seed(number):
    return tf.constant([3, number], tf.int64)


def _example(size):
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(1, 256, (*size, 3)).astype(np.float32))
    return image, tf.constant(rng.integers(1, 10, size).astype(np.int32))


@pytest.mark.parametrize(("pad_label", "expected"), [(None, ADDED_LABEL), (0, 0)])
def test_new_corners_are_padding(pad_label, expected):
    rotated, label = RandomRotation(pad_label=pad_label)(*_example((40, 60)), _seed(2))
    added = label.numpy() == expected
    assert added[0, 0] and added[-1, -1] and not added[20, 30] and rotated.shape == (40, 60, 3)
    black = (rotated.numpy() == 0).all(axis=-1)
    assert (black != added).mean() < 0.02  # along the edges


def test_new_corners_have_the_color_that_is_set():
    rotated, label = RandomRotation(pad_color=255)(*_example((40, 60)), _seed(2))
    corner = rotated.numpy()[label == ADDED_LABEL]
    assert len(corner) > 20 and (corner == 255).mean() > 0.9


@pytest.mark.parametrize(("degrees", "expected"), [(10.0, (4, 5)), (20.0, (8, 9)), (0.0, (0,))])
def test_rotations_go_both_ways_up_to_the_largest_angle(degrees, expected):
    image, label = _example((61, 61))
    # A pixel 25 to the right of the center; 25 * sin(10 degrees) = 4.3, 25 * sin(20) = 8.6
    label = tf.tensor_scatter_nd_update(label * 0, [[30, 55]], [1])
    rows = []
    for i in range(40):
        _, rotated = RandomRotation(degrees=degrees)(image, label, _seed(i))
        rows += list(np.argwhere(rotated.numpy() == 1)[:, 0] - 30)
    assert -min(rows) in expected and max(rows) in expected
