"""A batch is predicted as each of its images alone, in every way to predict."""

import keras
import numpy as np
import pytest

from deeplab_tf.evaluation.classify import Classify
from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.layers import ResizeLike
from deeplab_tf.layers.names import BACKBONE_PREFIX, LOGITS_RESIZE
from jpu_tf.sliding_window import SlidingWindow

SIZE = (70, 101)
WAYS = {
    "whole": WholeImage(),
    "scales": WholeImage(scales=(0.75, 1.25), flip=True),
    "padded": WholeImage(pad_size=(97, 129)),
    "tiles": WholeImage(tile=64),
    "resized": ResizedImage(min_side=49, max_side=65),
    "windows": SlidingWindow(long_side=80, window_size=65),
    "classes": Classify(size=33),
}


@pytest.fixture(scope="module")
def networks():
    """Whose class is the strongest color: of each pixel's surroundings, and of the image."""
    colors = np.eye(3, dtype=np.float32) / 50
    image = keras.Input((None, None, 3))
    name = f"{BACKBONE_PREFIX}conv"
    layer = keras.layers.Conv2D(3, 3, strides=2, padding="same", use_bias=False, name=name)
    logits = ResizeLike(name=LOGITS_RESIZE)([layer(image), image])
    layer.set_weights([np.broadcast_to(colors / 9, (3, 3, 3, 3))])
    mean = keras.layers.GlobalAveragePooling2D()(image)
    dense = keras.layers.Dense(3, use_bias=False)
    of_image = keras.Model(image, dense(mean))
    dense.set_weights([colors])
    return keras.Model(image, logits), of_image


def colorful_images() -> np.ndarray:
    """uint8 [3, H, W, 3]: patches of random colors; the first image is reddish, and so on."""
    patches = np.random.default_rng(0).integers(0, 200, (3, 8, 10, 3))
    patches[range(3), ..., range(3)] += 55
    return patches.repeat(9, 1).repeat(11, 2)[:, : SIZE[0], : SIZE[1]].astype(np.uint8)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_gives_what_its_images_give_alone(networks, way):
    images = colorful_images()
    predictor = WAYS[way].predictor(networks[way == "classes"])
    found = predictor.predict(images, probabilities=True)
    assert found.keys() == {"label_map", "probabilities"}
    label_maps, probabilities = found["label_map"].numpy(), found["probabilities"].numpy()
    assert label_maps.dtype == np.int32 and label_maps.shape == (3, *SIZE)
    assert probabilities.dtype == np.float32 and probabilities.shape == (3, *SIZE, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert set(np.unique(label_maps)) == {0, 1, 2}

    # Rounding decides where two classes are as good as equal.
    best = np.sort(probabilities, axis=-1)
    clear = best[..., -1] - best[..., -2] > 1e-5
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(probabilities.argmax(-1)[clear], label_maps[clear])
    for i, image in enumerate(images):
        alone = predictor.predict(image[None], probabilities=True)
        np.testing.assert_allclose(probabilities[i], alone["probabilities"][0], atol=1e-6)
        label_map = predictor.label_map(image).numpy()
        np.testing.assert_array_equal(label_maps[i][clear[i]], label_map[clear[i]])
        np.testing.assert_array_equal(alone["label_map"][0], label_map)
    assert predictor.predict(images).keys() == {"label_map"}


@pytest.mark.parametrize("way", ["whole", "resized", "windows", "classes"])
@pytest.mark.parametrize("shape", [(8, 8, 3), (0, 8, 8, 3), (1, 8, 8, 4)])
def test_a_batch_must_have_images(networks, way, shape):
    predictor = WAYS[way].predictor(networks[way == "classes"])
    with pytest.raises(ValueError, match=r"images must be \[N, H, W, 3\]"):
        predictor.predict(np.zeros(shape, np.uint8))
