import numpy as np
import pytest
import tensorflow as tf

from jpu_tf.augment import pillow_ops
from jpu_tf.augment.blur import RandomBlur

_IMAGE = np.random.default_rng(0).integers(0, 256, (12, 15, 3)).astype(np.float32)
_LABEL = np.arange(12 * 15, dtype=np.int32).reshape(12, 15)


def _blurred(number, **options):
    seed = tf.constant([3, number], tf.int64)
    return RandomBlur(**options)(tf.constant(_IMAGE), tf.constant(_LABEL), seed)


def test_half_of_the_images_are_blurred_and_no_label_is():
    results = [_blurred(i) for i in range(60)]
    assert all(np.array_equal(label, _LABEL) for _, label in results)
    unchanged = sum(np.array_equal(image, _IMAGE) for image, _ in results)
    assert 20 <= unchanged <= 44  # a few of them were blurred by next to nothing
    for image, _ in results:
        assert image.shape == _IMAGE.shape and np.var(image) < 1.001 * np.var(_IMAGE)


def test_probability_is_the_share_that_is_blurred():
    for probability, least, most in ((0.0, 0, 0), (0.9, 20, 29), (1.0, 24, 30)):
        images = [_blurred(i, probability=probability)[0] for i in range(30)]
        assert least <= sum(not np.array_equal(image, _IMAGE) for image in images) <= most


def test_a_larger_radius_blurs_more():
    variances = [
        np.mean([np.var(_blurred(i, radius=radius)[0]) for i in range(20)])
        for radius in (0.0, 0.5, 1.0, pillow_ops.MAX_BLUR_RADIUS)
    ]
    assert variances == sorted(variances, reverse=True) and variances[-1] < 0.8 * variances[0]


def test_a_radius_that_needs_wider_boxes_is_refused():
    with pytest.raises(ValueError, match=r"^radius must be at most 1\.4; got 1\.5\."):
        RandomBlur(radius=1.5)
