"""Masks of dropout: what they follow from, and that they are random."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplab_tf.layers import Dropout, SpatialDropout2D
from deeplab_tf.layers.dropout import _Batch, _random_numbers, masks_follow

_LAYERS = [Dropout, SpatialDropout2D]


def _drop(layer, x, *, seed=1, step=0, first_example=0):
    with masks_follow(seed=seed, step=step, first_example=first_example):
        return layer(x, training=True).numpy()


def _ones(examples=8, sides=(3, 3), channels=5, dtype="float32"):
    return np.ones((examples, *sides, channels), dtype)


def _philox(counters, key):
    """Philox 4x32-10 as its authors define it.

    Args:
      counters: integers of 128 bits.
      key: integer of 64 bits.

    Returns:
      uint32 [len(counters), 4].
    """
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    words = [np.array([c >> 32 * i & 0xFFFFFFFF for c in counters], np.uint64) for i in range(4)]
    keys = [np.uint64(key) & low, np.uint64(key) >> half]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * words[0], np.uint64(0xCD9E8D57) * words[2]
        words = [b >> half ^ words[1] ^ keys[0], b & low, a >> half ^ words[3] ^ keys[1], a & low]
        keys = [
            (k + np.uint64(w)) & low for k, w in zip(keys, (0x9E3779B9, 0xBB67AE85), strict=True)
        ]
    return np.stack(words, axis=-1).astype(np.uint32)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("first_example", [0, 5, 2**33])
def test_random_numbers_are_those_of_philox(compiled, first_example):
    @tf.function(jit_compile=compiled)
    def numbers(step, first):
        batch = _Batch(seed=3, step=step, first_example=first)
        return _random_numbers((2, 1, 1, 10), "name", batch)

    found = numbers(tf.constant(7, tf.int64), tf.constant(first_example, tf.int64))
    # sha256 of "3 name"; three counters of four numbers are an example's, the last two are unused
    key = 0x9851498F242F34D7
    counters = [(7 << 64) + 3 * first_example + i for i in range(6)]
    expected = _philox(counters, key).reshape(2, 12)[:, :10]
    np.testing.assert_array_equal(found.numpy().reshape(2, 10), expected)


@pytest.mark.parametrize("kind", _LAYERS)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_of_a_batch_drop_what_the_whole_drops(kind, parts):
    layer, x = kind(0.4, name="layer"), _ones()
    whole = _drop(layer, x, step=3)
    size = len(x) // parts
    divided = [
        _drop(layer, x[i : i + size], step=3, first_example=i) for i in range(0, len(x), size)
    ]
    np.testing.assert_array_equal(np.concatenate(divided), whole)
    assert 0 < (whole == 0).mean() < 1


def test_images_of_an_unknown_size_are_dropped_alike():
    layer, x = Dropout(0.5, name="layer"), _ones()

    @tf.function(input_signature=[tf.TensorSpec([None] * 3 + [5])])
    def dropped(x):
        with masks_follow(seed=1, step=0, first_example=0):
            return layer(x, training=True)

    np.testing.assert_array_equal(dropped(x), _drop(layer, x))


@pytest.mark.parametrize("kind", _LAYERS)
def test_steps_seeds_layers_and_examples_drop_other_values(kind):
    x = _ones(2, channels=1000)
    layer = kind(0.5, name="a")
    masks = {
        "first": _drop(layer, x),
        "next step": _drop(layer, x, step=1),
        "other seed": _drop(layer, x, seed=2),
        "other layer": _drop(kind(0.5, name="b"), x),
        "other examples": _drop(layer, x, first_example=2),
    }
    masks["other example of a batch"] = masks["first"][::-1]
    np.testing.assert_array_equal(_drop(kind(0.5, name="a"), x), masks["first"])
    names = list(masks)
    for i, name in enumerate(names):
        for other in names[:i]:
            same = (masks[name] == masks[other]).mean()
            # Of 2000 independent pairs or more: 9 standard deviations from one half.
            assert 0.4 < same < 0.6, (name, other)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_dropped_values_is_the_rate_in_every_place(rate):
    """Chi-square over the channels of many examples and steps."""
    layer = Dropout(rate, name="layer")
    x = _ones(64, channels=7)
    dropped = np.stack([_drop(layer, x, step=step) == 0 for step in range(50)])
    number = dropped[..., 0, 0, 0].size
    counts = dropped.sum(axis=(0, 1)).ravel()  # of each of 63 places
    chi_square = ((counts - number * rate) ** 2 / (number * rate * (1 - rate))).sum()
    # 63 degrees of freedom: between the 0.1th and the 99.9th percentile
    assert 33.9 < chi_square < 103.5


@pytest.mark.parametrize("kind", _LAYERS)
def test_the_mean_over_many_masks_is_the_input(kind):
    layer = kind(0.3, name="layer")
    x = np.random.default_rng(0).uniform(1, 2, (2, 2, 3)).astype(np.float32)
    examples = np.tile(x, (500, 1, 1, 1))
    mean = np.mean([_drop(layer, examples, step=step).mean(0) for step in range(20)], axis=0)
    deviation = x * np.sqrt(0.3 / 0.7 / 10_000)
    assert 0 < np.abs((mean - x) / deviation).max() < 4


def test_spatial_dropout_drops_whole_channels():
    dropped = _drop(SpatialDropout2D(0.5), _ones(channels=64))
    assert np.ptp(dropped, axis=(1, 2)).max() == 0
    assert set(np.unique(dropped)) == {0, 2}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_kept_values_are_scaled_as_keras_scales_them(dtype):
    ours, kerass = Dropout(0.3, dtype=dtype), keras.layers.Dropout(0.3, dtype=dtype)
    x = tf.cast(np.linspace(1, 2, 1000).reshape(1, -1), dtype)
    with masks_follow(seed=0, step=0, first_example=0):
        found, expected = ours(x, training=True), kerass(x, training=True)
    assert found.dtype == dtype
    both = (found != 0) & (expected != 0)
    assert 400 < np.count_nonzero(both) < 600
    np.testing.assert_array_equal(found[both], expected[both])


@pytest.mark.parametrize(
    ("kind", "kerass"),
    [(Dropout, keras.layers.Dropout), (SpatialDropout2D, keras.layers.SpatialDropout2D)],
)
def test_outside_of_a_training_step_it_is_keras_layer(kind, kerass):
    layer, x = kind(0.5, seed=7), _ones(channels=64)
    expected = kerass(0.5, seed=7)
    for _ in range(2):  # the random state goes on
        np.testing.assert_array_equal(layer(x, training=True), expected(x, training=True))
    np.testing.assert_array_equal(layer(x), x)
    with masks_follow(seed=0, step=0, first_example=0):
        np.testing.assert_array_equal(layer(x, training=False), x)
        np.testing.assert_array_equal(kind(0.0)(x, training=True), x)


def test_threads_have_masks_of_their_own():
    layer, x = Dropout(0.5, seed=7, name="layer"), _ones()
    found = {}
    inside = threading.Barrier(2, timeout=60)

    def drop(step):
        with masks_follow(seed=1, step=step, first_example=0):
            inside.wait()  # both are inside now
            found[step] = layer(x, training=True).numpy()
            inside.wait()

    threads = [threading.Thread(target=drop, args=(step,)) for step in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for step, masked in found.items():
        np.testing.assert_array_equal(masked, _drop(layer, x, step=step))
    # The context has ended, here too.
    np.testing.assert_array_equal(
        layer(x, training=True), keras.layers.Dropout(0.5, seed=7)(x, training=True)
    )


@pytest.mark.parametrize("kind", _LAYERS)
def test_a_saved_network_has_the_same_layer(kind, tmp_path):
    image = keras.Input((4, 4, 3))
    path = str(tmp_path / "model.keras")
    keras.Model(image, kind(0.25, seed=3, name="layer")(image)).save(path)
    layer = keras.models.load_model(path).get_layer("layer")
    assert type(layer) is kind
    assert (layer.rate, layer.seed) == (0.25, 3)
