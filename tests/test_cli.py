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

HEADS = [
    "masked-lm",
    "sequence-classification",
    "multiple-choice",
    "token-classification",
    "question-answering",
]


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
    assert list(blocks) == HEADS
    for block in blocks.values():
        *_, answer, last = block.splitlines()
        assert answer.split()[0] == "→"
        assert re.search(r"[\d.]+ ms; largest difference: float64 \S+ of 1\.0e-10 allowed, float32 \S+ of", last)
    assert "The weights are small and random." in out
    assert re.search(r"All \d+ outputs agree with the reference's\.$", out.strip())


def test_demo_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--json", "--dtype", "float64"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == nystrom_np.__version__
    assert told["agrees"] is True
    assert [head["head"] for head in told["heads"]] == HEADS
    for head in told["heads"]:
        assert head["agrees"]
        assert head["answer"]
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


def test_the_answers_are_the_models(weights: Path) -> None:
    shown = {item.head: item for item in demo.demonstrate(["float64"])}
    folder = weights / "sequence-classification"
    model = nystrom_np.NystromformerForSequenceClassification.from_pretrained(folder, dtype="float64")
    tokenizer = nystrom_np.NystromformerTokenizer.from_pretrained(folder)
    item = shown["sequence-classification"]
    logits = model(**tokenizer(item.text, return_tensors="np")).logits[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert item.answer == f"{model.config.id2label[int(logits.argmax())]} ({probabilities.max():.0%})"

    context = shown["question-answering"].text.split(" | ")[1]
    assert shown["question-answering"].answer.split("'")[1] in context
    _, *choices = shown["multiple-choice"].text.split(" | ")
    assert shown["multiple-choice"].answer.split("'")[1] in choices


def test_the_weights_are_found_in_an_installed_package_and_named_if_not_there(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.shipped_weights() == weights
    package = tmp_path / "site" / "nystrom_np"
    monkeypatch.setattr(demo, "__file__", str(package / "demo.py"))
    assert "shipped checkpoints are neither in" in fails(["demo"], capsys)
    (package / "_weights" / "masked-lm").mkdir(parents=True)
    assert demo.shipped_weights() == package / "_weights"


# verify


@pytest.mark.parametrize("head", HEADS)
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
    [("float64", 9e-11, 0), ("float64", 1.1e-10, 1), ("float32", 1e-4, 0), ("float32", 3e-4, 1)],
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


# fill-mask


def test_fill_mask_gives_the_likeliest_tokens(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Paris is the [MASK] of France."
    folder = checkpoints / "masked-lm-dense"
    options = ["--model", str(folder), "--top-k", "3", "--json", "--dtype", "float64"]
    assert cli.main(["fill-mask", text, *options]) == 0
    [guesses] = json.loads(capsys.readouterr().out)["masks"]
    model = nystrom_np.NystromformerForMaskedLM.from_pretrained(folder, dtype="float64")
    tokenizer = nystrom_np.NystromformerTokenizer.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="np")
    scores = model(**inputs).logits[0, inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)]
    best = np.argsort(-scores)[:3]
    assert [guess["token_id"] for guess in guesses] == best.tolist()
    assert [guess["token"] for guess in guesses] == [tokenizer.decode(index) for index in best]
    np.testing.assert_allclose(
        [guess["probability"] for guess in guesses], np.exp(scores[best]) / np.exp(scores).sum(), rtol=1e-12
    )
    filled = np.where(inputs.input_ids[0] == tokenizer.mask_token_id, best[0], inputs.input_ids[0])
    assert guesses[0]["sequence"] == tokenizer.decode(filled, skip_special_tokens=True)


def test_fill_mask_prints_guesses_for_every_mask(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fill-mask", "Paris is the [MASK] of [MASK].", "--top-k", "2"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert all(re.match(r" *[\d.]+%  .*paris is the.*\[MASK\]", line) for line in out.splitlines())
    assert "random" in err
    folder = str(checkpoints / "masked-lm-nystrom")
    assert cli.main(["fill-mask", "[MASK]", "--model", folder, "--dtype", "float16"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert err == ""


def test_fill_mask_refuses_what_it_cannot_do(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the text has no [MASK]: 'Paris'" in fails(["fill-mask", "Paris"], capsys)
    other = checkpoints / "question-answering-dense"
    assert "holds no NystromformerForMaskedLM: cls.predictions" in fails(
        ["fill-mask", "[MASK]", "--model", other], capsys
    )
    assert "64" in fails(["fill-mask", "[MASK]" + " a" * 100], capsys)
    assert "absent" in fails(["fill-mask", "[MASK]", "--model", "absent"], capsys)


def test_a_tokenizer_without_a_mask(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "is a BertModel, which is none of NystromformerForMaskedLM" in fails(["inspect", checkpoint], capsys)
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

    monkeypatch.setattr(answers, "fill_mask", fail)
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
