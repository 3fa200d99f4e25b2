"""Stored answers of transformers 4.37.2, for the parity tests: ``python -m tests.reference.store``.

``tests/data/parity/<head>.safetensors`` holds the float64 outputs as ``<case>/<output>``; ``<head>.json``
beside it names them in order, with the reference's own float32 distance and, where it runs in float16, the distance
of that, and says of each case which weights
and inputs it belongs to (``digest``) and how peaked each layer's attention between landmarks is
(``median_row_max``).

``tests/data/documented_examples.json`` holds what the examples of the reference's documentation give, and
``tests/data/pipelines.json`` what its pipelines answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from .cases import HEADS, Case, all_cases
from .client import Answer, Item, ask, run_inside
from .environment import TORCH

VERSION = "4.37.2"
TESTS = Path(__file__).resolve().parent.parent
FOLDER = TESTS / "data" / "parity"
DOCUMENTED = TESTS / "data" / "documented_examples.json"
PIPELINES = TESTS / "data" / "pipelines.json"
CHECKPOINTS = TESTS / "checkpoints"


@dataclass(frozen=True)
class Stored:
    """What is stored of one case."""

    outputs: dict[str, np.ndarray]
    float32_distance: dict[str, float]
    float16_distance: dict[str, float]
    median_row_max: list[float]
    digest: str


def read(case: Case) -> Stored:
    """Return the stored outputs of a case."""
    told, arrays = _read_head(case.head)
    entry = told[case.name]
    return Stored(
        {name: arrays[f"{case.name}/{name}"] for name in entry["float32_distance"]},
        entry["float32_distance"],
        entry["float16_distance"],
        entry["median_row_max"],
        entry["digest"],
    )


@cache
def _read_head(head: str) -> tuple[dict, dict[str, np.ndarray]]:
    told = json.loads((FOLDER / f"{head}.json").read_text(encoding="utf-8"))
    return told["cases"], load_file(FOLDER / f"{head}.safetensors")


def pipelines() -> dict[tuple[str, str], Any]:
    """Return what the reference's pipelines answer now, under the task and the name of the case."""
    told = json.loads(run_inside(VERSION, "-m", "tests.reference.run_pipelines", CHECKPOINTS))
    return {(one["task"], one["name"]): one["answer"] for one in told["answers"]}


def read_pipelines() -> dict[tuple[str, str], Any]:
    """Return what they answered when it was stored."""
    told = json.loads(PIPELINES.read_text(encoding="utf-8"))
    return {(one["task"], one["name"]): one["answer"] for one in told["answers"]}


def write_pipelines() -> None:
    """Store the answers, one a line."""
    lines = [json.dumps({"task": task, "name": name, "answer": answer}) for (task, name), answer in pipelines().items()]
    head = json.dumps({"transformers": VERSION, "torch": TORCH})[:-1]
    text = head + ', "answers": [\n' + ",\n".join(lines) + "\n]}\n"
    _replace(PIPELINES, text.encode())


def write_documented_examples() -> None:
    """Run the examples of the reference's documentation on the shipped checkpoints; keep what they give."""
    printed = run_inside(VERSION, TESTS / "reference" / "run_documented_examples.py", CHECKPOINTS)
    _replace(DOCUMENTED, printed.encode())


def write_all() -> None:
    """Ask the reference for every case and write what it answers."""
    cases = all_cases()
    items = [Item.of(case, measured=("float32", "float16")) for case in cases]
    answers = dict(zip(cases_by_identity(cases), ask(VERSION, items), strict=True))
    failed = [f"{head} {name}: {answer.error}" for (head, name), answer in answers.items() if answer.error]
    if failed:
        raise RuntimeError("the reference refuses\n" + "\n".join(failed))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for head in HEADS:
        _write_head(head, [(case, answers[head, case.name]) for case in cases if case.head == head])


def cases_by_identity(cases: list[Case]) -> list[tuple[str, str]]:
    """Return what identifies each case, once each."""
    names = [(case.head, case.name) for case in cases]
    if len(set(names)) != len(names):
        raise ValueError("two cases of one head have one name")
    return names


def _write_head(head: str, answered: list[tuple[Case, Answer]]) -> None:
    arrays, told = {}, {}
    for case, answer in answered:
        arrays.update({f"{case.name}/{name}": array for name, array in answer.outputs.items()})
        told[case.name] = {
            "digest": case.digest(),
            "median_row_max": answer.median_row_max,
            "float32_distance": answer.float32_distance,
            "float16_distance": answer.float16_distance,
        }
    text = json.dumps({"transformers": VERSION, "torch": TORCH, "cases": told}, indent=1) + "\n"
    _replace(FOLDER / f"{head}.safetensors", save(arrays))
    _replace(FOLDER / f"{head}.json", text.encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a whole file or none."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)


if __name__ == "__main__":
    write_all()
    write_documented_examples()
    write_pipelines()
