"""Files made to do harm: each is refused in one sentence, in time that is bounded."""

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from nystrom_np import NystromformerConfig, NystromformerModel, trace_file
from nystrom_np.checkpoint import CheckpointError, read_shards
from nystrom_np.convert import _copy_tokenizer
from nystrom_np.pipelines import pipeline
from nystrom_np.pipelines.question_answering import spans
from nystrom_np.tokenization import NystromformerTokenizer
from nystrom_np.torch_archive import load_archive
from nystrom_np.torch_pickle import DEEPEST
from nystrom_np.trace import Trace, trace
from nystrom_np.trace_file import load_steps, load_trace, save_trace
from tests.torch_files import Archive

pytestmark = pytest.mark.host

# -------------------------------------------------------------------------------------------- torch's pickles

KEY = b"X\x01\x00\x00\x00a"


@pytest.mark.parametrize(
    "instructions",
    [
        b"]q\x00h\x00a",  # a list in itself
        b"}q\x00" + KEY + b"h\x00s",  # a dictionary in itself
        b"]q\x00h\x00\x85a",  # through a tuple
        b"]" * 100_000 + b"a" * 99_999,
        b")" + b"\x85" * 100_000,
        (b"}" + KEY) * 50_000 + b"N" + b"s" * 50_000,
        b"]q\x00" + b"h\x00h\x00\x86q\x00" * 60_000,  # 2⁶⁰⁰⁰⁰ lists, if each were visited where it lies
    ],
)
def test_containers_in_themselves_or_too_deep(instructions: bytes, tmp_path: Path) -> None:
    path = Archive(b"\x80\x02" + instructions + b".").write(tmp_path / "file.bin")
    with pytest.raises(CheckpointError, match=rf"file\.bin: its pickle is refused: .* more than {DEEPEST} deep"):
        load_archive(path)


def test_containers_as_deep_as_is_allowed(tmp_path: Path) -> None:
    deep = b"]" * DEEPEST + b"a" * (DEEPEST - 1)
    assert load_archive(Archive(b"\x80\x02" + deep + b".").write(tmp_path / "file.bin")) == eval("[" * 32 + "]" * 32)


# ------------------------------------------------------------------------------------------------------ links


def index_of(folder: Path, shard: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    return index


def test_a_shard_that_is_a_link_to_outside(tmp_path: Path) -> None:
    index = index_of(tmp_path / "made", "one.safetensors")
    (tmp_path / "secret").write_text("secret")
    link = index.with_name("one.safetensors")
    for target in (tmp_path / "secret", Path("../secret")):
        link.symlink_to(target)
        with pytest.raises(CheckpointError, match=r"one\.safetensors is a link that leaves its folder"):
            read_shards(index, lambda path: {"a": path.read_text()})
        link.unlink()
    index.with_name("within").write_text("here")
    link.symlink_to("within")
    assert read_shards(index, lambda path: {"a": path.read_text()}) == {"a": "here"}


def test_the_links_of_a_cache(tmp_path: Path) -> None:
    index = index_of(tmp_path / "models--a--b" / "snapshots" / "0123", "one.safetensors")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    (blobs / "4567").write_text("blob")
    index.with_name("one.safetensors").symlink_to("../../blobs/4567")
    assert read_shards(index, lambda path: {"a": path.read_text()}) == {"a": "blob"}


def test_a_link_is_not_copied_by_convert(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "spiece.model").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"spiece\.model is a link that leaves its folder"):
        _copy_tokenizer(tmp_path / "from", tmp_path / "to")
    assert not any((tmp_path / "to").iterdir())


# -------------------------------------------------------------------------------------------- tokenizer.json


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    shutil.copy(weights / "masked-lm" / "tokenizer.json", tmp_path / "tokenizer.json")
    return tmp_path


def edit(folder: Path, **values: Any) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def charsmap(content: bytes) -> dict[str, str]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


@pytest.mark.parametrize(
    ("normalizer", "message"),
    [
        (charsmap(b"\xff\xff\xff\x7f" + bytes(8)), "a table of 2147483647 bytes, and has 8 after that"),  # it aborts
        (charsmap(b""), "a table of 0 bytes, expected a multiple of 4"),
        (charsmap(b"\5\0\0\0abcdefgh"), "a table of 5 bytes, expected a multiple of 4"),
        (charsmap(b"\4\0\0\0abcd\xff"), "texts that are not UTF-8"),
        ({"type": "Precompiled", "precompiled_charsmap": "abcde"}, "is not base64"),
        ({"type": "Precompiled", "precompiled_charsmap": None}, "is not base64"),
        ({"type": "Replace", "pattern": {"String": "a"}, "content": "x" * 10_001}, "'content' has 10001 characters"),
        ({"type": "Replace", "pattern": {"Regex": "x" * 10_001}, "content": ""}, "'Regex' has 10001 characters"),
    ],
)
def test_normalizers_that_the_library_does_not_survive(folder: Path, normalizer: Any, message: str) -> None:
    for value in (normalizer, {"type": "Sequence", "normalizers": [normalizer]}):
        edit(folder, normalizer=value)
        with pytest.raises(ValueError, match=rf"tokenizer\.json: .*{message}"):
            NystromformerTokenizer.from_pretrained(folder)


def test_a_table_that_is_sound(folder: Path) -> None:
    edit(folder, normalizer=charsmap(b"\0\4\0\0" + bytes(1024) + b"x\0"))
    assert NystromformerTokenizer.from_pretrained(folder)("a").input_ids


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"normalizer": ' + '{"a":' * 70 + "1" + "}" * 71])
def test_what_is_no_json_or_too_deep(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match=r"tokenizer\.json (cannot be read|is nested more than 64 deep)"):
        NystromformerTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"normalizer": charsmap(b"\4\0\0\0\xff\xff\xff\xff")},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_panic_while_encoding_is_an_error(folder: Path, changed: Any, capfd: pytest.CaptureFixture[str]) -> None:
    edit(folder, **changed)
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"chunk size|index out of bounds"):
        tokenizer("Hello")
    with pytest.raises(ValueError, match=r"chunk size|index out of bounds"):
        tokenizer.windows("Hello", max_length=8)


# ------------------------------------------------------------------------------------------------- long texts


@pytest.mark.parametrize("longest", [1, 3, 20, 10**30])
def test_spans_are_those_of_all_pairs(longest: int) -> None:
    rng = np.random.default_rng(0)
    start, end = rng.integers(0, 4, size=(2, 20)) / 4  # many are equal
    pairs = [(start[i] * end[j], i, j) for i in range(20) for j in range(i, min(20, i + longest)) if i != 4]
    expected = sorted((pair for pair in pairs if pair[0] > 0), key=lambda pair: -pair[0])
    assert spans(start, end, 400, longest, nowhere=4) == expected
    assert spans(start, end, 7, longest, nowhere=4) == expected[:7]


def test_spans_of_many_tokens_need_no_table_of_all_pairs() -> None:
    chances = np.full(10**6, 1e-6)  # a table would have 8 TB
    assert spans(chances, chances, 1, 15) == [(1e-6 * 1e-6, 1, 1)]


@pytest.mark.parametrize("hidden", [True, False])
def test_a_table_whose_name_is_written_with_escapes(folder: Path, hidden: bool) -> None:
    edit(folder, normalizer=charsmap(b"\xff\xff\xff\x7f" + bytes(8)))
    path = folder / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace("precompiled_charsmap", "\\u0070recompiled_charsmap") if hidden else text)
    with pytest.raises(ValueError, match="a table of 2147483647 bytes"):
        NystromformerTokenizer.from_pretrained(folder)


def test_a_long_text_of_escaped_quotes(folder: Path) -> None:
    edit(folder, normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": '"' * 10_001})
    with pytest.raises(ValueError, match="'content' has 10001 characters"):
        NystromformerTokenizer.from_pretrained(folder)


# --------------------------------------------------------------------------------- what is no file, and what swells


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(name: str, folder: Path) -> None:
    os.mkfifo(folder / name)
    with pytest.raises(OSError, match=rf"{name} is not a file"):
        NystromformerTokenizer.from_pretrained(folder)


def test_a_pipe_among_the_steps_of_a_port(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "logits.npy")
    with pytest.raises(ValueError, match=r"logits\.npy is not a sound \.npy file: it is not a file"):
        load_steps(tmp_path)


def test_steps_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(10**6))
    assert load_steps(tmp_path / "bomb.npz").steps["x"].shape == (10**6,)  # so much may be
    monkeypatch.setattr(trace_file, "MOST_UNPACKED", 10**6)
    with pytest.raises(ValueError, match=r"bomb\.npz is not .*it would become 8,000,\d+ bytes, more than 100 times"):
        load_steps(tmp_path / "bomb.npz")
    np.savez(tmp_path / "plain.npz", x=np.zeros(10**6))
    assert load_steps(tmp_path / "plain.npz").steps["x"].shape == (10**6,)


HEADERS = [b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }", b"{'descr':", b"-" * 9000 + b"1"]


@pytest.mark.parametrize("header", HEADERS, ids=range(3))
def test_headers_of_arrays(header: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\1\0" + (len(header) + 1).to_bytes(2, "little") + header + b"\n")
    with pytest.raises(ValueError, match=r"x\.npy is not a sound \.npy file"):
        load_steps(tmp_path)


@pytest.fixture(scope="module")
def traced() -> tuple[NystromformerModel, Trace]:
    model = NystromformerModel(NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2))
    return model, trace(model, input_ids=[[7, 3]])


@pytest.mark.parametrize("place", ["order", "steps", "aliases", "rounding", "inputs", "config"])
def test_a_trace_whose_metadata_are_damaged(
    place: str, traced: tuple[NystromformerModel, Trace], tmp_path: Path
) -> None:
    model, steps = traced
    path = tmp_path / "trace.safetensors"
    save_trace(steps, path)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    texts = ["[" * 100_000, "{", "3", "[3]", '{"a": 3}', '{"a": [3]}', '{"a": {"a": {}}}', ""]
    for text in texts + ['{"hidden_size": "x"}'] * (place == "config"):
        save_file(tensors, path, metadata | {place: text})
        with pytest.raises(ValueError, match=r"trace\.safetensors") as caught:
            load_trace(path, model)
        assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ tokens that are added


def test_many_tokens_are_added_in_one_call(folder: Path) -> None:
    """One by one they would take minutes: the library looks at all of them again after each."""
    tokens = {str(number): {"content": f"t{number}"} for number in range(6_000)}
    more = [f"<{number}>" for number in range(2_000)]
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": tokens, "additional_special_tokens": more})
    )
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    assert tokenizer.tokenize("t5999<1999>") == ["t5999", "<1999>"]
    mixed = {number: {**token, "special": int(number) % 2 == 0} for number, token in tokens.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": mixed}))
    with pytest.raises(ValueError, match="added_tokens_decoder goes 6000 times from special tokens"):
        NystromformerTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("index", [1.5, True, None, "7", [1]])
def test_an_added_token_whose_id_is_no_number(index: object, folder: Path) -> None:
    (folder / "added_tokens.json").write_text(json.dumps({"<a>": index}))
    with pytest.raises(ValueError, match=r"added_tokens\.json maps tokens to ids, found .* for '<a>'"):
        NystromformerTokenizer.from_pretrained(folder)


# ------------------------------------------------------------------------------------------------ inputs that are deep


def test_inputs_that_are_nested_too_deeply_to_be_shown(weights: Path) -> None:
    deep: Any = "a"
    for _ in range(10**5):
        deep = [deep]
    tokenizer = NystromformerTokenizer.from_pretrained(weights / "masked-lm")
    with pytest.raises(TypeError, match="found list, nested too deeply"):
        tokenizer([deep])
    for task in ("fill-mask", "text-classification", "question-answering", "multiple-choice"):
        with pytest.raises((TypeError, ValueError), match="nested too deeply"):
            list(pipeline(task)(iter([deep])))
