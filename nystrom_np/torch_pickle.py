"""The machine on which a pickle of ``torch.save`` is run: it can make tensors in plain containers, and nothing else.

A pickle is a program for a machine that can call whatever it names. This is a smaller one, which knows the instructions
that ``torch.save`` writes, in any protocol from 2 to 5, and names only of :data:`BUILDERS` and :data:`STORAGES`:
nothing else can be called.
"""

import io
import math
import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.checkpoint import CheckpointError, widen_bfloat16

__all__ = ["MOST_PICKLED", "Machine", "StorageType"]

MOST_PICKLED = 1 << 20
"""Bytes that ``data.pkl`` may have; a model of 12 layers needs 30,000."""

DEEPEST = 32
"""Containers that may lie one in another; what goes through more of them would recurse too deeply."""

MOST_AXES = 32
LARGEST = 1 << 48  # of any number that says where a tensor lies

MOST_SHARED = 16
"""Times the size of the file that all tensors together may have: some share memory, as tied weights do."""


class StorageType(NamedTuple):
    """What the elements of a storage are."""

    dtype: str
    is_bfloat16: bool = False


class _Storage(NamedTuple):
    """The elements that tensors view."""

    elements: np.ndarray
    is_bfloat16: bool


class _Refused(Exception):
    """Why a pickle is not accepted."""


STORAGES = {
    "torch DoubleStorage": StorageType("f8"),
    "torch FloatStorage": StorageType("f4"),
    "torch HalfStorage": StorageType("f2"),
    "torch BFloat16Storage": StorageType("u2", is_bfloat16=True),
    "torch LongStorage": StorageType("i8"),
    "torch IntStorage": StorageType("i4"),
    "torch ShortStorage": StorageType("i2"),
    "torch CharStorage": StorageType("i1"),
    "torch ByteStorage": StorageType("u1"),
    "torch BoolStorage": StorageType("?"),
}
"""The names that stand for a type of storage."""


def _ordered_dict() -> dict[Any, Any]:
    return {}


def _size(lengths: Any) -> tuple[int, ...]:
    return _integers("size", lengths)


def _set(items: Any = ()) -> set[Any]:
    for item in items:
        _check_hashed("an element of a set", item)
    return set(items)


def _check_hashed(what: str, value: Any) -> None:
    """Refuse a tuple: hashing one of nested tuples may take forever."""
    if not isinstance(value, str | int | float | None):
        raise _Refused(f"{what} is a {type(value).__name__}, expected a string or a number")


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> np.ndarray:
    if not isinstance(data, np.ndarray):
        raise _Refused(f"a parameter is made of a {type(data).__name__}")
    return data


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> np.ndarray:
    """View a storage as a tensor: element (i, j, …) is number offset + i · stride₀ + j · stride₁ + …."""
    if not isinstance(storage, _Storage):
        raise _Refused(f"a tensor views a {type(storage).__name__}")
    (offset,) = _integers("storage offset", (offset,))
    size, stride = _integers("size", size), _integers("stride", stride)
    if len(size) != len(stride) or len(size) > MOST_AXES:
        raise _Refused(f"a tensor has {len(size)} axes and {len(stride)} strides")
    elements, count = storage.elements, math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > len(elements) or (count and last >= len(elements)):
        raise _Refused(f"a tensor of size {size} reaches beyond its storage of {len(elements)} elements")
    item = elements.itemsize
    try:
        view = np.ndarray(size, elements.dtype, elements.data, offset * item, [step * item for step in stride])
    except ValueError as error:  # NumPy checks again, and has limits of its own for what is empty
        raise _Refused(f"a tensor of size {size} cannot be made: {error}") from None
    return _native(view, storage.is_bfloat16)


def _integers(name: str, values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        raise _Refused(f"a {name} is a {type(values).__name__}")
    for value in values:
        if type(value) is not int or not 0 <= value <= LARGEST:
            raise _Refused(f"a {name} is {value!r:.40}" if isinstance(value, int) else f"a {name} is no integer")
    return values


def _native(view: np.ndarray, is_bfloat16: bool) -> np.ndarray:
    """Give a view in a data type that NumPy computes with, copied only where it has to be."""
    if is_bfloat16:
        view = widen_bfloat16(view)
    elif not view.dtype.isnative or not view.flags.aligned:
        view = view.astype(view.dtype.newbyteorder("="))
    view.flags.writeable = False
    return view


BUILDERS: dict[str, Callable[..., Any]] = {
    "__builtin__ set": _set,
    "builtins set": _set,
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_tensor_v2": _tensor,
}
"""The names that may be called, and what is called in their place."""


class Machine:
    """The instructions of a pickle, on a stack of values: plain containers, names of the lists above, and tensors."""

    def __init__(self, archive: Any) -> None:
        self.archive = archive
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[tuple[str, StorageType], _Storage] = {}
        self.room = MOST_SHARED * len(archive.bytes)

    def run(self, pickled: bytes | io.BytesIO) -> Any:
        """Run a pickle to its end and return what is left."""
        try:
            for opcode, argument, _ in pickletools.genops(pickled):
                self.step(opcode.name, argument)
            return _not_too_deep(self.stack.pop())
        except _Refused as refused:
            self.archive.refuse(f"its pickle is refused: {refused}")
        except CheckpointError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            self.archive.refuse(f"its pickle is damaged: {' '.join(str(error).split()):.200}")

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_SET":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": (), "EMPTY_SET": set()}[opcode])
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self.popped(len(stack) - self.marks.pop())))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self.popped(int(opcode[-1]))))
            case "APPEND":
                self.extend(self.popped(1))
            case "APPENDS":
                self.extend(self.popped(len(stack) - self.marks.pop()))
            case "ADDITEMS":
                _expect(set, stack[self.marks[-1] - 1], "the instruction ADDITEMS changes")
                items = _set(self.popped(len(stack) - self.marks.pop()))
                stack[-1].update(items)
            case "SETITEM":
                self.update(self.popped(2))
            case "SETITEMS":
                self.update(self.popped(len(stack) - self.marks.pop()))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(_named(argument))
            case "STACK_GLOBAL":
                stack.append(_named_in_parts(*self.popped(2)))
            case "BINPERSID":
                stack.append(self.storage(*self.popped(1)))
            case "REDUCE":
                stack.append(self.called(*self.popped(2)))
            case "BUILD":  # the state of an OrderedDict is its attributes: the versions of a model's layers
                self.popped(1)
                _expect(dict, stack[-1], "the instruction BUILD changes")
            case _:
                raise _Refused(f"it has the instruction {opcode}, which tensors in plain containers do not need")

    def popped(self, count: int) -> list[Any]:
        """Take the last values off the stack."""
        if not 0 <= count <= len(self.stack):
            raise _Refused("it takes more from its stack than there is")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def extend(self, values: list[Any]) -> None:
        """Append values to a list."""
        _expect(list, self.stack[-1], "the instruction APPEND changes")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        """Set items of a dictionary."""
        _expect(dict, self.stack[-1], "the instruction SETITEM changes")
        for key in values[::2]:
            _check_hashed("a key", key)
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def called(self, builder: Any, arguments: Any) -> Any:
        """Return what a builder makes."""
        return self.counted(_called(builder, arguments))

    def reference(self, reference: Any) -> tuple[str, StorageType, int]:
        """Check how a pickle refers to a storage: ("storage", type, key, device, number of elements)."""
        _expect(tuple, reference, "a reference to a storage is")
        if len(reference) != 5 or reference[0] != "storage":
            raise _Refused("a reference is to something else than a storage")
        _, kind, key, _, count = reference
        _expect(StorageType, kind, "the type of a storage is")
        _expect(str, key, "the key of a storage is")
        return (key, kind, *_integers("number of elements", (count,)))

    def storage(self, reference: Any) -> Any:
        """Return the storage that a pickle refers to."""
        key, kind, count = self.reference(reference)
        if (key, kind) not in self.storages:
            content = self.archive.entry(f"data/{key}")
            dtype = np.dtype(kind.dtype).newbyteorder(self.archive.byteorder)
            if len(content) % dtype.itemsize:
                raise _Refused(f"storage {key!r:.80} has {len(content)} bytes, in elements of {dtype.itemsize}")
            self.storages[key, kind] = _Storage(content.view(dtype), kind.is_bfloat16)
        storage = self.storages[key, kind]
        if len(storage.elements) != count:
            found = f"and has {len(storage.elements)}"
            raise _Refused(f"storage {key!r:.80} should have {count} elements, {found}")
        return storage

    def counted(self, value: Any) -> Any:
        """Return a value; of tensors, see that there is room for them: many may view one storage."""
        if isinstance(value, np.ndarray):
            self.room -= value.nbytes
            if self.room < 0:
                raise _Refused(f"its tensors have more than {MOST_SHARED} times the size of the file")
        return value


def _not_too_deep(value: Any) -> Any:
    """Return a value; refuse it if its containers are nested too deeply, as those that contain themselves are."""
    level: list[Any] = [(value,)]
    for _ in range(DEEPEST + 1):
        parts = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = list({id(part): part for part in parts if type(part) in (dict, list, tuple)}.values())
        if not level:
            return value
    raise _Refused(f"its containers are nested more than {DEEPEST} deep, or contain themselves")


def _named(name: str) -> Any:
    """Resolve a name of the pickle, "module name"."""
    found = BUILDERS.get(name) or STORAGES.get(name)
    if found is None:
        raise _Refused(f"it names {'.'.join(name.split()):.100}, which is not part of a tensor")
    return found


def _named_in_parts(module: Any, name: Any) -> Any:
    _expect(str, module, "the module of a name is")
    _expect(str, name, "a name is")
    return _named(f"{module} {name}")


def _called(builder: Any, arguments: Any) -> Any:
    if not callable(builder):
        raise _Refused(f"it calls a {type(builder).__name__}")
    _expect(tuple, arguments, "the arguments of a call are")
    return builder(*arguments)


def _expect(kind: type, value: Any, what: str) -> None:
    if type(value) is not kind:
        raise _Refused(f"{what} a {type(value).__name__}")
