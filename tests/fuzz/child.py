"""Children in which cases run, each with limits of memory and of time."""

import os
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

TIME = 10.0
"""Seconds that a case may take."""

START = 60.0
Case = TypeVar("Case", int, Path)
ROOT = Path(__file__).resolve().parents[2]


def popen(arguments: list[str]) -> subprocess.Popen[bytes]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "RUST_BACKTRACE": "0", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def line_of(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Return the child's next line; if none comes, end it and say why."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(seconds)
    line = process.stdout.readline().decode().strip() if ready else ""
    if line:
        return line
    if not ready:
        process.kill()
    code = process.wait()
    return f"crash: the process ended with {code}" if ready else f"hang: more than {seconds:g} s"


def outcomes(area: str, first: int, last: int, until: float = float("inf")) -> Iterator[tuple[int, str]]:
    """Run the cases of these numbers, and yield how each ends."""
    yield from _run(area, list(range(first, last)), until)


def outcomes_of(area: str, paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Run the cases in these files, and yield the name of each and how it ends."""
    for path, found in _run(area, paths, float("inf")):
        yield path.name, found


def _run(area: str, cases: list[Case], until: float) -> Iterator[tuple[Case, str]]:
    """After a crash or a hang the next child goes on."""
    while cases and time.monotonic() < until:
        process = popen(["-m", "tests.fuzz.worker", area, *map(str, cases)])
        try:
            if (found := line_of(process, START)) != "ready":
                yield cases[0], found
                return
            while cases and process.returncode is None and time.monotonic() < until:
                yield cases[0], line_of(process, TIME)
                cases = cases[1:]
        finally:
            end(process)


def keep(area: str, number: int, folder: Path) -> None:
    """Write the bytes of a case to the folder."""
    from tests.fuzz.areas import AREAS

    (folder / area).mkdir(parents=True, exist_ok=True)
    (folder / area / str(number)).write_bytes(AREAS[area].make(random.Random(f"{area} {number}")))
