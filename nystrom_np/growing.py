"""A file of rows that several runs of a program may write, each going on where the last was interrupted.

Until it is complete there is a folder ``FILE.partial`` instead. In it, ``rows`` holds the file's bytes so far,
``origins`` says of what each batch of them was made, and ``plan.json`` says what all rows depend on and how many of
them are known to be on the disk. What follows those rows, perhaps a part of a row, is cut off by the next run; and it
keeps only the batches that are made of what it would make them of itself.
"""

import io
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from nystrom_np.files import read_json_object, replacing

__all__ = ["GrowingFile", "growing"]

SECONDS_PER_SAVE = 1.0
"""How many seconds of work an interruption may cost, beyond the batch that is under way."""


@contextmanager
def growing(
    output: Path, header: bytes, row_bytes: int, total: int, plan: Mapping[str, Any]
) -> Iterator["GrowingFile"]:
    """Begin a file of rows, or resume it. It gets its name when the block ends without error and all rows are there.

    The block goes through its batches in order. For each it asks :meth:`GrowingFile.keeps`, and if the answer is no,
    appends the rows.

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
        If the output exists or appears meanwhile, or the folder belongs to a run with another plan.
    BlockingIOError
        If another process is writing the same file.
    OSError
        If something cannot be written, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> def make(output, upper):
    ...     with growing(output, b"> ", 1, 3, {}) as rows:
    ...         for batch in ("ab", "c"):
    ...             if rows.keeps(len(batch), batch):
    ...                 print("kept", batch)
    ...             elif batch == upper:
    ...                 raise KeyboardInterrupt
    ...             else:
    ...                 rows.append(batch.encode(), len(batch), batch)
    ...                 rows.save()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output = Path(folder) / "letters"
    ...     try:
    ...         make(output, "c")
    ...     except KeyboardInterrupt:
    ...         print("interrupted")
    ...     make(output, None)
    ...     print(output.read_text())
    interrupted
    kept ab
    > abc
    """
    folder = output.with_name(f"{output.name}.partial")
    if output.exists() and not folder.exists():
        raise FileExistsError(f"{output} exists already")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, output):
        rows = GrowingFile(folder, header, row_bytes, {**plan, "rows in all": total})
        # if the output exists, an earlier run ended after it named the file and before it removed the folder
        named = output.exists()
        if named and not (rows.saved == total and rows.is_named(output)):
            raise FileExistsError(f"{output} exists already, and {folder} beside it is of another run")
        rows.begin(named)
        yield rows
        if rows.count != total:
            raise OSError(f"{output} should have {total} rows, and has {rows.count}")
        if not named:
            rows.save()
            _name(rows.path, output)
    shutil.rmtree(folder, ignore_errors=True)  # without the lock, which on Windows keeps the folder from being removed


class GrowingFile:
    """The rows so far. Made by `growing`.

    Attributes
    ----------
    count : int
        The number of rows that were kept or appended.
    kept : int
        How many of them are from earlier runs.
    saved : int
        How many earlier runs had saved.
    """

    def __init__(self, folder: Path, header: bytes, row_bytes: int, plan: dict[str, Any]) -> None:
        self.folder = folder
        self.path, self.origins = folder / "rows", folder / "origins"
        self.header, self.row_bytes = header, row_bytes
        self.plan = plan
        self.count = self.kept = 0
        self.saved = self._saved_count()
        self._waiting: deque[bytes] = deque()  # lines of origins that have not been asked for
        self._noted = 0  # bytes of origins, of the rows that were kept or appended
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

    def is_named(self, output: Path) -> bool:
        """Whether the output is the file of rows: moved there, or linked."""
        return not self.path.exists() or self.path.samefile(output)

    def begin(self, named: bool) -> None:
        """Cut off what follows the saved rows; if there are none, write the header."""
        if not self.saved:
            self.path.write_bytes(self.header)
            self.origins.write_bytes(b"")
            self.save()
            return
        self._waiting.extend(self._saved_origins())
        if named:  # then all rows are there
            return
        if not self.path.exists() or self.path.stat().st_size < self._size(self.saved):
            self.refuse()
        os.truncate(self.path, self._size(self.saved))
        os.truncate(self.origins, sum(map(len, self._waiting)))

    def _saved_origins(self) -> Iterator[bytes]:
        """Yield the lines of `origins` that are about the saved rows."""
        rows = 0
        with self.origins.open("rb") if self.origins.exists() else io.BytesIO() as file:
            for line in file:
                count = line.partition(b" ")[0]
                rows += int(count) if count.isdigit() else 0
                yield line
                if rows >= self.saved:
                    break
        if rows != self.saved:
            self.refuse()

    def keeps(self, count: int, origin: str) -> bool:
        """Whether the next so many rows are there and were made of this; if not, drop them and all that follow.

        Parameters
        ----------
        count : int
            The number of rows of a batch.
        origin : str
            Of what they are made: a digest, for instance.

        Returns
        -------
        bool
        """
        if not self._waiting:
            return False
        if self._waiting[0] != _noted(count, origin):
            self._drop()
            return False
        self._noted += len(self._waiting.popleft())
        self.count += count
        self.kept = self.count
        return True

    def _drop(self) -> None:
        """Drop the rows that were saved and are not kept."""
        if not self.path.exists():
            self.refuse()
        self._waiting.clear()
        self.save()  # first, so that no more rows are noted than there are at any time
        os.truncate(self.path, self._size(self.count))
        os.truncate(self.origins, self._noted)

    def _size(self, rows: int) -> int:
        return len(self.header) + rows * self.row_bytes

    def refuse(self) -> NoReturn:
        """Raise the error of a folder that cannot be resumed from."""
        raise OSError(f"{self.folder} is damaged: remove it to begin again")

    def append(self, content: bytes, count: int, origin: str) -> None:
        """Add rows, and of what they were made; save them if the last save is long ago."""
        if self._waiting:
            self._drop()
        for path, new in ((self.path, content), (self.origins, _noted(count, origin))):
            with path.open("ab") as file:
                file.write(new)
        self._noted += len(new)
        self.count += count
        if time.monotonic() - self._saved_at >= SECONDS_PER_SAVE:
            self.save()

    def save(self) -> None:
        """Force all rows to the disk, and only then write how many they are."""
        for path in (self.path, self.origins):
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        with replacing(self.folder / "plan.json") as temporary, temporary.open("w", encoding="utf-8") as plan:
            json.dump({**self.plan, "rows": self.count}, plan, indent=2)
            plan.flush()
            os.fsync(plan.fileno())
        self._saved_at = time.monotonic()


def _noted(count: int, origin: str) -> bytes:
    return f"{count} {origin}\n".encode()


def _name(rows: Path, output: Path) -> None:
    """Give the file its name, unless another has it by now."""
    try:
        os.link(rows, output)  # which fails if there is a file, where a rename replaces it
        return
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not output.exists():
            rows.rename(output)
            return
    raise FileExistsError(f"{output} has appeared meanwhile: move it away and repeat the command, which keeps all rows")


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
