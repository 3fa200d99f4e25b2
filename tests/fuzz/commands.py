"""Command lines: each runs in a process of its own, beside sound and hostile files and with odd standard streams."""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from nystrom_np import cli
from tests.fuzz.mutate import ODD

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 9
SHARING = ("workers", "scheduler")
"""Options that start processes or ask a network."""

TEXTS = ["A [MASK] ran.", "", " ", "\0", "\ud800", "x" * 9999, "a " * 3000, "\x1b[31m", "two\nlines", "漢字", "[MASK]"]
PATHS = ["here", "model", "empty", "text.txt", "bytes.txt", "nothing.txt", "lines.jsonl", "bad.jsonl", "steps.npz"]
PATHS += ["trace.safetensors", "steps", "names.json", "inputs.json", "pipe", "loop", "link", "pipes", "missing", "a/b"]
PATHS += ["text.txt/below", "/dev/null", "/dev/full", "/proc/self/mem", ".", "", "\0", "\ud800", "\x1b[31mred", "a\nb"]
PATHS += ["x" * 300, "owner/name", "-", "~", "tests.png", "/"]
OUTPUTS = ["out.npy", "out.png", "out.svg", "out.html", "out.safetensors", "new/out.npy", "out", "new/", "empty/"]
WORDS = ["0", "1", "-1", "3", "4", "64", "1.5", "nan", "9" * 30, "9" * 5000, "1/2", "2/1", "cpu", "cuda", "cuda:9"]
WORDS += ["²", "٣", "mean", "first", "float32", "float64", "float16", "simple", "npy", "parquet", "text", "id"]
FITTING = {
    "text": TEXTS, "question": TEXTS, "context": TEXTS, "prompt": TEXTS, "choice": TEXTS, "target": ["cat", "dog", ""],
    "folder": ["here", "model"], "source": ["here", "model"], "model": ["here"], "file": ["text.txt", "-"],
    "input": ["text.txt", "lines.jsonl"], "output": OUTPUTS, "trace": ["trace.safetensors"], "names": ["names.json"],
    "theirs": ["trace.safetensors", "steps.npz", "steps"], "inputs": ["inputs.json", "steps.npz"], "device": ["cpu"],
}  # fmt: skip
QUICKER = {"explore": ["--model", "here"], "demo": ["--device", "cuda:9"]}
STEP = "nystromformer.encoder.layer.0.attention.self"
INPUTS = ["text", "nothing", "closed", "bytes"]
STREAMS = ["kept"] * 6 + ["closed", "broken", "full"]


def make_command(rng: random.Random) -> bytes:
    """Arguments of a subcommand as its parser knows them, most of them fitting, and what the streams are."""
    [commands] = (action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    name = rng.choice(list(commands.choices))
    arguments = []
    for action in commands.choices[name]._actions:
        wanted = not action.option_strings or action.required or rng.random() < 0.25
        if not wanted or action.dest in SHARING or rng.random() < 0.02:
            continue
        if action.dest in ("text", "choice", "input") or action.nargs is None:
            values = [value_of(action, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)) if action.nargs else 1)]
        else:
            values = [value_of(action, rng)] if action.nargs == "?" and rng.random() < 0.6 else []
        flag = action.option_strings[-1:]
        arguments += [f"{flag[0]}={values[0]}"] if flag and values and rng.random() < 0.5 else [*flag, *values]
    arguments += QUICKER.get(name, [])
    if rng.random() < 0.05:
        arguments.insert(rng.randrange(len(arguments) + 1), rng.choice(["--nonsense", "--", "-", "--help", "--json=1"]))
    streams = {
        "stdin": rng.choice(INPUTS),
        "stdout": rng.choice(STREAMS),
        "stderr": rng.choice(["kept"] * 20 + STREAMS),
    }
    return json.dumps({"arguments": [name, *arguments], **streams}).encode()


def value_of(action: argparse.Action, rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice([*PATHS, *WORDS, *TEXTS, *(str(value)[:5000] for value in ODD)])
    if action.choices:
        return str(rng.choice(list(action.choices)))
    return rng.choice(FITTING.get(action.dest, WORDS))


def files(folder: Path) -> None:
    """A place with what a command may be pointed at."""
    made = ROOT / "tests/checkpoints"
    (folder / "here").symlink_to(made / "masked-lm-dense")
    (folder / "model").symlink_to(made / "token-classification-nystrom")
    for name in ("empty", "steps", "pipes"):
        (folder / name).mkdir()
    (folder / "text.txt").write_text("A [MASK] ran.\n\nTwo words\n")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\0\n" * 9)
    (folder / "nothing.txt").touch()
    (folder / "lines.jsonl").write_text('"A [MASK]."\n{"text": "b"}\n{"prompt": "a", "choices": ["b", "c"]}\n')
    (folder / "bad.jsonl").write_text('{"a": NaN}\n' + "[" * 9999 + '\n{"text": 3}\n"\\ud800"\n')
    for name in ("pipe", "pipes/config.json", "pipes/model.safetensors", "pipes/tokenizer.json"):
        os.mkfifo(folder / name)
    (folder / "loop").symlink_to("loop")
    (folder / "link").symlink_to("missing")
    state = safetensors.numpy.load(trace_file())[STEP]
    np.savez(folder / "steps.npz", state=state)
    np.save(folder / "steps" / f"{STEP}.npy", state)
    (folder / "names.json").write_text(json.dumps({"state": STEP}))
    (folder / "inputs.json").write_text('{"input_ids": [[5, 6, 7]]}')
    (folder / "trace.safetensors").write_bytes(trace_file())


def trace_file() -> bytes:
    global _trace
    if not _trace:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.safetensors"
            with contextlib.redirect_stdout(None):
                model = str(ROOT / "tests/checkpoints/token-classification-dense")
                assert cli.main(["trace", model, "--text", "A dog.", "--output", str(path)]) == 0
            _trace = path.read_bytes()
    return _trace


_trace = b""


def judge_command(data: bytes, folder: Path) -> None:
    """Run it, and see that it ends in time, with a documented code, and says what is wrong in a line."""
    case = json.loads(data)
    files(folder)
    before = set(folder.iterdir())
    code = in_a_fork(lambda: run(case, folder), folder)
    said = (folder.parent / "stderr").read_text(errors="surrogateescape") if case["stderr"] == "kept" else ""
    printed = (folder.parent / "stdout").read_bytes() if case["stdout"] == "kept" else b""
    trace = folder.parent / "traceback"
    said += trace.read_text() if trace.exists() else ""
    for name in ("stdout", "stderr", "traceback"):
        (folder.parent / name).unlink(missing_ok=True)
    if code not in (0, 1, 2, 141):
        raise RuntimeError(f"it ended with {code}: {said[-600:]}")
    lines = said.splitlines()
    if not all(line.startswith("nystrom-np") for line in lines) or len(said) > 100_000:
        raise RuntimeError(f"it said {said[-200:]!r}")
    if code == 2 and case["stderr"] == "kept" and not lines:
        raise RuntimeError("it did not say why")
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for line in lines for letter in line):
        raise RuntimeError(f"it said {said[-200:]!r}, with control characters")
    if code == 0 and "--json" in case["arguments"] and printed:
        for document in [printed] if printed.startswith(b"{\n") else printed.splitlines():
            json.loads(document, parse_constant=lambda text: 1 / 0)
    left = {path.name for path in set(folder.iterdir()) - before if path.name.startswith(".")}
    if left:
        raise RuntimeError(f"it left {left}")
    if code == 2:
        raise ValueError("refused")


def in_a_fork(function: Callable[[], int], folder: Path) -> int:
    """Return how the function ends in a copy of this process; a negative number is that of a signal."""
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        code = 99
        try:
            os.chdir(folder)
            code = function()
        except BaseException:
            import traceback

            (folder.parent / "traceback").write_text(traceback.format_exc()[-600:], errors="replace")
        finally:
            os._exit(code if 0 <= code < 256 else 98)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(case: dict[str, Any], folder: Path) -> int:
    """What the process of a command does, from its streams to the last flush."""
    os.dup2(stdin_of("nothing" if case["stdin"] == "closed" else case["stdin"]), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(stream_of(case[name], folder.parent / name), number)
    sys.stdin = None if case["stdin"] == "closed" else os.fdopen(0, "r", closefd=False)
    sys.stdout = None if case["stdout"] == "closed" else os.fdopen(1, "w", closefd=False)
    sys.stderr = None if case["stderr"] == "closed" else os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if case[name] == "closed":
            os.close(number)
    try:
        code = cli.main(case["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 97
    if sys.stdout is not None:
        sys.stdout.flush()  # as Python does when it ends: what main has left there must not fail
    return code


def stdin_of(kind: str) -> int:
    content = {"text": b"A [MASK] ran.\n", "bytes": b"\xff\n", "nothing": b""}[kind]
    ends = os.pipe()
    os.write(ends[1], content)
    os.close(ends[1])
    return ends[0]


def stream_of(kind: str, path: Path) -> int:
    if kind == "broken":
        ends = os.pipe()
        os.close(ends[0])
        return ends[1]
    return os.open("/dev/full" if kind == "full" else path, os.O_WRONLY | os.O_CREAT)
