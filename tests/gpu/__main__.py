"""The command: ``python -m tests.gpu --output FOLDER``.

It asks for no more than CuPy, NumPy, safetensors, pytest and Hypothesis, and for PyTorch and transformers to compare
times with; what is missing is said first. Every step is a process with a limit of its own, and after each all
that is known is in ``FOLDER/report.md`` and ``FOLDER/results.json``: a run that is cut short is worth what it reached.
Without a GPU everything runs on a stand-in instead, which gives no figures.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.gpu.report import problems, section
from tests.gpu.steps import ROOT, STEPS

LIMITS = {
    "machine": 30,
    "smoke": 40,
    "parity": 90,
    "laws": 80,
    "benchmarks-float32": 95,
    "benchmarks-float16": 75,
    "benchmarks-tf32": 55,
    "profile": 40,
    "tests": 120,
}
"""Seconds of each step; the last has what the whole leaves it."""
WHOLE, WHOLE_DRY, DRY = 525, 100, 60
MOST_CASES = {False: "5", True: "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; 0 if all that was to be shown was shown, 1 if not, 2 for a wrong argument."""
    options = parse(arguments)
    folder, start, dry = options.output.absolute(), time.monotonic(), options.dry_run
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"dry_run": dry, "steps": {}}
    report: list[str] = []
    for name in [name for name in STEPS if name in ("machine", *(options.only or STEPS))]:
        left = (WHOLE_DRY if dry else WHOLE) - (time.monotonic() - start)
        found = results["steps"][name] = step(name, folder, dry, min(DRY if dry else LIMITS[name], left))
        if name == "machine" and not dry and not found.get("usable"):
            results["dry_run"] = dry = True
            print(f"No GPU: {found.get('why', found.get('error', 'no answer'))}\n", flush=True)
        report.append(section(name, found, dry))
        print(report[-1], flush=True)
        write(folder / "results.json", json.dumps(results, indent=1) + "\n")
        write(folder / "report.md", "\n".join(report))
    failed = [f"{name}: {said}" for name, found in results["steps"].items() for said in problems(found)]
    print("Everything ran." if not failed else "\n".join(["Failed:", *failed]))
    if dry:
        print("This was a dry run on a stand-in for a GPU: there are no figures.")
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where results are written")
    parser.add_argument("--dry-run", action="store_true", help="on the stand-in, also where there is a GPU")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), metavar="STEP", help=f"of {', '.join(STEPS)}")
    return parser.parse_args(arguments)


def step(name: str, folder: Path, dry: bool, limit: float) -> dict[str, Any]:
    """Run a step in a process of its own and return what it found, also where it was stopped."""
    path = folder / f"{name}.json"
    path.unlink(missing_ok=True)
    if limit <= 0:
        return {"error": "no time was left"}
    command = [sys.executable, "-m", "tests.gpu.steps", name, str(folder), *(["--dry-run"] if dry else [])]
    with (folder / f"{name}.log").open("w", encoding="utf-8") as log:
        stopped = ran_too_long(command, environment(name, dry), log, limit)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    figures = folder / "benchmarks.json"
    if name.startswith("benchmarks") and not dry and figures.is_file():
        gpu = json.loads(figures.read_text(encoding="utf-8"))["gpu"]
        found["measured"] = gpu.get(name.partition("-")[2], {})
    if stopped:
        found["error"] = f"stopped after {limit:.0f} s: what is above is what it had reached"
    elif not found.get("finished"):
        found["error"] = found.get("error", f"ended before it was done: see {name}.log")
    return found


def ran_too_long(command: list[str], variables: dict[str, str], log: Any, limit: float) -> bool:
    """Run a command and all that it starts for so many seconds at most; whether it had to be stopped."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        process.wait(timeout=limit)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


def environment(name: str, dry: bool) -> dict[str, str]:
    """What a step is told: TF32 in one of them alone, few cases of a law, and no network."""
    told = {"CUPY_TF32": "1" if name.endswith("tf32") else "0", "NYSTROM_NP_MOST_CASES": MOST_CASES[dry]}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **told, **offline, "PYTHONUNBUFFERED": "1"}


def write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
