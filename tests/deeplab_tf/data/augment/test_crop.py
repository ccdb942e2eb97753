import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.data.augment.crop import ADDED_LABEL, RandomCrop, pad_to

# Red holds 10 times the label, which shows whether image and label move together.
_LABEL = np.arange(7 * 9, dtype=np.int32).reshape(7, 9) % 13
_IMAGE = np.stack([_LABEL * 10, _LABEL * 0, _LABEL * 0 + 3], axis=-1).astype(np.float32)


def _cropped(number=0, image=_IMAGE, **options):
    seed = tf.constant([1, number], tf.int64)
    return RandomCrop(**options)(tf.constant(image), tf.constant(_LABEL), seed)


def test_label_is_cropped_with_the_image():
    for number in range(6):
        image, label = _cropped(number, size=5)
        assert label.shape == (5, 5)
        np.testing.assert_array_equal(image[:, :, 0], label * 10)


def test_crops_come_from_every_position():
    corners = {tuple(_cropped(i, size=5)[1].numpy()[0, :2]) for i in range(150)}
    expected = {tuple(_LABEL[r, c : c + 2]) for r in range(3) for c in range(5)}
    assert corners == expected


@pytest.mark.parametrize(("size", "width"), [(5, 9), (5, 7), (7, 2), (9, 12), (4, 11), (12, 5)])
def test_crop_may_be_a_rectangle(size, width):
    seen = set()
    for number in range(60):
        image, label = _cropped(number, size=size, width=width)
        assert image.shape == (size, width, 3) and label.shape == (size, width)
        inside = label.numpy()[:7, :9]
        added = label.numpy() == ADDED_LABEL
        assert added.sum() == size * width - inside.size
        np.testing.assert_array_equal(image.numpy()[~added][:, 0], label.numpy()[~added] * 10)
        seen.add(inside.tobytes())
    windows = ((r, c) for r in range(max(1, 8 - size)) for c in range(max(1, 10 - width)))
    assert seen == {_LABEL[r : r + size, c : c + width].tobytes() for r, c in windows}


def test_padding_is_at_the_bottom_and_right():
    image, label = pad_to(tf.constant(_IMAGE), tf.constant(_LABEL), (10, 12), color=127.5, added=3)
    assert label.shape == (10, 12)
    np.testing.assert_array_equal(label[:7, :9], _LABEL)
    np.testing.assert_allclose(image[:7, :9], _IMAGE, atol=1e-4)
    assert np.all(label.numpy()[7:] == 3) and np.all(label.numpy()[:, 9:] == 3)
    assert np.all(image.numpy()[7:] == 127.5) and np.all(image.numpy()[:, 9:] == 127.5)


def test_small_image_is_padded_to_the_crop():
    image, label = _cropped(size=12)
    assert image.shape == (12, 12, 3)
    assert (label.numpy() == ADDED_LABEL).sum() == 12 * 12 - 7 * 9
    assert np.all(image.numpy()[label == ADDED_LABEL] == 127.5)


@pytest.mark.parametrize(("color", "dtype"), [(0, tf.uint8), (255.0, tf.uint8), (0.5, tf.float32)])
def test_bytes_stay_bytes_if_the_padding_is_one(color, dtype):
    image, _ = _cropped(image=_IMAGE.astype(np.uint8), size=12, pad_color=color)
    assert image.dtype == dtype and np.all(image.numpy()[7:] == color)


@pytest.mark.parametrize(("pad_label", "expected"), [(None, ADDED_LABEL), (0, 0)])
def test_padding_has_the_class_that_is_set(pad_label, expected):
    image, label = _cropped(size=12, pad_color=0, pad_label=pad_label)
    assert np.all(label.numpy()[7:] == expected) and np.all(label.numpy()[:, 9:] == expected)
    assert np.all(image.numpy()[7:] == 0) and np.all(image.numpy()[:, 9:] == 0)
    np.testing.assert_array_equal(label[:7, :9], _LABEL)


@pytest.mark.parametrize(
    ("color", "dtype"), [((123.15, 115.9, 103.06), tf.float32), ((9, 0, 255), tf.uint8)]
)
def test_padding_may_have_a_color(color, dtype):
    image, label = _cropped(image=_IMAGE.astype(np.uint8), size=12, pad_rgb=color)
    assert image.dtype == dtype and image.shape == (12, 12, 3)
    added = label.numpy() == ADDED_LABEL
    assert added.sum() == 12 * 12 - 7 * 9
    np.testing.assert_array_equal(image.numpy()[added], [np.float32(color)] * added.sum())
    np.testing.assert_array_equal(image[:7, :9], _IMAGE)


@pytest.mark.parametrize("color", [(1.0, 2.0), 127.5, (0.0, 0.0, 256.0)])
def test_a_color_is_three_numbers_of_a_byte(color):
    with pytest.raises(ValueError, match=r"^pad_rgb must be (number,number,number|at most 255)"):
        RandomCrop(pad_rgb=color)
