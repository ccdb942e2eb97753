import numpy as np
import tensorflow as tf

from deeplab_tf.data.augment.flip import RandomFlip, flip_left_right

# Red holds 10 times the label, which shows whether image and label move together.
_LABEL = np.arange(7 * 9, dtype=np.int32).reshape(7, 9) % 13
_IMAGE = np.stack([_LABEL * 10, _LABEL * 0, _LABEL * 0 + 3], axis=-1).astype(np.float32)


def test_flip_mirrors_left_and_right():
    image, label = flip_left_right(tf.constant(_IMAGE), tf.constant(_LABEL))
    np.testing.assert_array_equal(label, _LABEL[:, ::-1])
    np.testing.assert_array_equal(image, _IMAGE[:, ::-1])


def test_half_of_the_images_are_flipped_with_their_labels():
    flips = 0
    for number in range(60):
        seed = tf.constant([1, number], tf.int64)
        image, label = RandomFlip()(tf.constant(_IMAGE), tf.constant(_LABEL), seed)
        np.testing.assert_array_equal(image[:, :, 0], label * 10)
        flips += np.array_equal(label, _LABEL[:, ::-1])
    assert 20 <= flips <= 40
