"""What is measured. Each case is a function that returns what is stored under its name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nystrom_np
from nystrom_np import NystromformerConfig, NystromformerForMaskedLM
from nystrom_np.array_module import array_module_of, to_device, to_numpy
from nystrom_np.demo import CLASSES
from tests.benchmarks import attention, environment
from tests.benchmarks.attention import ROOT, Mismatch
from tests.benchmarks.breakdown import breakdown
from tests.benchmarks.floor import flops, gemm_floor
from tests.benchmarks.pipelines import pipelines_of
from tests.benchmarks.rivals import NAMES, Rivals
from tests.benchmarks.timing import REST, interleave, spread, timed

HEADS = tuple(CLASSES)
SHIPPED = ROOT / "tests" / "checkpoints" / "masked-lm-dense"
TOLERANCE = {"float32": 1e-3, "tf32": 0.1, "float16": 0.1}
"""How far outputs of order one may be apart before anything is timed; the table says how far they are."""


class Unmeasured(Exception):
    """A case cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Sizes:
    """How large and how often: everything as issued, or small for a trial of the machinery."""

    fields: Mapping[str, int]
    scale: int
    attention_heads: int
    attention_lengths: tuple[int, ...]
    long_heads: int
    long_lengths: tuple[int, ...]
    rounds: int | None = None
    rest: float = REST

    def count(self, usual: int) -> int:
        return usual if self.rounds is None else min(usual, self.rounds)


FULL = Sizes(
    fields={},
    scale=1,
    attention_heads=12,
    attention_lengths=tuple(512 << power for power in range(6)),
    long_heads=4,
    long_lengths=tuple(131_072 << power for power in range(4)),
)
QUICK = Sizes(
    fields={
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "conv_kernel_size": 5,
    },
    scale=16,
    attention_heads=1,
    attention_lengths=(128, 256),
    long_heads=1,
    long_lengths=(512, 1024),
    rounds=1,
    rest=0.0,
)


@dataclass(frozen=True)
class ModelCase:
    """A batch through the bare model."""

    title: str
    lengths: tuple[int, ...]
    landmarks: int | None = None
    rounds: int = 5
    rounds_compiled: int = 2
    """Of torch.compile and ONNX Runtime."""
    batch_size: int = 32
    """Of ``predict``, which takes what is ragged."""
    explained: bool = False
    """Whether to measure where the time goes."""
    rivals: tuple[str, ...] = tuple(NAMES)

    @property
    def ragged(self) -> bool:
        return len(set(self.lengths)) > 1


SHORT = ("eager", "onnx")
"""The rivals on short inputs: torch.compile would take a minute for each length."""

MODELS = {
    **{
        f"dense-{length}": ModelCase(f"B=1, L={length}, dense", (length,), rounds=21, rounds_compiled=21, rivals=SHORT)
        for length in (8, 16, 32, 64)
    },
    "dense-128": ModelCase("B=1, L=128, dense", (128,), rounds=21, rounds_compiled=9),
    "dense-512": ModelCase("B=1, L=512, dense", (512,), rounds=9, rounds_compiled=7, explained=True),
    "short": ModelCase("32 texts of 5 to 40 tokens, dense", tuple(5 + 7 * n % 36 for n in range(32)), rivals=SHORT),
    "ragged": ModelCase("B=8, L=512, 448, …, 64, dense", tuple(range(512, 0, -64)), explained=True),
    "nystrom-4096": ModelCase("B=1, L=4096, m=64, Nyström", (4096,), 64, explained=True),
    "nystrom-8x1024": ModelCase("B=8, L=1024, m=64, Nyström", (1024,) * 8, 64, rounds=3, rounds_compiled=1),
}
SHORT_INPUTS = ("dense-8", "dense-16", "dense-32", "dense-64", "dense-128", "short", "pipelines")
"""The cases that ``--short`` measures, in a few minutes."""

ON_A_GPU = {
    "dense-16": ModelCase("B=1, L=16, dense", (16,), rounds=30, rounds_compiled=30),
    "dense-512": ModelCase("B=1, L=512, dense", (512,), rounds=30, rounds_compiled=30),
    "dense-32x512": ModelCase("B=32, L=512, dense", (512,) * 32, rounds=15, rounds_compiled=15),
    "nystrom-8x4096": ModelCase("B=8, L=4096, m=64, Nyström", (4096,) * 8, 64, rounds=15, rounds_compiled=15),
    "predict": ModelCase(
        "predict, 32 texts of 64 … 512 tokens, four overlapping batches of 8",
        tuple(range(512, 0, -64)) * 4,
        rounds=10,
        rounds_compiled=10,
        batch_size=8,
    ),
}


@dataclass
class Bench:
    """What the cases share: sizes, rivals, the device, and a folder for checkpoints."""

    sizes: Sizes
    rivals: Rivals
    workspace: Path
    device: str = "cpu"
    precision: str = "float32"

    def checkpoint(self, head: str = "NystromformerModel", **fields: Any) -> Path:
        """A folder with a checkpoint of random weights, written once.

        They are wider than a new model's, so that attention is not uniform and outputs are worth comparing.
        """
        config = NystromformerConfig(**{**self.sizes.fields, "initializer_range": 0.04, **fields})
        told = "-".join(str(value) for value in fields.values())
        folder = self.workspace / f"{head}-{told}"
        if not folder.exists():
            getattr(nystrom_np, head)(config, seed=0).save_pretrained(folder)
        return folder

    def load(self, folder: Path, head: str = "NystromformerModel") -> Any:
        dtype = "float16" if self.precision == "float16" else "float32"
        return getattr(nystrom_np, head).from_pretrained(folder, dtype=dtype, device=self.device)

    def synchronize(self) -> None:
        if self.device != "cpu":
            array_module_of(self.device).cuda.Device().synchronize()


def model(bench: Bench, case: ModelCase) -> dict[str, Any]:
    """The bare model, its floor, and its rivals; where time goes on a CPU."""
    lengths = [max(1, length // bench.sizes.scale) for length in case.lengths]
    longest = max(lengths)
    fields = {"max_position_embeddings": max(longest, 512 // bench.sizes.scale)}
    if case.landmarks:
        landmarks = max(2, case.landmarks // bench.sizes.scale)
        fields |= {"num_landmarks": landmarks, "segment_means_seq_len": longest}
    folder = bench.checkpoint(**fields)
    ours = bench.load(folder)
    encodings, inputs = texts(ours.config.vocab_size, lengths)
    if not case.ragged:
        del inputs["attention_mask"]
    try:
        ready = bench.rivals.prepare("model", "NystromformerModel", folder, inputs, case.ragged, case.rivals)
        there = {name: to_device(array, bench.device) for name, array in inputs.items()}

        def forward() -> Any:
            return list(ours.predict(encodings, case.batch_size, progress=False)) if case.ragged else ours(**there)

        difference = compare(named_outputs(forward(), case.ragged), ready.outputs, bench.precision)
        floor = gemm_floor(ours.config, ours.state_dict(), sum(lengths))
        contestants = {
            "ours": timed(forward, bench.synchronize),
            "floor": timed(floor, bench.synchronize),
            **ready.runs,
        }
        compiled = bench.sizes.count(case.rounds_compiled)
        rounds = dict.fromkeys(contestants, bench.sizes.count(case.rounds))
        rounds |= {name: compiled for name in ("compile", "onnx") if name in contestants}
        seconds = interleave(contestants, rounds, bench.sizes.rest, warm={"ours", *ready.runs})
    finally:
        bench.rivals.forget()
    return {
        "title": case.title,
        "lengths": lengths,
        "seconds": {name: spread(samples) for name, samples in seconds.items()},
        "difference": difference,
        "differences_of_rivals": ready.difference,
        "failed": ready.failed,
        "flops": flops(ours.config, sum(lengths)),
        "breakdown": breakdown(forward, bench.sizes.count(3)) if case.explained else None,
    }


def texts(vocab: int, lengths: list[int]) -> tuple[list[dict[str, list[int]]], dict[str, np.ndarray]]:
    """Random ids: one encoding for each sequence, and the padded batch of all of them."""
    state = np.random.default_rng(0)
    rows = [state.integers(5, vocab, length) for length in lengths]
    padded = {name: np.zeros((len(rows), max(lengths)), np.int64) for name in ("input_ids", "attention_mask")}
    for number, row in enumerate(rows):
        padded["input_ids"][number, : len(row)] = row
        padded["attention_mask"][number, : len(row)] = 1
    return [{"input_ids": row.tolist()} for row in rows], padded


def named_outputs(records: Any, several: bool = False) -> dict[str, np.ndarray]:
    """The arrays of a record by name; of several, under ``<number>/<name>``."""
    if several:
        return {
            f"{number}/{name}": array
            for number, record in enumerate(records)
            for name, array in named_outputs(record).items()
        }
    return {
        name: to_numpy(value)
        for name, value in vars(records).items()
        if value is not None and not isinstance(value, tuple)
    }


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], precision: str = "float32") -> float | None:
    """The largest difference between outputs; None without a rival. Raises if they do not agree."""
    if not theirs:
        return None
    if ours.keys() != theirs.keys():
        raise Mismatch(f"outputs have different names: {sorted(ours)} and {sorted(theirs)}")
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            raise Mismatch(f"{name}: shapes are {array.shape} and {theirs[name].shape}")
    largest = max(float(np.abs(array - theirs[name]).max()) for name, array in ours.items())
    if not largest <= TOLERANCE[precision]:
        raise Mismatch(f"outputs differ by {largest:.2g}: nothing was timed")
    return largest


def heads(bench: Bench) -> dict[str, Any]:
    """Every head over one encoder layer, so that the head's own time is not lost in the encoder's."""
    length = 512 // bench.sizes.scale
    contestants: dict[str, Any] = {}
    differences: dict[str, float | None] = {}
    failed: dict[str, str] = {}
    try:
        for head in HEADS:
            folder = bench.checkpoint(head, max_position_embeddings=length, num_hidden_layers=1)
            ours = bench.load(folder, head)
            _, inputs = texts(ours.config.vocab_size, [length])
            shape = (1, 1, length) if head.endswith("MultipleChoice") else (1, length)
            ids = inputs["input_ids"].reshape(shape)
            ready = bench.rivals.prepare(head, head, folder, {"input_ids": ids})
            differences[head] = compare(named_outputs(ours(ids)), ready.outputs)
            failed |= ready.failed
            contestants[f"{head}/ours"] = timed(lambda ours=ours, ids=ids: ours(ids))
            if "eager" in ready.runs:
                contestants[f"{head}/eager"] = ready.runs["eager"]
        seconds = interleave(
            contestants, dict.fromkeys(contestants, bench.sizes.count(9)), bench.sizes.rest, contestants
        )
    finally:
        bench.rivals.forget()
    return {
        "length": length,
        "heads": {
            head: {
                "difference": differences[head],
                "seconds": {
                    who: spread(seconds[f"{head}/{who}"]) for who in ("ours", "eager") if f"{head}/{who}" in seconds
                },
            }
            for head in HEADS
        },
        "failed": failed,
    }


def attention_alone(bench: Bench) -> dict[str, Any]:
    """Dense, Nyström and textbook attention against length."""

    def rounds(form: str, length: int) -> int:
        usual = 9 if length <= 2048 else 5 if length <= 4096 or form == "nystrom" else 3
        return bench.sizes.count(min(usual, 2) if form == "textbook" else usual)

    sizes = bench.sizes
    return attention.against_length(sizes.attention_heads, sizes.attention_lengths, rounds, sizes.rest)


def million(bench: Bench) -> dict[str, Any]:
    """Nyström attention to a million tokens."""
    sizes = bench.sizes
    return attention.long(sizes.long_heads, sizes.long_lengths, sizes.count(7), sizes.rest)


def probe(bench: Bench, what: str, package: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds from the start of a process to its answer, and the answer."""
    ours = package == "nystrom_np"
    interpreter = sys.executable if ours else str(bench.rivals.interpreter)
    variables = environment.variables(bench.rivals.threads) | ({"PYTHONPATH": str(ROOT)} if ours else {})
    command = [interpreter, str(Path(__file__).with_name("probe.py")), what, package, str(folder)]
    start = time.perf_counter()
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()  # type: ignore[union-attr]
        seconds = time.perf_counter() - start
        _, said = process.communicate()
    if not line:
        raise Unmeasured(f"{package} gave no answer: {said.strip().splitlines()[-1:]}")
    return seconds, json.loads(line)


def packages(bench: Bench) -> dict[str, str]:
    """Who is compared from the start of a process, by contestant."""
    rival = {"eager": "transformers"} if "eager" in bench.rivals.contestants else {}
    return {"ours": "nystrom_np", **rival}


def load(bench: Bench) -> dict[str, Any]:
    """Time and resident memory of loading a checkpoint of the default configuration with its head."""
    folder = bench.checkpoint(NystromformerForMaskedLM.__name__, max_position_embeddings=510)
    size = (folder / "model.safetensors").stat().st_size
    results: dict[str, Any] = {"file_bytes": size, "seconds": {}, "bytes": {}}
    for contestant, package in packages(bench).items():
        times = bench.sizes.count(7 if contestant == "ours" else 3)
        probe(bench, "load", package, folder)  # the file and the code come into the system's cache
        told = [probe(bench, "load", package, folder)[1] for _ in range(times)]
        results["seconds"][contestant] = spread([one["seconds"] for one in told])
        results["bytes"][contestant] = spread([one["bytes"] for one in told])
    return results


def cold_start(bench: Bench) -> dict[str, Any]:
    """From the start of a process to the first answer for a masked word, in the shipped checkpoint."""
    who = packages(bench)
    answers = {name: probe(bench, "cold", package, SHIPPED)[1]["answer"] for name, package in who.items()}
    if len(set(answers.values())) > 1:
        raise Mismatch(f"the answers are not the same: {answers}")
    runs = {name: (lambda package=package: probe(bench, "cold", package, SHIPPED)[0]) for name, package in who.items()}
    rounds = dict.fromkeys(runs, bench.sizes.count(5))
    return {
        "answer": answers["ours"],
        "seconds": {name: spread(s) for name, s in interleave(runs, rounds, bench.sizes.rest, runs).items()},
    }


def installed_size(bench: Bench) -> dict[str, Any]:
    """Bytes of all files that the run-time dependencies install, in a new environment without pip."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(command, check=True, capture_output=True)
        python = folder / "bin" / "python"
        before = bytes_below(folder)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *dependencies()]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise Unmeasured(f"the dependencies cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        site = next(folder.glob("lib/python*/site-packages"))
        parts = {path.name: bytes_below(path) for path in site.iterdir() if path.is_dir() and path.suffix == ""}
        total = bytes_below(folder) - before
    largest = dict(sorted(parts.items(), key=lambda part: -part[1])[:8])
    results: dict[str, Any] = {"ours": total, "largest": largest}
    if bench.rivals.interpreter is not None:
        theirs = environment.packages()
        tools = ("pip", "setuptools", "_distutils_hack", "pkg_resources")
        results["eager"] = sum(
            bytes_below(path) for path in theirs.iterdir() if path.is_dir() and not path.name.startswith(tools)
        )
    return results


def dependencies() -> list[str]:
    """What pyproject.toml says the package needs to run."""
    try:
        import tomllib
    except ModuleNotFoundError as error:
        raise Unmeasured("reading pyproject.toml needs Python 3.11 or newer") from error
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def attention_on_a_gpu(bench: Bench) -> dict[str, Any]:
    """Dense and Nyström attention against length, with the memory that the pool grew by."""
    xp = array_module_of(bench.device)
    dtype = "float16" if bench.precision == "float16" else "float32"
    lengths = [length for length in (512 << power for power in range(9)) if length >= 8 * bench.sizes.scale]
    if bench.sizes.scale > 1:
        lengths = lengths[:2]
    results: dict[str, Any] = {"heads": bench.sizes.attention_heads, "landmarks": 64, "lengths": {}, "left_out": []}
    for length in lengths:
        drawn = attention.draw(bench.sizes.attention_heads, length)
        arrays = [to_device(array.astype(dtype), bench.device) for array in drawn]
        entry = {}
        for form in ("dense", "nystrom"):
            try:
                grown = pool_growth(xp, lambda form=form, arrays=arrays: attention.FORMS[form](*arrays))
            except MemoryError:  # CuPy's is one
                results["left_out"].append(f"{form} {length:,}")
                continue
            entry[form] = {"bytes": None if grown is None else grown - arrays[2].nbytes}
        runs = {
            form: timed(lambda form=form, arrays=arrays: attention.FORMS[form](*arrays), bench.synchronize)
            for form in entry
        }
        if not runs:
            break
        seconds = interleave(
            runs, dict.fromkeys(runs, bench.sizes.count(7 if length <= 16_384 else 3)), bench.sizes.rest
        )
        for form, samples in seconds.items():
            entry[form]["seconds"] = spread(samples)
        results["lengths"][str(length)] = entry
    return results


def pool_growth(xp: Any, function: Callable[[], Any]) -> int | None:
    """Bytes that CuPy's memory pool grows by in a call; None for NumPy, which has none."""
    if xp is np:
        return None
    pool = xp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    function()
    return pool.total_bytes() - before


def on_cpu() -> dict[str, Callable[[Bench], dict[str, Any]]]:
    """The cases of a CPU by name, in the order in which they run."""
    return {
        **{name: (lambda bench, case=case: model(bench, case)) for name, case in MODELS.items()},
        "heads": heads,
        "pipelines": lambda bench: pipelines_of(
            bench.rivals, bench.workspace, 1000 // bench.sizes.scale, bench.sizes.count(3)
        ),
        "attention": attention_alone,
        "million": million,
        "load": load,
        "cold-start": cold_start,
        "size": installed_size,
    }


def on_gpu() -> dict[str, Callable[[Bench], dict[str, Any]]]:
    """The cases of a GPU, each in every precision."""
    return {
        **{name: (lambda bench, case=case: model(bench, case)) for name, case in ON_A_GPU.items()},
        "attention": attention_on_a_gpu,
    }


def clear(workspace: Path) -> None:
    """Remove the checkpoints that no later case shares."""
    for folder in workspace.glob("Nystromformer*-*"):
        if not folder.name.startswith("NystromformerModel"):
            shutil.rmtree(folder)
