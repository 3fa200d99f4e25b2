"""A stand-in for the module cupy and its CUDA device: the lines that a GPU would run, run without one.

Its arrays are the strict stand-in's. What it is asked to do in order (copies, events, waiting) is written down in
``log``.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.backends import StrictArray, strict

__all__ = ["CUDARuntimeError", "OutOfMemoryError", "log", "stand_in"]

log: list[str] = []


class CUDARuntimeError(RuntimeError):
    """As CuPy raises it."""

    __module__ = "cupy_backends.cuda.api.runtime"


class OutOfMemoryError(MemoryError):
    """As CuPy's memory pool raises it."""

    __module__ = "cupy.cuda.memory"


class Event:
    def __init__(self, stream: str) -> None:
        self.stream = stream
        log.append(f"{stream} records")

    def synchronize(self) -> None:
        log.append(f"host waits for {self.stream}")


class Stream:
    def __init__(self, non_blocking: bool = False, name: str = "copies") -> None:
        self.name = name
        self.non_blocking = non_blocking

    def record(self) -> Event:
        return Event(self.name)

    def wait_event(self, event: Event) -> None:
        log.append(f"{self.name} wait for {event.stream}")


CURRENT = Stream(name="work")


def empty_pinned(shape: Any, dtype: Any) -> np.ndarray:
    log.append("pinned")
    return np.full(shape, -77, dtype)


@contextmanager
def stand_in() -> Iterator[ModuleType]:
    """Put the stand-in in the place of cupy and cupyx; its arrays are taken for CuPy's meanwhile."""
    log.clear()
    cupy, cupyx, cupyx_scipy = (ModuleType(name) for name in ("cupy", "cupyx", "cupyx.scipy"))
    vars(cupy).update({**vars(strict), "__name__": "cupy"})
    runtime = SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda device: {"name": b"a stand-in"},
        driverGetVersion=lambda: 12040,
        runtimeGetVersion=lambda: 12060,
        CUDARuntimeError=CUDARuntimeError,
    )
    cupy.cuda = SimpleNamespace(
        runtime=runtime,
        Stream=Stream,
        get_current_stream=lambda: CURRENT,
        Device=lambda: SimpleNamespace(synchronize=lambda: log.append("host waits for all")),
    )
    pool = SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 1000)
    cupy.get_default_memory_pool, cupy.__version__ = lambda: pool, "0.0"
    cupy.fuse = lambda kernel_name: lambda function: function
    cupyx.empty_pinned, cupyx.scipy, cupyx_scipy.special = empty_pinned, cupyx_scipy, strict.special
    modules = {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": cupyx_scipy, "cupyx.scipy.special": strict.special}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(StrictArray, "__module__", "cupy")
        patch.setattr(StrictArray, "device", SimpleNamespace(id=0), raising=False)
        yield cupy
