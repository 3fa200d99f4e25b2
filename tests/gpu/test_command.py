"""The command for a GPU, without one: it runs to its end, keeps what it reached, and writes no figure."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.backends import make_backend
from tests.gpu import layer, report, steps
from tests.gpu.__main__ import LIMITS, WHOLE, environment, main, ran_too_long, step
from tests.reference import cases


@pytest.mark.slow
def test_the_whole_command_runs_on_the_stand_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(tmp_path), "--dry-run"]) == 0
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert list(results["steps"]) == list(steps.STEPS)
    assert all(found["finished"] for found in results["steps"].values())
    assert results["steps"]["laws"]["counts"]["passed"] > 5
    assert {"dense-16", "predict", "attention"} <= results["steps"]["benchmarks-tf32"]["cases"].keys()
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert page.count("(dry run: no figures)") == len(steps.STEPS)
    assert " ms" not in page
    figures = {"seconds", "median", "difference", "queued"}
    assert not [key for key in figures if f'"{key}"' in json.dumps(results)]
    assert "there are no figures" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_and_runs_dry(tmp_path: Path, monkeypatch, capsys) -> None:
    found = {"machine": {"usable": False, "why": "no driver", "finished": True}, "smoke": {"finished": True}}
    dry = []
    monkeypatch.setattr("tests.gpu.__main__.step", lambda name, _, is_dry, __: dry.append(is_dry) or found[name])
    assert main(["--output", str(tmp_path), "--only", "smoke"]) == 0
    assert dry == [False, True]
    assert "No GPU: no driver" in capsys.readouterr().out


def test_limits_leave_time_for_all() -> None:
    """Under nine minutes, even where every step takes all that it may."""
    assert LIMITS.keys() == steps.STEPS.keys()
    assert sum(LIMITS.values()) - LIMITS["tests"] <= WHOLE <= 9 * 60 - 15
    assert environment("benchmarks-tf32", dry=False)["CUPY_TF32"] == "1"
    assert environment("benchmarks-float32", dry=False)["CUPY_TF32"] == "0"


def test_what_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with (tmp_path / "log").open("w") as log:
        assert ran_too_long([sys.executable, "-c", grandchild], dict(os.environ), log, 0.5)
        assert not ran_too_long([sys.executable, "-c", ""], dict(os.environ), log, 30)


def test_a_step_that_is_stopped_keeps_what_it_reached(tmp_path: Path, monkeypatch) -> None:
    reached = {"float64": {"cases": 1, "of": 9, "worst": None, "failures": []}}

    def stopped(command, variables, log, limit):
        (tmp_path / "parity.json").write_text(json.dumps(reached))
        return True

    monkeypatch.setattr("tests.gpu.__main__.ran_too_long", stopped)
    found = step("parity", tmp_path, False, 3)
    assert found == {**reached, "error": "stopped after 3 s: what is above is what it had reached"}
    assert "| float64 | 1 of 9 | 0 |" in report.section("parity", found, dry=False)
    assert step("parity", tmp_path, False, 0) == {"error": "no time was left"}


def test_parity_tells_what_is_beyond_its_limit() -> None:
    backend = make_backend("numpy")
    wrong = type(backend)("numpy", np, np.asarray, lambda x: np.asarray(x) + 1e-3)
    told = {"cases": 0, "worst": None, "failures": []}
    case = next(case for case in cases.all_cases() if case.name == "plain-dense")
    steps.compare_case(case, "float64", backend, told)
    assert told["failures"] == []
    assert 0 < told["worst"]["share"] < 1
    steps.compare_case(case, "float64", wrong, told)
    assert told["failures"][0]["difference"] == pytest.approx(1e-3)
    assert told["cases"] == 2
    assert "difference 0.001" in next(iter(report.problems({"float64": told})))


FAILING = """
import numpy as np
def test_fails():
    np.testing.assert_allclose([1.0], [1.25])
def test_passes():
    pass
"""


def test_failures_are_kept_with_their_numbers(tmp_path: Path) -> None:
    """And pytest needs no plug-in but this one."""
    (tmp_path / "test_it.py").write_text(FAILING)
    (tmp_path / "test_not_importable.py").write_text("import no_such_module")
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "pytest", *steps.WITHOUT_PLUGINS, "--continue-on-collection-errors"]
    subprocess.run(
        [*command, "-p", "tests.gpu.record", str(tmp_path)],
        cwd=steps.ROOT,
        env={**os.environ, "NYSTROM_NP_RECORD": str(record)},
        capture_output=True,
        check=False,
    )
    told = json.loads(record.read_text(encoding="utf-8"))
    assert told["counts"] == {"passed": 1, "failed": 1, "not collected": 1}
    said = "".join(failure["said"] for failure in told["failures"])
    assert "0.25" in said
    assert "no_such_module" in said


def test_kernels_and_gaps_of_a_trace() -> None:
    """Two runs of two kernels and a copy, in µs: 10 busy, 5 idle, 20 busy at once with a copy of 4."""
    events = [{"ph": "X", "cat": "cpu_op", "name": "no kernel", "ts": 0, "dur": 1000}, {"ph": "M", "name": "no time"}]
    for start in (100, 1000):
        events += [
            {"cat": "kernel", "name": "a", "ts": start, "dur": 10},
            {"cat": "kernel", "name": "b", "ts": start + 15, "dur": 20},
            {"cat": "gpu_memcpy", "name": "copy", "ts": start + 16, "dur": 4},
        ]
    told = layer.summary(events, runs=2)
    assert (told["kernels"], told["copies"]) == (2, 1)
    assert told["busy"] == pytest.approx(34e-6)
    assert told["gaps"] == pytest.approx((5 + 5 + 1000 - 135) * 1e-6 / 2)
    assert [one["name"] for one in told["longest"]] == ["b", "a", "copy"]
    page = report.section("profile", {"B=1": told | {"queued": 1e-3, "done": 2e-3}}, dry=False)
    assert "| B=1 | 2.0 | 1.0 | 1 ms | 2 ms |" in page
    assert layer.summary([], 1) == {"error": "the profiler saw no kernel"}


def test_times_are_shown_beside_their_rivals() -> None:
    def seconds(value: float) -> dict[str, float]:
        return {"median": value, "min": value, "max": value}

    model = {"title": "B=1", "seconds": {"ours": seconds(0.002), "floor": seconds(0.001), "eager": seconds(0.004)}}
    lost = {**model, "title": "B=2", "seconds": {"ours": seconds(0.002), "floor": seconds(0.001)}}
    lost["failed"] = {"eager": "too little memory"}
    alone = {"lengths": {"131072": {"nystrom": {"seconds": seconds(0.5)}}}}
    found = {"measured": {"cases": {"a": model, "b": lost, "attention": alone, "c": {"error": "it broke"}}}}
    page = report.section("benchmarks-float32", found, dry=False)
    assert "| B=1 | 2 ms (2 ms … 2 ms) | 4 ms (4 ms … 4 ms) | 1 ms (1 ms … 1 ms) | 0.50 | 50% |" in page
    assert "| B=2 | 2 ms (2 ms … 2 ms) | not measured |" in page
    assert "| attention alone, 131,072, nystrom | 500 ms" in page
    assert list(report.problems(found)) == ["b, eager: too little memory", "c: it broke"]


def test_missing_packages_are_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(steps, "find_spec", lambda name: None if name == "scipy" else name)
    made = steps.Step("machine", tmp_path, dry=True)
    steps.machine(made)
    assert list(made.found["missing"]) == ["scipy"]
    assert "Missing: scipy, needed for the laws" in report.section("machine", made.found, dry=True)
