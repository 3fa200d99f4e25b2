"""Files as ``torch.save`` writes them, honest and hostile, written without torch instruction by instruction.

The honest ones are checked against torch itself in `tests/test_reference_torch.py`.
"""

import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {
    np.dtype("f8"): "DoubleStorage",
    np.dtype("f4"): "FloatStorage",
    np.dtype("f2"): "HalfStorage",
    np.dtype("u2"): "BFloat16Storage",  # its bits
    np.dtype("i8"): "LongStorage",
    np.dtype("i4"): "IntStorage",
    np.dtype("i2"): "ShortStorage",
    np.dtype("i1"): "CharStorage",
    np.dtype("u1"): "ByteStorage",
    np.dtype("?"): "BoolStorage",
}


@dataclass
class Raw:
    """Instructions as they are."""

    instructions: bytes


@dataclass
class Tensor:
    """A view of a storage; what is not given is that of the array itself."""

    storage: np.ndarray
    key: str = "0"
    offset: Any = 0
    size: Any = None
    stride: Any = None
    kind: str | None = None
    count: Any = None


@dataclass
class Archive:
    """What goes into the zip file."""

    pickle: bytes
    entries: dict[str, bytes] = field(default_factory=dict)
    compression: int = zipfile.ZIP_STORED
    root: str = "archive"

    def write(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w", self.compression) as file:
            for name, content in {"data.pkl": self.pickle, **self.entries}.items():
                file.writestr(f"{self.root}/{name}", content)
        return path


def called(name: str, *arguments: Any) -> Raw:
    """Instructions that call a global, "module name"."""
    module, _, attribute = name.partition(" ")
    return Raw(f"c{module}\n{attribute}\n".encode() + encoded(tuple(arguments)) + b"R")


def encoded(value: Any) -> bytes:
    """Instructions that make a value."""
    match value:
        case Raw(instructions):
            return instructions
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(encoded, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encoded, value)) + b"e"
        case Mapping():
            items = b"".join(encoded(key) + encoded(item) for key, item in value.items())
            return called("collections OrderedDict").instructions + b"(" + items + b"u"
        case Tensor():
            return tensor(value).instructions
    raise TypeError(value)


def tensor(it: Tensor) -> Raw:
    """Instructions that make a tensor."""
    storage = it.storage
    kind = it.kind or STORAGES[storage.dtype.newbyteorder("=")]
    count = storage.size if it.count is None else it.count
    reference = ("storage", Raw(f"ctorch\n{kind}\n".encode()), it.key, "cpu", count)
    size = storage.shape if it.size is None else it.size
    stride = tuple(step // storage.itemsize for step in storage.strides) if it.stride is None else it.stride
    made = Raw(encoded(reference) + b"Q")
    return called("torch._utils _rebuild_tensor_v2", made, it.offset, size, stride, False, called(ORDERED))


ORDERED = "collections OrderedDict"


def tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [found for item in value for found in tensors_in(item)] if isinstance(value, list | tuple) else []


def archive(value: Any, byteorder: str = "little") -> Archive:
    """What ``torch.save`` would write of a value, with `Tensor` for tensors and `Raw` for what it would not."""
    storages = {f"data/{it.key}": it.storage.tobytes() for it in tensors_in(value)}
    entries = {"byteorder": byteorder.encode(), **storages, "version": b"3\n"}
    return Archive(b"\x80\x02" + encoded(value) + b".", entries)


def state_dict(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Each array a tensor with a storage of its own."""
    return {name: Tensor(array, key=str(i)) for i, (name, array) in enumerate(arrays.items())}
