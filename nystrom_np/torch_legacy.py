"""Tensors from a file of ``torch.save`` before torch 1.6, or with ``_use_new_zipfile_serialization=False``.

Five pickles stand one behind the other: a number that marks the format, the format's version, what machine wrote it,
the saved object, and a list of the storages' keys. Then come the storages in that order, each as the number of its
elements in eight bytes and the elements, little-endian. How long an element is, only the object's pickle says. So it is
run twice by the machine of :mod:`nystrom_np.torch_pickle`, which can do no more here than there: once for the types
of the storages, and once for the tensors, when it is known where each storage lies.
"""

import io
import reprlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nystrom_np.checkpoint import CheckpointError
from nystrom_np.torch_pickle import MOST_PICKLED, Machine, StorageType

__all__ = ["load_legacy"]

VERSION = 1001


def load_legacy(path: Path) -> Any:
    """Read what ``torch.save`` wrote in the old format.

    Parameters
    ----------
    path : Path
        It begins with the format's number.

    Returns
    -------
    object
        As `nystrom_np.torch_archive.load_archive` gives it.

    Raises
    ------
    OSError
        If the file cannot be read.
    CheckpointError
        If it is damaged, or holds anything but tensors in plain containers: names it.

    References
    ----------
    ``_legacy_load`` and ``_legacy_save`` of ``torch/serialization.py`` in torch 2.13.0.

    Examples
    --------
    >>> import pickle
    >>> import tempfile
    >>> pickles = (0x1950A86A20F9469CFC6C, VERSION, {}, eval, [])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "evil.bin"
    ...     _ = path.write_bytes(b"".join(pickle.dumps(value, protocol=2) for value in pickles))
    ...     load_legacy(path)
    Traceback (most recent call last):
    nystrom_np.checkpoint.CheckpointError: ...its pickle is refused: it names __builtin__.eval, ...
    """
    file = _File(path)
    file.next(Machine)  # the number
    version = file.next(Machine)
    if version != VERSION:
        file.refuse(f"its format has the version {reprlib.repr(version):.40}, expected {VERSION}")
    file.next(Machine)  # what machine wrote it: the storages are little-endian on every one
    start = file.place
    kinds: dict[str, tuple[StorageType, int]] = {}
    file.next(lambda archive: _Survey(archive, kinds))
    file.find_storages(file.next(Machine), kinds)
    file.place = start
    return file.next(_Reader)


class _File:
    """The bytes of the file, memory-mapped, and where in them the next pickle begins and each storage lies."""

    byteorder = "<"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = np.asarray(np.memmap(path, np.uint8, "r"))
        self.place = 0
        self.entries: dict[str, np.ndarray] = {}

    def next(self, machine: Any) -> Any:
        """Run the next pickle on a machine."""
        pickled = io.BytesIO(self.bytes[self.place : self.place + MOST_PICKLED].tobytes())
        value = machine(self).run(pickled)
        self.place += pickled.tell()
        return value

    def find_storages(self, keys: Any, kinds: dict[str, tuple[StorageType, int]]) -> None:
        """Go through the storages, which follow one another from here on."""
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(kinds):
            self.refuse("its list of storages names others than its tensors do")
        for key in keys:
            kind, count = kinds[key]
            begin = self.place + 8
            end = begin + count * np.dtype(kind.dtype).itemsize
            if end > len(self.bytes):
                self.refuse(f"storage {key!r:.80} ends after the file")
            if (found := int.from_bytes(self.bytes[self.place : begin].tobytes(), "little", signed=True)) != count:
                self.refuse(f"storage {key!r:.80} should have {count} elements, and has {found}")
            self.entries[f"data/{key}"] = self.bytes[begin:end]
            self.place = end

    def entry(self, name: str) -> np.ndarray:
        """Return the bytes of a storage."""
        return self.entries[name]

    def refuse(self, reason: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {reason}")


class _Reader(Machine):
    """The machine, with references to storages as this format has them: followed by what was a view, of old."""

    def reference(self, reference: Any) -> tuple[str, StorageType, int]:
        if isinstance(reference, tuple) and len(reference) == 6 and reference[-1] is None:
            reference = reference[:5]
        return super().reference(reference)


class _Survey(_Reader):
    """The machine before the storages are found: it notes what they are, and makes no tensors."""

    def __init__(self, archive: Any, kinds: dict[str, tuple[StorageType, int]]) -> None:
        super().__init__(archive)
        self.kinds = kinds

    def storage(self, reference: Any) -> Any:
        key, kind, count = self.reference(reference)
        if self.kinds.setdefault(key, (kind, count)) != (kind, count):
            self.archive.refuse(f"storage {key!r:.80} has two types or lengths")

    def called(self, builder: Any, arguments: Any) -> Any:
        return {}  # in place of a tensor too: what is made is thrown away
