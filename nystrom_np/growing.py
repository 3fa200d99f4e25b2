"""A file of rows that grows over several runs of a program, whatever ends them, and is there once it is whole.

Until then there is a folder ``FILE.partial``. In it, ``rows`` holds the file's bytes so far, and ``plan.json`` says
what they depend on, and how many rows had surely reached the disk when it was written. What follows them, a part of
a row perhaps, is cut off by the next run.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from nystrom_np.files import read_json_object, replacing

__all__ = ["GrowingFile", "growing"]

SECONDS_PER_SAVE = 1.0
"""How much work an interruption may cost."""


@contextmanager
def growing(
    output: Path, header: bytes, row_bytes: int, total: int, plan: Mapping[str, Any]
) -> Iterator["GrowingFile"]:
    """Begin a file of rows, or take it up again; it gets its name if the block ends well and all rows are there.

    Parameters
    ----------
    output : Path
        The file.
    header : bytes
        What it begins with.
    row_bytes, total : int
        The size of a row, and how many there will be.
    plan : mapping
        What the rows depend on, in JSON: only a run with the same plan may go on.

    Yields
    ------
    GrowingFile

    Raises
    ------
    FileExistsError
        If the output exists, or the folder is of another plan.
    BlockingIOError
        If another process writes the same file.
    OSError
        If something cannot be written, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output = Path(folder) / "letters"
    ...     try:
    ...         with growing(output, b"> ", 1, 3, {}) as rows:
    ...             rows.append(b"ab", 2)
    ...             rows.save()
    ...             raise KeyboardInterrupt
    ...     except KeyboardInterrupt:
    ...         print("interrupted")
    ...     with growing(output, b"> ", 1, 3, {}) as rows:
    ...         print(rows.count)
    ...         rows.append(b"c", 1)
    ...     print(output.read_text())
    interrupted
    2
    > abc
    """
    folder = output.with_name(f"{output.name}.partial")
    if output.exists() and not folder.exists():
        raise FileExistsError(f"{output} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, output):
        rows = GrowingFile(folder, {**plan, "rows in all": total})
        # if the output exists, a run ended after the file got its name and before the folder was gone
        if not output.exists():
            rows.begin(header, row_bytes)
        elif rows.count != total:
            raise FileExistsError(f"{output} exists already, and {folder} beside it is of another run")
        yield rows
        if rows.count != total:
            raise OSError(f"{output} should have {total} rows, and has {rows.count}")
        if not output.exists():
            rows.save()
            rows.path.rename(output)
    shutil.rmtree(folder, ignore_errors=True)  # without the lock, which on Windows keeps the folder from being removed


class GrowingFile:
    """The rows so far. Made by `growing`.

    Attributes
    ----------
    count : int
        How many there are.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / "rows"
        self.plan = plan
        self.count = self._noted()
        self._saved = time.monotonic()

    def _noted(self) -> int:
        """How many rows an earlier run noted, which must have had the same plan."""
        note = self.folder / "plan.json"
        if not note.exists():
            return 0
        noted = read_json_object(note)
        rows = noted.pop("rows", None)
        if differing := sorted(name for name in {**noted, **self.plan} if noted.get(name) != self.plan.get(name)):
            what = f"with another {', '.join(differing)}"
            raise FileExistsError(f"{self.folder} is of a run {what}: repeat that run, or remove the folder")
        if not isinstance(rows, int) or rows < 0:
            self.refuse()
        return rows

    def begin(self, header: bytes, row_bytes: int) -> None:
        """Leave the rows that are known to be whole; write the header if there are none."""
        if not self.count:
            self.path.write_bytes(header)
            self.save()
            return
        size = len(header) + self.count * row_bytes
        if not self.path.exists() or self.path.stat().st_size < size:
            self.refuse()
        with self.path.open("r+b") as file:
            file.truncate(size)

    def refuse(self) -> NoReturn:
        """Say that what is there cannot be gone on with."""
        raise OSError(f"{self.folder} is damaged: remove it to begin again")

    def append(self, content: bytes, count: int) -> None:
        """Add rows; once in a while, see to it that they reach the disk."""
        with self.path.open("ab") as file:
            file.write(content)
        self.count += count
        if time.monotonic() - self._saved >= SECONDS_PER_SAVE:
            self.save()

    def save(self) -> None:
        """See to it that all rows reach the disk, and only then note how many they are."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())
        with replacing(self.folder / "plan.json") as temporary, temporary.open("w", encoding="utf-8") as note:
            json.dump({**self.plan, "rows": self.count}, note, indent=2)
            note.flush()
            os.fsync(note.fileno())
        self._saved = time.monotonic()


@contextmanager
def _alone(folder: Path, output: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
    from filelock import FileLock, Timeout  # here, since it is only needed here

    try:
        held = FileLock(folder / "lock").acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"another process is writing {output}") from None
    with held:
        yield
