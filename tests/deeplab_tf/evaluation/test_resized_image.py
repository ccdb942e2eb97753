import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.evaluation.metrics import ConfusionMatrix
from deeplab_tf.evaluation.resized_image import ResizedImage
from deeplab_tf.evaluation.whole_image import WholeImage
from deeplab_tf.layers import ResizeLike
from deeplab_tf.layers.names import LOGITS_RESIZE
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette
from deeplab_tf.recipe.parts import Eval

SPEC = DatasetSpec(
    name="few", class_names=("a", "b", "c"), ignore_label=255, palette=bit_palette(3), splits={}
)
SMALL = {"min_side": 33, "max_side": 33}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A network with coarse logits, in which each of three classes wins somewhere."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(2 / 255, -1.0)(image)
    x = keras.layers.Conv2D(3, 5, strides=4, padding="same")(x)
    return keras.Model(image, ResizeLike(name=LOGITS_RESIZE)([x, image]))


def photo(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height + width)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def examples(*pairs) -> tf.data.Dataset:
    def each():
        for number, (image, label) in enumerate(pairs):
            yield {"image": image, "label": label, "name": str(number)}

    signature = {
        "image": tf.TensorSpec([None, None, 3], tf.uint8),
        "label": tf.TensorSpec([None, None], tf.int32),
        "name": tf.TensorSpec([], tf.string),
    }
    return tf.data.Dataset.from_generator(each, output_signature=signature)


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resized by nearest neighbor; the corners of both lie on each other."""
    rows, columns = (
        np.floor(np.arange(new, dtype=np.float32) * np.float32((old - 1) / (new - 1)) + 0.5)
        for old, new in zip(values.shape, size, strict=True)
    )
    return values[rows.astype(int)][:, columns.astype(int)]


def test_sizes_are_the_released_codes(shared_dir):
    path = shared_dir / "reference" / "deeplab" / "x4_resize_to_range.json"
    cases = json.loads(path.read_text())
    assert len(cases) == 8
    for case in cases:
        options = ResizedImage(
            min_side=case["min_size"], max_side=case["max_size"], factor=case["factor"], pad=False
        )
        found = options.resized_size((case["height"], case["width"]))
        np.testing.assert_array_equal(found, case["out"])


@pytest.mark.parametrize("size", [(512, 683), (3, 4000), (2000, 1), (513, 513), (1, 1)])
def test_every_size_fits_into_the_square_that_it_is_padded_to(size):
    for side, factor in ((513, 16), (257, 16), (500, 16), (33, 8), (40, None)):
        options = ResizedImage(min_side=side, max_side=side, factor=factor)
        assert max(options.resized_size(size)) <= side


def test_the_network_sees_the_resized_and_padded_image(model):
    image = photo(30, 66)
    resized = tf.raw_ops.ResizeBilinear(images=image[None], size=[17, 33], align_corners=True)[0]
    how = ResizedImage(**SMALL, scales=(0.75, 1.25), flip=True)
    np.testing.assert_array_equal(how.resized_size(image.shape[:2]), (17, 33))
    whole = WholeImage(pad_size=(33, 33), scales=(0.75, 1.25), flip=True).predictor(model)
    expected = whole.label_map(resized)
    found = how.predictor(model).resized_label_map(image)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) > 1
    without = how.replace(pad=False).predictor(model).resized_label_map(image)
    assert without.shape == expected.shape
    np.testing.assert_array_equal(without, whole_of(model, how).label_map(resized))


def whole_of(model: keras.Model, how: ResizedImage):
    return WholeImage(scales=how.scales, flip=how.flip).predictor(model)


def test_a_label_map_has_the_images_size_by_nearest_neighbor(model):
    image = photo(30, 66)
    predictor = ResizedImage(**SMALL).predictor(model)
    label_map = predictor.label_map(image)
    assert label_map.dtype == "int32"
    expected = nearest(predictor.resized_label_map(image).numpy(), (30, 66))
    np.testing.assert_array_equal(label_map, expected)


def test_scores_are_of_resized_images_and_labels(model):
    rng = np.random.default_rng(0)
    sizes = [(30, 66), (50, 20)]
    pairs = [(photo(*size), rng.choice([0, 1, 2, 255], size).astype(np.int32)) for size in sizes]
    how = ResizedImage(**SMALL)
    predictor = how.predictor(model)
    expected = ConfusionMatrix(3, 255)
    for image, label in pairs:
        found = predictor.resized_label_map(image).numpy()
        expected.update(nearest(label, found.shape), found)
    result = how.evaluate(predictor, examples(*pairs), SPEC, Eval())
    np.testing.assert_array_equal(result.matrix, expected.matrix)
    assert result.num_examples == 2 and result.predict == how
    at_own_size = WholeImage().evaluate(
        WholeImage().predictor(model), examples(*pairs), SPEC, Eval()
    )
    assert result.matrix.sum() < at_own_size.matrix.sum()


def test_a_label_of_another_size_is_refused_even_if_it_is_resized_to_the_same(model):
    how = ResizedImage(**SMALL)
    label = np.zeros((20, 20), np.int32)
    np.testing.assert_array_equal(how.resized_size((40, 40)), how.resized_size((20, 20)))
    with pytest.raises(ValueError, match="(?s)first.*label and image must have the same size"):
        how.evaluate(
            how.predictor(model),
            examples((photo(40, 40), label)),
            SPEC,
            Eval(),
            name_of=lambda index: "the first",
        )


def test_nearly_black_images_are_predicted(model):
    # Resized, their values lie between 0 and 1, as those of images that were scaled by mistake.
    image = np.eye(40, dtype=np.uint8)[..., None] * np.ones(3, np.uint8)
    predictor = ResizedImage(**SMALL).predictor(model)
    assert predictor.label_map(image).shape == (40, 40)
    with pytest.raises(ValueError, match="these floats lie in 0..1"):
        predictor.label_map(image / 2)


def test_a_predictor_follows_the_models_weights(model):
    network = keras.models.clone_model(model)
    predictor = ResizedImage(**SMALL).predictor(network)
    network.set_weights([0 * weight for weight in network.get_weights()[:-1]] + [np.eye(3)[2]])
    predictor.update()
    assert (predictor.label_map(photo(20, 30)).numpy() == 2).all()
    assert predictor.num_classes == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_side": 600}, "^max_side must be none or at least min_side, 600; got 513"),
        ({"max_side": None}, "^pad must be false where max_side is none"),
        ({"factor": 0}, "^factor must be at least 1"),
        ({"min_side": 0}, "^min_side must be at least 1"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ResizedImage(**options)


def test_a_size_that_no_network_can_see_is_refused_before_the_image_is_resized(model):
    predictor = ResizedImage(max_side=None, pad=False).predictor(model)
    with pytest.raises(ValueError, match="at most 65535 pixels .* or predict.max_side"):
        predictor.label_map(np.zeros((1, 500, 3), np.uint8))
