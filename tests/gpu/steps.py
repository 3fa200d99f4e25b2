"""The steps, each run in a process of its own: ``python -m tests.gpu.steps NAME FOLDER [--dry-run]``.

What a step has found is in ``FOLDER/NAME.json`` as soon as it is known. In a dry run the stand-in for CuPy computes:
all that is found then is whether it runs, and no figure is written.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {
    "numpy": "everything",
    "cupy": "everything on a GPU",
    "safetensors": "checkpoints, and so everything",
    "tokenizers": "the smoke test's texts",
    "threadpoolctl": "the number of threads, and a few laws",
    "tqdm": "predict",
    "huggingface_hub": "checkpoints by name, which are not asked for here",
    "scipy": "the laws of activations, convolution, losses and normalisation",
    "pytest": "the laws",
    "hypothesis": "the laws",
    "torch": "the rivals, and the profile",
    "transformers": "the rivals",
}
FILES_OF_TESTS = ("test_gpu.py", "test_model.py", "test_predict.py", "test_masking.py", "test_reference_failures.py")
WITHOUT_PLUGINS = ("-o", "addopts=", "-o", "filterwarnings=default", "-p", "no:cacheprovider", "-p", "no:xdist")


class Step:
    """What a step is given, and the file that it fills."""

    def __init__(self, name: str, folder: Path, dry: bool) -> None:
        self.name, self.folder, self.dry = name, folder, dry
        self.found: dict[str, Any] = {}

    def note(self, **found: Any) -> None:
        """Add to what is found, and write it down as a whole or not at all."""
        self.found |= found
        path = self.folder / f"{self.name}.json"
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        partial.replace(path)


def machine(step: Step) -> None:
    """Versions, what is missing, and the device; in a dry run those of the host alone."""
    missing = {name: use for name, use in NEEDED.items() if find_spec(name) is None}
    step.note(missing=missing, versions={"Python": sys.version.split()[0], **dict(versions())})
    from nystrom_np.array_module import DeviceError, array_module_of
    from tests.benchmarks.machine import machine as of

    try:
        if not step.dry:
            array_module_of("cuda")
        step.note(machine=of("cpu" if step.dry else "cuda"), usable=not step.dry)
    except DeviceError as error:
        step.note(usable=False, why=str(error))


def versions() -> Iterator[tuple[str, str]]:
    for name in (*NEEDED, "cupy-cuda12x", "cupy-cuda13x"):
        with suppress(PackageNotFoundError):
            yield name, version(name)


def smoke(step: Step) -> None:
    """One head: what it answers in float32, and its distance from the stored outputs of the reference."""
    from nystrom_np.demo import verify

    compared = list(verify(ROOT / "weights" / "masked-lm", ["float32"], "cuda"))
    worst = max(compared, key=lambda one: one.difference / (one.allowed or 1.0))
    told = {"output": worst.output} | ({} if step.dry else {"difference": worst.difference, "allowed": worst.allowed})
    failed = [
        f"{one.case}, {one.output}: {one.difference:.3g} of {one.allowed:.3g}" for one in compared if failing(one)
    ]
    step.note(outputs=len(compared), worst=told, failures=failed)


def failing(one: Any) -> bool:
    return not one.difference <= one.allowed  # NaN fails


def parity(step: Step) -> None:
    """Every stored case of the reference in three precisions; in a dry run a few of them."""
    from tests.backends import make_backend
    from tests.reference import cases

    backend = make_backend("strict" if step.dry else "cupy")
    chosen = cases.all_cases()[:: 40 if step.dry else 1]
    for dtype in ("float64", "float32", "float16"):
        told: dict[str, Any] = {"cases": 0, "of": len(chosen), "worst": None, "failures": []}
        for number, case in enumerate(chosen):
            compare_case(case, dtype, backend, told)
            if number % 10 == 0:
                step.note(**{dtype: told})
        if step.dry:
            told["worst"] = None
        step.note(**{dtype: told})


def compare_case(case: Any, dtype: str, backend: Any, told: dict[str, Any]) -> None:
    """Add a case to the tally of its dtype: the largest share of what is allowed, and what is beyond it."""
    import numpy as np

    from tests.reference import compare, store

    name, stored = f"{case.head}-{case.name}", store.read(case)
    told["cases"] += 1
    try:
        parameters = {key: backend.array(value.astype(dtype)) for key, value in case.parameters().items()}
        model = getattr(compare.nystrom_np, case.head)(compare.config_of(case), parameters=parameters)
        with np.errstate(all="ignore"):
            outputs = compare.run(model, case.inputs, case.flags)
        for key, expected in stored.outputs.items():
            found = backend.numpy(outputs[key])
            limit = compare.allowed(key, dtype, stored.float32_distance, stored.float16_distance)
            apart = float(np.abs(found.astype("float64") - expected).max(initial=0.0))
            share = {"case": name, "output": key, "difference": apart, "allowed": limit, "share": apart / limit}
            if not apart <= limit or found.shape != expected.shape or found.dtype != dtype:
                told["failures"].append({**share, "dtype": str(found.dtype), "shape": list(found.shape)})
            if told["worst"] is None or not share["share"] <= told["worst"]["share"]:
                told["worst"] = share
    except Exception as error:
        told["failures"].append({"case": name, "error": f"{type(error).__name__}: {error}"[:1000]})


def laws(step: Step) -> None:
    """The laws with few cases; in a dry run some of those of the twins, on the stand-in."""
    if step.dry:
        tested(step, ["tests/laws/test_twins.py", "-k", "strict and (encode or attention or layer)"])
    else:
        tested(step, ["tests/laws", "-m", "gpu"])


def tests(step: Step) -> None:
    """All other tests of a GPU; in a dry run, those of predict's copies."""
    if step.dry:
        tested(step, ["tests/test_cuda.py", "-k", "predict or batch"])
    else:
        tested(step, [*(f"tests/{name}" for name in FILES_OF_TESTS), "-m", "gpu"])


def tested(step: Step, chosen: list[str]) -> None:
    """Run pytest without the plug-ins that pyproject.toml asks for; keep its failures with their numbers."""
    import pytest

    record = step.folder / f"{step.name}.json"
    os.environ["NYSTROM_NP_RECORD"] = str(record)
    options = [*WITHOUT_PLUGINS, "-p", "tests.gpu.record", "--continue-on-collection-errors", "-q", "--tb=short"]
    pytest.main([*options, *chosen])
    step.found = json.loads(record.read_text(encoding="utf-8"))


def benchmark(step: Step, precision: str) -> None:
    """Every case in a precision, with transformers in turn; in a dry run tiny, alone, and without its figures."""
    from tests.benchmarks.__main__ import main

    figures = step.folder / ("dry-benchmarks.json" if step.dry else "benchmarks.json")
    options = ["--device", "cuda", "--json", str(figures), "--precision", precision]
    have = all(find_spec(name) for name in ("torch", "transformers"))
    rivals = ["--rivals", *(["eager"] if have and not step.dry else []), "--rivals-python", sys.executable]
    main([*options, *rivals, *(["--quick"] if step.dry else [])])
    if step.dry:
        found = json.loads(figures.read_text(encoding="utf-8"))["gpu"][precision]["cases"]
        figures.unlink()
        step.note(cases={name: case.get("error", "ran") for name, case in found.items()})


def profile(step: Step) -> None:
    """One layer in several shapes and two precisions; in a dry run small ones, without times."""
    from tests.gpu import layer

    for dtype in ("float32", "float16"):
        for title, (batch, length, landmarks) in layer.CASES.items():
            name = f"{title}, {dtype}"
            try:
                if step.dry:
                    layer.layer(min(batch, 2), min(length, 64), landmarks and 4, dtype, small=True)()
                    step.note(**{name: "ran"})
                else:
                    step.note(**{name: layer.profile(layer.layer(batch, length, landmarks, dtype))})
            except Exception as error:
                step.note(**{name: {"error": f"{type(error).__name__}: {error}"[:1000]}})


STEPS: dict[str, Callable[[Step], None]] = {
    "machine": machine,
    "smoke": smoke,
    "parity": parity,
    "laws": laws,
    "benchmarks-float32": lambda step: benchmark(step, "float32"),
    "benchmarks-float16": lambda step: benchmark(step, "float16"),
    "benchmarks-tf32": lambda step: benchmark(step, "tf32"),
    "profile": profile,
    "tests": tests,
}


def run(name: str, folder: Path, dry: bool) -> None:
    """Run a step; what stops it is found too."""
    step, start = Step(name, folder, dry), time.perf_counter()
    needs_stand_in = dry and name not in ("machine", "laws", "tests")
    try:
        if needs_stand_in:
            from tests import cuda
        with cuda.stand_in() if needs_stand_in else nullcontext():
            STEPS[name](step)
    except Exception as error:
        traceback.print_exc()
        step.note(error=f"{type(error).__name__}: {error}"[:2000])
    step.note(finished=True, **({} if dry else {"seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), "--dry-run" in sys.argv[3:])
