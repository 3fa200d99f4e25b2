"""The command: ``python -m tests.benchmarks``.

A full run takes about a quarter of an hour on 2 cores, the first one some minutes more: it makes the rivals'
environment, and PyTorch compiles. Nothing else should run meanwhile. With ``--json FILE --resume`` it goes on where
it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nystrom_np.array_module import DeviceError, array_module_of
from nystrom_np.fast.on_numpy.threads import thread_count
from tests.benchmarks.attention import ROOT, Mismatch
from tests.benchmarks.cases import FULL, QUICK, SHORT_INPUTS, Bench, Unmeasured, clear, on_cpu, on_gpu
from tests.benchmarks.machine import machine, versions
from tests.benchmarks.report import document
from tests.benchmarks.rivals import NAMES, RivalFailed, Rivals

REST_ON_A_GPU = 0.02
"""Seconds between two contestants there: no threads of the host go on spinning."""
PRECISIONS = ("float32", "tf32", "float16")
DOCS = ROOT / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, store, print; 0 if every case was measured, 1 if one failed, 2 for a wrong argument."""
    options = parse(arguments)
    try:
        array_module_of(options.device)
        results = stored(options)
    except (DeviceError, OSError, ValueError) as error:
        print(f"benchmarks: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if options.device == "cpu":
        cases = measure(options, results, on_cpu())
    elif options.precision:
        cases = measure(options, results["gpu"].setdefault(options.precision, empty(options)), on_gpu())
    else:
        with tempfile.TemporaryDirectory() as folder:
            options.json = options.json or Path(folder) / "gpu.json"
            cases = [case for precision in PRECISIONS for case in in_a_process(options, precision)]
            results = stored(options)
    pages = {} if options.short else {"benchmarks.md": document(results)}
    if set(SHORT_INPUTS) & set(results["cases"]):
        pages["benchmarks-short.md"] = document(results, short=True)
    for name, page in pages.items():
        if options.docs is not None:
            write(options.docs / name, page)
        if not options.precision:
            print(page)
    return 1 if any("error" in case for case in cases) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = sorted({*on_cpu(), *on_gpu()})
    parser.add_argument("--case", nargs="+", choices=names, metavar="NAME", help=f"only these: {', '.join(names)}")
    parser.add_argument(
        "--short", action="store_true", help="only short inputs and pipelines, which have a page of their own"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="store all figures, after each case")
    parser.add_argument("--resume", action="store_true", help="keep the cases that FILE has, measure the others")
    parser.add_argument("--quick", action="store_true", help="tiny models, one run each: tries the machinery")
    parser.add_argument("--rounds", type=int, metavar="N", help="counted runs, at most")
    parser.add_argument(
        "--rivals",
        nargs="*",
        choices=list(NAMES),
        help="all by default, with --quick none; nothing after it: none",
    )
    parser.add_argument(
        "--rivals-python",
        type=Path,
        metavar="FILE",
        help="a Python that has torch and transformers; by default an environment is made",
    )
    parser.add_argument(
        "--docs",
        type=Path,
        nargs="?",
        const=DOCS,
        metavar="FOLDER",
        help="write benchmarks.md and benchmarks-short.md, into docs/ by default",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--precision", choices=PRECISIONS, help="of a GPU; all, one process each, by default")
    options = parser.parse_args(arguments)
    if options.short:
        options.case = list(SHORT_INPUTS)
    if options.rivals is None:
        options.rivals = [] if options.quick else list(NAMES)
    if options.device != "cpu":
        options.rivals = [name for name in options.rivals if name != "onnx"]
    if options.json is not None:
        options.json = options.json.absolute()
    if options.docs is not None and options.device != "cpu" and options.json is None:
        parser.error("--docs needs --json FILE with the figures of the CPU")
    if options.resume and options.json is None:
        parser.error("--resume needs --json FILE")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if options.precision and options.device == "cpu":
        parser.error("--precision is that of a GPU: --device cuda")
    chosen = on_cpu() if options.device == "cpu" else on_gpu()
    if unknown := [name for name in options.case or () if name not in chosen]:
        parser.error(f"--case {' '.join(unknown)}: not measured on {options.device}")
    return options


def empty(options: argparse.Namespace) -> dict[str, Any]:
    return {"quick": options.quick, "machine": {}, "versions": {}, "cases": {}}


def stored(options: argparse.Namespace) -> dict[str, Any]:
    """The figures that a run adds to: those in the file, of which it replaces what it measures again."""
    results = {**empty(options), "gpu": {}}
    if options.json is None or not options.json.exists():
        return results
    found = json.loads(options.json.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.keys() != results.keys():
        raise ValueError(f"{options.json} holds no figures of this benchmark")
    if found["quick"] != options.quick:
        raise ValueError(f"{options.json} is of a run {'with' if found['quick'] else 'without'} --quick")
    return found


def measure(options: argparse.Namespace, results: dict[str, Any], known: dict[str, Any]) -> list[dict[str, Any]]:
    """Measure the cases that are asked for; store each as soon as it is there."""
    sizes = QUICK if options.quick else FULL
    if options.device != "cpu":
        sizes = replace(sizes, rest=min(sizes.rest, REST_ON_A_GPU))
    if options.rounds is not None:
        sizes = replace(sizes, rounds=options.rounds)
    names = [name for name in known if not options.case or name in options.case]
    if options.resume:
        names = [name for name in names if "error" in results["cases"].get(name, {"error": "missing"})]
    precision = options.precision or "float32"
    results["machine"] = machine(options.device)
    with (
        tempfile.TemporaryDirectory() as folder,
        Rivals(
            options.rivals if names else [],
            thread_count(),
            options.device,
            precision,
            interpreter=options.rivals_python,
        ) as rivals,
    ):
        results["versions"] = {**results["versions"], **versions(options.device), **rivals.versions}
        bench = Bench(sizes, rivals, Path(folder), options.device, precision)
        for name in names:
            start = time.perf_counter()
            try:
                results["cases"][name] = known[name](bench)
                said = "measured"
            except (Mismatch, RivalFailed, Unmeasured, MemoryError, subprocess.CalledProcessError) as error:
                said = f"{type(error).__name__}: {error}"
                results["cases"][name] = {"error": said}
            clear(bench.workspace)
            print(f"{name}: {said} in {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
            if options.json is not None:
                save(options, results)
    return [results["cases"][name] for name in names]


def save(options: argparse.Namespace, results: dict[str, Any]) -> None:
    if options.precision:
        whole = stored(options)
        whole["gpu"][options.precision] = results
        results = whole
    write(options.json, json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def in_a_process(options: argparse.Namespace, precision: str) -> list[dict[str, Any]]:
    """Measure on the GPU in one precision: CuPy decides about TF32 once in a process."""
    command = [sys.executable, "-m", "tests.benchmarks", "--device", options.device, "--precision", precision]
    command += ["--json", str(options.json), "--rivals", *options.rivals]
    command += ["--rivals-python", str(options.rivals_python)] if options.rivals_python else []
    command += ["--case", *options.case] if options.case else []
    command += ["--rounds", str(options.rounds)] if options.rounds else []
    command += [flag for flag, wanted in (("--quick", options.quick), ("--resume", options.resume)) if wanted]
    tf32 = {"CUPY_TF32": "1" if precision == "tf32" else "0"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **tf32})
    return [{"error": f"{precision} failed"}] if done.returncode else []


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
