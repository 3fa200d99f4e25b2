"""Children in which cases run, each with limits of memory and of time."""

import os
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

TIME = 10.0
"""Seconds that a case may take."""

START = 60.0
ROOT = Path(__file__).resolve().parents[2]


def started(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.fuzz.worker", *map(str, arguments)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "RUST_BACKTRACE": "0", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def line_of(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Return the child's next line; if none comes, end it and say why."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        ready = selector.select(seconds)
    line = process.stdout.readline().decode().strip() if ready else ""
    if line:
        return line
    process.kill()
    code = process.wait()
    return f"crash: the process ended with {code}" if ready else f"hang: more than {seconds:g} s"


def outcomes(area: str, first: int, last: int, until: float = float("inf")) -> Iterator[tuple[int, str]]:
    """Run the cases of these numbers, and yield how each ends. After a crash or a hang the next child goes on."""
    while first < last and time.monotonic() < until:
        process = started(area, first, last)
        try:
            found = line_of(process, START)
            if found != "ready":
                yield first, found
                return
            while first < last and process.returncode is None and time.monotonic() < until:
                yield first, line_of(process, TIME)
                first += 1
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def outcome_of(area: str, path: Path) -> str:
    """Say how the case in a file ends."""
    process = started(area, path)
    try:
        return line_of(process, START)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def keep(area: str, number: int, folder: Path) -> None:
    """Write the bytes of a case to the folder."""
    from tests.fuzz.areas import AREAS

    (folder / area).mkdir(parents=True, exist_ok=True)
    (folder / area / str(number)).write_bytes(AREAS[area].make(random.Random(f"{area} {number}")))
