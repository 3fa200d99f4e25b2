"""Asks the reference: writes a request, runs ``run_reference.py`` in its environment, reads the response."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .cases import Case
from .environment import python

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ANSWER_SECONDS = 1800


@dataclass(frozen=True)
class Item:
    """One question: a head with configuration and weights, or a checkpoint's folder, and inputs."""

    head: str
    inputs: dict[str, np.ndarray]
    config: dict | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    folder: Path | None = None
    flags: dict[str, bool] = field(default_factory=dict)
    save: dict[str, str] | None = None
    measured: tuple[str, ...] = ("float32",)  # dtypes whose distance to float64, the reference's own, is asked for

    @classmethod
    def of(cls, case: Case, **asked: Any) -> Item:
        """Return the question that a case asks; further fields by name."""
        return cls(case.head, case.inputs, case.config, case.parameters(), flags=case.flags, **asked)

    def told(self) -> dict:
        """Return what stands in the request's JSON."""
        source = {"config": self.config} if self.folder is None else {"folder": str(self.folder)}
        saved = {} if self.save is None else {"save": self.save}
        return {"head": self.head, "flags": self.flags, "measured": self.measured, **source, **saved}


@dataclass(frozen=True)
class Answer:
    """The reference's float64 outputs by name, in order, and its distances in other dtypes; or its error."""

    outputs: dict[str, np.ndarray]
    float32_distance: dict[str, float]
    median_row_max: list[float]
    error: str | None = None
    float16_distance: dict[str, float] = field(default_factory=dict)  # empty where it does not run in float16


def ask(version: str, items: list[Item]) -> list[Answer]:
    """Return the answers of transformers `version`, one process for all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps([item.told() for item in items]))
        arrays = {}
        for number, item in enumerate(items):
            arrays.update({f"{number}/inputs/{key}": a.copy() for key, a in item.inputs.items()})
            arrays.update({f"{number}/weights/{key}": a for key, a in item.weights.items()})
        save_file(arrays, folder / "request.safetensors")
        run_inside(version, HERE / "run_reference.py", folder)
        told = json.loads((folder / "response.json").read_text())
        if told["transformers"] != version:
            raise RuntimeError(f"asked transformers {version}, {told['transformers']} answered")
        outputs = load_file(folder / "response.safetensors")
    return [_answer(number, answer, outputs) for number, answer in enumerate(told["answers"])]


def _answer(number: int, told: dict, outputs: dict[str, np.ndarray]) -> Answer:
    if "error" in told:
        return Answer({}, {}, [], told["error"])
    names = told["outputs"]
    single, half = (
        {name: entry[key] for name, entry in names.items() if key in entry}
        for key in ("float32_distance", "float16_distance")
    )
    arrays = {name: outputs[f"{number}/{name}"] for name in names}
    return Answer(arrays, single, told["median_row_max"], float16_distance=half)


def run_inside(version: str, *command: str | Path) -> str:
    """Run a script or module of this repository with the reference's interpreter; return what it printed."""
    interpreter = python(version)
    # No PYTHONPATH: what is importable beside the tests must not shadow what the environment holds.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "PYTEST"))}
    told = {**kept, "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(interpreter), *map(str, command)],
        env={**told, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"the reference {version} failed:\n{done.stderr[-4000:]}")
    return done.stdout
