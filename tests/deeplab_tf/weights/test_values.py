"""What weights must be: floats that are finite, in arrays that a network has."""

import functools

import numpy as np
import pytest
import weight_files

from deeplab_tf import zoo
from deeplab_tf.model import DeepLabV3PlusConfig
from deeplab_tf.weights import read_arrays

ARRAYS = {
    "MobilenetV2/Conv/weights": np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2),
    "logits/semantic/biases": np.arange(3, dtype=np.float32),
}
# Small because its parts are.
CONFIG = DeepLabV3PlusConfig(
    backbone="mobilenet_v2_dm035", atrous_rates=(), decoder=False, separable=False
)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint16", "bool", "complex64"])
def test_what_is_not_of_floats_is_refused_by_its_name(tmp_path, dtype):
    arrays = {**ARRAYS, "logits/semantic/biases": np.ones(3, dtype)}
    path = weight_files.write_npz(tmp_path / "model", arrays)
    with pytest.raises(
        ValueError, match=rf"1 of 2 .* not: logits/semantic/biases \({dtype}\)\. Con"
    ):
        read_arrays(path)
    if dtype == "complex64":
        return
    prefix = weight_files.write_checkpoint(tmp_path, arrays)
    with pytest.raises(ValueError, match="array logits/semantic/biases must be .* as floats"):
        read_arrays(prefix)
    path = weight_files.write_frozen_graph(tmp_path / "model", arrays)
    with pytest.raises(ValueError, match="array logits/semantic/biases must hold floats"):
        read_arrays(path)


@pytest.mark.parametrize("values", [np.array(["a", "b"]), np.array([{}, []], dtype=object)])
def test_text_and_objects_are_refused(tmp_path, values):
    np.savez(tmp_path / "a.npz", names=values)
    with pytest.raises(ValueError, match="is not a readable .npz file of arrays: array names must"):
        read_arrays(str(tmp_path / "a.npz"))


def test_integers_in_a_pytorch_file_are_refused_and_counters_left_out(tmp_path):
    weight = weight_files.tensor(of=weight_files.storage("0", "Long"))
    path = tmp_path / "a.pth"
    path.write_bytes(weight_files.zip_file({"conv.weight": weight}, {"0": np.arange(6)}))
    with pytest.raises(ValueError, match=r"1 of 1 arrays are not: conv.weight \(int64\)"):
        read_arrays(str(path))
    counter = weight_files.tensor((), (), of=weight_files.storage("1", "Long", 1))
    content = {"conv.weight": weight_files.tensor(), "bn.num_batches_tracked": counter}
    storages = {"0": weight_files.SIX, "1": np.arange(1)}
    path.write_bytes(weight_files.zip_file(content, storages))
    assert read_arrays(str(path))[1].keys() == {"conv.weight"}


def test_the_counter_of_steps_is_left_out_in_every_format(tmp_path):
    arrays = {**ARRAYS, "global_step": np.int64(30_000)}
    paths = [
        weight_files.write_npz(tmp_path / "a", arrays),
        weight_files.write_frozen_graph(tmp_path / "b", arrays),
        weight_files.write_checkpoint(tmp_path, arrays),
    ]
    for path in paths:
        assert read_arrays(path)[1].keys() == ARRAYS.keys()


def test_values_that_float32_does_not_hold_are_refused(tmp_path):
    path = weight_files.write_npz(tmp_path / "a", {"a": np.array([1.0, -1e39])})
    with pytest.raises(ValueError, match="1 of 1 arrays have NaN, infinity or more than float32 h"):
        read_arrays(path)
    path = weight_files.write_npz(tmp_path / "a", {"a": np.array([1.0, -3e38])})
    assert read_arrays(path)[1]["a"].min() == -3e38


@functools.cache
def network_of_four():
    return CONFIG.build(4)


@functools.cache
def arrays_of_four():
    """Arrays by released name."""
    return weight_files.deeplab_arrays(network_of_four())


# Files in a format that takes any array, and where `convert_weights.py` looks too.
AROUND = {
    "a scalar for the classifier": (
        lambda a: {**a, "logits/semantic/weights": np.float32(1)},
        r"logits/semantic/weights must be the kernel of a convolution .*; got the shape \(\)",
    ),
    "a vector for the classifier": (
        lambda a: {**a, "logits/semantic/weights": np.ones(4, np.float32)},
        r"must be the kernel of a convolution \[h, w, in, out\]; got the shape \(4,\)",
    ),
    "integers": (
        lambda a: {**a, "aspp0/weights": a["aspp0/weights"].astype(np.int8)},
        r"must hold floats, as weights are; 1 of \d+ arrays are not: aspp0/weights \(int8\)",
    ),
    "NaN everywhere": (
        lambda a: {n: np.full_like(v, np.nan) for n, v in a.items()},
        r"must hold finite values; (\d+) of \1 arrays have NaN",
    ),
    "a negative variance": (
        lambda a: {
            **a,
            "MobilenetV2/Conv/BatchNorm/moving_variance": -np.ones(
                a["MobilenetV2/Conv/BatchNorm/moving_variance"].shape, np.float32
            ),
        },
        "variances must not be negative; backbone_conv_bn/moving_variance are",
    ),
    "no channels and a billion classes": (
        lambda a: {**a, "logits/semantic/weights": np.ones((1, 1, 0, 10**9), np.float32)},
        "at most 8 dimensions with sizes from 1; got 4: 1, 1, 0, 1000000000",
    ),
    "a decoder's billionth convolution": (
        lambda a: {**a, "decoder/decoder_conv999999999_pointwise/weights": np.ones((1, 1, 1, 1))},
        "must be numbered from 0 without a gap; there is one with the number 999999999",
    ),
    # As a network 60,000 channels are 30 GB.
    "wide ASPP": (
        lambda a: {**a, "concat_projection/weights": np.ones((1, 1, 1, 60_000), np.float32)},
        r"weights do not fit: 0 missing .* of another shape \(aspp_",
    ),
    "wide decoder": (
        lambda a: {
            **a, "decoder/decoder_conv0_pointwise/weights": np.ones((1, 1, 1, 500_000), np.float32)
        },
        "weights do not fit: ",
    ),
    "many classes": (
        lambda a: {**a, "logits/semantic/weights": np.ones((1, 1, 1, 60_000), np.float32)},
        r"weights do not fit: .* of another shape \(logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", AROUND)
def test_arrays_that_no_network_has_are_refused_before_a_network_takes_memory(tmp_path, kind):
    spoil, message = AROUND[kind]
    path = weight_files.write_npz(tmp_path / "model.npz", spoil(arrays_of_four()))
    model = network_of_four()
    before = [weight.numpy() for weight in model.weights]
    for read in (zoo.from_checkpoint, functools.partial(zoo.load_weights, model)):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert str(caught.value).startswith(path) and "\n" not in str(caught.value)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
