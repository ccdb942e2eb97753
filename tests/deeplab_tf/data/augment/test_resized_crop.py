"""The crop of image classification keeps its limits, and always finds a part."""

import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data import pipeline
from deeplab_tf.data.augment import RandomResizedCrop


def _parts(crop, size, number):
    size = tf.constant(size)
    drawn = [crop.part(size, tf.constant([7, i])) for i in range(number)]
    return [tuple(int(v) for pair in part for v in pair) for part in drawn]


@pytest.mark.parametrize("size", [(60, 80), (80, 60), (500, 375)])
def test_parts_lie_in_the_image_and_keep_the_limits(size):
    crop = RandomResizedCrop(low=0.1, high=0.6)
    shares, ratios, places = [], [], set()
    for row, column, rows, columns in _parts(crop, size, 200):
        assert min(row, column) >= 0
        assert row + rows <= size[0] and column + columns <= size[1]
        shares.append(rows * columns / (size[0] * size[1]))
        ratios.append(columns / rows)
        places.add((row == 0, row + rows == size[0], column == 0, column + columns == size[1]))
    # Sides are whole pixels.
    assert 0.09 < min(shares) < 0.15 and 0.5 < max(shares) < 0.62
    assert 0.71 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.4
    assert abs(np.log(ratios).mean()) < 0.05  # as often wide as tall
    assert len(places) > 1


def test_the_whole_image_can_be_drawn():
    crop = RandomResizedCrop(low=1.0, high=1.0, aspect=1.0)
    assert _parts(crop, (20, 20), 5) == [(0, 0, 20, 20)] * 5


@pytest.mark.parametrize(
    ("size", "part"),
    [((10, 400), (0, 194, 10, 13)), ((400, 10), (194, 0, 13, 10)), ((1, 50), (0, 25, 1, 1))],
)
def test_of_a_narrow_image_it_is_the_middle(size, part):
    found = _parts(RandomResizedCrop(low=0.5), size, 20)
    assert set(found) == {part}


def test_a_single_pixel_is_an_image_too():
    image, label = RandomResizedCrop(size=5)(
        tf.fill([1, 1, 3], tf.constant(9, tf.uint8)), tf.fill([1, 1], 4), tf.constant([0, 0])
    )
    assert np.all(image == 9) and np.all(label == 4)
    assert image.shape == (5, 5, 3) and label.shape == (5, 5)


def test_image_and_label_are_cut_alike():
    label = tf.reshape(tf.range(40 * 60), [40, 60])
    image = tf.cast(tf.stack([label] * 3, axis=2), tf.float32)
    crop = RandomResizedCrop(size=30)
    for number in range(5):
        seed = tf.constant([3, number])
        row, column, rows, columns = (int(v) for p in crop.part([40, 60], seed) for v in p)
        cut_image, cut_label = crop(image, label, seed)
        corners = np.array(cut_label)[[0, 0, -1, -1], [0, -1, 0, -1]]
        down, right = row + rows - 1, column + columns - 1
        expected = [60 * r + c for r in (row, down) for c in (column, right)]
        assert corners.tolist() == expected
        # Bilinear and nearest differ by at most half a pixel in each direction.
        assert np.abs(cut_image[:, :, 0] - tf.cast(cut_label, tf.float32)).max() <= 31


def test_it_brings_images_to_one_size():
    pipeline.check_one_size((RandomResizedCrop(size=33),))


def test_limits_must_be_in_order():
    with pytest.raises(ValueError, match=r"^low must be at most high, 0\.3; got 0\.5"):
        RandomResizedCrop(low=0.5, high=0.3)
