"""The benchmarks measure what they say they do; how fast anything is, is not asserted."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from nystrom_np import NystromformerConfig, NystromformerModel
from nystrom_np.array_module import DeviceError, array_module_of
from nystrom_np.fast.on_numpy import few_rows
from nystrom_np.functional import softmax_attention
from tests import cuda
from tests.benchmarks import __main__ as benchmark
from tests.benchmarks import attention, cases, environment
from tests.benchmarks.__main__ import main
from tests.benchmarks.breakdown import PARTS, breakdown
from tests.benchmarks.floor import flops, gemm_floor, products
from tests.benchmarks.goals import GOALS, Verdict, gpu_verdicts, ratio, verdicts
from tests.benchmarks.report import document
from tests.benchmarks.rivals import Rivals
from tests.benchmarks.timing import interleave, spread, timed

pytestmark = pytest.mark.slow  # each case runs once, tiny, rivals left out

WITHOUT_INSTALLING = [name for name in cases.on_cpu() if name != "size"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("benchmarks")
    arguments = ["--quick", "--json", str(folder / "figures.json"), "--docs", str(folder / "docs")]
    assert main([*arguments, "--case", *WITHOUT_INSTALLING]) == 0
    return json.loads((folder / "figures.json").read_text(encoding="utf-8")), folder


def test_every_case_is_measured_and_stored(quick: tuple[dict, Path]) -> None:
    results, _ = quick
    assert list(results["cases"]) == WITHOUT_INSTALLING
    for name in cases.MODELS:
        case = results["cases"][name]
        assert set(case["seconds"]) == {"ours", "floor"}
        assert all(0 < entry["min"] <= entry["median"] <= entry["max"] for entry in case["seconds"].values())
    assert sum(results["cases"]["ragged"]["lengths"]) == sum(range(64, 513, 64)) // 16
    assert set(results["cases"]["heads"]["heads"]) == set(cases.HEADS)
    for forms in results["cases"]["attention"]["lengths"].values():
        assert set(forms) == set(attention.FORMS)


def test_the_page_is_written(quick: tuple[dict, Path]) -> None:
    results, folder = quick
    page = (folder / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "trial run with tiny models" in page
    assert results["machine"]["CPU"] in page
    assert "no GPU was at hand" in page
    assert str(folder) not in page
    short = (folder / "docs" / "benchmarks-short.md").read_text(encoding="utf-8")
    for name, case in cases.MODELS.items():
        assert (f"| {case.title} |" in page, f"| {case.title} |" in short) == both(name)
    for goal in GOALS:
        assert (f"| {goal.text} |" in page, f"| {goal.text} |" in short) == both(goal.case)


def both(case: str) -> tuple[bool, bool]:
    """Whether a case is on the one page, and whether on the other: of short inputs."""
    return case not in cases.SHORT_INPUTS, case in cases.SHORT_INPUTS


def test_the_page_of_short_inputs(quick: tuple[dict, Path]) -> None:
    results, _ = quick
    kept = {name: case for name, case in results["cases"].items() if name in cases.SHORT_INPUTS}
    page = document({**results, "cases": kept}, short=True)
    assert page.startswith("# Benchmarks of short inputs\n")
    assert "--short --docs" in page
    for name in cases.SHORT_INPUTS[:-1]:
        assert cases.MODELS[name].title in page
    assert "| list, batches of 32 |" in page
    assert "| list, batches of 256 |" in page
    assert "on a GPU" not in page
    assert "attention alone" not in page


def test_resuming_measures_only_what_is_missing(quick: tuple[dict, Path], capsys) -> None:
    results, folder = quick
    copy = folder / "copy.json"
    kept = {name: case for name, case in results["cases"].items() if name != "dense-128"}
    copy.write_text(json.dumps({**results, "cases": kept}), encoding="utf-8")
    arguments = ["--quick", "--json", str(copy), "--resume", "--case", *WITHOUT_INSTALLING]
    assert main(arguments) == 0
    assert capsys.readouterr().err.startswith("dense-128: measured")
    now = json.loads(copy.read_text(encoding="utf-8"))["cases"]
    assert {name: now[name] for name in kept} == kept
    assert now.keys() == results["cases"].keys()


def test_the_flops_of_the_floor_are_those_of_its_products() -> None:
    default = NystromformerConfig()
    by_hand = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert flops(default, tokens=512) == 2 * 512 * by_hand
    assert len(products(default)) == 12 * 6


def test_the_floor_runs_every_product_of_the_model(monkeypatch) -> None:
    config = NystromformerConfig(**cases.QUICK.fields)
    parameters = NystromformerModel(config).state_dict()
    counted = []
    matmul = np.matmul

    def counting(x, weight, out):
        counted.append(2 * x.shape[0] * x.shape[1] * weight.shape[1])
        return matmul(x, weight, out=out)

    monkeypatch.setattr(np, "matmul", counting)
    floor = gemm_floor(config, parameters, tokens=7)
    counted.clear()  # it has tried which of two forms is faster
    floor()
    assert sum(counted) == flops(config, tokens=7)
    assert {name for name, _, _ in products(config)} == {
        name for name in parameters if name.startswith("encoder") and parameters[name].ndim == 2
    }


def test_contestants_take_turns_and_warm_up() -> None:
    order = []

    def contestant(name: str):
        return timed(lambda: order.append(name))

    seconds = interleave({"a": contestant("a"), "b": contestant("b")}, {"a": 3, "b": 1}, rest=0.0)
    assert "".join(order) == "ab" + "ab" + "a" + "a"
    assert {name: len(samples) for name, samples in seconds.items()} == {"a": 3, "b": 1}
    order.clear()
    interleave({"a": contestant("a"), "b": contestant("b")}, {"a": 1, "b": 1}, rest=0.0, warm={"a"})
    assert "".join(order) == "b" + "ab"


def test_a_run_takes_as_long_as_its_function() -> None:
    assert 0.02 <= timed(lambda: time.sleep(0.02))() < 2.0


def test_outputs_that_differ_are_not_timed() -> None:
    ours = {"logits": np.zeros((1, 3))}
    assert cases.compare(ours, {"logits": np.full((1, 3), 1e-6)}) == 1e-6
    assert cases.compare(ours, {}) is None
    with pytest.raises(attention.Mismatch, match="differ by 1"):
        cases.compare(ours, {"logits": np.array([[0.0, 1.0, 0.0]])})
    with pytest.raises(attention.Mismatch, match="differ by nan"):
        cases.compare(ours, {"logits": np.full((1, 3), np.nan)})
    with pytest.raises(attention.Mismatch, match="shapes"):
        cases.compare(ours, {"logits": np.zeros((1, 4))})
    with pytest.raises(attention.Mismatch, match="names"):
        cases.compare(ours, {"last_hidden_state": np.zeros((1, 3))})


def test_attention_that_differs_is_not_timed(monkeypatch) -> None:
    monkeypatch.setattr(attention, "softmax_attention", lambda q, k, v: softmax_attention(q, k, v) + 0.01)
    with pytest.raises(attention.Mismatch):
        attention.compare(heads=1, length=128)


def test_peak_memory_of_the_textbook_form_is_that_of_its_matrices() -> None:
    # scores, and the weights that are made of them in one array: two of L × L are alive at once, but for the result
    matrix = 2 * 512 * 512 * 4
    assert 1.8 * matrix <= attention.peak("textbook", 2, 512) <= 2.1 * matrix


def test_the_breakdown_sees_every_part() -> None:
    length = 2 * few_rows.FEW_ROWS  # of few rows the parts are others
    config = NystromformerConfig(**cases.QUICK.fields, num_landmarks=4, segment_means_seq_len=length)
    model = NystromformerModel(config)
    shares = breakdown(lambda: model(np.full((1, length), 7)), times=1)
    assert set(shares) == set(PARTS)
    assert all(shares[part] > 0 for part in PARTS[:-1])
    assert abs(sum(shares.values()) - 1) < 1e-12


def test_goals_are_judged_by_the_figures() -> None:
    seconds = {"ours": spread([3.0, 1.0, 2.0]), "eager": spread([4.0]), "floor": spread([1.0])}
    found = {verdict.goal.text: verdict for verdict in verdicts({"dense-512": {"seconds": seconds}})}
    against_eager = found["B=1 L=512 dense, time / transformers"]
    assert against_eager.value == 0.5
    assert against_eager.says(0.65) == "yes"
    against_floor = found["B=1 L=512 dense, time / floor"]
    assert against_floor.says(1.25) == "no, by 60%"
    assert found["B=1 L=512 dense, time / ONNX Runtime"].says(1.15) == "not measured"
    assert found["load 440 MB"].value is None
    faster = next(goal for goal in GOALS if goal.at_least)
    assert Verdict(faster, 11.0).says(12.0) == "no, by 8%"
    assert Verdict(faster, 13.0).says(12.0) == "yes"
    assert Verdict(faster, 11.999).says(12.0) == "no, by 1%"


def test_the_cases_of_a_gpu_run_on_any_array_module(tmp_path: Path) -> None:
    with Rivals([], threads=1) as none:
        bench = cases.Bench(cases.QUICK, none, tmp_path)
        measured = {name: run(bench) for name, run in cases.on_gpu().items()}
    told = {"quick": True, "machine": {"GPU": "a stand-in"}, "versions": {}, "cases": measured}
    empty = {"quick": True, "machine": {}, "versions": {}, "cases": {}}
    page = document({**empty, "gpu": {"float16": told}})
    assert "a stand-in" in page
    assert "no GPU was at hand" not in page
    verdict = next(v for v in gpu_verdicts("float16", measured) if v.goal.text.endswith("float16, time / floor"))
    assert verdict.value == ratio("ours", "floor")(measured["dense-32x512"])


def test_the_command_on_a_stand_in_for_a_gpu(tmp_path: Path) -> None:
    """All that a run on a GPU does in one of its precisions, and the page that it writes at the end."""
    figures = tmp_path / "figures.json"
    arguments = ["--device", "cuda", "--quick", "--json", str(figures), "--rivals"]
    with cuda.stand_in():
        for precision in ("float32", "float16"):
            assert main([*arguments, "--precision", precision]) == 0
    waits = cuda.log.count("host waits for all")
    assert waits >= 2 * 2 * 2 * len(cases.ON_A_GPU)  # before and after each run of ours and of the floor
    results = json.loads(figures.read_text(encoding="utf-8"))
    assert list(results["gpu"]) == ["float32", "float16"]
    for told in results["gpu"].values():
        assert told["machine"]["GPU"] == "a stand-in"
        assert (told["machine"]["CUDA of the driver"], told["machine"]["CUDA runtime"]) == ("12.4", "12.6")
        assert told["versions"]["cupy"] == "0.0"
        assert list(told["cases"]) == [*cases.ON_A_GPU, "attention"]
        assert {form for forms in told["cases"]["attention"]["lengths"].values() for form in forms} == {
            "dense",
            "nystrom",
        }
    page = document(results)
    for case in cases.ON_A_GPU.values():
        assert page.count(f"| {case.title} |") >= 2
    assert "| NVIDIA driver | " in page
    share = results["gpu"]["float16"]["cases"]["dense-512"]["seconds"]
    assert f"{share['floor']['median'] / share['ours']['median']:.0%} |" in page


def test_every_precision_has_a_process_of_its_own(tmp_path: Path, monkeypatch) -> None:
    """TF32 is on in one of them, and off in the others whatever the caller's environment says."""
    ran: list[tuple[str, str]] = []

    def run(command, env, **_):
        ran.append((command[command.index("--precision") + 1], env["CUPY_TF32"]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("CUPY_TF32", "1")
    with cuda.stand_in():
        monkeypatch.setattr(benchmark.subprocess, "run", run)
        assert main(["--device", "cuda", "--quick", "--rivals"]) == 0
    assert ran == [("float32", "0"), ("tf32", "1"), ("float16", "0")]


def test_what_does_not_fit_into_the_gpu_is_left_out(tmp_path: Path) -> None:
    def fail(*_) -> None:
        raise cuda.OutOfMemoryError("Out of memory")

    with pytest.MonkeyPatch.context() as patch, Rivals([], threads=1) as none, cuda.stand_in():
        patch.setitem(attention.FORMS, "dense", fail)
        measured = cases.attention_on_a_gpu(cases.Bench(cases.QUICK, none, tmp_path, "cuda"))
    assert [list(entry) for entry in measured["lengths"].values()] == [["nystrom"]] * len(measured["lengths"])
    assert measured["left_out"][0].startswith("dense ")


def test_wrong_arguments_are_one_clear_error(tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert main(["--quick", "--json", str(other)]) == 2
    assert "holds no figures" in capsys.readouterr().err
    for arguments in (["--resume"], ["--rounds", "0"], ["--case", "no-such"], ["--precision", "tf32"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2


def test_without_a_gpu_one_sentence_says_so(capsys) -> None:
    try:
        array_module_of("cuda")
    except DeviceError:
        assert main(["--device", "cuda"]) == 2
        assert capsys.readouterr().err.startswith('benchmarks: device "cuda"')
    else:
        pytest.skip("there is a GPU")


@pytest.mark.reference
def test_rivals_compute_the_same(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    names = ["dense-512", "ragged", "nystrom-4096", "heads", "load", "cold-start"]
    arguments = ["--quick", "--json", str(figures), "--rivals", "eager", "onnx", "--case", *names]
    assert main(arguments) == 0
    results = json.loads(figures.read_text(encoding="utf-8"))["cases"]
    for name in names[:3]:
        assert results[name]["difference"] < 1e-5
        assert "eager" in results[name]["seconds"]
        assert "onnx" in {**results[name]["seconds"], **results[name]["failed"]}
    assert all(told["difference"] < 1e-5 for told in results["heads"]["heads"].values())
    assert set(results["cold-start"]["seconds"]) == {"ours", "eager"}
    assert environment.installed()
