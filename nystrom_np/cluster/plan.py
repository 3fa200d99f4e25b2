"""The plan of a run: which lines of which file make which shard, and all that the vectors depend on.

It is written to ``plan.json`` before any shard is. A later run, or another process of the same one, goes on only if it
would have made the same plan itself.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from nystrom_np.cluster.store import Store, opened
from nystrom_np.files import JSON_LINES, parse_json_object
from nystrom_np.text_vectors import Window, lines_of, windows

__all__ = ["FORMATS", "PLAN", "Plan", "Shard", "Source", "digest_of", "is_json", "read_plan", "scan", "write_plan"]

PLAN = "plan.json"
FORMATS = ("npy", "parquet")
BYTES_PER_SHARD = 2**26
"""A shard ends with the line that reaches it, however few lines it has: a worker holds all of it."""


class Shard(NamedTuple):
    """Consecutive lines of a file.

    Attributes
    ----------
    start, stop : int
        Its bytes in the file.
    first : int
        The number of its first line there, from 1.
    lines : int
    digest : str
        Of the lines.
    """

    start: int
    stop: int
    first: int
    lines: int
    digest: str


class Source(NamedTuple):
    """A file, what changes when it does, and its shards."""

    name: str
    stamp: str
    shards: list[Shard]


class Plan(NamedTuple):
    """All of a run: what the vectors depend on, their width and dtype, and the files."""

    settings: dict[str, Any]
    width: int
    sources: list[Source]

    @property
    def shards(self) -> list[tuple[int, Source, Shard]]:
        """All shards in order: number, file, lines."""
        return [(i, *both) for i, both in enumerate((one, shard) for one in self.sources for shard in one.shards)]

    @property
    def rows(self) -> int:
        """How many lines there are."""
        return sum(shard.lines for source in self.sources for shard in source.shards)

    def name(self, number: int) -> str:
        """Return the name of a shard's file; that of its entry in the manifest ends in ``.json``.

        Examples
        --------
        >>> Plan({"format": "npy"}, 8, []).name(7)
        'part-000007.npy'
        """
        return f"part-{number:06}.{self.settings['format']}"


def is_json(name: str) -> bool:
    """Whether a file is JSON Lines, by its name.

    Examples
    --------
    >>> is_json("s3://bucket/a.JSONL"), is_json("a.txt")
    (True, False)
    """
    return PurePosixPath(name).suffix.lower() in JSON_LINES


def digest_of(found: list[Window]) -> str:
    """Return the digest of a shard's lines, from its windows.

    Examples
    --------
    >>> len(digest_of([]))
    64
    """
    return hashlib.sha256("".join(window.digest for window in found).encode()).hexdigest()


def scan(name: str, field: str, lines_per_shard: int) -> list[Shard]:
    r"""Read a file once, so that a line that is no text is found before anything is computed, and cut it into shards.

    Parameters
    ----------
    name : str
        Path or URL.
    field : str
        The key of the text in an object of JSON Lines.
    lines_per_shard : int

    Returns
    -------
    list of Shard

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or a line is not a text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_text("one\ntwo\nthree\n")
    ...     [shard[:4] for shard in scan(f"{folder}/a.txt", "text", 2)]
    [(0, 8, 1, 2), (8, 14, 3, 1)]
    """
    shards: list[Shard] = []
    stop = 0

    def counted(lines: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal stop
        start = stop
        for line in lines:
            stop += len(line)
            yield line
            if stop - start >= BYTES_PER_SHARD:
                return

    with opened(name) as file:
        lines, first = lines_of(file, name), 1
        while True:
            start = stop
            found = list(windows(counted(islice(lines, lines_per_shard)), name, field, is_json(name), first))
            if not found:
                return shards
            count = sum(len(window.texts) for window in found)
            shards.append(Shard(start, stop, first, count, digest_of(found)))
            first += count


def read_plan(store: Store) -> Plan | None:
    """Return the plan that lies in a folder, if there is one.

    Raises
    ------
    ValueError
        If it is damaged.

    Examples
    --------
    >>> read_plan(Store("no/such/folder"))
    """
    try:
        content = store.read(PLAN)
    except FileNotFoundError:
        return None
    try:
        found = parse_json_object(content, PLAN)
        sources = [
            Source(one["name"], one["stamp"], [Shard(*shard) for shard in one["shards"]]) for one in found["sources"]
        ]
        return Plan(found["settings"], found["width"], sources)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{store.url}/{PLAN} is damaged: {error}") from None


def write_plan(store: Store, plan: Plan) -> Plan:
    """Write a plan into a folder that has none; return the one that is there then, perhaps another process's.

    Raises
    ------
    FileExistsError
        If there are shards without a plan.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_plan(Store(folder), Plan({"format": "npy"}, 8, [])).rows
    0
    """
    sizes = store.sizes()
    if PLAN not in sizes and any(name.startswith("part-") for name in sizes) and read_plan(store) is None:
        raise FileExistsError(f"{store.url} has shards and no {PLAN}: another folder is expected, or an empty one")
    sources = [source._asdict() for source in plan.sources]
    content = json.dumps({**plan._asdict(), "sources": sources}, ensure_ascii=False)
    if store.create(PLAN, content.encode()):
        return plan
    found = read_plan(store)
    if found is None:
        raise OSError(f"{store.url}/{PLAN} cannot be written")
    return found
