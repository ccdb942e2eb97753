"""The pickles in PyTorch's files, interpreted without PyTorch and without calling anything.

A pickle is a program. The machine here knows the few instructions that `torch.save` writes for
tensors and plain containers. What a pickle names is looked up in one table, and anything else is
refused by its name.
"""

from __future__ import annotations

import dataclasses
import pickletools
import reprlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

# ours: ResNet-101 with its optimizer has 0.1 MB and 34,000; a hostile file ends within a second.
MAX_PICKLE_BYTES = 8 << 20
_MAX_INSTRUCTIONS = 100_000

_MAX_RANK = 8  # ours: checking a shape takes time; weights have at most 5 dimensions
_INT64 = range(-(2**63), 2**63)
SAVE_PLAINLY = "In PyTorch, torch.save(model.state_dict(), path) writes what can be read"
# Instructions that put their argument on the stack; LONG4 is absent for numbers of any length.
_LITERALS = frozenset(
    "BINFLOAT BININT BININT1 BININT2 BINSTRING BINUNICODE BINUNICODE8 LONG1 SHORT_BINBYTES"
    " SHORT_BINSTRING SHORT_BINUNICODE".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}


@dataclasses.dataclass(frozen=True)
class StorageType:
    """What a storage holds."""

    stored: np.dtype
    bfloat16: bool = False  # the upper halves of float32; NumPy has no such type


@dataclasses.dataclass(frozen=True)
class Storage:
    """A run of values elsewhere in the file, not read yet."""

    key: str
    type: StorageType
    size: int  # values

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.size * self.type.stored.itemsize


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage, which it does not leave."""

    storage: Storage
    offset: int  # values, as are the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class NumpyValue:
    """A NumPy scalar (the best score so far) or a part of one; nothing needs its value."""


@dataclasses.dataclass(frozen=True)
class _Function:
    """What stands for a callable that a pickle names."""

    run: Callable[[tuple], Any]


class PickleMachine:
    """Interprets the pickles of one file, within limits for all of them together.

    Attributes:
      storages: those that the pickles refer to, by key.
    """

    def __init__(self):
        self.storages: dict[str, Storage] = {}
        self._instructions = 0

    def run(self, stream: BinaryIO) -> Any:
        """The object that the pickle at the stream's position stands for.

        Returns:
          Plain values, Tensor, Storage, NumpyValue. Containers may contain themselves.

        Raises:
          ValueError: it is damaged, too large, or stands for something else.
        """
        stack: list[Any] = []
        below_marks: list[list[Any]] = []  # the stacks that MARK has put aside
        memo: dict[int, Any] = {}
        for name, argument in self._decode(stream):
            try:
                if name == "STOP":
                    return stack.pop()
                if name == "MARK":
                    below_marks.append(stack)
                    stack = []
                elif name in ("TUPLE", "APPENDS", "SETITEMS"):
                    items, stack = stack, below_marks.pop()
                    if name == "TUPLE":
                        stack.append(tuple(items))
                    else:
                        _extend(stack[-1], items, kind=list if name == "APPENDS" else dict)
                else:
                    self._step(name, argument, stack, memo)
            except LookupError as error:
                raise ValueError(f"its pickle is damaged: nothing is where {name} looks") from error
        raise AssertionError("pickletools ends with STOP or an error")

    def _decode(self, stream: BinaryIO) -> Iterator[tuple[str, Any]]:
        instructions = pickletools.genops(stream)
        while True:
            try:
                opcode, argument, _ = next(instructions)
            except ValueError as error:
                raise ValueError(
                    f"its pickle must be whole and have at most {MAX_PICKLE_BYTES} bytes: {error}"
                ) from error
            self._instructions += 1
            if self._instructions > _MAX_INSTRUCTIONS:
                raise ValueError(
                    f"its pickles must have at most {_MAX_INSTRUCTIONS} instructions, and have"
                    f" more. {SAVE_PLAINLY}"
                )
            yield opcode.name, argument

    def _step(self, name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
        match name:
            case _ if name in _LITERALS:
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(_pop(stack, int(name[-1]))))
            case "APPEND":
                items = _pop(stack, 1)
                _extend(stack[-1], items, kind=list)
            case "SETITEM":
                items = _pop(stack, 2)
                _extend(stack[-1], items, kind=dict)
            case "GLOBAL":
                stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_global(*_pop(stack, 2)))
            case "REDUCE":
                stack.append(_call(*_pop(stack, 2)))
            case "BUILD":  # the versions of a state dict's modules, the byte order of a dtype
                stack.pop()
                if not isinstance(stack[-1], dict | NumpyValue):
                    raise ValueError(f"a {kind_of(stack[-1])} in its pickle can have no state")
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "PROTO" | "FRAME":
                pass
            case _:
                raise ValueError(f"its pickle has the instruction {name}. {SAVE_PLAINLY}")

    def _storage(self, reference: Any) -> Storage:
        match reference:
            # The legacy format ends with None, or with what the storage is a part of.
            case ("storage", StorageType() as kind, str(key), _, size, *part_of) if (
                type(size) is int and size >= 0 and part_of in ([], [None])
            ):
                storage = Storage(key, kind, size)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f"storage {short(key)} must have one type and one size")
                return storage
        raise ValueError(
            "a storage must be referred to by type, key, device and number of values, and not be"
            f" a part of another. {SAVE_PLAINLY}"
        )


def short(value: Any) -> str:
    """`repr` of bounded length and time."""
    return _SHORT.repr(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlevel, _SHORT.maxtuple = 1, 8


def kind_of(value: Any) -> str:
    """What a value is, in a word."""
    return type(value).__name__.removeprefix("_")


def _pop(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise IndexError
    items = stack[-count:]
    del stack[-count:]
    return items


def _extend(target: Any, items: list[Any], *, kind: type) -> None:
    if type(target) is not kind:
        raise ValueError(f"a {kind_of(target)} in its pickle cannot be extended")
    if kind is list:
        target.extend(items)
        return
    keys, values = items[::2], items[1::2]
    # Hashing could take forever: of tuples of tuples, or of chosen huge numbers.
    if not all(type(key) is str or (type(key) is int and key in _INT64) for key in keys):
        raise ValueError("the keys of its dicts must be text or whole numbers of 64 bits")
    target.update(zip(keys, values, strict=True))


def _global(module: Any, name: Any) -> _Function | StorageType:
    if type(module) is not str or type(name) is not str:
        raise ValueError(f"a {kind_of(module)} and a {kind_of(name)} in its pickle name nothing")
    full_name = f"{module}.{name}"
    if full_name not in _GLOBALS:
        raise ValueError(
            f"it names {short(full_name)}, which is neither a tensor nor a plain container and is"
            f" not loaded. {SAVE_PLAINLY}"
        )
    return _GLOBALS[full_name]


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Function) or type(arguments) is not tuple:
        raise ValueError(f"a {kind_of(function)} in its pickle cannot be called")
    return function.run(arguments)


def _dict(arguments: tuple) -> dict:
    if arguments:  # Python 2 wrote pairs; copying them, which costs no instruction, has no limit
        raise ValueError("collections.OrderedDict must get nothing. Save it again with Python 3")
    return {}


def _tensor(arguments: tuple) -> Tensor:
    match arguments:
        case (Storage() as storage, offset, tuple(shape), tuple(strides), *_):
            known = len(shape) == len(strides) <= _MAX_RANK
        case _:
            known = False
    if not known or not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise ValueError(
            "a tensor must be a storage, an offset, and as many sizes as strides, none negative"
            f" and at most {_MAX_RANK}"
        )
    steps = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    end = offset + (steps + 1 if all(shape) else 0)
    if end > storage.size:
        raise ValueError(
            f"a tensor must lie within its storage; shape {short(shape)}, strides {short(strides)}"
            f" and offset {short(offset)} reach beyond the {short(storage.size)} values of storage"
            f" {short(storage.key)}"
        )
    return Tensor(storage, offset, shape, strides)


def _parameter(arguments: tuple) -> Tensor:
    match arguments:
        case (Tensor() as tensor, *_):
            return tensor
    raise ValueError("a parameter must be made of a tensor")


_NUMPY_VALUE = _Function(lambda _: NumpyValue())
_GLOBALS: dict[str, _Function | StorageType] = {
    "collections.OrderedDict": _Function(_dict),
    "torch._utils._rebuild_tensor": _Function(_tensor),  # before PyTorch 0.4
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_parameter": _Function(_parameter),
    "numpy.core.multiarray.scalar": _NUMPY_VALUE,
    "numpy._core.multiarray.scalar": _NUMPY_VALUE,
    "numpy.dtype": _NUMPY_VALUE,
    "_codecs.encode": _NUMPY_VALUE,  # protocol 2 writes a scalar's bytes with it
    "torch.DoubleStorage": StorageType(np.dtype("<f8")),
    "torch.FloatStorage": StorageType(np.dtype("<f4")),
    "torch.HalfStorage": StorageType(np.dtype("<f2")),
    "torch.BFloat16Storage": StorageType(np.dtype("<u2"), bfloat16=True),
    "torch.LongStorage": StorageType(np.dtype("<i8")),
    "torch.IntStorage": StorageType(np.dtype("<i4")),
    "torch.ShortStorage": StorageType(np.dtype("<i2")),
    "torch.CharStorage": StorageType(np.dtype("i1")),
    "torch.ByteStorage": StorageType(np.dtype("u1")),
    "torch.BoolStorage": StorageType(np.dtype("?")),
}
