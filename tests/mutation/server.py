"""Runs mutants in forks of a process that has imported everything and collected the tests once.

A mutation inside a function is put into the function that is already there (its code object is exchanged),
so a mutant costs no imports. One outside of functions costs a fork that imports the package anew.
"""

import gc
import importlib.machinery
import os
import pickle
import resource
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from hypothesis import Phase, Verbosity, settings

from tests.mutation.mutants import MODULES, ROOT, Layout, Mutant, module_path

EXAMPLES = 12
"""How many cases a law draws here."""

OPTIONS = [
    "-q",
    "-m",
    "not slow and not reference and not network and not gpu",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "-p",
    "no:cacheprovider",
    "--capture=no",
    "-p",
    "no:logging",
    "-p",
    "no:faulthandler",
]

LAWS = "tests/laws/"
TESTS = {
    **{f"functional/{name}": [f"{LAWS}test_{name}.py"] for name in ("activations", "losses", "normalization")},
    **{f"functional/{name}": [f"{LAWS}test_{name}.py"] for name in ("linear", "nystrom", "attention")},
    "functional/convolution": [f"{LAWS}test_convolution.py"],
    "model/inputs": ["tests/test_bad_inputs.py", "tests/test_model.py"],
    "model/heads": ["tests/test_parity.py", "tests/test_model.py"],
    "model/packing": ["tests/test_masking.py"],
    "model/parameters": ["tests/test_model.py", "tests/test_checkpoint.py"],
    "model/prediction": ["tests/test_predict.py", "tests/test_cuda.py"],
    "model/base": ["tests/test_model.py", "tests/test_bad_inputs.py"],
    "model/nystromformer": ["tests/test_parity.py", "tests/test_model.py"],
    "model/encoder": ["tests/test_parity.py", "tests/test_masking.py", "tests/test_model.py"],
}
"""The first files to look for a killer in, where nothing is known about a mutant yet."""

ALL_TESTS = [
    "nystrom_np/functional",
    "nystrom_np/model",
    "tests/laws",
    "tests/test_parity.py",
    "tests/test_masking.py",
    "tests/test_reference_failures.py",
    "tests/test_model.py",
    "tests/test_bad_inputs.py",
    "tests/test_device_checks.py",
    "tests/test_cuda.py",
    "tests/test_predict.py",
    "tests/test_checkpoint.py",
]


def preload() -> None:
    """Import everything that is slow to import, and nothing of the package."""
    import beartype
    import jaxtyping
    import numpy
    import safetensors.numpy
    import scipy.signal
    import scipy.special
    import threadpoolctl
    import tokenizers
    import tqdm

    assert all((beartype, jaxtyping, numpy, safetensors, scipy, threadpoolctl, tokenizers, tqdm))


@dataclass
class Trace:
    """Which lines each test runs, and how long it takes.

    A line is known by its function and its text, so that it stays known when others move it.
    """

    lines: dict[str, dict[str, set[tuple[str, str]]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def covering(self, module: str, places: set[tuple[str, str]], function: str) -> list[str]:
        """Tests that run any of the places, then the function; or else (at import) anything of the module."""
        lines = {test for test, seen in self.lines.items() if seen.get(module, set()) & places}
        tests = set(lines)
        if function:  # the function's other tests come last: a line that is new is in none
            tests |= {t for t, seen in self.lines.items() if any(name == function for name, _ in seen.get(module, ()))}
        if not tests:
            tests = {test for test, seen in self.lines.items() if seen.get(module)}
        # the quickest case of each test function first, then the second of each, …: different things early
        ranks: Counter[str] = Counter()
        order: dict[str, tuple[bool, int, float]] = {}
        for test in sorted(tests, key=self.seconds.__getitem__):
            name = test.partition("[")[0]
            order[test] = (test not in lines, min(ranks[name], 3), self.seconds[test])
            ranks[name] += 1
        return sorted(tests, key=order.__getitem__)


@dataclass
class Outcome:
    """``killed``, ``timeout`` (of the processor), ``survived``, ``late`` or ``broken``, and by which test."""

    name: str
    by: str = ""
    tests: int = 0


class Plugin:
    """Instead of running the tests once, run what ``serve`` asks for."""

    def __init__(self, serve: Callable[["Plugin"], None]) -> None:
        self.serve = serve
        self.items: dict[str, Any] = {}
        self.session: Any = None
        self.pipe = -1
        self.current = ""

    def pytest_collection_finish(self, session: Any) -> None:
        self.session = session
        for item in session.items:
            self.items[item.nodeid] = item
            function = getattr(item, "obj", None)
            function = getattr(function, "__func__", function)
            if hasattr(function, "_hypothesis_internal_use_settings"):
                before = function._hypothesis_internal_use_settings
                function._hypothesis_internal_use_settings = settings(
                    before,
                    max_examples=min(before.max_examples, EXAMPLES),
                    phases=(Phase.explicit, Phase.generate),
                    database=None,
                    derandomize=True,
                    deadline=None,
                    report_multiple_bugs=False,
                    verbosity=Verbosity.quiet,
                )

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        self.serve(self)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        skips = (pytest.skip.Exception,)
        if self.pipe >= 0 and call.excinfo is not None and not call.excinfo.errisinstance(skips):
            self.finish(f"killed\t{item.nodeid}")

    def finish(self, message: str) -> None:
        """End this fork at once."""
        os.write(self.pipe, message.encode())
        os._exit(0)

    def run(self, tests: list[str], seconds: dict[str, float]) -> None:
        """Run tests until one fails; a test that takes ten times its time has failed as well."""
        items = [self.items[test] for test in tests]
        for item, after in zip(items, [*items[1:], None], strict=True):
            os.write(self.pipe, f"at\t{item.nodeid}\n".encode())
            signal.setitimer(signal.ITIMER_PROF, 5 + 10 * seconds.get(item.nodeid, 1.0))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        self.finish("survived\t")


class Failures:
    """Notes which tests fail."""

    def __init__(self, failed: list[str]) -> None:
        self.failed = failed

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def in_fork(job: Callable[[int], None], limit: float) -> str:
    """Run a job in a fork, silently; return what it writes to its pipe, and at its end what ended it."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.close(ours)
            void = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(void, descriptor)
            space = 6 << 30
            resource.setrlimit(resource.RLIMIT_AS, (space, space))
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            job(theirs)
        os._exit(3)
    os.close(theirs)
    parts, end, late = [], time.monotonic() + limit, False
    while True:
        ready, _, _ = select.select([ours], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            late = True
            os.kill(pid, signal.SIGKILL)
            break
        part = os.read(ours, 1 << 16)
        if not part:
            break
        parts.append(part)
    os.close(ours)
    _, status = os.waitpid(pid, 0)
    text = b"".join(parts).decode(errors="replace")
    if late:  # by the clock: the machine may have been busy, so this is no result and is run again next time
        return text + "late\t"
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF:
        return text + "timeout\t"
    if not text.rpartition("\n")[2]:
        return text + "crash\t"
    return text


def _outcome(text: str) -> Outcome:
    *before, last = text.split("\n")
    name, _, by = last.partition("\t")
    started = [line.partition("\t")[2] for line in before if line.startswith("at\t")]
    if name == "crash":
        name = "killed"
    return Outcome(name, by or (started[-1] if name != "survived" and started else ""), len(started))


def _codes(code: CodeType) -> Any:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _compiled(module: str, source: str) -> CodeType:
    loaded = sys.modules["nystrom_np." + module.replace("/", ".")]
    return loaded.__spec__.loader.source_to_code(source.encode(), str(module_path(module)))  # type: ignore[union-attr]


class Functions:
    """The functions of the modules, wherever decorators hide them."""

    def __init__(self) -> None:
        paths = {str(module_path(module)) for module in MODULES}
        self.found: dict[tuple[str, str, int], list[FunctionType]] = {}
        for thing in gc.get_objects():
            if isinstance(thing, FunctionType) and thing.__code__.co_filename in paths:
                code = thing.__code__
                self.found.setdefault((code.co_filename, code.co_name, code.co_firstlineno), []).append(thing)

    def exchange(self, mutant: Mutant, layout: Layout) -> bool:
        """Put the mutant's code into the living function; False if it lies outside of functions."""
        function = layout.outermost(mutant.line)
        if function is None:
            return False
        changed = False
        for code in _codes(_compiled(mutant.module, mutant.source())):
            if code.co_name == function.name and function.lineno >= code.co_firstlineno > function.lineno - 9:
                for living in self.found.get((str(mutant.path), code.co_name, code.co_firstlineno), ()):
                    living.__code__ = code
                    changed = True
        if not changed:
            raise LookupError(f"no living function for {mutant.function} in {mutant.module}")
        return True


def import_mutated(mutant: Mutant) -> None:
    """Let the import system find the mutant's text in place of the file's, and no compiled code of it."""
    loader, text, path = importlib.machinery.SourceFileLoader, mutant.source().encode(), str(mutant.path)
    get_data, path_stats = loader.get_data, loader.path_stats

    def mutated_data(self: Any, name: str) -> bytes:
        return text if name == path else get_data(self, name)

    def no_stats(self: Any, name: str) -> Any:
        if name == path:
            raise OSError(name)
        return path_stats(self, name)

    loader.get_data, loader.path_stats = mutated_data, no_stats  # type: ignore[method-assign,assignment]


def start(tests: list[str], plugin: Plugin, folder: Path) -> Any:
    """Collect tests and hand over to the plugin."""
    return pytest.main([*OPTIONS, f"--basetemp={folder}", *tests], plugins=[plugin])


def run_anew(mutant: Mutant, tests: list[str], trace: Trace, folder: Path, limit: float) -> Outcome:
    """Run a mutant in a fork that has not imported the package yet."""

    def job(pipe: int) -> None:
        import_mutated(mutant)

        def serve(plugin: Plugin) -> None:
            if plugin.session.testsfailed or not plugin.items:
                plugin.finish("killed\timport")
            plugin.run([test for test in tests if test in plugin.items], trace.seconds)

        plugin = Plugin(serve)
        plugin.pipe = pipe
        start(sorted({test.partition("::")[0] for test in tests}), plugin, folder)
        plugin.finish("killed\timport")  # pytest went no further than the imports

    return _outcome(in_fork(job, limit))


def traced(plugin: Plugin, tests: list[str], report: Path, lines: bool = True) -> tuple[Trace, list[str]]:
    """Run tests once without a mutant; note which fail and, if asked, the lines of the package that each runs."""

    def job(pipe: int) -> None:
        import coverage

        modules = {str(module_path(module)): module for module in MODULES}
        layouts = {m: Layout(module_path(m).read_text(encoding="utf-8")) for m in MODULES}
        names: dict[tuple[str, int], tuple[str, str]] = {}
        for module, layout in layouts.items():
            for number, text in enumerate(layout.lines, 1):
                names[module, number] = (layout.function(layout.offset(number, 0)), text.strip())
        monitor = coverage.Coverage(data_file=None, config_file=False, include=list(modules))
        failed: list[str] = []
        plugin.session.config.pluginmanager.register(Failures(failed))
        trace = Trace()
        items = [plugin.items[test] for test in tests]
        if lines:
            monitor.start()
        for item, after in zip(items, [*items[1:], None], strict=True):
            if lines:
                monitor.switch_context(item.nodeid)
            began = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            trace.seconds[item.nodeid] = time.process_time() - began
        if lines:
            monitor.stop()
        data = monitor.get_data()
        for path, module in modules.items() if lines else ():
            for number, contexts in data.contexts_by_lineno(path).items():
                for test in contexts:
                    if test:
                        seen = trace.lines.setdefault(test, {}).setdefault(module, set())
                        if names[module, number][0]:
                            seen.add(names[module, number])
        report.write_bytes(pickle.dumps((trace, failed)))

    in_fork(job, 3600)
    return pickle.loads(report.read_bytes())


def ready() -> Functions:
    """What the server needs beside the tests."""
    functions = Functions()
    gc.collect()
    gc.freeze()
    return functions


def inside(plugin: Plugin, functions: Functions, mutant: Mutant, layout: Layout, tests: list[str],
           seconds: dict[str, float], limit: float) -> Outcome:  # fmt: skip
    """Run a mutant of a function's body in a fork of the process that collected the tests."""

    def job(pipe: int) -> None:
        plugin.pipe = pipe
        try:
            functions.exchange(mutant, layout)
        except Exception as error:  # the set-up's own error, not the mutant's death
            plugin.finish(f"broken\t{error!r}")
        plugin.run(tests, seconds)

    return _outcome(in_fork(job, limit))


def environment() -> None:
    """One BLAS thread; must be called before NumPy is imported."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CI", "1")
    os.chdir(ROOT)
