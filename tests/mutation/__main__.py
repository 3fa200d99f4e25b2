"""Mutation testing of the formulas, the checks of inputs and the heads: ``python -m tests.mutation``.

Prints each mutant that no test kills, and how many there are in each module. Ends with 1 if ``survivors.toml`` does
not explain one, or if fewer than 95% are killed (a sample is held to the first alone). The changes are cosmic-ray's,
and one of ours. Left as they are: decorators, annotations, the messages of exceptions, the ``strict`` of ``zip``, and
the twins of ``nystrom_np.fast``, which ``tests/laws/test_twins.py`` holds to the definitions.

pytest collects the tests once. Each mutant is a fork of that process, in which the living module takes over the
mutant's code before its tests run, first those that killed other mutants of the same function.
"""

import argparse
import ast
import gc
import itertools
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
REQUIRED = 0.95
SECONDS = 120
"""Of computing, for one mutant: many times what all tests of a module take. What takes longer is killed."""

OPERATORS = """
    BinaryOperator_Add_Sub BinaryOperator_Add_Mul BinaryOperator_Sub_Add BinaryOperator_Mul_Div BinaryOperator_Mul_Add
    BinaryOperator_Div_Mul BinaryOperator_Div_FloorDiv BinaryOperator_FloorDiv_Mul BinaryOperator_FloorDiv_Div
    BinaryOperator_Mod_Mul BinaryOperator_Pow_Mul BinaryOperator_BitOr_BitAnd BinaryOperator_BitAnd_BitOr
    ComparisonOperator_Eq_NotEq ComparisonOperator_NotEq_Eq ComparisonOperator_Lt_LtE ComparisonOperator_Lt_Gt
    ComparisonOperator_LtE_Lt ComparisonOperator_LtE_GtE ComparisonOperator_Gt_GtE ComparisonOperator_Gt_Lt
    ComparisonOperator_GtE_Gt ComparisonOperator_GtE_LtE ComparisonOperator_Is_IsNot ComparisonOperator_IsNot_Is
    UnaryOperator_Delete_USub UnaryOperator_Delete_Not UnaryOperator_Delete_Invert
    TrueWithFalse FalseWithTrue AndWithOr OrWithAnd AddNot NumberReplacer ZeroIterationForLoop ExceptionReplacer
"""
"""Names of cosmic-ray's, without the "Replace" that most begin with."""

FILES = """
    nystrom_np/activations.py nystrom_np/losses.py nystrom_np/model tests/test_parity.py
    tests/test_bad_inputs.py tests/test_masking.py tests/test_model.py tests/test_predict.py tests/laws
"""
MODEL = r"gaps_of|nystrom_np/model|tests/test_(bad_inputs|model|masking|predict)|test_parity.*float64-twins"
TESTS = {
    "definition": r"gaps_of|test_parity.*64-definition|test_twin_is.*numpy.*64|laws/test_nystrom.*(svd|matrix)",
    "activations": r"activations|test_elementwise_form",
    "losses": r"losses|gaps_of|test_twin_is.*numpy-(log_softmax|cross_e|mean_s|binary).*64|test_parity.*-loss.*64",
    "model/inputs": MODEL,
    "model/heads": MODEL,
    "model/packing": MODEL,
}
"""The tests of each module, among those in the files: a regular expression of their names."""


class Mutant(NamedTuple):
    """One change: the new text of a module, where it differs, and in which function."""

    module: str
    source: str
    function: str = ""
    before: str = ""
    after: str = ""


class DropCall:
    """The operator of our own: a call for its effect, such as a check, becomes nothing."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type in ("atom_expr", "power") and getattr(node.parent, "type", "") == "simple_stmt":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return get_ast(f"{node.get_first_leaf().prefix}pass")


def behaviour(source: str) -> str:
    """What a test is to see: all but annotations, the messages of exceptions, and what zip asserts of lengths."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            node.annotation = None  # type: ignore[assignment]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
            node.args = []
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "zip":
            node.keywords = []
    return ast.dump(tree)


def text_of(module: str) -> str:
    return (ROOT / f"nystrom_np/{module}.py").read_text(encoding="utf-8")


def mutants(modules: list[str], shuffle: random.Random | None = None) -> Iterator[Mutant]:
    """All mutants of some modules, none twice, in the order of the modules or in a random one."""
    known = {name.removeprefix("core/").removeprefix("Replace"): name for name in operator_names()}
    operators = [DropCall(), *(get_operator(known[name])() for name in OPERATORS.split())]
    places = []
    for module in modules:
        nodes = list(ast_nodes(get_ast(text_of(module))))
        for operator in operators:
            number = sum(1 for node in nodes for _ in operator.mutation_positions(node))
            places += [(module, operator, occurrence) for occurrence in range(number)]
    if shuffle:
        shuffle.shuffle(places)
    seen = {behaviour(text_of(module)) for module in modules}
    for module, operator, occurrence in places:
        source = mutate_code(text_of(module), operator, occurrence)
        try:
            new = behaviour(source)
        except SyntaxError:  # "not" before ":=", or a star that is no product
            continue
        if new not in seen:
            yield described(module, source)
        seen.add(new)


def described(module: str, source: str) -> Mutant:
    pairs = enumerate(zip(text_of(module).splitlines(), source.splitlines(), strict=False), 1)
    number, (before, after) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    nodes = [node for node in ast.walk(ast.parse(text_of(module))) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    around = [node.name for node in nodes if node.lineno <= number <= (node.end_lineno or 0)]
    return Mutant(module, source, ".".join(around), before.strip(), after.strip())


def living(module: str) -> ModuleType:
    return sys.modules[f"nystrom_np.{module.replace('/', '.')}"]


def functions(module: ModuleType) -> dict[str, FunctionType]:
    """The functions of a module, wherever decorators hide them, by their qualified names."""
    found = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
    ours = [f for f in found if f.__globals__ is vars(module) and f.__code__.co_filename == module.__file__]
    return {function.__qualname__: function for function in ours}


def plain(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else [value]
    return all(isinstance(item, (bool, int, float, type(None))) for item in items)


def adopt(mutant: Mutant, old: dict[str, FunctionType]) -> None:
    """Give the living module the mutant's code, and its numbers where they are constants or defaults."""
    module = living(mutant.module)
    fresh, path = ModuleType(module.__name__), str(module.__file__)
    vars(fresh).update(__file__=path, __package__=module.__package__)
    exec(module.__spec__.loader.source_to_code(mutant.source.encode(), path), vars(fresh))  # type: ignore[union-attr]
    for name, new in functions(fresh).items():
        old[name].__code__ = new.__code__
        if new.__defaults__:
            pairs = zip(old[name].__defaults__ or (), new.__defaults__, strict=True)
            old[name].__defaults__ = tuple(after if plain(after) else before for before, after in pairs)
    ours = [name for name, new in vars(fresh).items() if getattr(new, "__module__", "") == module.__name__]
    spaces = [(getattr(module, name), getattr(fresh, name)) for name in ours if isinstance(getattr(fresh, name), type)]
    for before, after in [(module, fresh), *spaces]:
        for name, value in vars(after).items():
            if plain(value) and not name.startswith("__"):
                setattr(before, name, value)


class Forks:
    """A plugin of pytest that runs what was collected once for each mutant, in forks, two at a time."""

    def __init__(self, todo: Iterator[Mutant], minutes: float, folder: Path) -> None:
        self.todo, self.end, self.folder = todo, time.monotonic() + 60 * minutes, folder
        self.outcomes: list[tuple[Mutant, str]] = []
        """Each mutant, and the test that killed it or an empty text."""
        self.again: list[Mutant] = []
        self.sound: dict[tuple[str, str], bool] = {}
        """Whether a module that takes over its own code passes a test."""

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            print("cannot be collected, and is left out:", report.nodeid, flush=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: Any) -> bool:
        from hypothesis.internal.conjecture import engine

        engine.MAX_SHRINKS = 0  # one counterexample is enough, however large
        self.items = {item.nodeid: item for item in session.items if "cupy" not in item.nodeid}
        self.functions = {module: functions(living(module)) for module in TESTS}
        gc.freeze()  # so that a fork looks at its own objects alone
        running: dict[int, Mutant] = {}
        while True:
            while len(running) < 2 and (mutant := self.next()):
                running[self.fork(mutant, self.plan(mutant))] = mutant
            if not running:
                return True
            pid, status = os.wait()
            self.note(running.pop(pid), self.killer(pid, status))

    def next(self) -> Mutant | None:
        if time.monotonic() > self.end:
            return None
        return self.again.pop() if self.again else next(self.todo, None)

    def plan(self, mutant: Mutant) -> list[str]:
        """The tests of a mutant: first the killers of its function, then those of its name, then of its module."""
        tests = [test for test in self.items if re.search(TESTS[mutant.module], test)]
        name = mutant.function.rpartition(".")[2].strip("_")
        near = [test for other, test in self.outcomes[::-1] if other.function == mutant.function]
        named = [test for test in tests if name and name in test]
        far = [test for other, test in self.outcomes[::-1] if other.module == mutant.module]
        allowed = {test for test in tests if self.sound.get((mutant.module, test), True)}
        assert allowed, f"no tests of {mutant.module} were collected"
        return [test for test in dict.fromkeys([*near, *named, *far, *tests]) if test in allowed]

    def fork(self, mutant: Mutant, tests: list[str]) -> int:
        """Run tests until one fails, in a process that leaves the name of the one it was at."""
        if pid := os.fork():
            return pid
        try:
            place = self.folder / str(os.getpid())
            place.mkdir()
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(place)
            for descriptor in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.alarm(10 * SECONDS)
            (place / "test").write_text("import")
            adopt(mutant, self.functions[mutant.module])
            for test, following in itertools.zip_longest(tests, tests[1:]):
                (place / "test").write_text(test)
                item = self.items[test]
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=self.items.get(following))
            os._exit(0)
        finally:
            os._exit(1)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: Any) -> None:
        if call.excinfo and not call.excinfo.errisinstance((pytest.skip.Exception,)):
            os._exit(1)  # before the traceback is made, which takes longer than most tests

    def killer(self, pid: int, status: int) -> str:
        place = self.folder / str(pid)
        test = (place / "test").read_text() if status else ""
        shutil.rmtree(place, ignore_errors=True)
        return test

    def note(self, mutant: Mutant, test: str) -> None:
        """Believe a killer that passes without the mutant; else leave it out, and try the mutant again."""
        module, key = mutant.module, (mutant.module, test)
        if test and key not in self.sound:
            pid = self.fork(Mutant(module, text_of(module)), [test] * (test in self.items))
            self.sound[key] = not self.killer(pid, os.waitpid(pid, 0)[1])
            if not self.sound[key]:
                print(f"fails without a mutant of {module}, and is left out: {test}", flush=True)
        if self.sound.get(key, True):
            self.outcomes.append((mutant, test))
        elif test in self.items:
            self.again.append(mutant)
        if not test:
            print(f"survived in {module}, {mutant.function}\n  - {mutant.before}\n  + {mutant.after}", flush=True)


def recorded() -> dict[str, Any]:
    """What ``survivors.toml`` says: of each module the numbers, of each survivor why no test can see it."""
    try:
        import tomllib
    except ImportError:  # Python 3.10, where pytest brings it
        import tomli as tomllib

    return tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))


def explained() -> set[tuple[str, str, str]]:
    """(module, line, changed line) of each survivor."""
    return {(each["module"], each["line"], after) for each in recorded()["survivor"] for after in each["changes"]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS), help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is imported
    todo = mutants(options.modules, random.Random(options.seed) if options.sample else None)
    with tempfile.TemporaryDirectory() as folder:
        forks = Forks(itertools.islice(todo, options.sample), options.minutes, Path(folder))
        flags = ["-s", "-n", "0", "-p", "no:cacheprovider", "-p", "no:terminal", "--continue-on-collection-errors"]
        pytest.main([*flags, *FILES.split()], plugins=[forks])

    survivors = [mutant for mutant, test in forks.outcomes if not test]
    for module in options.modules:
        number, alive = (sum(x.module == module for x in each) for each in ([m for m, _ in forks.outcomes], survivors))
        print(f'"{module}" = {{ mutants = {number}, killed = {number - alive} }}')
    unexplained = [m for m in survivors if (m.module, m.before, m.after) not in explained()]
    for mutant in unexplained:
        print(f"unexplained in {mutant.module}, {mutant.function}\n  - {mutant.before}\n  + {mutant.after}")
    share = 1 - len(survivors) / max(len(forks.outcomes), 1)
    stopped = "; stopped before the end" if time.monotonic() > forks.end else ""
    print(f"killed: {share:.1%} of {len(forks.outcomes)}{stopped}")
    return int(bool(unexplained) or not forks.outcomes or (share < REQUIRED and not options.sample))


if __name__ == "__main__":
    sys.exit(main())
