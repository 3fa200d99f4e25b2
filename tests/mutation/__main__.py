"""Mutation testing of ``nystrom_np.functional`` and ``nystrom_np.model``: ``python -m tests.mutation``.

Runs the mutants that have no result yet (the results are in ``results.tsv``, under the text of the changed line) and
those that survived and are not explained, and reports; stopped, it goes on where it was. ``--sample 40`` runs some
again instead and writes nothing. Ends with 1 if a mutant survives that ``survivors.toml`` does not explain, if fewer
than 95% are killed (of a sample this may be chance), or if a function has no mutant. Needs ``cosmic-ray`` and
``coverage``, and a checkout that nobody changes meanwhile. After larger changes ``--trace`` sees anew which test runs
which lines.
"""

import argparse
import os
import pickle
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.mutation import server

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.tsv"
SURVIVORS = HERE / "survivors.toml"
TRACE = HERE / ".trace" / "trace.pickle"
REQUIRED = 0.95


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help="such as functional/nystrom; all by default")
    parser.add_argument("--sample", type=int, metavar="N", help="run so many again, whatever their results")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--again", action="store_true", help="run all, whatever their results")
    parser.add_argument("--trace", action="store_true", help="see again which test runs which lines")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of tests for one mutant")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many; run again to go on")
    return parser.parse_args()


class Results:
    """What became of each mutant: a text file, one line for each."""

    def __init__(self, mutants: list[Any], whole: bool) -> None:
        self.mutants = mutants
        self.whole = whole
        self.rows: dict[str, server.Outcome] = {}
        self.others: list[str] = []
        ours = {mutant.id for mutant in mutants}
        text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
        for line in filter(None, text.splitlines()):
            identity, name, by, *_ = line.split("\t")
            if identity in ours:
                self.rows[identity] = server.Outcome(name, by)
            else:
                self.others.append(line)

    def save(self) -> None:
        lines = [
            f"{m.id}\t{self.rows[m.id].name}\t{self.rows[m.id].by}\t{m.module}\t{m.function}\t{m.operator}"
            for m in self.mutants
            if m.id in self.rows
        ]
        if not self.whole:  # the other modules' results stay, those of lines that are gone do not
            modules = {m.module for m in self.mutants}
            lines += [line for line in self.others if line.split("\t")[3] not in modules]
        lines.sort(key=lambda line: (server.MODULES.index(line.split("\t")[3]), line))
        temporary = RESULTS.with_suffix(".new")
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        temporary.replace(RESULTS)


def explanations() -> dict[tuple[str, str, str, str], str]:
    """(module, function, line, changed line) → why it is not killed."""
    try:
        import tomllib
    except ImportError:  # Python 3.10, where pytest brings it
        import tomli as tomllib

    if not SURVIVORS.exists():
        return {}
    entries = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivor", [])
    return {
        (entry["module"], entry["function"], entry["line"], change): entry["why"]
        for entry in entries
        for change in entry["changes"]
    }


def key(mutant: Any) -> tuple[str, str, str, str]:
    return mutant.module, mutant.function, mutant.before, mutant.after()


class Run:
    """One run over some mutants: first inside the server's forks, then those that need new imports."""

    def __init__(self, todo: list[Any], results: Results, options: argparse.Namespace) -> None:
        self.todo, self.results, self.options = todo, results, options
        self.end = time.monotonic() + 60 * options.minutes
        self.layouts = {m: server.Layout(server.module_path(m).read_text(encoding="utf-8")) for m in server.MODULES}
        self.trace = server.Trace()
        self.counts: Counter[str] = Counter()

    def tests_for(self, mutant: Any, known: Any) -> list[str]:
        """The recorded killer, the killers of its neighbours, and the others that run its line; quick ones first."""
        layout = self.layouts[mutant.module]
        lines = {layout.lines[number - 1].strip() for number in layout.statement(mutant.line)}
        places = {(mutant.function, line) for line in lines}
        neighbours = Counter(
            self.results.rows[other.id].by
            for other in self.results.mutants
            if other.function == mutant.function and other.module == mutant.module and other.id in self.results.rows
        )
        first = [test for test, _ in neighbours.most_common(6)]
        if mutant.id in self.results.rows:
            first.insert(0, self.results.rows[mutant.id].by)
        if self.trace.lines:
            rest = self.trace.covering(mutant.module, places, mutant.function)
            first = [test for test in first if test in set(rest)]
        else:
            files = [f"nystrom_np/{mutant.module}.py", *server.TESTS[mutant.module]]
            rest = [test for file in files for test in known if test.partition("::")[0] == file]
        plan, total = [], 0.0
        for test in dict.fromkeys(first + rest):
            seconds = self.trace.seconds.get(test, 0.2)
            if test in known and (not plan or total + seconds <= self.options.budget):
                plan.append(test)
                total += seconds
        return plan

    def note(self, mutant: Any, outcome: Any) -> None:
        self.results.rows[mutant.id] = outcome
        self.counts[outcome.name] += 1
        if outcome.name not in ("killed", "timeout"):
            print(
                f"  {outcome.name} {mutant.module}:{mutant.line} {mutant.function} [{outcome.tests} tests] {outcome.by}"
            )
            print(f"    - {mutant.before}\n    + {mutant.after()}", flush=True)
        if sum(self.counts.values()) % 20 == 0 and not self.options.sample:
            self.results.save()

    def serve(self, plugin: Any, folder: Path) -> None:
        """Inside pytest: see which test runs what, then one fork for each mutant."""
        if plugin.session.testsfailed:
            raise SystemExit("the tests cannot be collected")
        if not self.options.sample:
            self.trace = self.tracing(plugin, folder)
        functions = server.ready()
        todo = [m for m in self.todo if self.layouts[m.module].outermost(m.line) is not None]
        began = time.monotonic()
        for number, mutant in enumerate(todo):
            if time.monotonic() > self.end:
                print(f"stopped: {len(todo) - number} are left", flush=True)
                break
            if number % 100 == 99:
                print(f"{number + 1} of {len(todo)}, {time.monotonic() - began:.0f} s, {dict(self.counts)}", flush=True)
            tests = self.tests_for(mutant, plugin.items)
            layout = self.layouts[mutant.module]
            limit = 120 + 3 * self.options.budget
            self.note(mutant, server.inside(plugin, functions, mutant, layout, tests, self.trace.seconds, limit))

        killers = {row.by for row in self.results.rows.values()} & plugin.items.keys()
        _, failed = server.traced(plugin, sorted(killers), folder / "killers", lines=False)
        for test in failed:
            victims = [identity for identity, row in self.results.rows.items() if row.by == test]
            print(f"fails without a mutant as well: {test}; {len(victims)} results dropped", flush=True)
            for identity in victims:
                del self.results.rows[identity]

    def tracing(self, plugin: Any, folder: Path) -> Any:
        trace = server.Trace()
        if TRACE.exists() and not self.options.trace:
            trace = pickle.loads(TRACE.read_bytes())
        new = [test for test in plugin.items if test not in trace.seconds]
        if new:
            print(f"running {len(new)} tests once without a mutant", flush=True)
            fresh, failed = server.traced(plugin, new, folder / "trace")
            if failed:
                print("these fail without a mutant, and are left out:", *failed, sep="\n  ", flush=True)
            trace.lines.update(fresh.lines)
            trace.seconds.update(fresh.seconds)
            for test in failed:
                trace.lines.pop(test, None)
                trace.seconds.pop(test, None)  # to be tried again next time
            TRACE.parent.mkdir(exist_ok=True)
            TRACE.write_bytes(pickle.dumps(trace))
        trace.lines = {test: lines for test, lines in trace.lines.items() if test in plugin.items}
        return trace

    def go(self, folder: Path) -> None:
        def job(pipe: int) -> None:
            plugin = server.Plugin(lambda plugin: self.serve(plugin, folder))
            server.start(server.ALL_TESTS, plugin, folder / "tests")
            (folder / "rows").write_bytes(pickle.dumps((self.results.rows, self.counts, self.trace)))

        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                job(-1)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        if status:
            raise SystemExit("the server of mutants failed")
        self.results.rows, self.counts, self.trace = pickle.loads((folder / "rows").read_bytes())
        known = dict.fromkeys(self.trace.lines) or {
            row.by: None for row in self.results.rows.values() if "::" in row.by
        }
        for mutant in self.todo:
            row = self.results.rows.get(mutant.id)  # broken: such code does not fit the living function
            anew = self.layouts[mutant.module].outermost(mutant.line) is None or (row and row.name == "broken")
            if anew and time.monotonic() < self.end:
                tests = self.tests_for(mutant, known)
                limit = 180 + 3 * self.options.budget
                self.note(mutant, server.run_anew(mutant, tests, self.trace, folder / "tests", limit))


def report(mutants: list[Any], results: Results, sample: bool) -> bool:
    """Print the numbers; say whether they are good."""
    counted = [mutant for mutant in mutants if not mutant.rule]
    why = explanations()
    print(f"{'module':24}{'mutants':>9}{'killed':>9}{'explained':>11}{'unexplained':>13}{'not run':>9}")
    total: Counter[str] = Counter()
    used, unexplained = set(), []
    for module in dict.fromkeys(mutant.module for mutant in mutants):
        row: Counter[str] = Counter()
        for mutant in counted:
            if mutant.module != module:
                continue
            row["mutants"] += 1
            outcome = results.rows.get(mutant.id)
            if outcome is None:
                row["not run"] += 1
            elif outcome.name in ("killed", "timeout"):
                row["killed"] += 1
            elif key(mutant) in why:
                row["explained"] += 1
                used.add(key(mutant))
            else:
                row["unexplained"] += 1
                unexplained.append(mutant)
        total.update(row)
        print(_row(module, row))
    print(_row("all", total))
    rules = Counter(mutant.rule for mutant in mutants if mutant.rule)
    print("left out by rule:", ", ".join(f"{rule} {count}" for rule, count in sorted(rules.items())))
    run = total["mutants"] - total["not run"]
    print(f"killed: {total['killed']} of {run} = {total['killed'] / max(run, 1):.1%}")
    for mutant in unexplained:
        print(f"unexplained: {mutant.module}:{mutant.line} {mutant.function}")
        print(f"    - {mutant.before}\n    + {mutant.after()}")
    for entry in why.keys() - used:
        if not sample and entry[0] in {m.module for m in mutants}:
            print("explained, but no survivor:", *entry, sep="\n    ")
    return not unexplained and (sample or total["killed"] >= REQUIRED * run)


def _row(name: str, row: Counter[str]) -> str:
    return f"{name:24}{row['mutants']:9}{row['killed']:9}{row['explained']:11}{row['unexplained']:13}{row['not run']:9}"


def main() -> int:
    """Run and report."""
    from tests.mutation.mutants import MODULES, mutants, without_mutants

    options = arguments()
    server.environment()
    server.preload()
    modules = options.modules or list(MODULES)
    every = [mutant for module in modules for mutant in mutants(module)]
    missing = [f"{module}: {name}" for module in modules for name in without_mutants(module, every)]
    for name in missing:
        print(f"no mutant in {name}")
    results = Results([m for m in every if not m.rule], whole=not options.modules)
    todo = list(results.mutants)
    if options.sample:
        todo = random.Random(options.seed).sample(todo, min(options.sample, len(todo)))
    elif not options.again:
        why = explanations()
        killed = {identity for identity, row in results.rows.items() if row.name in ("killed", "timeout")}
        todo = [m for m in todo if m.id not in killed and not (m.id in results.rows and key(m) in why)]
    if todo and not options.report:
        print(f"{len(todo)} mutants to run", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            Run(todo, results, options).go(Path(folder))
        if not options.sample:
            results.save()
    if options.sample:
        ids = {mutant.id for mutant in todo}
        every = [mutant for mutant in every if mutant.id in ids]
    return 0 if report(every, results, bool(options.sample)) and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
