"""Writers of files of weights: every format, with the names of every code base.

They need neither PyTorch nor TensorFlow 1.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from deeplab_tf.weights import deeplab_tf1, weights_by_name
from deeplab_tf.weights.tensorflow_files.crc32c import masked_crc32c
from jpu_tf import weights as fastfcn

# Arrays by released name, of a model's weights.


def small_values(shape: tuple[int, ...], weight: str) -> np.ndarray:
    """Values that a network can compute with; `weight` is our name."""
    values = 0.05 * np.cos(np.arange(np.prod(shape))).reshape(shape)
    return (values + weight.endswith(("/gamma", "/moving_variance"))).astype(np.float32)


def deeplab_arrays(
    model: keras.Model, root: str = "MobilenetV2", values: Callable = small_values
) -> dict[str, np.ndarray]:
    """Arrays by their names in DeepLab's TensorFlow 1 code."""
    return {
        deeplab_tf1.released_name(name, root): values(tuple(weight.shape), name)
        for name, weight in weights_by_name(model).items()
    }


def fastfcn_arrays(
    model: keras.Model, head: str, values: Callable = small_values
) -> dict[str, np.ndarray]:
    """Arrays by their names in FastFCN's PyTorch code and in its layout."""
    arrays = {}
    for name, weight in weights_by_name(model).items():
        array = values(tuple(weight.shape), name)
        if name.endswith("/kernel"):
            depthwise = "_depthwise/" in name
            order = {2: (1, 0), 4: (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)}[array.ndim]
            array = np.ascontiguousarray(array.transpose(order))
        arrays[fastfcn.released_name(name, head)] = array
    return arrays


# Files of TensorFlow and NumPy.


def write_checkpoint(directory, arrays: Mapping[str, np.ndarray], name: str = "model.ckpt") -> str:
    """A checkpoint of TensorFlow 1: variables by their names alone. Returns its prefix."""
    prefix, names = str(directory / name), list(arrays)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(arrays[name]) for name in names],
    )
    return prefix


def write_frozen_graph(path, arrays: Mapping[str, np.ndarray]) -> str:
    """A graph whose variables are constants."""
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.placeholder(tf.uint8, name="ImageTensor")
        for name, value in arrays.items():
            tf.constant(value, name=name)
        tf.constant(1.0, name="MobilenetV2/Conv/not_a_weight")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return str(path)


def write_npz(path, arrays: Mapping[str, np.ndarray]) -> str:
    """An .npz file."""
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    return str(path)


def write_torch(path, arrays: Mapping[str, np.ndarray], *, legacy: bool = False) -> str:
    """A state dict as torch.save writes it, in a dict beside other things."""
    names = list(arrays)
    content = {
        "epoch": 3,
        "state_dict": {
            name: tensor(
                arrays[name].shape,
                tuple(stride // 4 for stride in arrays[name].strides),
                of=storage(str(i), "Float", arrays[name].size, *((None,) if legacy else ())),
            )
            for i, name in enumerate(names)
        },
    }
    storages = {str(i): arrays[name].astype("<f4") for i, name in enumerate(names)}
    path.write_bytes((legacy_file if legacy else zip_file)(content, storages))
    return str(path)


# Files of PyTorch: pickles of protocol 2, instruction by instruction.


@dataclasses.dataclass
class Raw:
    """Instructions as they are."""

    code: bytes


@dataclasses.dataclass
class Call:
    """A call of what `name` ("module name") is, and the state set afterwards."""

    name: str
    arguments: tuple
    state: object = None
    items: dict = dataclasses.field(default_factory=dict)


def named(name):
    return Raw(b"c" + name.replace(" ", "\n").encode() + b"\n")


def code(value):
    """The instructions that put `value` on the stack."""
    match value:
        case Raw():
            return value.code
        case Call():
            call = code(named(value.name)) + code(value.arguments) + b"R"
            items = b"".join(code(k) + code(v) + b"s" for k, v in value.items.items())
            return call + items + (code(value.state) + b"b" if value.state is not None else b"")
        case dict():
            return b"}(" + b"".join(code(k) + code(v) for k, v in value.items()) + b"u"
        case list():
            return b"](" + b"".join(map(code, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(code, value)) + b"t"
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case _:
            return pickle.dumps(value, protocol=2)[2:-1]


def pickled(value):
    return b"\x80\x02" + code(value) + b"."


def storage(key="0", kind="Float", size=6, *more):
    reference = ("storage", named(f"torch {kind}Storage"), key, "cpu", size, *more)
    return Raw(code(reference) + b"Q")


def tensor(shape=(2, 3), strides=(3, 1), offset=0, of=None):
    arguments = (of or storage(), offset, shape, strides, False, ordered())
    return Call("torch._utils _rebuild_tensor_v2", arguments)


def ordered(state=None, **items):
    return Call("collections OrderedDict", (), state, items)


SIX = np.arange(6, dtype="<f4")


def zip_file(content, storages=None, *, raw_pickle=None, extra=(), compression=zipfile.ZIP_STORED):
    storages = {"0": SIX} if storages is None else storages
    entries = [("a/data.pkl", pickled(content) if raw_pickle is None else raw_pickle)]
    entries += [(f"a/data/{key}", values.tobytes()) for key, values in storages.items()]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, data in [*entries, *extra]:
            archive.writestr(name, data)
    return written.getvalue()


def legacy_file(content, storages=None, *, version=1001, little_endian=True, keys=None):
    storages = {"0": SIX} if storages is None else storages
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    keys = list(storages) if keys is None else keys
    heads = (0x1950A86A20F9469CFC6C, version, system, content, keys)
    values = (struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return b"".join([*map(pickled, heads), *values])


# Files that claim anything: protocol buffers and tables, byte by byte.


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A message of varints and of bytes."""
    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


def tensor_shape(*sizes: int) -> bytes:
    return message(*((2, message((1, size))) for size in sizes))


def constant(name: str, shape: tuple[int, ...], dtype: int = 1, values: bytes = b"\0\0\0?"):
    """A NodeDef of a constant, by default one that repeats 0.5."""
    tensor = message((1, dtype), (2, tensor_shape(*shape)), (5, values))
    attributes = [("dtype", message((6, dtype))), ("value", message((8, tensor)))]
    maps = ((5, message((1, key.encode()), (2, value))) for key, value in attributes)
    return message((1, name.encode()), (2, b"Const"), *maps)


def table(entries: Mapping[bytes, bytes]) -> bytes:
    """A table in LevelDB's format with one block."""
    content, index = _block(entries), {}
    data = content + _trailer(content)
    index[b"\xff"] = varint(0) + varint(len(content))
    handles = b""
    for block in (_block({}), _block(index)):
        handles += varint(len(data)) + varint(len(block))
        data += block + _trailer(block)
    return data + handles.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def _block(entries: Mapping[bytes, bytes]) -> bytes:
    parts = (
        varint(0) + varint(len(key)) + varint(len(value)) + key + value
        for key, value in entries.items()
    )
    return b"".join(parts) + struct.pack("<II", 0, 1)


def _trailer(block: bytes) -> bytes:
    return b"\0" + struct.pack("<I", masked_crc32c(block + b"\0"))


def index_entry(shape: tuple[int, ...], nbytes: int, *, dtype: int = 1, start: int = 0) -> bytes:
    """What an .index says of a variable; its checksum is that of zeros, if they are few."""
    checksum = varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(bytes(min(nbytes, 1 << 10))))
    return message((1, dtype), (2, tensor_shape(*shape)), (4, start), (5, nbytes)) + checksum


def write_index(prefix, entries: Mapping[str, bytes], data: bytes = b"") -> str:
    """A checkpoint whose index says anything of its data."""
    header = {b"": message((1, 1), (2, 0))}
    keys = {name.encode(): entries[name] for name in sorted(entries)}
    prefix.with_name(f"{prefix.name}.index").write_bytes(table({**header, **keys}))
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)
    return str(prefix)


def write_one_file(path, variables: Mapping[str, tuple[tuple[int, ...], int, bytes]]) -> str:
    """A checkpoint of TensorFlow 0.x: name -> (shape, type, float_val)."""
    metas, values = [], {}
    for i, (name, (shape, dtype, floats)) in enumerate(variables.items()):
        whole = message(*((1, b"") for _ in shape))
        meta = ((1, name.encode()), (2, tensor_shape(*shape)), (3, dtype), (4, whole))
        metas.append((1, message(*meta)))
        part = message((1, name.encode()), (2, whole), (3, message((5, floats))))
        values[b"\0%06d" % i] = message((2, part))
    path.write_bytes(table({b"": message((1, message(*metas))), **values}))
    return str(path)
