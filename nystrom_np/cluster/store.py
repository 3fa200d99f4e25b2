"""Files on whatever fsspec reaches: this machine's disk, S3 and kin, or memory."""

import io
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nystrom_np.files import replacing

__all__ = ["EXTRA", "Store", "absolute", "expanded", "needed", "opened", "stamp_of"]

EXTRA = 'pip install "nystrom_np[cluster]"'


def needed(name: str, purpose: str) -> Any:
    """Import a package of the extra, or say in a ValueError how to get it.

    Examples
    --------
    >>> needed("no_such_package", "this")
    Traceback (most recent call last):
    ValueError: this needs no_such_package: pip install "nystrom_np[cluster]"
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{purpose} needs {name.partition('.')[0]}: {EXTRA}") from None


def absolute(path: str | os.PathLike[str]) -> str:
    """Return a name that means the same in another process: a URL as it is, a path of this machine in full.

    Examples
    --------
    >>> absolute("s3://bucket/a.txt")
    's3://bucket/a.txt'
    """
    name = os.fspath(path)
    return name if "://" in name else str(Path(name).absolute())


def _located(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path there."""
    core = needed("fsspec.core", url)
    try:
        system, path = core.url_to_fs(url)
    except (ImportError, ValueError) as error:  # the package of this protocol is missing, or there is no such one
        raise ValueError(f"{url} cannot be reached: {error}") from None
    return system, path


def expanded(path: str | os.PathLike[str]) -> list[str]:
    """Return the files that a name means: of a URL with ``*`` or ``?``, all that fit, in order.

    Examples
    --------
    >>> expanded("s3://bucket/a.txt")
    ['s3://bucket/a.txt']
    """
    name = absolute(path)
    if "://" not in name or not re.search(r"[*?]", name):
        return [name]
    system, pattern = _located(name)
    if found := sorted(system.glob(pattern)):
        return [system.unstrip_protocol(one) for one in found]
    raise FileNotFoundError(f"there is no file {name}")


def stamp_of(url: str) -> str:
    """Return what changes when a file does, without reading it: its size, and its time or the store's own mark.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is a folder, or a pipe: only a file can be read in parts.

    Examples
    --------
    >>> stamp_of("no/such/file")
    Traceback (most recent call last):
    FileNotFoundError: there is no file no/such/file
    """
    system, path = _located(url)
    try:
        found = system.info(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {url}") from None
    if found["type"] != "file":
        raise ValueError(f"{url} is no file that can be read in parts: a {found['type']}")
    marks = (found.get(name) for name in ("ETag", "etag", "mtime", "LastModified", "created"))
    return f"{found['size']} {next((mark for mark in marks if mark is not None), '')}"


@contextmanager
def opened(url: str, start: int = 0) -> Iterator[io.BufferedReader]:
    """Open a file for reading, from a byte on.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_bytes(b"some bytes")
    ...     with opened(f"{folder}/a.txt", start=5) as file:
    ...         file.read()
    b'bytes'
    """
    system, path = _located(url)
    with system.open(path, "rb") as raw, io.BufferedReader(raw, 2**20) as file:
        file.seek(start)
        yield file


class Store:
    """A folder, or what stands for one in an object store.

    Parameters
    ----------
    url : str
        Its path or URL. A folder of this machine is made when something is written to it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(f"{folder}/vectors")
    ...     print(store.sizes())
    ...     store.write("a", b"one")
    ...     print(store.create("a", b"other"), store.read("a"), store.sizes())
    {}
    False b'one' {'a': 3}
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.system, self.root = _located(url)
        protocol = self.system.protocol
        self.folder = Path(self.root) if "file" in ((protocol,) if isinstance(protocol, str) else protocol) else None

    def sizes(self) -> dict[str, int]:
        """Return the names and sizes of what lies in it, from one listing."""
        self.system.invalidate_cache()
        try:
            found = self.system.ls(self.root, detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rstrip("/").rpartition("/")[2]: int(entry["size"] or 0) for entry in found}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        content: bytes = self.system.cat_file(f"{self.root}/{name}")
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole: here under a temporary name first; object stores put a thing whole or not at all."""
        if self.folder is None:
            self.system.pipe_file(f"{self.root}/{name}", content)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(self.folder / name) as temporary:
                _write_to_disk(temporary, content)
        except FileNotFoundError:  # another process that made the same was faster, and took this for a leftover
            if not (self.folder / name).exists():
                raise

    def create(self, name: str, content: bytes) -> bool:
        """Write a file whole, unless there is one of that name: then return False."""
        try:
            if self.folder is None:
                self.system.pipe_file(f"{self.root}/{name}", content, mode="create")
                return True
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{name}.{uuid.uuid4().hex}"
            try:
                _write_to_disk(temporary, content)
                _name_anew(temporary, self.folder / name)
            finally:
                temporary.unlink(missing_ok=True)
        except FileExistsError:
            return False
        return True

    def remove_leftovers(self) -> None:
        """Remove the temporary files of processes that were killed while they wrote."""
        for path in [] if self.folder is None else self.folder.glob(".part-*"):
            path.unlink(missing_ok=True)


def _name_anew(temporary: Path, path: Path) -> None:
    """Give a file a name that none has."""
    try:
        os.link(temporary, path)  # which fails if there is a file, where a rename replaces it
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(f"{path} exists already") from None
        temporary.rename(path)


def _write_to_disk(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
