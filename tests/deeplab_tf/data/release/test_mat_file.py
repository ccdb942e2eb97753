"""Arrays come out of MATLAB files as they were saved; damage is an error, never other numbers."""

import numpy as np
import pytest

from deeplab_tf.data.release.mat_file import read_array

LABEL = np.arange(15, dtype=np.uint8).reshape(3, 5)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_variables_are_found_by_name(mat_file, compressed, dtype):
    wide = LABEL.astype(dtype) * 17
    data = mat_file(compressed, other=LABEL[:2], LabelMap=wide)
    np.testing.assert_array_equal(read_array(data, "LabelMap"), wide)
    assert read_array(data, "LabelMap").dtype == dtype
    np.testing.assert_array_equal(read_array(data, "other"), LABEL[:2])


@pytest.mark.parametrize("compressed", [True, False])
def test_fields_of_structs_are_found(mat_file, compressed):
    data = mat_file(compressed, GTcls={"CategoriesPresent": LABEL[:1], "Segmentation": LABEL})
    np.testing.assert_array_equal(read_array(data, "GTcls", "Segmentation"), LABEL)


def test_what_is_not_there_is_named(mat_file):
    data = mat_file(GTcls={"Segmentation": LABEL}, LabelMap=LABEL)
    for path, message in {
        ("GTinst",): "without the variable GTinst",
        ("GTcls", "Boundaries"): "without the field Boundaries; it has Segmentation",
        ("LabelMap", "x"): "without the field x: there is no 1x1 struct",
        ("GTcls",): "an array of class 2; it must be numeric",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_array(data, *path)


def test_other_files_are_refused():
    with pytest.raises(ValueError, match="not a MATLAB file of level 5"):
        read_array(b"", "x")
    with pytest.raises(ValueError, match=r"version 7\.3, which is HDF5"):
        read_array(b"MATLAB 7.3 MAT-file".ljust(200), "x")


@pytest.mark.parametrize("compressed", [True, False])
def test_every_shorter_file_is_an_error(mat_file, compressed):
    data = mat_file(compressed, LabelMap=LABEL)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="MATLAB file"):
            read_array(data[:length], "LabelMap")


def test_a_damaged_file_is_an_error_or_still_an_array_of_numbers(mat_file):
    data = mat_file(False, GTcls={"Segmentation": LABEL})
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(128, len(data))] ^= int(rng.integers(1, 256))
        try:
            outcomes.add(read_array(bytes(damaged), "GTcls", "Segmentation").size)
        except ValueError:
            outcomes.add("error")
    assert {"error", 15} <= outcomes
