"""A file of rows that several runs of a program may write, each going on where the last was interrupted.

Until it is complete there is a folder ``FILE.partial`` instead. In it, ``rows`` holds the file's bytes so far, and
``plan.json`` says what the rows depend on and how many of them are known to be on the disk. Bytes after those rows,
perhaps a part of a row, are cut off by the next run.
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
"""How many seconds of work an interruption may cost."""


@contextmanager
def growing(
    output: Path, header: bytes, row_bytes: int, total: int, plan: Mapping[str, Any]
) -> Iterator["GrowingFile"]:
    """Begin a file of rows, or resume it. It gets its name when the block ends without error and all rows are there.

    Parameters
    ----------
    output : Path
        The file.
    header : bytes
        The bytes before the first row.
    row_bytes, total : int
        The size of a row, and the number of rows of the complete file.
    plan : mapping
        What the rows depend on, as JSON values: only a run with the same plan may resume.

    Yields
    ------
    GrowingFile

    Raises
    ------
    FileExistsError
        If the output exists, or the folder belongs to a run with another plan.
    BlockingIOError
        If another process is writing the same file.
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
    with _locked(folder, output):
        rows = GrowingFile(folder, {**plan, "rows in all": total})
        # if the output exists, an earlier run ended after it named the file and before it removed the folder
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
        The number of rows.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / "rows"
        self.plan = plan
        self.count = self._saved_count()
        self._saved_at = time.monotonic()

    def _saved_count(self) -> int:
        """Return how many rows earlier runs saved; refuse rows of another plan."""
        path = self.folder / "plan.json"
        if not path.exists():
            return 0
        saved = read_json_object(path)
        rows = saved.pop("rows", None)
        if differing := sorted(name for name in {**saved, **self.plan} if saved.get(name) != self.plan.get(name)):
            another = f"with another {', '.join(differing)}"
            raise FileExistsError(f"{self.folder} is of a run {another}: repeat that run, or remove the folder")
        if not isinstance(rows, int) or rows < 0:
            self.refuse()
        return rows

    def begin(self, header: bytes, row_bytes: int) -> None:
        """Cut off what follows the saved rows; if there are none, write the header."""
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
        """Raise the error of a folder that cannot be resumed from."""
        raise OSError(f"{self.folder} is damaged: remove it to begin again")

    def append(self, content: bytes, count: int) -> None:
        """Add rows; save them if the last save is long ago."""
        with self.path.open("ab") as file:
            file.write(content)
        self.count += count
        if time.monotonic() - self._saved_at >= SECONDS_PER_SAVE:
            self.save()

    def save(self) -> None:
        """Force all rows to the disk, and only then write how many they are."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())
        with replacing(self.folder / "plan.json") as temporary, temporary.open("w", encoding="utf-8") as plan:
            json.dump({**self.plan, "rows": self.count}, plan, indent=2)
            plan.flush()
            os.fsync(plan.fileno())
        self._saved_at = time.monotonic()


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Hold a lock, which the system releases when the process ends, however it ends."""
    from filelock import FileLock, Timeout  # here, since it is only needed here

    try:
        held = FileLock(folder / "lock").acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"another process is writing {output}") from None
    with held:
        yield
