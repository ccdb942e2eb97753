import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import ResizeLike, SegmentationModel
from deeplab_tf.recipe.dataset_spec import DatasetSpec, bit_palette

SPEC = DatasetSpec(
    name="shapes",
    class_names=("background", "disc"),
    ignore_label=255,
    palette=bit_palette(2),
    splits={"train": 4, "val": 1},
)


def small_model(channels: int = 3) -> SegmentationModel:
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(2, 3, strides=2, padding="same")(image)
    return SegmentationModel(image, ResizeLike()([x, image]), name="small")


def images(shape: tuple[int, ...] = (2, 9, 12, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([images((9, 12, 3))] * 2, r"array \[N, H, W, 3\]; got a list of 2.*numpy.stack\(images\)"),
        ([images((9, 12, 3))], "got a list of 1"),
        ((images((9, 12, 3)),), "got a tuple of 1"),
        (images((9, 12, 3)), r"got the shape \(9, 12, 3\). Add the batch axis: image\[None\]"),
        (images((3, 9, 12)), r"Add the batch axis: numpy.moveaxis\(image, 0, -1\)\[None\]"),
        (images((1, 3, 9, 12)), r"channels last: numpy.moveaxis\(images, 1, -1\)"),
        (images((1, 9, 12, 1)), r"array \[N, H, W, 3\]; got the shape \(1, 9, 12, 1\)"),
        (images((9, 12)), r"got the shape \(9, 12\)"),
        (tf.zeros([9, 12, 3]), "Add the batch axis"),
        (images() / 255, r"RGB 0..255; these floats lie in 0..1. Multiply by 255."),
        (tf.constant(images() / 255), "these floats lie in 0..1"),
        (images().astype(str), "images must be of a numeric type; got <U3"),
        (images() > 9, "images must be of a numeric type; got bool"),
        (np.array([None] * 2), "images must be of a numeric type; got object"),
    ],
)
def test_predict_names_what_is_wrong_with_images(wrong, message):
    with pytest.raises(ValueError, match=message):
        small_model().predict(wrong, verbose=0)


def test_predict_of_every_right_input_is_that_of_keras():
    model, batch = small_model(), images()
    plain = keras.Model(model.input, model.output)
    expected = plain.predict(batch, verbose=0)
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(1)
    for right in (
        batch,
        batch.astype(np.float32),
        batch.astype(np.float16),
        tf.constant(batch),
        dataset,
    ):
        np.testing.assert_array_equal(model.predict(right, verbose=0), expected)
    np.testing.assert_array_equal(model.predict(batch, 1, 0), expected)
    generator = ((batch[i : i + 1],) for i in range(2))
    np.testing.assert_array_equal(model.predict(generator, verbose=0, steps=2), expected)
    with pytest.warns(UserWarning, match="structure of `inputs`"):  # Keras' own
        np.testing.assert_array_equal(model.predict([batch], verbose=0), expected)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.5, 1.5], [-2.5, 0.5], [0.25, np.nan]])
def test_floats_that_may_be_pixels_pass(values):
    batch = np.resize(np.float32(values), (1, 4, 6, 3))
    assert small_model().predict(batch, verbose=0).shape == (1, 4, 6, 2)


def test_other_numbers_of_channels_are_the_models():
    assert small_model(4).predict(images((1, 9, 12, 4)), verbose=0).shape == (1, 9, 12, 2)
    with pytest.raises(ValueError, match=r"\[N, H, W, 4\]; got the shape \(1, 9, 12, 3\)"):
        small_model(4).predict(images((1, 9, 12, 3)), verbose=0)


@pytest.mark.parametrize("spec", [None, SPEC])
def test_a_keras_file_keeps_the_class_the_weights_and_the_classes(tmp_path, spec):
    model = small_model()
    model.dataset_spec = spec
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded) is SegmentationModel
    assert loaded.dataset_spec == spec
    np.testing.assert_array_equal(loaded(images()), model(images()))


def test_a_clone_has_the_class_and_the_layers():
    model = small_model()
    clone = keras.models.clone_model(model)
    assert type(clone) is SegmentationModel
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(images()), model(images()))


def test_a_part_of_the_model_is_a_model():
    model = small_model()
    part = keras.Model(model.input, model.layers[-1].output)
    np.testing.assert_array_equal(part(images()), model(images()))


def test_it_compiles_and_fits():
    model = small_model()
    model.compile(
        optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = model.get_weights()[0]
    model.fit(images(), np.ones((2, 9, 12), np.int32), verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0


def test_it_exports(tmp_path):
    model = small_model()
    model.export(tmp_path / "m", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    batch = images().astype(np.float32)
    np.testing.assert_allclose(loaded.serve(batch), model(batch), rtol=1e-5)


def test_floats_that_are_normalized_already_are_refused():
    images = np.linspace(-1, 1, 2 * 9 * 9 * 3, dtype=np.float32).reshape(2, 9, 9, 3)
    with pytest.raises(ValueError, match=r"these floats lie in -1\.\.1"):
        small_model().predict(images, verbose=0)


def test_replicas_share_the_images_of_one_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = small_model()
    expected = model(images((4, 9, 12, 3)).astype(np.float32), training=False)
    found = model.predict(images((4, 9, 12, 3)))
    np.testing.assert_allclose(found, expected, atol=1e-4)
