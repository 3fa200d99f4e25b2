"""Reading JSON that somebody else wrote, and writing files whole or not at all."""

import json
import math
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["parse_json_object", "read_json_object", "read_weight_map", "replacing", "stand_in"]


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that must hold one JSON object, strictly.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to object
        The object.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not UTF-8, not JSON, not an object, nested too deeply, or holds a key twice, a NaN or an
        infinity.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "config.json"
    ...     _ = path.write_text('{"a": 1}')
    ...     read_json_object(path)
    {'a': 1}
    """
    return parse_json_object(path.read_bytes(), path)


def parse_json_object(data: bytes, source: object) -> dict[str, Any]:
    """Read bytes that must hold one JSON object, strictly.

    Parameters
    ----------
    data : bytes
        The text in UTF-8.
    source : object
        Where it comes from, for the error message.

    Returns
    -------
    dict of str to object
        The object.

    Raises
    ------
    ValueError
        As `read_json_object`.

    Examples
    --------
    >>> parse_json_object(b'{"a": 1}', "the text")
    {'a': 1}
    """
    if instead := stand_in(data):
        raise ValueError(f"{source} is {instead}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_finite,
            parse_float=_finite,
        )
    except RecursionError:
        raise ValueError(f"{source} is not usable JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{source} is not usable JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{source} must hold a JSON object, not a {type(value).__name__}")
    return value


def stand_in(start: bytes) -> str | None:
    """Tell what lies in place of a file, where a download has gone wrong in one of the usual ways.

    Parameters
    ----------
    start : bytes
        The file's first bytes.

    Returns
    -------
    str or None
        What it is; None if it may be the file itself.

    Examples
    --------
    >>> stand_in(b"version https://git-lfs.github.com/spec/v1")
    'a Git LFS pointer, not the file itself: git lfs pull, or a download of the file, replaces it'
    """
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "a Git LFS pointer, not the file itself: git lfs pull, or a download of the file, replaces it"
    if start[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, not the file itself: the download's address was that of a page about it, or of an error"
    return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} is there twice")
        result[key] = value
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a finite number")
    return number


def read_weight_map(index: Path) -> dict[str, str]:
    """Read which tensor lies in which file, from the index of a checkpoint in several files.

    Parameters
    ----------
    index : Path
        ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``.

    Returns
    -------
    dict of str to str
        From tensor names to the names of files beside the index, never a path to elsewhere.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not an index, or names a file that is not beside it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.safetensors.index.json"
    ...     _ = path.write_text('{"weight_map": {"encoder.scale": "../../a.safetensors"}}')
    ...     read_weight_map(path)
    Traceback (most recent call last):
    ValueError: ...model.safetensors.index.json: '../../a.safetensors' is not the name of a file beside it
    """
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise ValueError(f"{index}: weight_map must be an object from tensor names to file names")
    for file in sorted(set(weight_map.values())):
        if re.search(r"[/\\:\0]", file) or file in ("", ".", ".."):
            raise ValueError(f"{index}: {file!r} is not the name of a file beside it")
    return weight_map


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and move that file to `path` at the end.

    Parameters
    ----------
    path : Path
        The file to make or to replace. If the block raises, it stays as it was and nothing is left behind.

    Yields
    ------
    Path
        The temporary name, in the same folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as temporary:
    ...         _ = temporary.write_text("whole or not at all")
    ...     print((Path(folder) / "a.txt").read_text())
    whole or not at all
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the user's umask gives; safetensors makes files private
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
