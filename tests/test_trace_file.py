"""Files of traces and of ports' steps, and the commands that write and compare them."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from docs.builder import blocks
from nystrom_np import NystromformerForMaskedLM, cli
from nystrom_np.causes import CAUSES
from nystrom_np.compare import compare
from nystrom_np.trace import run, trace
from nystrom_np.trace_file import load_steps, load_trace, save_trace
from tests.models import BASE, BODY, HEADS, MASKED_LM, MODELS, build_another, inputs_for
from tests.reference.client import ROOT, run_inside
from tests.reference.environment import ReferenceUnavailable
from tests.test_cli import fails
from tests.vectors import FOLDER, LANDMARKS

LOGITS = "cls.predictions.decoder"


@pytest.fixture(scope="module")
def traced():
    return trace(build_another(MASKED_LM), **inputs_for(MASKED_LM))


@pytest.fixture(scope="module")
def written(traced, tmp_path_factory):
    """A folder with a checkpoint, the inputs and the trace of it."""
    folder = tmp_path_factory.mktemp("traced")
    traced.model.save_pretrained(folder)
    save_file({name: np.ascontiguousarray(x) for name, x in traced.inputs.items()}, folder / "inputs.safetensors")
    arguments = ["trace", str(folder), "--inputs", str(folder / "inputs.safetensors")]
    assert cli.main([*arguments, "--output", str(folder / "trace.safetensors")]) == 0
    return folder


def test_a_file_holds_the_trace(traced, written):
    loaded = load_trace(written / "trace.safetensors")
    assert list(loaded) == list(traced)
    for name, step in traced.steps.items():
        np.testing.assert_array_equal(loaded[name], step.value)
        read = loaded.steps[name]
        assert (read.function, read.line, read.formula) == (step.function, step.line, step.formula)
        assert read.sources == step.sources
    for name, value in traced.inputs.items():
        np.testing.assert_array_equal(loaded.inputs[name], value)
    np.testing.assert_array_equal(loaded["logits"], traced["logits"])
    told = loaded.metadata
    assert (told["dtype"], told["model"], told["folder"]) == ("float64", "NystromformerForMaskedLM", str(written))
    kept = json.loads(told["config"])
    assert {name: kept[name] for name in BASE} == BASE
    assert json.loads(told["versions"]).keys() == {"nystrom_np", "numpy"}


def test_any_reader_of_safetensors_reads_it(traced, written):
    tensors = load_file(written / "trace.safetensors")
    assert tensors.keys() == {*traced, *(f"inputs/{name}" for name in traced.inputs)}


def test_a_file_alone_tells_rounding_as_the_model_does(traced, written):
    loaded = load_trace(written / "trace.safetensors")
    port = {name: (1.0 + 1e-6) * value for name, value in traced.items()}
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        here, there = (compare(one, port, dtype=dtype, causes=()) for one in (traced, loaded))
        assert here.steps == there.steps
    assert not compare(loaded, port).searched


def written_as(form: str, steps: dict, folder: Path) -> Path:
    """Write what a port has computed."""
    if form == "npy":
        for name, value in steps.items():
            np.save(folder / f"{name}.npy", value)
        return folder
    path = folder / f"theirs.{form}"
    np.savez(path, **steps) if form == "npz" else save_file(steps, path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "npz", "npy"])
def test_forms_of_files(traced, written, form, tmp_path, capsys):
    """The first step that is out is told with its cause, found in the checkpoint that the trace names."""
    arguments = ["compare", str(written / "trace.safetensors")]
    some = {name: np.ascontiguousarray(traced[name]) for name in list(traced)[::3]}
    assert cli.main([*arguments, str(written_as(form, some, tmp_path))]) == 0
    assert capsys.readouterr().out.endswith(f"All {len(some)} steps agree in float64.\n")
    cause = next(cause for cause in CAUSES if cause.name == "positions are not offset by 2")
    port = {name: np.ascontiguousarray(x) for name, x in run(traced.model, traced.inputs, cause.changes).items()}
    assert cli.main([*arguments, str(written_as(form, port, tmp_path)), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["first"], told["causes"]) == ("nystromformer.embeddings.position_embeddings", [cause.name])
    assert [row["name"] for row in told["steps"]] == list(traced)


def test_names_and_dtype(traced, written, tmp_path, capsys):
    save_file({"out": traced[LOGITS].astype("float32")}, tmp_path / "theirs.safetensors")
    (tmp_path / "names.json").write_text(json.dumps({"out": LOGITS}))
    arguments = ["compare", str(written / "trace.safetensors"), str(tmp_path / "theirs.safetensors")]
    named = [*arguments, "--names", str(tmp_path / "names.json")]
    assert cli.main(named) == 0
    assert cli.main([*named, "--dtype", "float64"]) == 1
    assert "The first step that differs is cls.predictions.decoder" in capsys.readouterr().out
    assert "'out' is none of the trace's" in fails(arguments, capsys)
    (tmp_path / "names.json").write_text('{"out": 3}')
    assert "names.json: 'out' must be the name of a step, not 3" in fails(named, capsys)
    (tmp_path / "names.json").write_text('{"in": "logits"}')
    assert "the names' map speaks of 'in'" in fails(named, capsys)


def test_bfloat16_is_read_and_judged_as_such(traced, written, tmp_path, capsys):
    bits = (traced[LOGITS].astype("<f4").view("<u4") + 0x8000 >> 16).astype("<u2")
    header = {LOGITS: {"dtype": "BF16", "shape": list(bits.shape), "data_offsets": [0, bits.nbytes]}}
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bits.tobytes())
    assert load_steps(tmp_path / "x.safetensors").dtype == "bfloat16"
    assert cli.main(["compare", str(written / "trace.safetensors"), str(tmp_path / "x.safetensors")]) == 0
    assert "in bfloat16" in capsys.readouterr().out


def test_without_the_checkpoint_no_cause_is_looked_for(traced, written, tmp_path, capsys):
    moved = tmp_path / "trace.safetensors"
    save_trace(traced, moved)
    save_file({LOGITS: traced[LOGITS] + 1.0}, tmp_path / "theirs.safetensors")
    arguments = ["compare", str(moved), str(tmp_path / "theirs.safetensors")]
    assert cli.main(arguments) == 1
    assert "cause: not looked for" in capsys.readouterr().out
    assert cli.main([*arguments, "--model", str(written)]) == 1
    assert "cause: none of the known ones" in capsys.readouterr().out
    build_another(MASKED_LM, length=5).save_pretrained(tmp_path / "other")
    assert "is a trace of another NystromformerForMaskedLM" in fails(
        [*arguments, "--model", tmp_path / "other"], capsys
    )


WRONG = {
    "cut.safetensors": lambda path, data: path.write_bytes(data[:-9]),
    "empty.safetensors": lambda path, data: path.write_bytes(b""),
    "header.safetensors": lambda path, data: path.write_bytes(data[:100] + b"\xff" + data[101:]),
    "page.safetensors": lambda path, data: path.write_bytes(b"<!DOCTYPE html><html>"),
    "no arrays.safetensors": lambda path, data: save_file({}, path),
    "words.npz": lambda path, data: path.write_bytes(b"PK not a zip"),
    "cut.npz": lambda path, data: (np.savez(path, a=np.ones(9)), path.write_bytes(path.read_bytes()[:-40])),
    "objects.npz": lambda path, data: np.savez(path, a=np.array([{}])),
    "npys": lambda path, data: (path.mkdir(), (path / "logits.npy").write_bytes(b"\x93NUMPY\x01")),
    "bare": lambda path, data: path.mkdir(),
    "text.txt": lambda path, data: path.write_text("steps"),
    "missing": lambda path, data: None,
    "shape.npz": lambda path, data: np.savez(path, logits=np.zeros((2, 3))),
    "whole.npz": lambda path, data: np.savez(path, logits=np.zeros((2, 11, 53), int)),
    "misnamed.npz": lambda path, data: np.savez(path, **{"nystromformer.embeddings.q": np.zeros(2)}),
}
SAID = {
    "cut.safetensors": "is not a sound safetensors file", "empty.safetensors": "is not a sound safetensors file",
    "header.safetensors": "is not a sound safetensors file", "page.safetensors": "an HTML page",
    "no arrays.safetensors": "holds no arrays", "words.npz": "is not a sound .npz file",
    "cut.npz": "is not a sound .npz file", "objects.npz": "is not a sound .npz file",
    "npys": "logits.npy is not a sound .npy file", "bare": "has neither .npy files nor a tree",
    "text.txt": "must be a .safetensors file", "missing": "no file or folder",
    "shape.npz": "'logits' must have shape (2, 11, 53); found (2, 3)", "whole.npz": "'logits' must hold floats",
    "misnamed.npz": "is none of the trace's",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_theirs_is_one_sentence(written, name, tmp_path, capsys):
    WRONG[name](tmp_path / name, (written / "trace.safetensors").read_bytes())
    assert SAID[name] in fails(["compare", written / "trace.safetensors", tmp_path / name], capsys)


def test_what_is_wrong_in_a_trace_is_one_sentence(written, tmp_path, capsys):
    theirs = written / "trace.safetensors"
    assert "is no trace: its metadata's format" in fails(["compare", written / "inputs.safetensors", theirs], capsys)
    assert "no file" in fails(["compare", tmp_path / "none.safetensors", theirs], capsys)
    tensors, told = load_file(theirs), load_trace(theirs).metadata
    del tensors[LOGITS]
    save_file(tensors, tmp_path / "less.safetensors", metadata=told)
    assert "less.safetensors is a damaged trace" in fails(["compare", tmp_path / "less.safetensors", theirs], capsys)
    for key in told.keys() - {"format", "folder", "versions", "dtype", "model", "config", "parameters"}:
        save_file(load_file(theirs), tmp_path / "other.safetensors", metadata=told | {key: "{"})
        assert "is a damaged trace" in fails(["compare", tmp_path / "other.safetensors", theirs], capsys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"input_ids": [[3, 4], [5]]}', "holds no arrays of numbers"),
        ('{"words": [[3]]}', "NystromformerForMaskedLM takes no words"),
        ('{"input_ids": [[3', "is not usable JSON"),
        ('{"input_ids": [[300]]}', "300"),
    ],
)
def test_wrong_inputs_write_nothing(written, content, said, tmp_path, capsys):
    (tmp_path / "inputs.json").write_text(content)
    output = tmp_path / "trace.safetensors"
    assert said in fails(["trace", written, "--inputs", tmp_path / "inputs.json", "--output", output], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs.json"]
    assert "must end in .safetensors" in fails(
        ["trace", written, "--inputs", tmp_path / "inputs.json", "--output", tmp_path / "trace.npz"], capsys
    )


@pytest.mark.parametrize("head", ["masked-lm", "multiple-choice"])
def test_a_text_is_traced(weights, head, tmp_path, capsys):
    output = tmp_path / "trace.safetensors"
    arguments = ["trace", str(weights / head), "--text", "A dog ran.", "--text", "Paris", "--output", str(output)]
    assert cli.main([*arguments, "--num-landmarks", "2", "--json"]) == 0
    told, loaded = json.loads(capsys.readouterr().out), load_trace(output)
    assert told == {"file": str(output), "steps": {name: list(x.shape) for name, x in loaded.items()}}
    assert loaded.inputs["input_ids"].ndim == (3 if head == "multiple-choice" else 2)
    assert json.loads(loaded.metadata["config"])["num_landmarks"] == 2
    assert loaded["logits"].dtype == "float64"


def test_the_debuggers_folder(traced, written, tmp_path, capsys):
    """As transformers 5.23.0 names its files."""
    head = "NystromformerForMaskedLM"
    (tmp_path / f"{head}_debug_tree_FULL_TENSORS.json").write_text("{}")
    arguments = ["compare", written / "trace.safetensors", tmp_path]
    assert "the debugger writes them with use_repr=False" in fails(arguments, capsys)
    for name, file in {
        "nystromformer.encoder.layer.0.attention.self.query": f"{head}.{{}}_outputs.safetensors",
        "nystromformer.encoder.layer.0.attention.self": f"{head}.{{}}_outputs_0.safetensors",
        "logits": f"{head}_outputs_{{}}.safetensors",
    }.items():
        save_file({"data": np.ascontiguousarray(traced[name])}, tmp_path / file.format(name))
    save_file({"data": np.zeros(3)}, tmp_path / f"{head}.nystromformer.embeddings_inputs_args_0.safetensors")
    assert cli.main([str(argument) for argument in arguments]) == 0
    assert "All 3 steps agree" in capsys.readouterr().out
    save_file({"weights": np.zeros(3)}, tmp_path / f"{head}_outputs_logits.safetensors")
    assert "must hold one tensor, data; found weights" in fails(arguments, capsys)


def test_the_shipped_vectors_are_what_is_traced_today():
    """Of the checkpoints beside them, in which no parameter is trivial; a few hundred kilobytes in all."""
    for branch in LANDMARKS:
        model = NystromformerForMaskedLM.from_pretrained(FOLDER / branch, dtype="float64")
        for name, value in model.state_dict().items():
            assert ((value != 0) & (value != 1)).all(), name
        stored = load_trace(FOLDER / branch / "trace.safetensors", model)
        today = trace(model, **stored.inputs)
        assert list(today) == list(stored)
        for name, value in today.items():
            np.testing.assert_allclose(value, stored[name], rtol=1e-12, atol=1e-12, err_msg=name)
        assert any(name.endswith("pinv.6") for name in stored) == (branch == "nystrom")
        assert compare(stored, load_steps(FOLDER / branch / "trace.safetensors").steps).agrees
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 300_000


@pytest.fixture(scope="module")
def in_c():
    """Of the page on ports: the program in C, and what it is said to print."""
    found = blocks.blocks_of((blocks.DOCS / "howto-port.md").read_text(encoding="utf-8"))
    (at,) = (number for number, block in enumerate(found) if block.language == "c")
    return found[at].text, found[at + 1].text


def test_the_program_in_c_reads_a_step(in_c, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler, cc")
    (tmp_path / "step.c").write_text(in_c[0], encoding="utf-8")
    warned = [compiler, "-Wall", "-Wextra", "-Werror", "-o", "step", "step.c"]
    subprocess.run(warned, cwd=tmp_path, check=True, timeout=60)

    def step(name, path=FOLDER / "nystrom" / "trace.safetensors"):
        arguments = [tmp_path / "step", path, name]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    assert step("nystromformer.encoder.layer.0.attention.self.F") == (0, in_c[1])
    for branch in LANDMARKS:
        path = FOLDER / branch / "trace.safetensors"
        for name, value in load_trace(path).items():
            shape = json.dumps(value.shape, separators=(",", ":"))
            first = "".join(f"{number:.15f}\n" for number in value.ravel()[:4])
            assert step(name, path) == (0, f"{shape}\n{first}")
    assert step("inputs/input_ids") == (2, "step: the step is not in float64\n")
    assert step("nystromformer.encoder.layer.0") == (2, "step: the trace has no such step\n")
    assert step("loss", FOLDER / "nystrom" / "config.json") == (2, "step: this is no trace\n")


@pytest.mark.reference
@pytest.mark.parametrize("model", MODELS)
def test_what_the_debugger_of_transformers_5_writes_agrees(model, tmp_path, capsys):
    length = 16
    built, inputs = build_another(model, length=length), inputs_for(model, length=length)
    del inputs["attention_mask"]  # with a mask, transformers 5.23.0 raises on the Nyström branch
    built.save_pretrained(tmp_path)
    save_file({name: np.ascontiguousarray(value) for name, value in inputs.items()}, tmp_path / "inputs.safetensors")
    try:
        run_inside("5.23.0", ROOT / "tests" / "reference" / "run_debugger.py", tmp_path)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    save_trace(trace(built, **inputs), tmp_path / "trace.safetensors")
    found = load_steps(tmp_path / "debugger").steps
    assert len(found) > (25 if model is BODY else 26)
    assert (model in HEADS) <= any(name.endswith("logits") for name in found)
    assert cli.main(["compare", str(tmp_path / "trace.safetensors"), str(tmp_path / "debugger")]) == 0
    assert "steps agree in float64" in capsys.readouterr().out
