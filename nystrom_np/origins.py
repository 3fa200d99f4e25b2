"""Pickles of a few hundred bytes: what came from a folder and was not changed since is read from there again."""

import copy
import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["FromFolder", "check_content", "content_digest"]


class FromFolder:
    """What may be pickled as the folder that it came from, with a digest of the files there.

    A subclass says in `_from_folder` how, or None where that would not give the same: then all of it is pickled. Copies
    are of the thing itself, as without this class.
    """

    _origin: Any = None
    """Where it came from, if it did; whether it is still the same is found out when it is pickled."""

    @property
    def name_or_path(self) -> str:
        """The folder that it was read from; empty if it was made otherwise."""
        return "" if self._origin is None else str(self._origin[0])

    def _from_folder(self) -> tuple[Any, ...] | None:
        """Return a function and its arguments that make the same again, as ``__reduce__`` does; or None."""
        raise NotImplementedError

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._from_folder() or super().__reduce_ex__(protocol)

    def __copy__(self) -> Any:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        other = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return other


def content_digest(paths: Iterable[Path]) -> bytes:
    """Return a digest of the content of files, of which none is read twice before it changes.

    Examples
    --------
    >>> content_digest([]).hex()[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for path in paths:
        found = path.stat()
        digest.update(_digest(path.resolve(), found.st_size, found.st_mtime_ns, found.st_ino))
    return digest.digest()


@lru_cache(maxsize=64)
def _digest(path: Path, *stamp: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.digest()


def check_content(paths: Iterable[Path], expected: bytes, folder: str) -> None:
    """Refuse files that are not those that were pickled.

    Examples
    --------
    >>> check_content([], b"", "a folder")
    Traceback (most recent call last):
    ValueError: a folder has other files than when what was pickled came from there
    """
    if content_digest(paths) != expected:
        raise ValueError(f"{folder} has other files than when what was pickled came from there")
