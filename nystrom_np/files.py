"""Reading text and JSON with errors that say where, and replacing a file only once its new content is complete."""

import json
import math
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "JSON_LINES",
    "also_called",
    "check_link",
    "check_path",
    "json_values",
    "parse_json_object",
    "read_json_object",
    "read_weight_map",
    "replacing",
    "stand_in",
    "text_lines",
    "with_variant",
]

JSON_LINES = (".jsonl", ".ndjson")
"""Suffixes of files in which each line is a JSON value."""

Method = TypeVar("Method", bound=Callable[..., Any])


def check_path(name: str, value: Any) -> None:
    """Refuse what is no path.

    Raises
    ------
    TypeError
        If the argument of this name is neither a string nor a path.

    Examples
    --------
    >>> check_path("output", "vectors.npy")
    >>> check_path("output", 5)
    Traceback (most recent call last):
    TypeError: output must be a path; found int
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path; found {type(value).__name__}")


def also_called(name: str) -> Callable[[Method], Method]:
    """Let the first argument of a method, a folder, be given by the name that it has in transformers, too.

    Parameters
    ----------
    name : str

    Returns
    -------
    callable
        A decorator.

    Examples
    --------
    >>> class Model:
    ...     @also_called("save_directory")
    ...     def save_pretrained(self, folder):
    ...         return folder
    >>> Model().save_pretrained(save_directory="here")
    'here'
    """

    def decorated(method: Method) -> Method:
        @wraps(method)
        def call(owner: Any, *arguments: Any, **options: Any) -> Any:
            if not arguments and name in options:
                arguments = (options.pop(name),)
            return method(owner, *arguments, **options)

        return call  # type: ignore[return-value]

    return decorated


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
        If it is not UTF-8, not JSON, not an object, or nested too deeply; or if it has a key twice, a NaN or an
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
    """Read bytes as `read_json_object` reads a file; `source` names them in the error.

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
    """Read the index of a checkpoint in several files: which tensor lies in which file.

    Parameters
    ----------
    index : Path
        ``model.safetensors.index.json`` or ``pytorch_model.bin.index.json``.

    Returns
    -------
    dict of str to str
        From tensor names to names of files in the folder of the index; a path to elsewhere is refused.

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


def check_link(path: Path) -> None:
    """Refuse a file that another file named, or that is to be copied, if it is a link to outside its folder.

    Parameters
    ----------
    path : Path
        The file. In the cache of huggingface_hub, where ``snapshots/COMMIT`` links to ``blobs``, it may lie there.

    Raises
    ------
    ValueError
        If it lies elsewhere.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "one.safetensors"
    ...     path.symlink_to(Path(folder).parent / "other.safetensors")
    ...     check_link(path)
    Traceback (most recent call last):
    ValueError: ...one.safetensors is a link that leaves its folder; a copy of the file is expected in its place
    """
    if not path.is_symlink():
        return
    folder = path.parent.resolve()
    allowed = {folder, folder.parent.parent / "blobs"} if folder.parent.name == "snapshots" else {folder}
    if path.resolve().parent not in allowed:
        raise ValueError(f"{path} is a link that leaves its folder; a copy of the file is expected in its place")


def with_variant(name: str, variant: str | None) -> str:
    """Name the file that holds one of several sets of weights.

    Parameters
    ----------
    name : str
        Where there is but one.
    variant : str, optional
        Letters, digits and ``._-``: "fp16", say.

    Returns
    -------
    str
        The name with the variant before its last suffix.

    Raises
    ------
    ValueError
        If the variant has other characters.

    Examples
    --------
    >>> with_variant("model.safetensors", "fp16"), with_variant("model.safetensors", None)
    ('model.fp16.safetensors', 'model.safetensors')
    """
    if variant is None:
        return name
    if not re.fullmatch(r"[\w.-]+", variant):
        raise ValueError(f"variant must be letters, digits and ._-, such as 'fp16'; found {variant!r}")
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{variant}{dot}{suffix}"


def text_lines(lines: Iterable[bytes], source: object, first: int = 1) -> Iterator[tuple[str, str]]:
    r"""Decode lines of UTF-8: yield where each stands, for error messages, and the line without its end.

    Line 1 may begin with a byte order mark; `first` is the number of the first line that is given. A line that is not
    UTF-8 raises a ValueError.

    Examples
    --------
    >>> list(text_lines([b"one\r\n", b"two"], "a.txt"))
    [('a.txt, line 1', 'one'), ('a.txt, line 2', 'two')]
    """
    for number, line in enumerate(lines, start=first):
        place = f"{source}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{place} is not UTF-8: {error}") from None
        yield place, text.rstrip("\r\n")


def json_values(lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """Read each line of `text_lines` as JSON: yield its place and value. If it is not JSON, raise a ValueError.

    Examples
    --------
    >>> list(json_values(text_lines([b'{"text": "one"}'], "a.jsonl")))
    [('a.jsonl, line 1', {'text': 'one'})]
    """
    for place, line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place} is not JSON: {error}") from None
        yield place, value


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to, and move that file to `path` at the end.

    Parameters
    ----------
    path : Path
        The file to make or to replace. If the block raises, it stays as it was and the temporary file is removed.

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
