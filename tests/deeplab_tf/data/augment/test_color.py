import numpy as np
import tensorflow as tf

from deeplab_tf.data.augment.color import RandomColor, change_color

_UNCHANGED = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
_PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.float32)
_LABEL = np.arange(6 * 8, dtype=np.int32).reshape(6, 8)
_GRAY = np.float32([0.299, 0.587, 0.114])


def _changed(image=_PHOTO, **changes):
    return change_color(tf.constant(image), **{**_UNCHANGED, **changes}).numpy()


def _augmented(number, **options):
    seed = tf.constant([1, number], tf.int64)
    return RandomColor(**options)(tf.constant(_PHOTO), tf.constant(_LABEL), seed)


def test_colors_that_are_not_changed_stay():
    np.testing.assert_allclose(_changed(), _PHOTO, atol=1e-3)
    np.testing.assert_allclose(_changed(hue=1.0), _PHOTO, atol=1e-2)  # a whole turn
    image, label = _augmented(0, strength=0)
    np.testing.assert_allclose(image, _PHOTO, atol=1e-3)
    np.testing.assert_array_equal(label, _LABEL)


def test_brightness_contrast_and_saturation_change_what_they_name():
    gray = _PHOTO @ _GRAY
    np.testing.assert_allclose(_changed(brightness=0.5), _PHOTO / 2, atol=1e-3)
    np.testing.assert_allclose(_changed(contrast=0.0), gray.mean(), atol=1e-2)
    np.testing.assert_allclose(_changed(saturation=0.0), gray[:, :, None] + 0 * _PHOTO, atol=0.1)


def test_hue_turns_colors_but_not_gray():
    red = np.zeros((2, 2, 3), np.float32) + np.float32([128, 64, 64])
    turned = _changed(red, hue=1 / 3)
    assert turned[0, 0].argmax() != 0
    np.testing.assert_allclose(turned @ _GRAY, red @ _GRAY, atol=1)
    even = np.full((2, 2, 3), 90, np.float32)
    np.testing.assert_allclose(_changed(even, hue=1 / 3), even, atol=0.1)


def test_colors_change_within_bounds_and_labels_stay():
    for number in range(20):
        image, label = _augmented(number, strength=1.0)
        assert image.numpy().min() >= 0 and image.numpy().max() <= 255
        assert np.abs(image.numpy() - _PHOTO).mean() > 1
        np.testing.assert_array_equal(label, _LABEL)


def test_hue_share_is_how_much_of_the_change_is_in_the_hue():
    drawn = tf.random.stateless_uniform([4], tf.constant([1, 3], tf.int64), -0.5, 0.5)
    for share in (0.0, 0.5, 1.0):
        image, _ = _augmented(3, strength=0.5, hue_share=share)
        expected = change_color(
            tf.constant(_PHOTO),
            brightness=1 + drawn[0],
            contrast=1 + drawn[1],
            saturation=1 + drawn[2],
            hue=share * drawn[3],
        )
        np.testing.assert_array_equal(image, expected)
