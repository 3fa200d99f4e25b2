"""What is changed and what is done with it: each area makes the bytes of a case, and judges bytes."""

import contextlib
import inspect
import io
import json
import pickletools
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import nystrom_np
from nystrom_np import NystromformerConfig, NystromformerForTokenClassification, NystromformerTokenizer, cli, functional
from nystrom_np.convert import convert
from nystrom_np.demo import verify
from nystrom_np.fast import definitions
from nystrom_np.torch_archive import read_state_dict
from tests.fuzz.commands import STEP, files, judge_command, make_command
from tests.fuzz.mutate import mutated_bytes, mutated_json, mutated_value
from tests.torch_files import archive, state_dict

ROOT = Path(__file__).resolve().parents[2]
TASKS = ["fill-mask", "text-classification", "token-classification", "question-answering", "multiple-choice"]
IDS = np.arange(24).reshape(2, 12) % 17


class WrongAnswer(Exception):
    """An answer that is not the definition's."""


class Area(NamedTuple):
    """How a case is made of random numbers, and what is done with it in an empty folder."""

    make: Callable[[random.Random], bytes]
    judge: Callable[[bytes, Path], object]


def same(found: Any, expected: Any) -> None:
    """Compare arrays where the definition's values are finite."""
    for one, other in zip(arrays(found), arrays(expected), strict=True):
        largest = float(np.max(np.abs(other), initial=0)) if other.dtype.kind == "f" else np.nan
        allowed = largest * (
            1e-2 if 2 in (one.dtype.itemsize, other.dtype.itemsize) else 1e-4
        )  # in float16 each step of a formula rounds
        if np.isfinite(largest) and not np.allclose(one, other, atol=allowed, rtol=0):
            raise WrongAnswer(f"differs by {np.max(np.abs(one - other))} of {largest}")


def arrays(value: Any) -> list[np.ndarray]:
    parts = value if isinstance(value, tuple | list) else value.values() if hasattr(value, "values") else None
    return [np.asarray(value)] if parts is None else [array for part in parts for array in arrays(part)]


# ---------------------------------------------------------------------------------------------- checkpoints


@cache
def checkpoint() -> dict[str, bytes]:
    """The files of a very small model."""
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = NystromformerConfig(**sizes, vocab_size=17, max_position_embeddings=12, num_landmarks=4)
    model = NystromformerForTokenClassification(config)
    folder = Path(model_folder())
    model.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@cache
def model_folder() -> str:
    import tempfile

    return tempfile.mkdtemp()


def with_files(folder: Path, **changed: bytes) -> Path:
    for name, data in (checkpoint() | changed).items():
        (folder / name).write_bytes(data)
    return folder


def load_and_run(folder: Path) -> None:
    model = NystromformerForTokenClassification.from_pretrained(folder)
    if model.config.num_hidden_layers < 99:
        found = model(IDS).logits
        with definitions():
            same(found, model(IDS).logits)
    model.save_pretrained(folder / "again")


def make_weights(rng: random.Random) -> bytes:
    data = checkpoint()["model.safetensors"]
    size = 8 + struct.unpack("<Q", data[:8])[0]
    if rng.random() < 0.3:
        return mutated_bytes(data, rng)
    header = mutated_json(data[8:size], rng)
    return struct.pack("<Q", len(header)) + header + data[size:]


def make_index(rng: random.Random) -> bytes:
    names = ["a.safetensors", "b.safetensors"]
    return mutated_json(json.dumps({"metadata": {}, "weight_map": {"x": names[0], "y": names[1]}}).encode(), rng)


def judge_index(data: bytes, folder: Path) -> None:
    with_files(folder, **{"model.safetensors.index.json": data})
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "b.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    load_and_run(folder)


def judge_config(data: bytes, folder: Path) -> None:
    with_files(folder, **{"config.json": data})
    config = NystromformerConfig.from_pretrained(folder)
    config.to_json_string()
    repr(config)
    load_and_run(folder)


# ------------------------------------------------------------------------------------------- tokenizer files

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def make_tokenizer(rng: random.Random) -> bytes:
    """One of the three files, whose number comes first."""
    number = rng.choice((0, 0, 0, 1, 2))
    data = (ROOT / "tests/checkpoints/tokenizer" / FILES[number]).read_bytes()
    if number == 0 and rng.random() < 0.7:
        whole = json.loads(data)
        part = rng.choice(list(whole))
        kinds = [{"type": "Precompiled", "precompiled_charsmap": "AAQAAA=="}, {"type": "Prepend", "prepend": "x"}]
        if part == "normalizer" and rng.random() < 0.5:
            whole[part] = rng.choice(kinds)
        changed = mutated_json(json.dumps(whole[part]).encode(), rng)
        try:
            return b"0" + json.dumps({**whole, part: json.loads(changed)}).encode()
        except (ValueError, RecursionError):
            pass
    return str(number).encode() + mutated_json(data, rng)


def judge_tokenizer(data: bytes, folder: Path) -> None:
    for name in FILES:
        shutil.copy(ROOT / "tests/checkpoints/tokenizer" / name, folder)
    (folder / FILES[int(data[:1])]).write_bytes(data[1:])
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    ids = tokenizer(["The [MASK] sat, wörld 漢字 don't!", ""], truncation=True, max_length=20).input_ids
    tokenizer.batch_decode(ids, skip_special_tokens=True)
    repr(tokenizer)
    tokenizer.save_pretrained(folder / "again")


# -------------------------------------------------------------------------------------------- torch archives


@cache
def torch_parts() -> tuple[bytes, dict[str, bytes]]:
    model = NystromformerForTokenClassification.from_pretrained(with_files(Path(model_folder())))
    made = archive({"model": state_dict(model.state_dict()), "step": 3, "more": [(1, None), {"a": 0.5}]})
    return made.pickle, made.entries


STEPS = [
    b"N",
    b"]",
    b"}",
    b")",
    b"(",
    b"a",
    b"e",
    b"s",
    b"u",
    b"t",
    b"\x85",
    b"\x86",
    b"q\0",
    b"h\0",
    b"R",
    b"Q",
    b"b",
    b".",
]
STEPS += [b"K\1", b"X\1\0\0\0a", b"ctorch\nSize\n", b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n"]
STEPS += [b"cos\nsystem\n", b"\x8f", b"\x90", b"G" + bytes(8), b"\x8a\1\1", b"h\0h\0\x86q\0"]


def mutated_pickle(pickled: bytes, rng: random.Random) -> bytes:
    """Change bytes, or put instructions where others begin; or take instructions alone."""
    if rng.random() < 0.3:
        return mutated_bytes(pickled, rng)
    if rng.random() < 0.3:
        return b"\x80\x02" + b"".join(rng.choices(STEPS, k=rng.choice((3, 10, 30)))) * rng.choice((1, 9, 999)) + b"."
    places = [place for _, _, place in pickletools.genops(pickled)]
    for place in sorted(rng.choices(places, k=rng.choice((1, 1, 2, 5))), reverse=True):
        pickled = pickled[:place] + b"".join(rng.choices(STEPS, k=rng.choice((0, 1, 3)))) + pickled[place + 1 :]
    return pickled


def make_archive(rng: random.Random) -> bytes:
    pickled, entries = torch_parts()
    raw = rng.random() < 0.3
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.03 else zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", pickled if raw else mutated_pickle(pickled, rng))
        for name, content in entries.items():
            file.writestr(f"archive/{name}", mutated_bytes(content, rng) if rng.random() < 0.02 else content)
    return mutated_bytes(out.getvalue(), rng) if raw else out.getvalue()


def judge_archive(data: bytes, folder: Path) -> None:
    with_files(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(data)
    read_state_dict(folder / "pytorch_model.bin")
    convert(folder, folder / "made")


# ---------------------------------------------------------------------- arguments, as the source of a call

VALUES = [
    *("None", "True", "-1", "0", "1", "3", "2**31", "2**63", "10**30", "1.5", "nan", "inf", "1j", "''", "'x'", "b'x'"),
    *(
        "[]",
        "[[]]",
        "{}",
        "set()",
        "range(5)",
        "object()",
        "len",
        "np.zeros(0)",
        "np.zeros((2, 0, 4))",
        "[[1], [1, 2]]",
    ),
    *("np.full((2, 8, 4), np.nan)", "np.ones((2, 8, 4), int)", "np.ones((2, 12), bool)", "np.array(['a'])", "IDS"),
    *("np.array([None, 1])", "np.full((2, 8, 4), 1e300)", "np.full((2, 8, 4), -1e30)", "draw(2, 8, 4)", "draw(8, 4)"),
    *("draw(4, 4)", "draw(4)", "draw(2, 8, 4) * 1e4", "np.float32(draw(2, 8, 4))", "np.float16(draw(2, 8, 4))"),
    *("np.ones((2, 8, 4), complex)", "np.ma.ones((2, 8, 4))", "draw(2, 8, 4)[:, ::-1]", "np.ones((2, 12), int)"),
]
NUMBERS = ["1", "2", "4", "8"]
FUNCTIONS = [name for name in functional.__all__ if callable(getattr(functional, name))]
CALLED = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds", "labels", "head_mask"]
CALLED += ["output_attentions", "output_hidden_states", "return_dict"]


def make_call(rng: random.Random) -> bytes:
    kind = rng.randrange(3)
    if kind == 0:
        name = rng.choice(FUNCTIONS)
        parameters = inspect.signature(getattr(functional, name)).parameters.values()
        needed = [one for one in parameters if one.default is one.empty or rng.random() < 0.2]
        fitting = rng.choice((VALUES, ["draw(2, 8, 4)", "draw(2, 8, 4) * 1e4", "draw(4, 4)"]))
        arguments = [
            rng.choice(VALUES if rng.random() < 0.2 else NUMBERS if "num" in p.name else fitting) for p in needed
        ]
        return f"F.{name}({', '.join(f'{p.name}={x}' for p, x in zip(needed, arguments, strict=True))})".encode()
    names = CALLED if kind == 1 else [*vars(NystromformerConfig()), "num_labels"]
    given = {name: rng.choice(VALUES) for name in rng.sample(names, rng.randrange(1, 3))}
    if kind == 1 and rng.random() < 0.7:
        given["input_ids"] = "IDS"
    return f"{'model' if kind == 1 else 'configured'}({', '.join(f'{n}={v}' for n, v in given.items())})".encode()


def configured(**given: Any) -> None:
    """Make a configuration, a small model of it, and write it as text."""
    config = NystromformerConfig(**given)
    repr(config)
    small = (config.vocab_size, config.hidden_size, config.intermediate_size, config.max_position_embeddings)
    if max(small) < 40_000 and config.num_hidden_layers < 20 and config.type_vocab_size < 1000:
        config.to_dict()


def judge_call(data: bytes, folder: Path) -> None:
    model = NystromformerForTokenClassification.from_pretrained(with_files(folder))
    rng = np.random.default_rng(0)
    names = {"np": np, "F": functional, "IDS": IDS, "nan": np.nan, "inf": np.inf, "configured": configured}

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape)

    with np.errstate(all="ignore"):
        found = eval(data, {**names, "model": model, "draw": draw})
        if found is not None:
            rng = np.random.default_rng(0)
            with definitions():
                same(found, eval(data, {**names, "model": model, "draw": draw}))


# ------------------------------------------------------------------------------- pipelines, likewise

TEXTS = [
    *(
        "''",
        "'a'",
        "'The [MASK] sat.'",
        "'[MASK]' * 30",
        "'a ' * 3000",
        "'\\ud800'",
        "'\\0'",
        "'漢' * 500",
        "'x' * 9999",
    ),
    *(
        "['a', '']",
        "[]",
        "[['a', 'b']]",
        "('a', 'b')",
        "{'text': 'a', 'text_pair': 'b'}",
        "{'question': 'a', 'context':",
    ),
    *("{'question': 'Who?', 'context': 'a b ' * 300}", "{'question': 'q ' * 90, 'context': 'a b'}", "iter(['a'])"),
    *("{'prompt': 'a', 'choices': ['b', 'c']}", "{'prompt': 'a', 'choices': []}", "['a', None]", "{'question': 3}"),
]
OPTIONS = ["top_k", "max_length", "truncation", "padding", "batch_size", "targets", "function_to_apply", "stride"]
OPTIONS += ["aggregation_strategy", "ignore_labels", "max_seq_len", "doc_stride", "max_question_len", "max_answer_len"]
OPTIONS += ["handle_impossible_answer", "align_to_words", "num_workers", "nonsense"]
SENSIBLE = ["1", "5", "'max'", "'simple'", "'softmax'", "'none'", "['cat', 'dog']", "True", "False", "8", "64"]


def make_asked(rng: random.Random) -> bytes:
    text = rng.choice([text for text in TEXTS if not text.endswith(":")] + VALUES)
    options = {name: rng.choice(VALUES + 4 * SENSIBLE) for name in rng.sample(OPTIONS, rng.randrange(3))}
    given = ", ".join([text, *(f"{name}={value}" for name, value in options.items())])
    return f"answered({rng.choice(TASKS)!r})({given})".encode()


@cache
def answered(task: str) -> Callable[..., Any]:
    pipe = nystrom_np.pipeline(task)

    def call(*inputs: Any, **options: Any) -> Any:
        found = pipe(*inputs, **options)
        return found if isinstance(found, dict | list) else list(found)

    return call


def judge_asked(data: bytes, folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = {"np": np, "IDS": IDS, "nan": np.nan, "inf": np.inf, "answered": answered}
    eval(data, {**names, "draw": lambda *shape: rng.normal(size=shape)})


# ---------------------------------------------------------------------------------- stored outputs

STORED = ROOT / "tests/checkpoints/token-classification-dense"


def make_stored(rng: random.Random) -> bytes:
    """``reference.json`` or ``reference.safetensors``, whose number comes first."""
    if rng.random() < 0.6:
        return b"0" + mutated_json((STORED / "reference.json").read_bytes(), rng)
    data = (STORED / "reference.safetensors").read_bytes()
    size = 8 + struct.unpack("<Q", data[:8])[0]
    header = mutated_json(data[8:size], rng)
    return b"1" + struct.pack("<Q", len(header)) + header + data[size:]


def judge_stored(data: bytes, folder: Path) -> None:
    for path in STORED.iterdir():
        (folder / path.name).symlink_to(path)
    changed = folder / ("reference.json", "reference.safetensors")[int(data[:1])]
    changed.unlink()
    changed.write_bytes(data[1:])
    list(verify(folder, dtypes=("float64",)))


# ------------------------------------------------------------------------------------------- steps of ports

TRACED = ("trace.safetensors", "steps.npz", f"steps/{STEP}.npy", "names.json", "inputs.json")


def make_steps(rng: random.Random) -> bytes:
    """One of the files that `trace` and `compare` read, whose number comes first."""
    number = rng.choice((0, 0, 1, 2, 2, 3, 4))
    data = traced()[TRACED[number]]
    if number > 2:
        return str(number).encode() + mutated_json(data, rng)
    if number > 0 or rng.random() < 0.1:
        return str(number).encode() + mutated_bytes(data, rng)
    size = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:size])
    told = rng.choice(list(header["__metadata__"]))
    try:
        header["__metadata__"][told] = mutated_json(header["__metadata__"][told].encode(), rng).decode()
    except ValueError:  # it is a plain text, or one no more
        header = mutated_value(header, rng)
    try:
        made = json.dumps(header).encode()
    except RecursionError:
        made = b"[" * 9999
    return b"0" + struct.pack("<Q", len(made)) + made + data[size:]


@cache
def traced() -> dict[str, bytes]:
    folder = Path(model_folder())
    files(folder)
    return {name: (folder / name).read_bytes() for name in TRACED}


def judge_steps(data: bytes, folder: Path) -> None:
    number, changed = int(data[:1]), folder / Path(TRACED[int(data[:1])]).name
    for name, content in traced().items():
        (folder / Path(name).name).write_bytes(content)
    changed.write_bytes(data[1:])
    (folder / "steps").mkdir()
    (folder / Path(TRACED[2]).name).rename(folder / TRACED[2])
    trace, model = folder / "trace.safetensors", str(ROOT / "tests/checkpoints/token-classification-dense")
    theirs = folder / {1: "steps.npz", 2: "steps", 3: "steps.npz"}.get(number, "trace.safetensors")
    command = ["compare", str(trace), str(theirs), "--model", model]
    command += ["--names", str(folder / "names.json")] if number in (1, 3) else []
    if number == 4:
        command = ["trace", model, "--inputs", str(changed), "--output", str(folder / "new.safetensors")]
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = cli.main(command)
    if code == 2:
        raise ValueError(said.getvalue().rstrip("\n"))


AREAS = {
    "weights": Area(make_weights, lambda data, folder: load_and_run(with_files(folder, **{"model.safetensors": data}))),
    "indexes": Area(make_index, judge_index),
    "configs": Area(lambda rng: mutated_json(checkpoint()["config.json"], rng), judge_config),
    "tokenizers": Area(make_tokenizer, judge_tokenizer),
    "archives": Area(make_archive, judge_archive),
    "arguments": Area(make_call, judge_call),
    "pipelines": Area(make_asked, judge_asked),
    "stored": Area(make_stored, judge_stored),
    "steps": Area(make_steps, judge_steps),
    "commands": Area(make_command, judge_command),
}
