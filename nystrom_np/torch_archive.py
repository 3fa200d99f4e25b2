"""Tensors from a file that ``torch.save`` wrote, read without torch and without running anything that is in it.

Since torch 1.6 such a file is a zip archive of uncompressed entries: ``NAME/data.pkl``, the saved object as a pickle
in which tensors name the storage that they view, and ``NAME/data/KEY``, the bytes of each storage. The pickle runs on
the machine of :mod:`nystrom_np.torch_pickle`. :mod:`nystrom_np.torch_legacy` reads the format before, on the same one.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from nystrom_np.checkpoint import CheckpointError
from nystrom_np.files import stand_in
from nystrom_np.torch_legacy import load_legacy
from nystrom_np.torch_pickle import MOST_PICKLED, Machine

__all__ = ["load_archive", "read_state_dict"]

PLACES = ("model_state_dict", "state_dict", "model")
"""Where a state dict is, in a dictionary of what training needs: as the authors, Lightning and others write it."""

LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number with which a file begins that torch before 1.6 wrote, as it is pickled."""


def load_archive(path: Path) -> Any:
    """Read what ``torch.save`` wrote, as ``torch.load(path, weights_only=True)`` does.

    Parameters
    ----------
    path : Path
        In the zip format of torch 1.6 and newer, or in that before.

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
    with path.open("rb") as file:
        start = file.read(1024)
    if LEGACY in start[:32]:
        return load_legacy(path)
    archive = _Archive(path, start)
    pickled = archive.entry("data.pkl")
    if len(pickled) > MOST_PICKLED:
        archive.refuse(f"its pickle has {len(pickled):,} bytes, more than the {MOST_PICKLED:,} allowed")
    return Machine(archive).run(pickled.tobytes())


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

    def __init__(self, path: Path, start: bytes) -> None:
        self.path = path
        if instead := stand_in(start):
            self.refuse(f"it is {instead}")
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
