"""Replacing the files of a checkpoint together: whoever is interrupted leaves the old ones or the new ones, whole."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["latest", "replacing_checkpoint"]

SAVED = ".nystrom_np-saved"
"""The folder, within a checkpoint's, of files that are complete and on their way to their places."""

WORK = ".nystrom_np-saving-"
CONFIG, WEIGHTS, COPY = "config.json", "model.safetensors", "copy of config.json"


@contextmanager
def replacing_checkpoint(folder: Path) -> Iterator[Path]:
    """Yield a folder to write ``config.json`` and ``model.safetensors`` to, which then come to `folder` together.

    Two files cannot be renamed at once, but the folder that holds both can: by that they are saved. Where a process
    ends before they are in their places, `latest` finds them, and the next that saves completes it.

    Parameters
    ----------
    folder : Path
        Made if it does not exist. One process at a time saves to it, where the system can lock folders. If the block
        raises, its files stay as they were.

    Yields
    ------
    Path
        A hidden folder within it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     with replacing_checkpoint(Path(name)) as work:
    ...         for file in (CONFIG, WEIGHTS):
    ...             _ = (work / file).write_text("new")
    ...     sorted(path.name for path in Path(name).iterdir())
    ['config.json', 'model.safetensors']
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f"{WORK}{uuid.uuid4().hex}"
    with _alone_in(folder) as is_alone:
        for left in folder.glob(f"{WORK}*") if is_alone else ():
            shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
        _put_in_place(folder)
        try:
            work.mkdir()
            yield work
            shutil.copyfile(work / CONFIG, work / COPY)
            work.rename(folder / SAVED)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        _put_in_place(folder)


def latest(folder: Path) -> Path:
    """Return where the files of a checkpoint are: in its folder, unless a process was ended while it put them there.

    Examples
    --------
    >>> latest(Path("weights"))
    PosixPath('weights')
    """
    return folder / SAVED if _is_whole(folder / SAVED) else folder


def _is_whole(saved: Path) -> bool:
    return (saved / CONFIG).is_file() and (saved / WEIGHTS).is_file()


def _put_in_place(folder: Path) -> None:
    """Move a copy of the configuration and the weights: until that is done, both are in the folder of what is saved."""
    saved = folder / SAVED
    if _is_whole(saved):
        if (saved / COPY).is_file():
            (saved / COPY).replace(folder / CONFIG)
        (saved / WEIGHTS).replace(folder / WEIGHTS)
    if saved.is_dir():
        shutil.rmtree(saved)


@contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Wait until no other process saves to the folder; yield whether that is known. A lock ends with its process."""
    try:
        import fcntl
    except ModuleNotFoundError:  # on Windows
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # of a file system without locks
            yield False
        else:
            yield True
    finally:
        os.close(handle)
