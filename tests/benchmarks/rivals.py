"""The rivals, kept alive in a process of their own and asked for one run at a time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.benchmarks import environment
from tests.benchmarks.timing import Run
from tests.reference.environment import ReferenceUnavailable

WORKER = Path(__file__).with_name("rival_worker.py")
NAMES = {"eager": "transformers", "compile": "torch.compile", "onnx": "ONNX Runtime"}


class RivalFailed(Exception):
    """The rivals' process could not do what it was asked to; the message says why."""


@dataclass
class Ready:
    """What the rivals computed, how to run those that can, and why the others cannot."""

    outputs: dict[str, np.ndarray]
    runs: dict[str, Run]
    difference: dict[str, float]
    failed: dict[str, str]


@dataclass
class Rivals:
    """Some rivals, or none: then nothing is started, and ``absent`` says why.

    Use it as a context: the process ends with it.
    """

    contestants: Sequence[str]
    threads: int
    device: str = "cpu"
    precision: str = "float32"
    absent: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    interpreter: Path | None = None
    """Whose PyTorch and transformers are used; by default those of an environment that is made if it is missing."""

    def __enter__(self) -> Rivals:
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        if not self.contestants:
            return self
        try:
            self.interpreter, reason = (self.interpreter, None) if self.interpreter else environment.python()
        except ReferenceUnavailable as error:
            self.absent = dict.fromkeys(self.contestants, str(error))
            self.contestants = ()
            return self
        if reason and "onnx" in self.contestants:
            self.absent["onnx"] = reason
            self.contestants = [name for name in self.contestants if name != "onnx"]
        self._log = self._stack.enter_context((self._folder / "log.txt").open("w+"))
        self._process = self._stack.enter_context(
            subprocess.Popen(
                [str(self.interpreter), str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment.variables(self.threads),
                text=True,
            )
        )
        self.versions = self._answer()["versions"]
        return self

    def __exit__(self, *error: Any) -> None:
        if self.contestants:
            self._process.stdin.close()  # type: ignore[union-attr]
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._stack.close()

    def prepare(
        self,
        name: str,
        head: str,
        folder: Path,
        inputs: dict[str, np.ndarray],
        alone: bool = False,
        contestants: Sequence[str] = tuple(NAMES),
    ) -> Ready:
        """Load a checkpoint into every rival, of those named, and run each once."""
        if not self.contestants:
            return Ready({}, {}, {}, dict(self.absent))
        files = {
            "inputs": self._folder / "inputs.safetensors",
            "outputs": self._folder / "outputs.safetensors",
        }
        save_file({key: np.ascontiguousarray(array) for key, array in inputs.items()}, files["inputs"])
        told = self._ask(
            do="prepare",
            name=name,
            head=head,
            folder=str(folder),
            contestants=[name for name in self.contestants if name in contestants],
            alone=alone,
            device=self.device,
            precision=self.precision,
            **{key: str(path) for key, path in files.items()},
        )
        runs = {contestant: partial(self._run, name, contestant) for contestant in told["difference"]}
        return Ready(load_file(files["outputs"]), runs, told["difference"], told["failed"] | self.absent)

    def classify(self, folder: Path, texts: Sequence[str], batch_size: int | None) -> tuple[float, list[Any]]:
        """Seconds and answers of transformers' text-classification; None: one call for each text."""
        told = self._ask(do="classify", folder=str(folder), texts=list(texts), batch_size=batch_size)
        return told["seconds"], told["answers"]

    def forget(self) -> None:
        """Give the memory of all that was prepared back."""
        if self.contestants:
            self._ask(do="forget")

    def _run(self, name: str, contestant: str) -> float:
        return self._ask(do="run", name=name, contestant=contestant)["seconds"]

    def _ask(self, **request: Any) -> dict[str, Any]:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self._log.seek(0)
            raise RivalFailed(f"the rivals' process ended: {self._log.read()[-2000:]}")
        told = json.loads(line)
        if "error" in told:
            raise RivalFailed(told["error"])
        return told
