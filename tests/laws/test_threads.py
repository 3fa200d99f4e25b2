"""Threads: results in order, exceptions unchanged, and BLAS left as it was found."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from nystrom_np import NystromformerForMaskedLM
from nystrom_np.fast.on_numpy import threads as module
from nystrom_np.fast.on_numpy.threads import (
    one_blas_thread,
    parallel_map,
    row_blocks,
    thread_count,
    using_threads,
)
from tests.laws.tools import cases
from tests.models import small_config


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def restored() -> object:
    """After each of these tests BLAS has the threads it had before.

    Each begins as a new process does: another test may have loaded a BLAS (SciPy has its own) after the first pass.
    """
    module._begin()
    before = blas_threads()
    assert before
    yield
    assert blas_threads() == before


def test_map() -> None:
    """The result is that of a list comprehension, in its order, for any number of threads and items."""

    @cases(30)
    @given(st.lists(st.integers(), max_size=20), st.none() | st.integers(0, 4))
    def law(items: list[int], threads: int | None) -> None:
        assert parallel_map(lambda x: 2 * x, items, threads) == [2 * x for x in items]

    law()


def test_order_does_not_depend_on_time() -> None:
    """Results keep the order of the items also where the first takes longest, and more than one thread
    works, the caller's among them.
    """

    def slow(seconds: float) -> tuple[float, int]:
        time.sleep(seconds)
        return seconds, threading.get_ident()

    results = parallel_map(slow, [0.05, 0.02, 0.03, 0.0], threads=3)
    assert [seconds for seconds, _ in results] == [0.05, 0.02, 0.03, 0.0]
    assert len({thread for _, thread in results}) == 3
    assert threading.get_ident() in {thread for _, thread in results}


def test_one_thread_is_the_callers() -> None:
    """With one thread or one item nothing leaves the calling thread, nor is BLAS touched."""
    for items, threads in (([1, 2], 1), ([1], 4)):
        found = parallel_map(lambda _: (threading.get_ident(), blas_threads()), items, threads)
        assert found == [(threading.get_ident(), blas_threads())] * len(items)


def test_blas_is_held_to_one_thread() -> None:
    """While threads work, each has one BLAS thread."""
    assert parallel_map(lambda _: set(blas_threads()), [0, 1, 2], threads=2) == [{1}] * 3


def test_exception() -> None:
    """The first item's exception is raised unchanged, what waits is dropped, and BLAS is restored."""
    started: list[int] = []

    def fail(item: int) -> None:
        started.append(item)
        if item == 0:
            raise KeyError("the first")
        time.sleep(0.01)
        raise ValueError("a later one")

    before = blas_threads()
    with pytest.raises(KeyError, match="the first"):
        parallel_map(fail, range(1000), threads=2)
    assert blas_threads() == before
    assert len(started) < 1000
    assert parallel_map(abs, [-1, -2], threads=2) == [1, 2]  # and the threads are still there


def test_an_interrupt() -> None:
    """An interrupt in the calling thread drops what waits, sees out what runs, and is raised."""
    caller = threading.get_ident()
    started, running = [], []

    def work(item: int) -> None:
        started.append(item)
        if threading.get_ident() == caller:
            while not running:  # until the other thread is at work
                time.sleep(0.001)
            raise KeyboardInterrupt
        running.append(item)
        time.sleep(0.05)
        running.remove(item)

    with pytest.raises(KeyboardInterrupt):
        parallel_map(work, range(1000), threads=2)
    assert running == []
    assert len(started) < 10


def test_an_exit_in_a_thread() -> None:
    """What ends a program is raised too, not a result that is missing."""
    caller = threading.get_ident()

    def work(_: int) -> int:
        time.sleep(0.01)
        if threading.get_ident() != caller:
            raise SystemExit(3)
        return 1

    with pytest.raises(SystemExit):
        parallel_map(work, range(4), threads=2)


def test_buffers_of_ufuncs() -> None:
    """While items are worked on, in whichever thread, NumPy's buffers are short; then as they were, an error or not."""
    before = np.getbufsize()
    assert before != module.BUFFER_SIZE
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":  # before, the size was each thread's own
        assert parallel_map(lambda _: (time.sleep(0.01), np.getbufsize())[1], [0, 1], threads=2) == [512, 512]
    assert parallel_map(lambda _: np.getbufsize(), [0], threads=2) == [512]
    assert np.getbufsize() == before
    for items in ([0], [0, 1]):
        with pytest.raises(ZeroDivisionError):
            parallel_map(lambda x: 1 // x, items, threads=2)
        assert np.getbufsize() == before


AT_THE_END = """
import threading, time
from nystrom_np.fast.on_numpy.threads import parallel_map, using_threads

def late():
    threading.main_thread().join()  # then no executor takes anything any more
    with using_threads(3):
        print(parallel_map(abs, [-1, -2, -3]))

threading.Thread(target=late).start()
"""


def test_when_no_thread_can_be_had() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[1, 2, 3]\n", "")


def test_nothing_runs_on_after_an_exception() -> None:
    """When the call returns, with an exception too, no item is still being worked on."""
    running = []

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("at once")
        running.append(item)
        time.sleep(0.05)
        running.remove(item)

    with pytest.raises(ValueError, match="at once"):
        parallel_map(work, [0, 1, 2], threads=3)
    assert running == []


def test_an_exception_keeps_nothing_in_memory() -> None:
    """Once it has been dealt with, the arrays of the call are gone at once: another may need their memory."""
    held = []

    def work(item: int) -> None:
        array = np.ones(3)
        held.append(weakref.ref(array))
        time.sleep(0.01)  # for the other thread to take its part
        raise MemoryError(item)

    gc.disable()
    try:
        with pytest.raises(MemoryError) as raised:
            parallel_map(work, [0, 1], threads=2)
        del raised
        assert held
        assert all(array() is None for array in held)
    finally:
        gc.enable()


def test_nested() -> None:
    """Inside a thread there is one thread: nested calls run serially, and the outer count comes back."""
    before = thread_count()

    def outer(item: int) -> tuple[int, list[int], bool]:
        me = threading.get_ident()
        inner = parallel_map(lambda x: (x * item, threading.get_ident()), [1, 2, 3])
        return thread_count(), [x for x, _ in inner], {thread for _, thread in inner} == {me}

    assert parallel_map(outer, [1, 10], threads=2) == [(1, [1, 2, 3], True), (1, [10, 20, 30], True)]
    assert thread_count() == before


def test_concurrent_callers() -> None:
    """Calls from several threads at once do not disturb each other, nor leave BLAS limited (an overlap
    would).
    """
    before = blas_threads()
    generator = np.random.default_rng(0)
    matrices = generator.standard_normal((6, 20, 20))

    def call(seed: int) -> bool:
        found = parallel_map(lambda x: x @ x, list(matrices * seed), threads=2)
        return all(np.array_equal(y, x @ x) for x, y in zip(matrices * seed, found, strict=True))

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(call, range(1, 25)))
    assert blas_threads() == before


def test_context() -> None:
    """``numpy.errstate`` of the caller holds in the threads, and theirs does not leak out."""

    def divide(x: float) -> float:
        return float(np.float64(x) / np.float64(0.0))

    with np.errstate(divide="ignore"):
        assert parallel_map(divide, [1.0, -1.0], threads=2) == [np.inf, -np.inf]
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        parallel_map(divide, [1.0, 1.0], threads=2)


def test_thread_count_obeys_limits() -> None:
    """As many threads as BLAS may use: a limit set with threadpoolctl is obeyed, and while it holds only."""
    before = thread_count()
    assert before == max(blas_threads())
    for limit in (1, 2):
        with threadpoolctl.threadpool_limits(limit, user_api="blas"):
            assert thread_count() == max(blas_threads())
    assert thread_count() == before


def test_one_blas_thread() -> None:
    """In the block BLAS has one thread, also in blocks inside it, and after it what it had before."""
    before = blas_threads()
    with using_threads(2):
        with one_blas_thread():
            assert set(blas_threads()) == {1}
            with one_blas_thread():
                assert parallel_map(lambda _: set(blas_threads()), [0, 1], threads=2) == [{1}, {1}]
            assert set(blas_threads()) == {1}
        assert blas_threads() == before
        with pytest.raises(KeyError), one_blas_thread():
            raise KeyError
        assert blas_threads() == before
    with using_threads(1), one_blas_thread():  # one thread was asked for
        assert set(blas_threads()) == {1}


def test_using_threads() -> None:
    """The count holds in the block and in this thread alone; None changes nothing; blocks nest."""
    before = thread_count()
    with using_threads(3):
        assert thread_count() == 3
        with ThreadPoolExecutor(1) as other:
            assert other.submit(thread_count).result() == before
        with using_threads(None):
            assert thread_count() == 3
        with pytest.raises(KeyError), using_threads(1):
            assert thread_count() == 1
            raise KeyError
        assert thread_count() == 3
        threads = set(parallel_map(lambda _: (time.sleep(0.02), threading.get_ident())[1], range(6)))
        assert len(threads) == 3
    assert thread_count() == before
    for count in (0, -1, True):
        refused = pytest.raises(ValueError, match=f"workers must be a positive integer or None; found {count}")
        with refused, using_threads(count):
            pass


def test_row_blocks() -> None:
    """Blocks are a partition, in order, of sizes that differ in the last alone, none too large, and feed
    all threads.
    """

    @cases(100)
    @given(st.integers(0, 300), st.integers(1, 100), st.integers(1, 4))
    def law(rows: int, most: int, threads: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "thread_count", lambda: threads)
            found = row_blocks(rows, most)
        assert [i for block in found for i in range(rows)[block]] == list(range(rows))
        sizes = [block.stop - block.start for block in found]
        assert all(0 < size <= most for size in sizes)
        assert len(set(sizes[:-1])) <= 1
        assert not sizes or sizes[-1] <= sizes[0]
        # as few rounds as the bound allows: one block more per thread would not be needed
        assert len(found) <= -(-rows // (most * threads)) * threads

    law()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "thread_count", lambda: 2)
        assert row_blocks(1024, 256) == [slice(0, 256), slice(256, 512), slice(512, 768), slice(768, 1024)]
        assert row_blocks(100, 256) == [slice(0, 50), slice(50, 100)]
        assert row_blocks(600, 256) == [slice(0, 150), slice(150, 300), slice(300, 450), slice(450, 600)]
        assert row_blocks(1, 256) == [slice(0, 1)]


def test_blas_is_held_to_one_thread_in_all_of_a_forward_pass() -> None:
    """Also in a head's products of few rows: threads of BLAS would go on waiting when the next pass has begun."""
    found: list[int] = []

    def act(x: np.ndarray) -> np.ndarray:
        found.extend(blas_threads())
        return x

    config = small_config(hidden_act=act)
    model = NystromformerForMaskedLM(config)
    with using_threads(2):
        model(np.ones((1, 5), np.int64))
    assert len(found) == (config.num_hidden_layers + 1) * len(blas_threads())
    assert set(found) == {1}


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores, and Linux")
def test_threads_have_cores_of_their_own() -> None:
    """The calling thread keeps one, the helper has the others; afterwards all are there again."""
    before, caller, seen = os.sched_getaffinity(0), threading.get_ident(), {}
    both = threading.Barrier(2, timeout=60)

    def look(_: int) -> None:
        seen[threading.get_ident()] = os.sched_getaffinity(0)
        both.wait()  # so that the other thread takes the other part

    parallel_map(look, [0, 1], threads=2)
    own = seen.pop(caller)
    (others,) = seen.values()
    assert len(own) == 1
    assert others == before - own
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores, and Linux")
def test_an_interrupt_holds_no_thread_to_a_core_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it comes before a call has let go of its core, the next call does."""
    before, caller, settle, calls = os.sched_getaffinity(0), threading.get_ident(), module._settle, []

    def interrupted(cores: frozenset[int]) -> None:
        if threading.get_ident() == caller:
            calls.append(cores)
            if len(calls) == 2:
                raise KeyboardInterrupt
        settle(cores)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_settle", interrupted)
        parallel_map(abs, [-1, -2], threads=2)
    assert len(os.sched_getaffinity(0)) == 1
    assert parallel_map(abs, [-1, -2], threads=2) == [1, 2]
    assert os.sched_getaffinity(0) == before


class InterruptedLock:
    """A lock with an interrupt after it is let go for the first time."""

    def __init__(self) -> None:
        self.lock, self.interrupts = threading.Lock(), [KeyboardInterrupt]

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        if self.interrupts:
            raise self.interrupts.pop()


def test_an_interrupt_while_threads_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves BLAS its threads and NumPy its buffers, though nothing has been computed."""
    before, size, setbufsize = blas_threads(), np.getbufsize(), np.setbufsize
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module._blas_threads, "_lock", InterruptedLock())
        parallel_map(abs, [-1, -2], threads=2)
    assert blas_threads() == before
    assert module._blas_threads._users == 0

    controller = module._blas_threads._blas()
    limit = controller.limit

    def interrupted_limit(**limits: int) -> None:
        limit(**limits)
        raise KeyboardInterrupt

    parallel_map(abs, [-1, -2], threads=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(controller, "limit", interrupted_limit)
        parallel_map(abs, [-1, -2], threads=2)
    assert blas_threads() == before

    def interrupted(size: int) -> None:
        setbufsize(size)
        if size == module.BUFFER_SIZE:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "setbufsize", interrupted)
        parallel_map(abs, [-1, -2], threads=2)
    assert np.getbufsize() == size


def refused(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize(
    "changed",
    [
        {"getcpu": lambda: -1},  # as where the call is refused
        {"getcpu": lambda: 1 << 20},
        {"sched_getaffinity": refused},
        {"sched_setaffinity": refused},
        {"sched_getaffinity": None, "sched_setaffinity": None},  # as on macOS and Windows
    ],
    ids=["no core", "unknown core", "may not ask", "may not set", "not Linux"],
)
def test_a_system_that_tells_no_cores(changed: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads then work wherever they run, and the calling thread is held to no core afterwards."""
    look = getattr(os, "sched_getaffinity", lambda _: None)
    before = look(0)
    with monkeypatch.context() as patch:
        for name, value in changed.items():
            if name == "getcpu":
                patch.setattr(module, "_current_cpu", value)
            elif value is None:
                patch.delattr(os, name, raising=False)
            else:
                patch.setattr(os, name, value, raising=False)
        assert parallel_map(abs, [-1, -2, -3], threads=2) == [1, 2, 3]
    assert look(0) == before
