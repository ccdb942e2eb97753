"""Checkpoints are read without TensorFlow, as TensorFlow reads them."""

import os

import numpy as np
import pytest
import tensorflow as tf
import weight_files
from weight_files import index_entry

from deeplab_tf.weights import read_arrays
from deeplab_tf.weights.tensorflow_files.crc32c import masked_crc32c

NAME = "logits/semantic/weights"


def unmasked(crc):
    rotated = (crc - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),  # cited: RFC 3720, Sec. B.4, and the usual check value
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_the_standard(data, crc):
    assert unmasked(masked_crc32c(data)) == crc


@pytest.mark.parametrize("length", [63, 64, 65, 4097, 65_536, 65_537, 300_001])
def test_checksums_of_rows_are_those_of_single_bytes(length):
    data = np.random.default_rng(length).bytes(length)
    single = [data[i : i + 50] for i in range(0, length, 50)]  # too short for rows
    assert masked_crc32c(data) == masked_crc32c(*single)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values_are_those_that_tensorflow_reads(tmp_path, dtype):
    arrays = {
        f"MobilenetV2/Conv_{i}/weights": tf.cast(tf.cos(tf.range(9.0 * i)), dtype)
        for i in range(1, 200)
    }
    prefix = weight_files.write_checkpoint(tmp_path, {**arrays, "global_step": np.int64(7)})
    reader = tf.train.load_checkpoint(prefix)
    _, found = read_arrays(prefix)
    assert found.keys() == arrays.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, reader.get_tensor(name).astype(array.dtype))


def test_values_of_the_first_version_are_those_that_tensorflow_reads(tmp_path):
    arrays = {f"MobilenetV2/Conv_{i}/weights": np.cos(np.arange(99.0 * i)) for i in range(1, 99)}
    path = str(tmp_path / "old.ckpt")
    tf.raw_ops.Save(filename=path, tensor_names=list(arrays), data=list(arrays.values()))
    _, found = read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_checkpoint_of_several_data_files_is_read(tmp_path):
    for i, name in enumerate(("a/weights", "b/weights")):
        tf.raw_ops.SaveV2(
            prefix=str(tmp_path / f"part{i}"),
            tensor_names=[name],
            shape_and_slices=[""],
            tensors=[tf.fill([3], float(i))],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / f"part{i}") for i in range(2)],
        destination_prefix=str(tmp_path / "model.ckpt"),
    )
    assert (tmp_path / "model.ckpt.data-00001-of-00002").exists()
    _, found = read_arrays(str(tmp_path / "model.ckpt"))
    np.testing.assert_array_equal(found["a/weights"], [0, 0, 0])
    np.testing.assert_array_equal(found["b/weights"], [1, 1, 1])


def test_a_variable_in_parts_is_refused(tmp_path):
    path = str(tmp_path / "model.ckpt")
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=[NAME],
        shape_and_slices=["6 0,3"],
        tensors=[tf.zeros([3])],
    )
    with pytest.raises(ValueError, match=f"array {NAME} must be stored whole"):
        read_arrays(path)


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
def test_every_changed_byte_of_a_checkpoint_is_noticed(tmp_path, part):
    arrays = {NAME: np.cos(np.arange(30, dtype=np.float32)).reshape(10, 3)}
    prefix = weight_files.write_checkpoint(tmp_path, arrays)
    with open(prefix + part, "rb") as file:
        data = file.read()
    unnoticed = 0
    for position in range(len(data)):
        changed = data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]
        with open(prefix + part, "wb") as file:
            file.write(changed)
        try:
            _, found = read_arrays(prefix)
        except ValueError as error:
            assert str(error).startswith(f"{prefix} is not a readable checkpoint: ")  # noqa: PT017
        else:
            np.testing.assert_array_equal(found[NAME], arrays[NAME])
            unnoticed += 1
    assert unnoticed <= 60  # the padding of the index's end, and its unused block


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (index_entry((10,), 40), "must have the bytes of its shape .10,. within model.ckpt.data-"),
        (index_entry((5,), 40), "must have the bytes of its shape .5,. within"),
        (index_entry((5,), 20, start=1 << 63), "must have the bytes of its shape .5,. within"),
        (index_entry((5,), 20, start=4), "the checksum of array logits/semantic/weights is wrong"),
        (index_entry((5,), 5, dtype=4), "must be stored whole, as floats"),
        (index_entry((5,), 20, dtype=99), "must be stored whole, as floats"),
        (index_entry((-5,), 20), "at most 8 dimensions with sizes from 1"),
    ],
)
def test_an_index_that_is_wrong_with_right_checksums_is_refused(tmp_path, entry, message):
    data = bytes(20) + b"\1" * 10
    prefix = weight_files.write_index(tmp_path / "model.ckpt", {NAME: entry}, data)
    with pytest.raises(ValueError, match=message):
        read_arrays(prefix)
    right = {NAME: index_entry((5,), 20)}
    np.testing.assert_array_equal(
        read_arrays(weight_files.write_index(tmp_path / "model.ckpt", right, data))[1][NAME],
        np.zeros(5),
    )


@pytest.mark.parametrize("missing", [".index", ".data-00000-of-00001"])
def test_a_missing_part_is_named(tmp_path, missing):
    prefix = weight_files.write_checkpoint(tmp_path, {NAME: np.zeros(3, np.float32)})
    os.remove(prefix + missing)
    with pytest.raises((FileNotFoundError, ValueError), match=f"model.ckpt{missing}"):
        read_arrays(prefix)
