"""What a file claims is compared with its size before anything of that size is read."""

import io
import json
import pathlib
import struct
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import weight_files
from weight_files import constant, index_entry, message, storage, tensor, zip_file

from deeplab_tf.weights.limits import check_claimed_bytes

ROOT = pathlib.Path(__file__).parents[3]
NAME = "logits/semantic/weights"
# Sizes of 4 GB, of 100 GB, of more than 64 bits count, negative ones, and such that a product of
# 64 bits is small again.
SHAPES = [
    (1 << 30,),
    (25, 10**9),
    (1 << 62,),
    (1 << 62, 1 << 62),
    (-1, 4),
    (-(1 << 20), -(1 << 20)),
    (1 << 32, 1 << 32),
    (0, 1 << 62),
    (1 << 63,),
    (2,) * 100,
]


def _npy(shape, descr="<f4", content=b""):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def _zip(entries, compression=zipfile.ZIP_DEFLATED):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return written.getvalue()


def _write_npz(path, shape):
    path.write_bytes(_zip({f"{NAME}.npy": _npy(shape, content=b"\0" * 400)}))


def _write_graph(path, shape):
    path.write_bytes(message((1, constant(NAME, shape))))


def _write_two_constants(path, shape):
    """A negative size must not make room for another array."""
    other = constant("MobilenetV2/Conv/weights", (1, -(1 << 40)))
    path.write_bytes(message((1, constant(NAME, shape)), (1, other)))


def _write_checkpoint(path, shape):
    nbytes = min(abs(int(np.prod([float(n) for n in shape]))) * 4, (1 << 63) - 1)
    weight_files.write_index(path, {NAME: index_entry(shape, nbytes)}, bytes(400))


def _write_one_file(path, shape):
    weight_files.write_one_file(path, {NAME: (shape, 1, bytes(400))})


def _write_torch(path, shape):
    repeated = tensor(shape, (0,) * len(shape), of=storage("0", "Float", 1))
    path.write_bytes(zip_file({NAME: repeated}, {"0": np.zeros(1, "<f4")}))


WRITERS = [
    _write_npz,
    _write_graph,
    _write_two_constants,
    _write_checkpoint,
    _write_one_file,
    _write_torch,
]


def _write_others(directory):
    """Files of a few bytes to 4 MB that unpack to much."""
    zeros = bytes(64 << 20)
    deflated = _zip({"a.npy": _npy((16 << 20,), content=zeros)})
    (directory / "deflated.npz").write_bytes(deflated)
    for name, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        (directory / f"{name}.npz").write_bytes(
            _zip({"a.npy": _npy((1 << 20,), content=zeros[: 4 << 20])}, method)
        )
    # The same constant a thousand times: each is small enough alone.
    nodes = (constant(f"layer{i}/weights", (250_000,)) for i in range(1000))
    (directory / "many.pb").write_bytes(message(*((1, node) for node in nodes)))
    # All variables in the same bytes.
    entries = {f"layer{i}/weights": index_entry((250_000,), 1_000_000) for i in range(1000)}
    weight_files.write_index(directory / "shared", entries, bytes(1_000_000))
    shared = {f"layer{i}": tensor((262_144,), (0,), of=storage("0")) for i in range(1000)}
    (directory / "shared.pth").write_bytes(zip_file(shared))
    (directory / "nodes.pb").write_bytes(
        message((1, message((1, b"a"), (2, b"NoOp")))) + b"\x0a\x00" * (2 << 20)
    )
    h5 = io.BytesIO()
    with h5py.File(h5, "w") as file:  # a fill value of 100 GB takes no bytes
        file.create_dataset("layers/a/vars/0", (25, 10**9), "f4", chunks=(1, 1 << 20))
    config = {"registered_name": "deeplab_tf>SegmentationModel"}
    parts = {"config.json": json.dumps(config), "model.weights.h5": h5.getvalue()}
    (directory / "fill.keras").write_bytes(_zip(parts))


SCRIPT = """
import json, resource, sys
from deeplab_tf.weights import read_arrays
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
import h5py
refused, before = {}, peak()
for path in sys.argv[1:]:
    try:
        read_arrays(path)
        refused[path] = "read"
    except ValueError as error:
        refused[path] = str(error)
print(json.dumps({"refused": refused, "grown": peak() - before}))
"""


def test_a_small_file_cannot_claim_much_memory(tmp_path):
    paths = []
    for write in WRITERS:
        for i, shape in enumerate(SHAPES):
            path = tmp_path / f"{write.__name__}{i}"
            write(path, shape)
            paths.append(path)
    _write_others(tmp_path)
    others = ("deflated.npz", "bzip2.npz", "lzma.npz", "many.pb", "shared", "shared.pth")
    paths += [tmp_path / name for name in (*others, "nodes.pb", "fill.keras")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, paths)],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert ended["refused"].keys() == set(map(str, paths))
    for path, said in ended["refused"].items():
        assert said.startswith(path), f"{path}: {said}"
        assert "\n" not in said and len(said) < 1000
    assert ended["grown"] < 64 << 20  # of bytes; the largest file has 4 MB


def test_what_expands_within_the_rule_is_read(tmp_path):
    from deeplab_tf.weights import read_arrays

    array = np.repeat(np.cos(np.arange(100_000, dtype=np.float32)), 8)
    with open(tmp_path / "a.npz", "wb") as file:
        np.savez_compressed(file, a=array)
    assert (tmp_path / "a.npz").stat().st_size < array.nbytes / 4
    np.testing.assert_array_equal(read_arrays(str(tmp_path / "a.npz"))[1]["a"], array)
    (tmp_path / "a.pb").write_bytes(message((1, constant(NAME, (1, 1, 1024, 256)))))
    found = read_arrays(str(tmp_path / "a.pb"))[1][NAME]
    assert found.shape == (1, 1, 1024, 256) and np.all(found == 0.5)


@pytest.mark.parametrize(
    ("claimed", "file_bytes"), [(1 << 20, 79), (16 * 10**6, 10**6), (0, 0), (10**9, 10**9)]
)
def test_the_rule_is_sixteen_times_the_file_or_one_mebibyte(claimed, file_bytes):
    check_claimed_bytes(claimed, file_bytes)
    limit = max(16 * file_bytes, 1 << 20)
    with pytest.raises(ValueError, match=f"at most {limit} bytes for a file of {file_bytes}; they"):
        check_claimed_bytes(limit + 1, file_bytes)
