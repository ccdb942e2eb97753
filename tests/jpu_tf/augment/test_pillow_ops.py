"""Operations that equal Pillow's in every bit."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageFilter

from jpu_tf.augment import pillow_ops

# (height, width) before and after: larger, smaller, much smaller, one pixel more, to and from 1.
_SIZES = [
    ((40, 60), (80, 120)),
    ((60, 40), (31, 20)),
    ((90, 121), (9, 13)),
    ((50, 67), (51, 68)),
    ((33, 33), (33, 33)),
    ((1, 1), (7, 7)),
    ((8, 9), (1, 1)),
]


def _random_sizes(number):
    rng = np.random.default_rng(5)
    for i in range(number):
        size = rng.integers(2, 90, 2)
        factor = rng.uniform(0.2, 3.5, 1 + i % 2)  # half of them keep their shape
        new = np.maximum((size * factor).astype(int), 1)
        yield tuple(map(int, size)), tuple(map(int, new))


def _image(size, kind="noise"):
    rng = np.random.default_rng(size[0] * 1000 + size[1])
    if kind == "extremes":  # the largest sums and the steepest edges
        return rng.integers(0, 2, (*size, 3), np.uint8) * np.uint8(255)
    return rng.integers(0, 256, (*size, 3), np.uint8)


def _label(size):
    return np.random.default_rng(size[1]).integers(0, 256, size, np.uint8)


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None, 3], tf.uint8),
        tf.TensorSpec([None, None], tf.uint8),
        tf.TensorSpec([2], tf.int32),
    ]
)
def _resize(image, label, size):
    return pillow_ops.resize_bilinear(image, size), pillow_ops.resize_nearest(label, size)


@pytest.mark.parametrize("kind", ["noise", "extremes"])
def test_resizing_equals_pillow(kind):
    sizes = [*_SIZES, *_random_sizes(60)]
    assert sum(new[0] < old[0] for old, new in sizes) > 10  # both ways
    assert sum(new[0] > old[0] for old, new in sizes) > 10
    for old, new in sizes:
        image, label = _image(old, kind), _label(old)
        resized, resized_label = _resize(image, label, tf.constant(new, tf.int32))
        # The columns in a call of their own: for some shapes Pillow resizes the rows first.
        expected = Image.fromarray(image).resize((new[1], old[0]), Image.Resampling.BILINEAR)
        expected = expected.resize(new[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resized, np.asarray(expected), f"{old} -> {new}")
        expected = Image.fromarray(label).resize(new[::-1], Image.Resampling.NEAREST)
        np.testing.assert_array_equal(resized_label, np.asarray(expected), f"{old} -> {new}")


_PHOTOS = [((375, 500), (1040, 1386)), ((500, 375), (346, 260)), ((360, 480), (700, 933))]


def test_photos_are_resized_as_by_one_call_of_pillow():
    for old, new in _PHOTOS:
        image = _image(old)
        expected = Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR)
        resized = pillow_ops.resize_bilinear(tf.constant(image), tf.constant(new))
        np.testing.assert_array_equal(resized, np.asarray(expected))


def test_nearest_equals_pillow_where_its_rounding_errors_add_up():
    for old, new in [*_PHOTOS, ((1024, 2048), (769, 1538))]:
        label = _label(old)
        expected = Image.fromarray(label).resize(new[::-1], Image.Resampling.NEAREST)
        resized = pillow_ops.resize_nearest(tf.constant(label), tf.constant(new))
        np.testing.assert_array_equal(resized, np.asarray(expected))


def test_window_is_part_of_the_whole():
    rng = np.random.default_rng(2)
    for old, new in _random_sizes(15):
        image, label = tf.constant(_image(old)), tf.constant(_label(old))
        size = tf.constant(new, tf.int32)
        corner = rng.integers(0, new)
        shape = rng.integers(1, np.array(new) - corner + 1)
        window = tf.constant(corner, tf.int32), tf.constant(shape, tf.int32)
        place = tuple(slice(c, c + s) for c, s in zip(corner, shape, strict=True))
        whole = pillow_ops.resize_bilinear(image, size).numpy()
        part = pillow_ops.resize_bilinear(image, size, window)
        np.testing.assert_array_equal(part, whole[place])
        whole = pillow_ops.resize_nearest(label, size).numpy()
        np.testing.assert_array_equal(pillow_ops.resize_nearest(label, size, window), whole[place])


@pytest.mark.parametrize("kind", ["noise", "extremes"])
def test_blur_equals_pillow(kind):
    image = _image((21, 34), kind)
    # In a graph, whose optimizer must not replace operations by ones that round differently.
    radii = np.linspace(0, 1.4, 201, dtype=np.float32)
    for radius, blurred in zip(
        radii,
        tf.data.Dataset.from_tensor_slices(radii).map(lambda r: pillow_ops.gaussian_blur(image, r)),
        strict=True,
    ):
        expected = Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(radius)))
        np.testing.assert_array_equal(blurred, np.asarray(expected), str(radius))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (2, 2)])
def test_blur_of_few_pixels_equals_pillow(size):
    image = _image(size)
    expected = Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.9))
    np.testing.assert_array_equal(
        pillow_ops.gaussian_blur(tf.constant(image), tf.constant(0.9)), np.asarray(expected)
    )


@pytest.mark.parametrize("degrees", [-10.0, -0.3, 0.0, 4.7, 10.0])
def test_rotation_equals_pillow(degrees):
    image, label = _image((30, 47)), _label((30, 47)) % 200
    rotated, rotated_label = pillow_ops.rotate(
        tf.constant(image), tf.constant(label, tf.int32), tf.constant(degrees), color=7, added=-1
    )
    degrees = float(np.float32(degrees))
    expected = Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=(7,) * 3)
    np.testing.assert_array_equal(rotated, np.asarray(expected))
    expected = np.asarray(Image.fromarray(label).rotate(degrees, fillcolor=255))
    np.testing.assert_array_equal(np.where(rotated_label == -1, 255, rotated_label), expected)


def test_rotated_label_moves_with_the_image_and_keeps_large_values():
    label = np.zeros((41, 41), np.int32)
    label[5:15, 5:15] = 1000  # more than a byte holds
    image = np.repeat((label > 0)[:, :, None] * np.uint8(255), 3, axis=2)
    rotated, rotated_label = pillow_ops.rotate(
        tf.constant(image), tf.constant(label), tf.constant(9.0), color=0, added=0
    )
    assert set(np.unique(rotated_label)) == {0, 1000}
    differing = (rotated.numpy()[:, :, 0] > 127) != (rotated_label.numpy() > 0)
    assert differing.mean() < 0.01 and (rotated_label.numpy() != label).mean() > 0.01
