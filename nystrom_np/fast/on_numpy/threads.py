"""Both cores for everything: work split over threads, each with one BLAS thread of its own.

NumPy's matrix products use every core, its elementwise operations only one. So a forward pass that calls one
after the other leaves cores idle in between. Here whole blocks of work (products and elementwise steps
together) go to threads instead, and BLAS is held to one thread for as long as any of them runs.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

__all__ = ["one_blas_thread", "parallel_map", "row_blocks", "thread_count", "using_threads"]

BUFFER_SIZE = 512
"""Elements of the buffers through which NumPy takes operations that broadcast. By default 8,192 are gathered there from
many rows, copied in and out; with fewer than two rows it leaves rows where they are, which halves the time."""

MAX_THREADS = 256
"""More than anybody has cores; a thread begins only when it is needed and none is free."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class _BlasThreads:
    """The process's one hold on BLAS: limited by the first user, restored by the last, whatever happens between.

    Overlapping limits from several threads would each restore what they found, and the last one to leave
    might find the limit of another; hence a single controller with a count of its users.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._controller: Any = None
        self._limiter: Any = None
        self._threads = 1

    def _blas(self) -> Any:
        if self._controller is None:
            from threadpoolctl import ThreadpoolController  # here, since importing it takes 10 ms

            self._controller = ThreadpoolController().select(user_api="blas")
        return self._controller

    def count(self) -> int:
        """How many threads BLAS may use when nobody limits it here: the user's own setting is obeyed."""
        with self._lock:
            return self._count()

    def _count(self) -> int:
        if self._users == 0:
            libraries = self._blas().lib_controllers
            self._threads = max((library.num_threads or 1 for library in libraries), default=0) or os.cpu_count() or 1
        return self._threads

    @contextmanager
    def limited(self) -> Iterator[None]:
        counted = False
        try:  # an interrupt may come as soon as this thread is counted
            with self._lock:
                if self._users == 0:
                    self._count()  # to be remembered while nobody can read it from BLAS
                self._users += 1
                counted = True
                if self._users == 1:
                    self._limiter = self._blas().limit(limits=1)
            yield
        finally:
            if counted:
                with self._lock:
                    self._users -= 1
                    if self._users == 0 and self._limiter is not None:  # or the one before, interrupted in between
                        self._limiter.restore_original_limits()


class _Helpers:
    """Threads that wait for work. A new one begins where none is idle; who was the last to end is the next to work."""

    def __init__(self) -> None:
        self._idle: deque[SimpleQueue[Any]] = deque()
        self._count = 0

    def submit(self, at_work: Any, function: Callable[[], None]) -> None:
        """Let one call a function that raises nothing, holding the lock ``at_work`` from when it begins."""
        try:
            tasks = self._idle.pop()
        except IndexError:
            if self._count >= MAX_THREADS:
                return
            tasks = SimpleQueue()
            threading.Thread(target=self._serve, args=(tasks,), name="nystrom_np", daemon=True).start()
            self._count += 1
        tasks.put((at_work, function))

    def _serve(self, tasks: Any) -> None:
        while True:
            at_work, function = tasks.get()
            with at_work:
                function()
                self._idle.append(tasks)  # before anybody can know that it has ended
            del function  # and the arrays that it knows


def _begin() -> None:
    """Start from nothing: when imported, and in a forked child, where no thread has survived and locks may be held."""
    global _blas_threads, _inside, _helpers
    _blas_threads = _BlasThreads()
    _inside = threading.local()
    _helpers = _Helpers()


_blas_threads: _BlasThreads
_inside: threading.local
_helpers: _Helpers
_begin()
os.register_at_fork(after_in_child=_begin)


try:
    _current_cpu: Any = ctypes.CDLL(None).sched_getcpu
except (AttributeError, OSError, TypeError):  # pragma: no cover - not Linux, whose scheduler needs this help

    def _current_cpu() -> int:
        return -1


@contextmanager
def _cores(threads: int) -> Iterator[Any]:
    """Yield the cores for this thread's helpers: all but its own, which it keeps, or all if there are more threads.

    Linux often wakes a thread on the core of the thread that wakes it, where the two take turns. In a virtual machine
    that has rested a while it does so every time, and the second core brings nothing in the first pass.
    """
    cpus = _allowed()
    held, before = getattr(_inside, "held", (None, cpus))
    if cpus == held:  # by a call that an interrupt ended before it could let go
        cpus = before
        _settle(cpus)
    here = frozenset([_current_cpu()]) if 1 < threads <= len(cpus) else cpus
    if not here < cpus:  # a system that does not say where it runs gives -1
        yield cpus
        return
    try:
        _inside.held = here, cpus
        _settle(here)
        yield cpus - here
    finally:
        _settle(cpus)
        _inside.held = None, cpus


def _allowed() -> frozenset[int]:
    """Return the cores that this thread may run on; none where the system does not tell."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return frozenset()


def _settle(cores: Any) -> None:
    with suppress(OSError):  # they have been taken from the process meanwhile
        os.sched_setaffinity(0, cores)


def thread_count() -> int:
    """Return how many threads work is split over: as many as BLAS may use, one inside such a thread.

    ``OMP_NUM_THREADS``, ``OPENBLAS_NUM_THREADS`` and ``threadpoolctl`` limits are obeyed.

    Examples
    --------
    >>> thread_count() >= 1
    True
    """
    if getattr(_inside, "worker", False):
        return 1
    limit = getattr(_inside, "limit", None)
    return _blas_threads.count() if limit is None else limit


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread in this block, where there are threads of our own to take its place.

    For a whole forward pass, since BLAS threads that were just used go on spinning for the next product, and would
    take a core from our threads.

    Examples
    --------
    >>> with one_blas_thread():
    ...     parallel_map(abs, [-2, 3])
    [2, 3]
    """
    limited = getattr(_inside, "limit", None) is not None  # then one thread is what was asked for
    if getattr(_inside, "worker", False) or (not limited and _blas_threads.count() == 1):
        with _short_buffers():
            yield
        return
    with _blas_threads.limited(), _short_buffers():
        yield


@contextmanager
def using_threads(count: Any) -> Iterator[None]:
    """Split work over so many threads in this block, of this thread alone; None changes nothing.

    A ValueError if the count is not a positive integer.

    Examples
    --------
    >>> with using_threads(3):
    ...     thread_count()
    3
    """
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"workers must be a positive integer or None; found {count!r}")
    before = getattr(_inside, "limit", None)
    _inside.limit = before if count is None else count
    try:
        yield
    finally:
        _inside.limit = before


@contextmanager
def _short_buffers() -> Iterator[None]:
    before = np.getbufsize()
    if before == BUFFER_SIZE:  # as everywhere within a forward pass
        yield
        return
    try:
        np.setbufsize(BUFFER_SIZE)
        yield
    finally:
        np.setbufsize(before)


@contextmanager
def _as_worker() -> Iterator[None]:
    _inside.worker = True
    try:
        yield
    finally:
        _inside.worker = False


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item], threads: int | None = None) -> list[Result]:
    """Return ``[function(item) for item in items]``, computed on all cores, or so many threads.

    The threads take the items one after the other, so put large ones first. What the function calls through this one
    again runs serially. The first exception is raised unchanged; the number of BLAS threads is then restored as well.

    Examples
    --------
    >>> parallel_map(abs, [-2, 3])
    [2, 3]
    """
    if threads is None or getattr(_inside, "worker", False):
        threads = thread_count()
    if threads <= 1 or len(items) <= 1:
        with _short_buffers():
            return [function(item) for item in items]
    todo = deque(enumerate(items))
    results: list[Any] = [None] * len(items)
    errors: dict[int, Exception] = {}
    exits: list[BaseException] = []
    at_work = [threading.Lock() for _ in range(min(threads, len(items)) - 1)]  # of each thread besides this one

    def work() -> None:
        with _as_worker():
            while todo:
                try:
                    index, item = todo.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    results[index] = function(item)
                except Exception as error:
                    errors[index] = error
                    todo.clear()

    def assist(cores: Any) -> None:
        try:
            if cores and getattr(_inside, "cores", None) != cores:
                _settle(cores)
                _inside.cores = cores
            work()
        except BaseException as error:  # more than an exception, a SystemExit for one
            exits.append(error)

    def finish() -> None:  # drop what waits, see out what runs: who begins only now finds nothing to do
        todo.clear()
        for lock in at_work:
            with lock:
                pass

    with _blas_threads.limited(), _short_buffers(), _cores(threads) as cores:
        try:
            # in a copy of this thread's context: numpy.errstate, for one, holds there too
            with suppress(RuntimeError):  # no more threads can be had, as when the process ends: this one does it all
                for lock in at_work:
                    _helpers.submit(lock, partial(copy_context().run, assist, cores))
            work()
            finish()
        finally:  # also after an interrupt of the first time
            finish()
    failures = [*exits, *(errors[index] for index in sorted(errors))]
    if not failures:
        return results
    try:
        raise failures[0]
    finally:  # else it would know itself, through its traceback, and keep the arrays of the call in memory
        failures.clear()
        errors.clear()
        exits.clear()


def row_blocks(rows: int, max_rows: int) -> list[slice]:
    """Return slices that cut rows into equal blocks: a multiple of the threads, none above ``max_rows`` rows.

    Examples
    --------
    >>> row_blocks(5, max_rows=3) == [slice(0, 3), slice(3, 5)] or thread_count() != 2
    True
    """
    threads = thread_count()
    count = min(rows, -(-rows // (max_rows * threads)) * threads)
    size = -(-rows // max(count, 1))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, max(size, 1))]
