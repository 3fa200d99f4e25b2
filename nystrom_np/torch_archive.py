"""Tensors from a file that ``torch.save`` wrote, read without torch and without running anything that is in it.

Since torch 1.6 such a file is a zip archive of uncompressed entries: ``NAME/data.pkl``, the saved object as a pickle
in which tensors name the storage that they view, and ``NAME/data/KEY``, the bytes of each storage. A pickle is a
program for a machine that can call whatever it names. Here it runs on a smaller machine, which knows the instructions
that ``torch.save`` writes, in any protocol from 2 to 5, and names only of :data:`BUILDERS` and :data:`STORAGES`:
nothing else can be called.
"""

import math
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from nystrom_np.checkpoint import CheckpointError, widen_bfloat16
from nystrom_np.files import stand_in

__all__ = ["load_archive", "read_state_dict"]

MOST_PICKLED = 1 << 22
"""Bytes that ``data.pkl`` may have; a model of 12 layers needs 30,000."""

MOST_AXES = 32
LARGEST = 1 << 48  # of any number that says where a tensor lies

MOST_SHARED = 16
"""Times the size of the file that all tensors together may have: some share memory, as tied weights do."""

PLACES = ("model_state_dict", "state_dict", "model")
"""Where a state dict is, in a dictionary of what training needs: as the authors, Lightning and others write it."""

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file begins that torch before 1.6 wrote."""


def load_archive(path: Path) -> Any:
    """Read what ``torch.save`` wrote, as ``torch.load(path, weights_only=True)`` does.

    Parameters
    ----------
    path : Path
        In the zip format of torch 1.6 and newer.

    Returns
    -------
    object
        Dictionaries, lists, tuples, strings and numbers. Tensors are read-only arrays, where possible views of the
        memory-mapped file; those of bfloat16, which NumPy lacks, are widened to float32.

    Raises
    ------
    OSError
        If the file cannot be read.
    CheckpointError
        If it is in another format, is damaged, or holds anything but tensors in plain containers: names it.

    References
    ----------
    ``torch/serialization.py`` and ``torch/_weights_only_unpickler.py`` in torch 2.13.0, for the format.

    Examples
    --------
    >>> import pickle
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "evil.bin"
    ...     with zipfile.ZipFile(path, "w") as archive:
    ...         archive.writestr("evil/data.pkl", pickle.dumps(eval, protocol=2))
    ...     load_archive(path)
    Traceback (most recent call last):
    nystrom_np.checkpoint.CheckpointError: ...its pickle is refused: it names __builtin__.eval, ...
    """
    archive = _Archive(path)
    pickled = archive.entry("data.pkl")
    if len(pickled) > MOST_PICKLED:
        archive.refuse(f"its pickle has {len(pickled):,} bytes, more than the {MOST_PICKLED:,} allowed")
    return _Machine(archive).run(pickled.tobytes())


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a model's tensors under their names.

    Parameters
    ----------
    path : Path
        Holds a state dict, or a dictionary with one under one of :data:`PLACES`.

    Returns
    -------
    dict of str to numpy.ndarray
        As `load_archive` gives them.

    Raises
    ------
    OSError, CheckpointError
        As `load_archive`; also if the file does not hold a state dict.

    Examples
    --------
    >>> read_state_dict(Path("no/such/pytorch_model.bin"))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'no/such/pytorch_model.bin'
    """
    loaded = load_archive(path)
    if isinstance(loaded, dict):
        loaded = next((loaded[place] for place in PLACES if place in loaded), loaded)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, expected a dictionary from names to tensors")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            found = f"{name!r:.80} is a {type(value).__name__}"
            raise CheckpointError(f"{path} is not a dictionary from names to tensors: {found}")
    return loaded


class _Archive:
    """The entries of a zip file, as views of the memory-mapped file: nothing is unpacked, no name becomes a path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            start = file.read(1024)
        if instead := stand_in(start):
            self.refuse(f"it is {instead}")
        if start.startswith(LEGACY):
            self.refuse("it is in the format of torch before 1.6; load it with torch and save it again")
        if not start.startswith(b"PK"):
            self.refuse("it is not a zip archive, as torch.save writes them")
        self.bytes = np.asarray(np.memmap(path, np.uint8, "r"))
        self.entries = self._directory()
        roots = [name.removesuffix("/data.pkl") for name in self.entries if name.endswith("/data.pkl")]
        if len(roots) != 1 or f"{roots[0]}/constants.pkl" in self.entries:
            self.refuse("it is not an archive of one object saved by torch.save")
        self.root = roots[0]
        self.byteorder = self._byteorder()

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                listed = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, struct.error) as error:
            self.refuse(f"it is a damaged zip archive: {error}")
        entries = {info.filename: info for info in listed}
        if len(entries) < len(listed):
            self.refuse("two of its entries have the same name")
        if sum(info.file_size for info in listed) > len(self.bytes):
            self.refuse("its entries are larger than itself")
        return entries

    def _byteorder(self) -> Literal["<", ">"]:
        if f"{self.root}/byteorder" not in self.entries:
            return "<"  # versions of torch before 2.1 do not say it
        text = bytes(self.entry("byteorder")[:8])
        if text not in (b"little", b"big"):
            self.refuse(f"its byte order is {text!r}, expected little or big")
        return "<" if text == b"little" else ">"

    def entry(self, name: str) -> np.ndarray:
        """Return the bytes of an entry, once its size and its checksum have been found right."""
        info = self.entries.get(f"{self.root}/{name}")
        if info is None:
            self.refuse(f"it has no entry {name!r:.80}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            self.refuse(f"its entry {name!r} is compressed or encrypted, which torch.save never does")
        start = self._start_of(info)
        content = self.bytes[start : start + info.file_size]
        if len(content) != info.file_size:
            self.refuse(f"its entry {name!r} ends after the file")
        if zlib.crc32(content.data) != info.CRC:
            self.refuse(f"its entry {name!r} is damaged: the checksum is another one")
        return content

    def _start_of(self, info: zipfile.ZipInfo) -> int:
        """Where an entry's bytes begin: after its own header, which has names of its own lengths."""
        header = bytes(self.bytes[max(info.header_offset, 0) :][:30])
        if len(header) < 30 or info.header_offset < 0 or not header.startswith(b"PK\x03\x04"):
            self.refuse(f"its entry {info.filename!r:.80} has no header where the directory says")
        return info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))

    def refuse(self, reason: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {reason}")


class _StorageType(NamedTuple):
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
    "torch DoubleStorage": _StorageType("f8"),
    "torch FloatStorage": _StorageType("f4"),
    "torch HalfStorage": _StorageType("f2"),
    "torch BFloat16Storage": _StorageType("u2", is_bfloat16=True),
    "torch LongStorage": _StorageType("i8"),
    "torch IntStorage": _StorageType("i4"),
    "torch ShortStorage": _StorageType("i2"),
    "torch CharStorage": _StorageType("i1"),
    "torch ByteStorage": _StorageType("u1"),
    "torch BoolStorage": _StorageType("?"),
}
"""The names that stand for a type of storage."""


def _ordered_dict() -> dict[Any, Any]:
    return {}


def _size(lengths: Any) -> tuple[int, ...]:
    return _integers("size", lengths)


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
    "collections OrderedDict": _ordered_dict,
    "torch Size": _size,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_tensor_v2": _tensor,
}
"""The names that may be called, and what is called in their place."""


class _Machine:
    """The instructions of a pickle, on a stack of values: plain containers, names of the lists above, and tensors."""

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[tuple[str, _StorageType], _Storage] = {}
        self.room = MOST_SHARED * len(archive.bytes)

    def run(self, pickled: bytes) -> Any:
        """Run a pickle to its end and return what is left."""
        try:
            for opcode, argument, _ in pickletools.genops(pickled):
                self.step(opcode.name, argument)
            return self.stack.pop()
        except _Refused as refused:
            self.archive.refuse(f"its pickle is refused: {refused}")
        except CheckpointError:
            raise
        except (ValueError, IndexError, KeyError, TypeError) as error:
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
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[opcode])
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
                stack.append(self.counted(_called(*self.popped(2))))
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
        _expect(list, self.stack[-1], "the instruction APPEND changes")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        """Set items of a dictionary. A tuple cannot be a key: hashing one of nested tuples may take forever."""
        _expect(dict, self.stack[-1], "the instruction SETITEM changes")
        for key in values[::2]:
            if not isinstance(key, str | int | float | None):
                raise _Refused(f"a key is a {type(key).__name__}, expected a string or a number")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def storage(self, reference: Any) -> _Storage:
        """Return a storage by how a pickle refers to it: ("storage", type, key, device, number of elements)."""
        _expect(tuple, reference, "a reference to a storage is")
        if len(reference) != 5 or reference[0] != "storage":
            raise _Refused("a reference is to something else than a storage")
        _, kind, key, _, count = reference
        _expect(_StorageType, kind, "the type of a storage is")
        _expect(str, key, "the key of a storage is")
        (count,) = _integers("number of elements", (count,))
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
