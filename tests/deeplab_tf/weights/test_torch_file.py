"""PyTorch's files: read as PyTorch reads them, and harmless even if hostile."""

import contextlib
import io
import struct
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from weight_files import (
    SIX,
    Call,
    Raw,
    code,
    legacy_file,
    named,
    ordered,
    pickled,
    storage,
    tensor,
    zip_file,
)

from deeplab_tf.weights.torch_files.torch_file import read_torch_file


def legacy_tensor(**changes):
    return tensor(of=storage("0", "Float", 6, None), **changes)


def read(tmp_path, data):
    path = tmp_path / "weights.pth.tar"
    path.write_bytes(data)
    return read_torch_file(str(path))


# What is read.

NUMPY_SCALAR = Call(
    "numpy.core.multiarray scalar",
    (
        Call("numpy dtype", ("f8", 0, 1), (3, "<", None, None, None, -1, -1, 0)),
        Call("_codecs encode", ("\0\0\0\0\0\0è?", "latin1")),
    ),
)


@pytest.mark.parametrize("write", [zip_file, legacy_file])
def test_a_training_checkpoint_gives_its_state_dict_and_nothing_else(tmp_path, write):
    last = (None,) if write is legacy_file else ()
    weight = tensor((2, 3), (1, 2), of=storage("0", "Float", 6, *last))
    momentum = tensor((4,), (1,), of=storage("1", "Float", 4, *last))
    names = ordered({"_metadata": ordered(conv=ordered(version=1))}, **{"conv.weight": weight})
    content = {
        "epoch": 3,
        "state_dict": names,
        "optimizer": {"state": {140012345678901: {"momentum_buffer": momentum}}, "lr": 0.1},
        "best_pred": NUMPY_SCALAR,
    }
    found = read(tmp_path, write(content, {"0": SIX, "1": np.ones(4, "<f4")}))
    assert list(found) == ["conv.weight"]
    np.testing.assert_array_equal(found["conv.weight"], [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_the_state_dict_may_lie_under_a_key_or_at_the_top(tmp_path, key):
    for content in ({"w": tensor()}, {key: {"w": tensor()}}, {key: tensor(), "w": tensor()}):
        assert "w" in read(tmp_path, zip_file(content))


def test_the_values_of_the_optimizer_are_never_read(tmp_path):
    content = {"state_dict": {"w": tensor()}, "optimizer": tensor(of=storage("1"))}
    damaged = zip_file(content, {"0": SIX, "1": SIX + 100}).replace(
        (SIX + 100).tobytes(), b"!" * 24
    )
    np.testing.assert_array_equal(read(tmp_path, damaged)["w"], SIX.reshape(2, 3))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("Double", "f8"),
        ("Float", "f4"),
        ("Half", "f2"),
        ("Long", "i8"),
        ("Int", "i4"),
        ("Short", "i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
    ],
)
def test_every_kind_of_storage_is_read(tmp_path, kind, dtype):
    values = SIX.astype(dtype)
    found = read(tmp_path, zip_file({"w": tensor(of=storage("0", kind))}, {"0": values}))["w"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values.reshape(2, 3))


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1, -2, 0.5, 3, 2**100, 0], "<f4")
    upper_halves = values.view("<u2")[1::2].copy()
    content = {"w": tensor(strides=(1, 2), of=storage("0", "BFloat16"))}
    found = read(tmp_path, zip_file(content, {"0": upper_halves}))["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.reshape(3, 2).T)


def test_views_empty_and_single_tensors_are_right(tmp_path):
    content = {
        "view": tensor((2,), (2,), 1),
        "single": tensor((), (), 5),
        "empty": tensor((0, 3), (3, 1), 6),
        "repeated": tensor((2, 2), (0, 1)),
        "odd_stride": tensor((1, 2), (2**70, 1)),
        "parameter": Call("torch._utils _rebuild_parameter", (tensor(), True, ordered())),
    }
    found = read(tmp_path, zip_file(content))
    expected = {
        "view": [1, 3],
        "single": 5,
        "empty": np.zeros((0, 3)),
        "repeated": [[0, 1], [0, 1]],
        "odd_stride": [[0, 1]],
        "parameter": [[0, 1, 2], [3, 4, 5]],
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, strict=False)
        assert found[name].shape == np.shape(values)
        assert not found[name].flags.writeable
    assert np.shares_memory(found["view"], found["parameter"])


def test_storages_without_checksums_are_read(tmp_path):
    data = zip_file({"w": tensor()})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            data = data.replace(struct.pack("<I", entry.CRC), bytes(4))
    np.testing.assert_array_equal(read(tmp_path, data)["w"], SIX.reshape(2, 3))


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*missing.pth"):
        read_torch_file(str(tmp_path / "missing.pth"))
    with pytest.raises(ValueError, match="must be a file"):
        read_torch_file(str(tmp_path))


# What is refused. Each file is made when its test runs.


def changed(data, old, new):
    assert old in data
    return data.replace(old, new)


def zip_with_sizes(nbytes):
    """An archive that says its storage has `nbytes`."""
    data = zip_file({"w": tensor(of=storage(size=nbytes // 4))})
    return data.replace(struct.pack("<II", 24, 24), struct.pack("<II", nbytes, nbytes))


def marked_zip(**fields):
    """An archive whose directory says something else of the storage."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a/data.pkl", pickled({"w": tensor()}))
        archive.writestr("a/data/0", SIX.tobytes())
        for field, value in fields.items():
            setattr(archive.infolist()[-1], field, value)
    return written.getvalue()


def overlapping_zip():
    """Thousands of parts, all of them the same megabyte."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("a/data.pkl", pickled({"w": tensor()}))
        archive.writestr("a/data/0", bytes(1 << 20))
        last = archive.infolist()[-1]
        for number in range(1, 5000):
            copy = zipfile.ZipInfo(f"a/data/{number}")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(copy, field, getattr(last, field))
            archive.filelist.append(copy)
    return written.getvalue()


def twice_named():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own warning of what is wanted here
        return zip_file({"w": tensor()}, extra=[("a/data/0", bytes(24))])


def moved_directory(distance):
    """An archive whose directory says it has `distance` bytes more than it has."""
    data = bytearray(zip_file({"w": tensor()}))
    (size,) = struct.unpack_from("<I", data, len(data) - 10)
    struct.pack_into("<I", data, len(data) - 10, size + distance)
    return bytes(data)


def doubled(depth=100):
    """A tuple of itself, of itself, ...: 2**depth leaves."""
    return Raw(b"K\x01\x85q\x00" + b"h\x00\x86q\x00" * depth)


def raw(instructions):
    return zip_file(None, raw_pickle=b"\x80\x02" + instructions)


def w(**changes):
    return zip_file({"w": tensor(**changes)})


SYSTEM = Call("os system", ("touch executed",))
HOSTILE = {
    # not such a file
    "empty file": (lambda: b"", "must begin as a zip archive or with the magic number"),
    "text": (lambda: b"<html>not found</html>", "must begin as a zip archive or with the magic"),
    "tar": (lambda: b"sys_info" + bytes(504), "must begin as a zip archive or with the magic"),
    "plain pickle": (lambda: pickled({"w": 1}), "must begin as a zip archive or with the magic"),
    "other zip": (lambda: zip_file(0, extra=[("b/data.pkl", b"")]), "must hold one pickle.*got 2"),
    # code
    "os.system": (lambda: zip_file({"w": SYSTEM}), r"it names 'os\.system'"),
    "os.system, legacy": (lambda: legacy_file({"w": SYSTEM}), r"it names 'os\.system'"),
    "as magic": (lambda: pickled(SYSTEM), r"it names 'os\.system'"),
    "eval": (lambda: zip_file(Call("builtins eval", ("1",))), r"it names 'builtins\.eval'"),
    "getattr": (lambda: zip_file(Call("torch._utils _rebuild", ())), r"'torch\._utils\._rebuild'"),
    "module": (lambda: zip_file(Call("torch.nn Conv2d", ())), r"it names 'torch\.nn\.Conv2d'"),
    "STACK_GLOBAL": (
        lambda: raw(code("posix") + code("system") + b"\x93."),
        r"it names 'posix\.system'",
    ),
    "INST": (lambda: raw(b"(ios\nsystem\n."), "instruction INST"),
    "OBJ": (lambda: raw(b"(" + code(named("collections OrderedDict")) + b"o."), "instruction OBJ"),
    "NEWOBJ": (lambda: raw(code(named("collections OrderedDict")) + b")\x81."), "NEWOBJ"),
    "EXT1": (lambda: raw(b"\x82\x01."), "instruction EXT1"),
    "called value": (lambda: raw(code("os.system") + b")R."), "a str in its pickle cannot be call"),
    "called storage": (lambda: raw(code(named("torch FloatStorage")) + b")R."), "cannot be called"),
    "changed function": (
        lambda: raw(code(named("torch._utils _rebuild_tensor_v2")) + b"}b."),
        "a Function in its pickle can have no state",
    ),
    "changed tensor": (lambda: raw(code(tensor()) + code({"offset": 99}) + b"b."), "no state"),
    # the pickle's form
    "no STOP": (lambda: raw(b"}"), "pickle exhausted before seeing STOP"),
    "STOP alone": (lambda: raw(b"."), "nothing is where STOP looks"),
    "no mark": (lambda: raw(b"}u."), "nothing is where SETITEMS looks"),
    "no memo": (lambda: raw(b"h\x07."), "nothing is where BINGET looks"),
    "odd items": (lambda: raw(b"}(K\x01u."), "argument 2 is shorter"),
    "unknown": (lambda: raw(b"\xff."), "opcode .* unknown"),
    "appended to text": (lambda: raw(code("a") + b"Na."), "a str in its pickle cannot be extended"),
    # size and time
    "BINUNICODE8": (lambda: raw(b"\x8d" + b"\xff" * 7 + b"\x7f."), "its pickle must be whole"),
    "BINUNICODE": (lambda: raw(b"X\xff\xff\xff\xff."), "expected 4294967295 bytes"),
    "LONG4": (lambda: raw(b"\x8b\xff\xff\xff\x7f."), "its pickle must be whole"),
    "long number": (lambda: raw(b"\x8b" + struct.pack("<i", 1 << 20) + b"\1" * (1 << 20)), "LONG4"),
    "decimal number": (lambda: raw(b"I" + b"9" * (1 << 20) + b"\n."), "must be whole"),
    "BYTEARRAY8": (lambda: raw(b"\x96" + b"\xff" * 5 + bytes(3)), "must be whole"),
    "memo index": (lambda: raw(b"}r\xff\xff\xff\xff."), "got an empty dict"),
    "marks": (lambda: raw(b"(" * 110_000), "at most 100000 instructions"),
    "nested lists": (lambda: raw(b"](" * 60_000), "at most 100000 instructions"),
    "nested tuples": (lambda: raw(b"N" + b"\x85" * 90_000 + b"."), "tensors by name; got tuple"),
    "many, legacy": (lambda: legacy_file(Raw(b"}" * 110_000)), "at most 100000 instructions"),
    "doubled": (lambda: zip_file({"w": doubled()}), "entry 'w' must be a tensor.*got tuple"),
    "doubled key": (lambda: raw(b"}" + code(doubled()) + b"Ns."), "keys of its dicts must be text"),
    "doubled name": (lambda: raw(code(doubled()) + b"h\x00\x93."), "a tuple and a tuple in its pi"),
    "doubled version": (lambda: legacy_file({}, version=doubled()), "its version must be 1001"),
    "doubled keys": (lambda: legacy_file({}, keys=doubled()), "must be listed by name"),
    "huge key": (lambda: zip_file({"w": {2**64: 1}}), "keys of its dicts must be"),
    "copied pairs": (lambda: zip_file(Call("collections OrderedDict", ([],))), "must get nothing"),
    "large pickle": (lambda: raw(bytes(9 << 20)), "must have at most 8388608 bytes; got 9437186"),
    "contains itself": (lambda: raw(b"}q\0" + code("w") + b"h\0s."), "got dict"),
    # tensors
    "beyond": (lambda: w(shape=(2, 4), strides=(3, 1)), r"shape \(2, 4\).*beyond the 6 values"),
    "offset": (lambda: w(offset=1), r"offset 1 reach beyond"),
    "empty beyond": (lambda: w(shape=(0,), strides=(1,), offset=7), "offset 7 reach beyond"),
    "negative offset": (lambda: w(offset=-1), "none negative"),
    "negative stride": (lambda: w(strides=(-3, 1), offset=3), "none negative"),
    "negative size": (lambda: w(shape=(-2, -3)), "none negative"),
    "large stride": (lambda: w(strides=(2**62, 1)), "reach beyond"),
    "repeated": (lambda: w(shape=(2**40, 2), strides=(0, 1)), "at most 1048576 bytes"),
    "empty repeated": (lambda: w(shape=(0, 2**62), strides=(0, 0)), "at most 1048576 bytes"),
    "huge size": (lambda: w(shape=(2**900, 1), strides=(0, 1)), "at most 1048576 bytes"),
    "many sizes": (lambda: w(shape=(1,) * 9, strides=(0,) * 9), "at most 8"),
    "other rank": (lambda: w(strides=(1,)), "as many sizes as strides"),
    "float size": (lambda: w(shape=(2.0, 3.0)), "a tensor must be a storage"),
    "text for a storage": (lambda: w(of="0"), "a tensor must be a storage"),
    "parameter of text": (
        lambda: zip_file({"w": Call("torch._utils _rebuild_parameter", ("w", True))}),
        "a parameter must be made of a tensor",
    ),
    # storages
    "missing": (lambda: w(of=storage("7")), "storage '7' must be in the file"),
    "outside": (lambda: w(of=storage("../../0")), r"storage '\.\./\.\./0' must be in the file"),
    "too few": (lambda: zip_file({"w": tensor()}, {"0": SIX[:5]}), "have 24 bytes; got 20"),
    "wrong kind": (lambda: w(of=storage("0", "Double")), "have 48 bytes; got 24"),
    "negative": (lambda: w(of=storage("0", "Float", -6)), "a storage must be referred to by"),
    "huge": (lambda: w(of=storage("0", "Float", 2**1000)), "bytes; got 24"),
    "part": (lambda: w(of=storage("0", "Float", 6, ("1", 0, 6))), "not be a part of another"),
    "two kinds": (
        lambda: zip_file({"w": tensor(), "v": tensor(of=storage("0", "Int"))}),
        "storage '0' must have one type and one size",
    ),
    "untyped": (lambda: w(of=storage("0", "Untyped")), r"it names 'torch\.UntypedStorage'"),
    # the archive
    "cut short": (lambda: w()[:-200], "archive is cut short or damaged"),
    "cut inside": (lambda: w()[:40] + w()[300:], "get"),
    "compressed": (
        lambda: zip_file({}, {"0": np.zeros(1 << 22)}, compression=zipfile.ZIP_DEFLATED),
        "must be stored as it is",
    ),
    "compressed to its size": (lambda: marked_zip(compress_type=8), "must be stored as it is"),
    "encrypted": (lambda: marked_zip(flag_bits=1), "must be stored as it is"),
    "part before": (lambda: marked_zip(header_offset=2**32 - 2), "must lie within the file"),
    "later version": (lambda: marked_zip(extract_version=99), "zip file version 9.9"),
    "claims more": (lambda: zip_with_sizes(2**31), "parts of its archive must fit into it"),
    "claims some": (lambda: zip_with_sizes(200), "must lie within the file"),
    "overlapping": (overlapping_zip, "parts of its archive must fit into it"),
    "twice": (twice_named, "names in it must differ"),
    "changed byte": (lambda: changed(w(), SIX.tobytes(), (SIX + 1).tobytes()), "CRC-32"),
    "changed header": (lambda: w().replace(b"PK\3\4", b"PK\3\5", 2)[:], "must begin|cut short"),
    "directory before": (lambda: moved_directory(500), "cut short or damaged"),
    "large directory": (lambda: moved_directory(2**30), "cut short or damaged|directory must have"),
    "many parts": (
        lambda: zip_file({}, extra=((f"a/{n}", b"") for n in range(25_000))),
        "directory must have at most 1048576 bytes",
    ),
    "big-endian": (
        lambda: zip_file({"w": tensor()}, extra=[("a/byteorder", b"big")]),
        "must be little-endian",
    ),
    # the legacy format
    "legacy version": (lambda: legacy_file({}, version=1002), "version must be 1001; got 1002"),
    "legacy big-endian": (lambda: legacy_file({}, little_endian=False), "must be little-endian"),
    "legacy cut short": (lambda: legacy_file({"w": legacy_tensor()})[:-1], r"it must have \d+ byt"),
    "legacy cut off": (lambda: legacy_file({"w": legacy_tensor()})[:-30], "must lie within the fi"),
    "legacy cut pickle": (lambda: legacy_file({"w": legacy_tensor()})[:150], "its pickle must be"),
    "legacy other size": (
        lambda: legacy_file({"w": legacy_tensor()}, {"0": SIX[:5]}),
        "size of storage '0' must be 6; got 5",
    ),
    "legacy huge": (
        lambda: legacy_file({"w": tensor(of=storage("0", "Float", 2**62, None))}),
        "must be 4611686018427387904; got 6",
    ),
    "legacy unlisted": (lambda: legacy_file({"w": legacy_tensor()}, keys=[]), "must name those"),
    "legacy twice": (lambda: legacy_file({"w": legacy_tensor()}, keys=["0", "0"]), "each once"),
    # the state dict
    "nothing": (lambda: zip_file({}), "got an empty dict"),
    "list": (lambda: zip_file([tensor()]), "must hold tensors by name; got list"),
    "no tensor": (lambda: zip_file({"w": NUMPY_SCALAR}), "entry 'w' must be.*got NumpyValue"),
    "no name": (lambda: zip_file({0: tensor()}), "entry 0 must be a tensor with a name"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_at_once_and_in_little_memory(tmp_path, monkeypatch, kind):
    make, message = HOSTILE[kind]
    path = tmp_path / "hostile.pth"
    path.write_bytes(make())
    monkeypatch.chdir(tmp_path)
    started = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        read_torch_file(str(path))
    assert time.process_time() - started < 5  # of this process alone; it takes far less than 1
    assert str(caught.value).startswith(f"{path} is not a readable PyTorch file of weights: ")
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["hostile.pth"]  # nothing was executed

    del caught  # and the frames it holds
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        read_torch_file(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for data in (zip_file({"w": tensor()}), legacy_file({"w": legacy_tensor()})):
        assert read(tmp_path, data)
        for length in range(0, len(data), 7):
            with pytest.raises(ValueError, match="is not a readable PyTorch file"):
                read(tmp_path, data[:length])


def test_a_file_with_any_changed_byte_is_read_or_refused(tmp_path):
    for data in (zip_file({"w": tensor()}), legacy_file({"w": legacy_tensor()})):
        for position in range(len(data)):
            other = data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]
            with contextlib.suppress(ValueError):
                for array in read(tmp_path, other).values():
                    array.sum()  # within its storage


def test_the_limits_leave_room_for_large_networks(tmp_path):
    storages = {str(n): np.full(2, n, "<f4") for n in range(3000)}
    content = {f"layer{n}": tensor((2,), (1,), of=storage(str(n), size=2)) for n in range(3000)}
    found = read(tmp_path, zip_file(content, storages))
    assert len(found) == 3000
    np.testing.assert_array_equal(found["layer2999"], [2999, 2999])


# Against PyTorch itself.


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_files_of_pytorch_are_read_as_pytorch_reads_them(tmp_path, zipped, protocol):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    kinds = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
    weights = {kind: (base % 5).to(getattr(torch, kind)) for kind in kinds}
    weights |= {
        "same": base,
        "view": base[1],
        "transposed": base.transpose(0, 2),
        "strided": base[:, ::2, 1::2],
        "repeated": torch.ones(1).expand(7),
        "empty": torch.zeros(0, 3),
        "single": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.ones(4)),
    }
    weights["bfloat16_transposed"] = weights["bfloat16"].transpose(0, 1)
    layer = torch.nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    best = np.float64(0.75)
    path = str(tmp_path / "checkpoint.pth.tar")
    for expected in (weights, layer.state_dict()):
        torch.save(
            {"state_dict": expected, "optimizer": optimizer.state_dict(), "best_pred": best},
            path,
            _use_new_zipfile_serialization=zipped,
            pickle_protocol=protocol,
        )
        found = read_torch_file(path)
        assert list(found) == list(expected)
        for name, value in expected.items():
            value = value.detach()
            value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
            assert found[name].dtype == value.dtype, name
            np.testing.assert_array_equal(found[name], value, strict=True)
