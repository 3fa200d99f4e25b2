"""The command line: what it prints, its exit codes, and one line for what is wrong."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nystrom_np
from nystrom_np import cli, demo
from nystrom_np.cli import answers, checks
from nystrom_np.pipelines import loading, pipeline


@pytest.fixture
def checkpoint(checkpoints: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change."""
    return Path(shutil.copytree(checkpoints / "masked-lm-nystrom", tmp_path / "checkpoint"))


def change_output(folder: Path, name: str, change: Any) -> None:
    """Replace one stored tensor."""
    tensors = load_file(folder / "reference.safetensors")
    tensors[name] = change(tensors[name])
    save_file(tensors, folder / "reference.safetensors")


def stored_cases(folder: Path) -> list[str]:
    """Return the names of a checkpoint's stored cases."""
    return [case["name"] for case in json.loads((folder / "reference.json").read_text(encoding="utf-8"))["cases"]]


def change_json(path: Path, **values: Any) -> None:
    """Change fields of a JSON object; None removes one."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), "utf-8")


def fails(arguments: Sequence[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end with code 2 and one line on standard error; return the line."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else -1
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    return err


# demo


def test_demo_shows_every_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    blocks = dict(block.split("\n", 1) for block in out.strip().split("\n\n")[1:-1])
    assert list(blocks) == list(demo.HEADS)
    for block in blocks.values():
        *_, answer, last = block.splitlines()
        assert re.match(r" {2,4}\d{1,3}\.\d%  \S", answer)
        assert re.search(r"\d ms; largest difference: float64 \S+ of 1\.0e-10 allowed, float32 \S+ of", last)
    assert "The violin is a musical [MASK] with strings." in blocks["masked-lm"]
    assert re.search(r"All \d+ outputs agree with the reference's\.$", out.strip())


def test_the_readme_shows_what_the_demo_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """All but the time, and the last digits of differences, which are another machine's."""

    def lines(text: str) -> list[str]:
        machines = r"\d+ ms|NumPy \S+|\S+ of \d\.\de-\d+|\(\w+(\.\d+)? of '[^']*'\)"
        return [re.sub(machines, "#", line) for line in text.splitlines()]

    assert cli.main(["demo"]) == 0
    printed = iter(lines(capsys.readouterr().out))
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```text\n(nystrom_np .*?)```", readme, re.DOTALL)
    for line in lines(shown):
        assert line == "…" or line in printed, line  # in their order: an iterator goes on from the last


def test_demo_as_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--json", "--dtype", "float64"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == nystrom_np.__version__
    assert told["agrees"] is True
    assert [head["head"] for head in told["heads"]] == list(demo.HEADS)
    for head, (task, (options, inputs)) in zip(told["heads"], demo.SHOWN.items(), strict=True):
        assert head["agrees"]
        assert head["inputs"] == list(inputs)
        assert head["answers"] == list(pipeline(task, weights / head["head"], dtype="float64", **options)(iter(inputs)))
        assert head["seconds"] > 0
        assert list(head["largest"]) == ["float64"]
        assert 0 <= head["largest"]["float64"]["difference"] <= head["largest"]["float64"]["allowed"] == 1e-10


def test_demo_notices_a_mismatch(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(weights, tmp_path / "weights"))
    case = stored_cases(copy / "question-answering")[0]
    change_output(copy / "question-answering", f"{case}/outputs/end_logits", lambda x: x + 1e-9)
    monkeypatch.setattr(demo, "shipped_weights", lambda: copy)
    assert cli.main(["demo", "--json", "--dtype", "float64"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [head["agrees"] for head in told["heads"]] == [True] * 4 + [False]
    assert told["agrees"] is False
    worst = told["heads"][-1]["largest"]["float64"]
    assert (worst["case"], worst["output"], worst["agrees"]) == (case, "end_logits", False)
    assert worst["difference"] == pytest.approx(1e-9, rel=1e-3)


def test_the_weights_are_found_in_an_installed_package_and_named_if_not_there(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loading.shipped_weights() == weights
    package = tmp_path / "site" / "nystrom_np"
    monkeypatch.setattr(loading, "__file__", str(package / "pipelines" / "loading.py"))
    assert "shipped checkpoints are neither in" in fails(["demo"], capsys)
    (package / "_weights" / "masked-lm").mkdir(parents=True)
    assert loading.shipped_weights() == package / "_weights"


# verify


@pytest.mark.parametrize("head", demo.HEADS)
@pytest.mark.parametrize("branch", ["dense", "nystrom"])
def test_verify_agrees(checkpoints: Path, head: str, branch: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoints / f"{head}-{branch}"
    assert cli.main(["verify", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["agrees"]
    stored = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    expected = {
        (case["name"], output, dtype)
        for case in stored["cases"]
        for dtype in ("float64", "float32")
        for output in case["outputs"]
    } | {(case["name"], "input_ids", "int64") for case in stored["cases"]}
    assert {(row["case"], row["output"], row["dtype"]) for row in told["comparisons"]} == expected
    assert all(row["agrees"] for row in told["comparisons"])


def test_verify_prints_a_line_for_each_output(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(checkpoints / "masked-lm-dense"), "--dtype", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "agrees int64 0.0e+00 of 0.0e+00 allowed input_ids two sentences"
    assert [line.split()[0] for line in lines[:-2]] == ["agrees"] * 10
    assert lines[-1] == "All 10 outputs agree with the reference's."


@pytest.mark.parametrize(
    ("dtype", "error", "code"),
    [("float64", 9e-11, 0), ("float64", 1.1e-10, 1), ("float32", 1e-4, 0), ("float32", 5e-4, 1)],
)
def test_verify_holds_each_dtype_to_its_bound(checkpoint: Path, dtype: str, error: float, code: int) -> None:
    # The reference's own float32 logits are 7.4e-5 from its float64 ones.
    def change(logits: np.ndarray) -> np.ndarray:
        shifted = logits.copy()
        shifted[0, 3, 5] += error
        return shifted

    change_output(checkpoint, "two sentences/outputs/logits", change)
    assert cli.main(["verify", str(checkpoint), "--dtype", dtype]) == code


@pytest.mark.parametrize(
    ("name", "change", "shown"),
    [
        ("labels/outputs/loss", lambda x: np.full_like(x, np.nan), "nan of 1.0e-10 allowed"),
        (
            "labels/outputs/hidden_states.1",
            lambda x: np.ascontiguousarray(x[:, 1:]),
            "inf of 1.0e-10 allowed",
        ),
        ("labels/inputs/input_ids", lambda x: x + (x == x[0, 1]), "1.0e+00 of 0.0e+00 allowed"),
    ],
)
def test_verify_sees_nan_other_shapes_and_other_ids(
    checkpoint: Path, name: str, change: Any, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change_output(checkpoint, name, change)
    assert cli.main(["verify", str(checkpoint)]) == 1
    out = capsys.readouterr().out
    assert f"DIFFERS  {'int64' if 'ids' in name else 'float64'}" in out
    assert shown in out
    assert re.search(r"\d+ of \d+ outputs differ from the reference's\.$", out.strip())
    assert cli.main(["verify", str(checkpoint), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["agrees"] is False


def test_verify_without_a_tokenizer_compares_the_outputs(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "tokenizer.json").unlink()
    assert cli.main(["verify", str(checkpoint), "--json"]) == 0
    assert {row["dtype"] for row in json.loads(capsys.readouterr().out)["comparisons"]} == {
        "float64",
        "float32",
    }


@pytest.mark.parametrize("missing", ["reference.json", "reference.safetensors"])
def test_verify_without_stored_outputs(checkpoint: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / missing).unlink()
    assert f"holds no stored outputs: there is no {missing}" in fails(["verify", checkpoint], capsys)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cases": []}, "holds no stored outputs: reference.json lists no cases"),
        ({"cases": None}, "are not stored outputs: KeyError('cases')"),
        ({"cases": [5]}, "are not stored outputs: TypeError"),
        (
            {"cases": [{"name": "x", "text": ["a"], "inputs": ["start_positions"], "outputs": {}}]},
            "NystromformerForMaskedLM takes no start_positions",
        ),
        (
            {"cases": [{"name": "x", "text": ["a"], "inputs": ["input_ids"], "outputs": {}}]},
            "x/inputs/input_ids",
        ),
        (
            {"cases": [{"name": "labels", "text": [5], "inputs": ["input_ids"], "outputs": {}}]},
            "text[0] is a str or a pair of str, found int 5",
        ),
        ({"head": "Model"}, "are not stored outputs: KeyError('Model')"),
        ({"tolerance": None}, "are not stored outputs: KeyError('tolerance')"),
        ({"head": "NystromformerForTokenClassification"}, "holds no NystromformerForTokenClassification: "),
    ],
)
def test_verify_with_stored_outputs_of_another_form(
    checkpoint: Path, values: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(checkpoint / "reference.json", **values)
    assert message in fails(["verify", checkpoint], capsys)


def test_verify_with_damaged_tensors(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkpoint / "reference.safetensors").write_bytes(b"not tensors")
    assert "reference.safetensors is not a safetensors file" in fails(["verify", checkpoint], capsys)


# The pipelines


TEXT = "Paris is the [MASK] of France."
STORY = {"question": "Where is Mary?", "context": "Mary went to the kitchen. She took the book."}
CHOICE = {"prompt": "Mary went to the kitchen. Where is she?", "choices": ["garden", "kitchen", "park"]}
RUNS: dict[str, tuple[str, list[str], Any, dict[str, Any]]] = {
    "fill-mask": ("masked-lm", [TEXT, "--top-k", "2"], TEXT, {"top_k": 2}),
    "text-classification": ("sequence-classification", ["A film.", "--top-k", "2"], "A film.", {"top_k": 2}),
    "token-classification": ("token-classification", ["A film."], "A film.", {"aggregation_strategy": "first"}),
    "question-answering": ("question-answering", [*STORY.values(), "--top-k", "2"], STORY, {"top_k": 2}),
    "multiple-choice": ("multiple-choice", [CHOICE["prompt"], *CHOICE["choices"]], CHOICE, {"top_k": None}),
    "feature-extraction": ("masked-lm", ["A film."], "A film.", {}),
}


@pytest.mark.parametrize("task", RUNS)
def test_json_is_what_the_pipeline_returns(task: str, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, arguments, item, options = RUNS[task]
    assert cli.main([task, *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    [expected] = pipeline(task, weights / head)(iter([item]), **options)
    assert json.loads(out) == expected
    assert out == json.dumps(expected, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("task", RUNS)
def test_answers_for_people(task: str, checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, arguments, item, _ = RUNS[task]
    model = ["--model", str(checkpoints / f"{head}-dense"), "--dtype", "float64"]
    assert cli.main([task, *arguments, *model]) == 0
    alone = capsys.readouterr().out
    lines = alone.splitlines()
    if task == "feature-extraction":
        assert re.fullmatch(r"\[CLS\]  +(-?\d\.\d{4}  ?){6}… \(32\)", lines[0])
    else:
        assert all(re.match(r"(100|[ \d]\d)\.\d%  \S", line.removeprefix(" ")) for line in lines)
    (tmp_path / "two.jsonl").write_text(f"{json.dumps(item)}\n{json.dumps(item)}\n", encoding="utf-8")
    top_k = arguments[-2:] if "--top-k" in arguments else []
    assert cli.main([task, "--file", str(tmp_path / "two.jsonl"), *top_k, *model]) == 0
    assert capsys.readouterr().out.count(alone) == 2


def test_lines_of_standard_input_are_answered_in_order(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"Film {number} is [MASK]." for number in range(40)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\r\n".join(texts).encode())))
    assert cli.main(["fill-mask", "--json", "--top-k", "1"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == list(pipeline("fill-mask", weights / "masked-lm", top_k=1)(iter(texts)))


def test_a_context_in_a_file_or_on_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question, context = STORY["question"], "Mary went to the kitchen.\nShe took the book."
    assert cli.main(["question-answering", question, context, "--json"]) == 0
    expected = capsys.readouterr().out
    (tmp_path / "story.txt").write_bytes(f"\ufeff{context}\n".encode())
    assert cli.main(["question-answering", question, "--file", str(tmp_path / "story.txt"), "--json"]) == 0
    assert capsys.readouterr().out == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(context.encode())))
    assert cli.main(["question-answering", question, "--file", "-", "--json"]) == 0
    assert capsys.readouterr().out == expected


def test_the_end_of_a_long_text_is_labelled(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "The dog ran. " * 40
    assert cli.main(["token-classification", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["end"] >= len(text.strip())
    assert cli.main(["token-classification", text, "--json", "--aggregation", "none"]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["end"] < len(text) / 2


@pytest.mark.filterwarnings("always")
def test_truncation_and_targets(capsys: pytest.CaptureFixture[str]) -> None:
    long = "A film. " * 200
    assert "positions" in fails(["text-classification", long], capsys)
    assert cli.main(["text-classification", long, "--truncate"]) == 0
    assert cli.main(["feature-extraction", long, "--truncate"]) == 0
    capsys.readouterr()
    assert cli.main(["fill-mask", TEXT, "--target", "xylophone", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 1
    assert re.fullmatch(r"nystrom-np: the target 'xylophone' is not in the vocabulary: '.*' stands for it\n", err)


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("fill-mask", b"A [MASK].\nParis\n", "line 2: the text has no [MASK]: 'Paris'"),
        ("fill-mask", b"A [MASK].\n" + b"[MASK] a" * 600, "line 2: an input has "),
        ("text-classification", b"A film.\n\xff\n", "line 2 is not UTF-8: "),
        ("text-classification", b"", "is empty"),
        ("question-answering", b"{}\n", "line 1: an input must have question and context; found []"),
        ("question-answering", b"[\n", "line 1 is not JSON: "),
        ("multiple-choice", b'{"prompt": "a", "choices": [5]}', "line 1: a choice must be a str; found int 5"),
    ],
)
def test_wrong_inputs_are_named_by_their_line(
    task: str, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inputs").write_bytes(content)
    assert cli.main([task, "--file", str(tmp_path / "inputs")]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"nystrom-np: {tmp_path / 'inputs'}")
    assert message in line
    assert len(line.splitlines()) == 1


def test_the_pipelines_refuse_what_they_cannot_do(
    checkpoint: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nystrom-np: the text has no [MASK]: 'Paris'" in fails(["fill-mask", "Paris"], capsys)
    other = checkpoints / "question-answering-dense"
    line = fails(["fill-mask", "[MASK]", "--model", other], capsys)
    assert "holds no NystromformerForMaskedLM: cls.predictions" in line
    assert "absent" in fails(["fill-mask", "[MASK]", "--model", "absent"], capsys)
    assert "absent" in fails(["text-classification", "--file", "absent"], capsys)
    assert "choices must be a list of one str or more" in fails(["multiple-choice", "Who?"], capsys)
    terminal = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert "there is no input: give it as an argument, with --file" in fails(["text-classification"], capsys)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (checkpoint / name).unlink(missing_ok=True)
    (checkpoint / "tokenizer_config.json").write_text('{"mask_token": null}', encoding="utf-8")
    line = fails(["fill-mask", "a [MASK]", "--model", checkpoint], capsys)
    assert "the text has no mask, nor has the tokenizer" in line


# inspect


def test_inspect_says_which_attention_runs_and_why(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", str(checkpoints / "masked-lm-dense")]) == 0
    dense = " ".join(capsys.readouterr().out.split())
    assert "attention dense: num_landmarks equals segment_means_seq_len (64)" in dense
    assert cli.main(["inspect", str(checkpoints / "masked-lm-nystrom")]) == 0
    nystrom = " ".join(capsys.readouterr().out.split())
    assert "attention nystrom: num_landmarks (6) differs from segment_means_seq_len (24)" in nystrom
    assert "model NystromformerForMaskedLM shape 2 layers, width 32, 4 heads, feed-forward 64" in nystrom
    assert "parameters 54,312 dtype F32 size 0.2 MB in model.safetensors" in nystrom
    assert 'hidden_act: "gelu_new"' in nystrom


def test_inspect_as_json(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoints / "question-answering-nystrom"
    assert cli.main(["inspect", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    tensors = load_file(folder / "model.safetensors")
    assert told["parameters"] == sum(tensor.size for tensor in tensors.values())
    assert told["bytes"] == (folder / "model.safetensors").stat().st_size
    assert (told["model"], told["dtype"], told["files"]) == (
        "NystromformerForQuestionAnswering",
        ["F32"],
        ["model.safetensors"],
    )
    assert told["attention"] == "nystrom"
    assert told["config"]["num_landmarks"] == 8


@pytest.mark.parametrize("architectures", [None, [], "x", {}])
def test_inspect_takes_a_checkpoint_that_names_no_head_for_the_bare_model(
    checkpoint: Path, architectures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    change_json(checkpoint / "config.json", architectures=architectures)
    assert cli.main(["inspect", str(checkpoint), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "NystromformerModel"


def test_inspect_refuses_what_it_does_not_know(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_json(checkpoint / "config.json", architectures=["BertModel"])
    assert "is a BertModel, which is none of NystromformerModel" in fails(["inspect", checkpoint], capsys)
    (checkpoint / "model.safetensors").write_bytes(b"x" * 20)
    assert "model.safetensors" in fails(["inspect", checkpoint], capsys)
    (checkpoint / "config.json").write_text("{", encoding="utf-8")
    assert "config.json is not usable JSON" in fails(["inspect", checkpoint], capsys)


# Arguments, pipes and interruption


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["verify"], "the following arguments are required: folder"),
        (["demo", "--fast"], "unrecognized arguments: --fast"),
        (["demo", "--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["demo", "--device", "tpu"], "device must be"),
        (["fill-mask", "[MASK]", "--top-k", "0"], "argument --top-k: '0' is not a positive whole number"),
        (["fill-mask", "[MASK]", "--top-k", "many"], "'many' is not a positive whole number"),
        (["inspect", "/no/such/folder"], "/no/such/folder"),
        (["inspect", "pyproject.toml"], "pyproject.toml"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in fails(arguments, capsys)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error\nagain"), IndexError("far out")])
def test_an_error_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(answers, "pipeline", fail)
    assert fails(["fill-mask", "[MASK]"], capsys).startswith("nystrom-np: ")


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option, expected in (("--version", f"nystrom-np {nystrom_np.__version__}"), ("--help", "fill-mask")):
        with pytest.raises(SystemExit) as stop:
            cli.main([option])
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "demonstrate", interrupt)
    assert cli.main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_terminal_that_cannot_write_a_letter(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.main(["inspect", str(checkpoints / "masked-lm-dense")]) == 0
    assert b"Nystr?m approximation" in b" ".join(written.getvalue().split())


def test_output_without_reconfigure(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    assert cli.main(["inspect", str(checkpoints / "masked-lm-dense")]) == 0
    assert "NystromformerForMaskedLM" in written.getvalue()


def test_a_reader_that_has_seen_enough(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = os.fdopen(writing, "w")
    monkeypatch.setattr(sys, "stdout", pipe)
    assert cli.main(["verify", str(checkpoints / "masked-lm-dense"), "--dtype", "float64"]) == 141
    pipe.close()  # what is left goes nowhere, without an error


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "nystrom_np", "inspect", "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("nystrom-np: ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("argument", [b"caf\xe9 is good", b"\xff\xfe", b"good \xed\xa0\x80"])
@pytest.mark.parametrize("command", ["text-classification", "token-classification", "feature-extraction"])
def test_arguments_that_are_no_utf8(command: str, argument: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Python gives each undecodable byte as half of a character; it is answered as U+FFFD is."""
    half = argument.decode("utf-8", "surrogateescape")
    answers = []
    for text in (half, "".join("\ufffd" if "\udc80" <= letter <= "\udcff" else letter for letter in half)):
        assert cli.main([command, text, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
