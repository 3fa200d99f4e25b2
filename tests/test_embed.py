"""``embed``: a row a line, and the same bytes however often a run is ended."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nystrom_np import NystromformerModel, NystromformerTokenizer, cli, growing, text_vectors
from nystrom_np import embed as module
from nystrom_np.embed import embed
from nystrom_np.text_vectors import TextVectors
from tests.permissions import permissions_hold

WORDS = ("a", "film", "of", "great", "charm", "and", "little", "wit", ",", "the", "plot", "is", "thin")


BATCH, COUNT, WIDTH = 8, 25, 32

pytestmark = pytest.mark.filterwarnings("ignore:.* texts were cut to:UserWarning")


def lines(count: int) -> list[str]:
    """Texts of different lengths; some are empty, some longer than the model takes."""
    state = np.random.RandomState(count)
    lengths = state.randint(1, 20, size=count)
    lengths[5 % count], lengths[9 % count] = 0, 100
    return [" ".join(state.choice(WORDS, size=length)) for length in lengths]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_vectors, "LINES_PER_WINDOW", BATCH)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(lines(COUNT)) + "\n")
    return path


@pytest.fixture(params=["dense", "nystrom"])
def model(request: pytest.FixtureRequest, checkpoints: Path) -> Path:
    return checkpoints / f"masked-lm-{request.param}"


def alone(folder: Path, text: str, pooling: str) -> np.ndarray:
    """A text's vector from a forward pass of its own, in the length that the checkpoint was made for."""
    network, tokenizer = NystromformerModel.from_pretrained(folder), NystromformerTokenizer.from_pretrained(folder)
    limit = min(tokenizer.model_max_length, network.config.max_position_embeddings)
    ids = tokenizer(text, truncation=True, max_length=limit).input_ids
    config, padding = network.config, 0
    if config.uses_nystrom_attention:
        whole = config.num_landmarks * (config.segment_means_seq_len // config.num_landmarks)
        padding = max(0, whole - len(ids))
    mask = [1] * len(ids) + [0] * padding
    states = network([ids + [tokenizer.pad_token_id] * padding], attention_mask=[mask]).last_hidden_state[0]
    return states[0] if pooling == "first" else states[: len(ids)].mean(axis=0)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_each_row_is_the_vector_of_its_line_alone(pooling: str, model: Path, source: Path, tmp_path: Path) -> None:
    made = embed(source, tmp_path / "out.npy", model, pooling=pooling)
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == np.float32
    assert found.shape == (made.rows, made.width) == (COUNT, WIDTH)
    assert made.resumed_at == 0
    for row in (0, 5, 7, 8, 9, 24):
        expected = alone(model, lines(COUNT)[row], pooling)
        np.testing.assert_allclose(found[row], expected, rtol=0, atol=2e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt", "out.npy"]


def test_formats_of_input_and_output(source: Path, tmp_path: Path, checkpoints: Path) -> None:
    model = checkpoints / "masked-lm-dense"
    embed(source, tmp_path / "out.npy", model)
    expected = np.load(tmp_path / "out.npy")
    objects = tmp_path / "lines.jsonl"
    objects.write_text("".join(json.dumps({"id": 1, "text": text}) + "\r\n" for text in lines(COUNT)))
    embed(objects, tmp_path / "out.safetensors", model)
    assert (tmp_path / "out.safetensors").read_bytes()[-len(expected.tobytes()) :] == expected.tobytes()
    np.testing.assert_array_equal(load_file(tmp_path / "out.safetensors")["embeddings"], expected)
    strings = tmp_path / "lines.NDJSON"
    strings.write_text("\ufeff" + "\n".join(map(json.dumps, lines(COUNT))), encoding="utf-8")
    assert embed(strings, tmp_path / "half.npy", model, dtype="float16").rows == COUNT
    half = np.load(tmp_path / "half.npy")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, rtol=0, atol=0.02)
    (tmp_path / "empty.txt").write_bytes(b"")
    assert embed(tmp_path / "empty.txt", tmp_path / "empty.npy", model) == (tmp_path / "empty.npy", 0, WIDTH, 0)
    assert np.load(tmp_path / "empty.npy").shape == (0, WIDTH)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neighbours_have_no_influence_but_rounding(dtype: str, model: Path, source: Path, tmp_path: Path) -> None:
    embed(source, tmp_path / "out.npy", model, dtype=dtype)
    found = np.load(tmp_path / "out.npy")
    order = np.random.RandomState(1).permutation(COUNT)
    source.write_text("".join(lines(COUNT)[place] + "\n" for place in order))
    embed(source, tmp_path / "mixed.npy", model, dtype=dtype)
    bound = {"float32": 4e-6, "float64": 1e-14}[dtype] * np.abs(found).max()
    np.testing.assert_allclose(np.load(tmp_path / "mixed.npy"), found[order], rtol=0, atol=bound)


def test_long_input_is_read_in_bounded_pieces(source: Path, tmp_path: Path, checkpoints: Path) -> None:
    with source.open("rb") as file:
        read = module._Lines(file, source, "text")
        assert next(iter(read)).texts == lines(COUNT)[:BATCH]
        assert read.digest == ""  # the rest has not been read


# --- interruptions ---


class Ended(BaseException):
    """Stands for what ends a process: nothing in the package catches it."""


def ending_after(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run end in the middle of a batch."""
    real, seen = TextVectors.answer, 0

    def answer(*arguments: Any) -> np.ndarray:
        nonlocal seen
        seen += 1
        if seen == BATCH * batches + 3:
            raise Ended
        return real(*arguments)

    monkeypatch.setattr(TextVectors, "answer", answer)


def undisturbed(source: Path, model: Path, name: str = "out.npy") -> bytes:
    folder = source.parent / "undisturbed"
    folder.mkdir(exist_ok=True)
    embed(source, folder / name, model)
    return (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "torn", "branch"),
    [
        ("out.npy", b"", "dense"),
        ("out.npy", b"x", "nystrom"),
        ("out.safetensors", b"\0" * 5000, "dense"),
    ],
)
def test_the_bytes_are_those_of_an_undisturbed_run(
    name: str,
    torn: bytes,
    branch: str,
    source: Path,
    tmp_path: Path,
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = checkpoints / f"masked-lm-{branch}"
    expected = undisturbed(source, model, name)
    output, partial = tmp_path / name, tmp_path / f"{name}.partial"
    monkeypatch.setattr(growing, "SECONDS_PER_SAVE", 0)
    begun = []
    for batches in (0, 1, 1):
        with monkeypatch.context() as patch:
            ending_after(batches, patch)
            with pytest.raises(Ended):
                embed(source, output, model)
        assert not output.exists()
        begun.append(json.loads((partial / "plan.json").read_text())["rows"])
        with (partial / "rows").open("ab") as file:
            file.write(torn)  # what a run wrote without noting it
    assert begun == [0, BATCH, 2 * BATCH]
    assert embed(source, output, model).resumed_at == 2 * BATCH
    assert output.read_bytes() == expected
    assert not partial.exists()


def test_rows_that_were_not_noted_are_computed_again(
    source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoints / "masked-lm-dense"
    expected = undisturbed(source, model)
    monkeypatch.setattr(growing, "SECONDS_PER_SAVE", 1e9)
    with monkeypatch.context() as patch:
        ending_after(2, patch)
        with pytest.raises(Ended):
            embed(source, tmp_path / "out.npy", model)
    assert embed(source, tmp_path / "out.npy", model).resumed_at == 0
    assert (tmp_path / "out.npy").read_bytes() == expected


@pytest.mark.parametrize("step", ["link", "rmtree"])
def test_a_run_that_ends_when_all_is_done(
    step: str, source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = checkpoints / "masked-lm-dense"
    expected = undisturbed(source, model)
    with monkeypatch.context() as patch:
        if step == "link":
            patch.setattr(growing.os, "link", lambda *_: end())
        else:
            patch.setattr(growing.shutil, "rmtree", lambda *_, **__: end())
        with pytest.raises(Ended):
            embed(source, tmp_path / "out.npy", model)
    assert (tmp_path / "out.npy").exists() == (step == "rmtree")
    assert embed(source, tmp_path / "out.npy", model).resumed_at == COUNT
    assert (tmp_path / "out.npy").read_bytes() == expected
    assert not (tmp_path / "out.npy.partial").exists()
    with pytest.raises(FileExistsError, match=r"out\.npy exists already"):
        embed(source, tmp_path / "out.npy", model)


def end() -> None:
    raise Ended


def killed_when(rows: int, command: list[str], partial: Path) -> int:
    """Run a command and kill it, with no chance to tidy up, as soon as it has noted so many rows."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            if noted(partial) >= rows:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        process.communicate()
    return process.returncode


def noted(partial: Path) -> int:
    try:
        return int(json.loads((partial / "plan.json").read_text())["rows"])
    except (FileNotFoundError, ValueError):
        return -1


def assert_kills_do_no_harm(count: int, kills: tuple[int, ...], run: list[str], model: Path, folder: Path) -> None:
    source = folder / "lines.txt"
    source.write_text("\n".join(lines(count)) + "\n")
    command = [*run, "embed", str(source), "--model", str(model), "--output"]
    subprocess.run([*command, str(folder / "expected.npy")], check=True, capture_output=True, timeout=3000)
    output, partial = folder / "out.npy", folder / "out.npy.partial"
    for rows in kills:
        assert killed_when(rows, [*command, str(output)], partial) == -signal.SIGKILL
        assert rows <= noted(partial) < count
        assert not output.exists()
    ended = subprocess.run([*command, str(output)], check=True, capture_output=True, text=True, timeout=3000)
    assert "from an earlier run" in ended.stdout
    assert output.read_bytes() == (folder / "expected.npy").read_bytes()
    assert np.load(output).shape[0] == count
    assert not partial.exists()


OFTEN = "import sys; from nystrom_np import cli, growing; growing.SECONDS_PER_SAVE = 0; sys.exit(cli.main())"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_killed_twice_and_restarted(tmp_path: Path, checkpoints: Path) -> None:
    run = [sys.executable, "-c", OFTEN]
    assert_kills_do_no_harm(600, (32, 250), run, checkpoints / "masked-lm-dense", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "count"), [("tests/checkpoints/masked-lm-dense", 20_000), ("weights/masked-lm", 2_000)]
)
def test_many_lines_killed_twice_and_restarted(model: str, count: int, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "nystrom_np"]
    root = Path(__file__).resolve().parent.parent
    assert_kills_do_no_harm(count, (3 * count // 20, 11 * count // 20), run, root / model, tmp_path)


# --- what must not be gone on with ---


@pytest.fixture
def half_done(source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was ended after two batches."""
    monkeypatch.setattr(growing, "SECONDS_PER_SAVE", 0)
    with monkeypatch.context() as patch:
        ending_after(2, patch)
        with pytest.raises(Ended):
            embed(source, tmp_path / "out.npy", checkpoints / "masked-lm-dense")
    return tmp_path / "out.npy"


CHANGES: list[tuple[str, str, Callable[[Path, Path], Any]]] = [
    ("source", "source", lambda source, _: source.write_text("\n".join(lines(COUNT)[::-1]) + "\n")),
    ("length", "rows in all, source", lambda source, _: source.write_text("one line")),
    ("model", "model", lambda _, folder: {"model": folder / "masked-lm-nystrom"}),
    ("override", "model", lambda _, folder: {"num_landmarks": 3}),
    ("pooling", "pooling", lambda _, folder: {"pooling": "first"}),
    ("dtype", "dtype, model", lambda _, folder: {"dtype": "float64"}),
]


@pytest.mark.parametrize(("name", "found", "change"), CHANGES, ids=[name for name, _, _ in CHANGES])
def test_another_run_does_not_go_on(
    name: str, found: str, change: Callable[[Path, Path], Any], half_done: Path, source: Path, checkpoints: Path
) -> None:
    partial = half_done.with_name("out.npy.partial")
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    changed = change(source, checkpoints)
    options = {"model": checkpoints / "masked-lm-dense", **(changed if isinstance(changed, dict) else {})}
    with pytest.raises(FileExistsError, match=f"out.npy.partial is of a run with another {found}: repeat that run, or"):
        embed(source, half_done, **options)
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before


def test_another_thread_count_or_version_does_not_go_on(
    half_done: Path, source: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room, name, value, found in [
        (module, "thread_count", lambda: 77, "threads"),
        (text_vectors, "LINES_PER_BATCH", 4, "batch"),
        (text_vectors, "BYTES_PER_WINDOW", 40, "source, window"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(room, name, value)
            with pytest.raises(FileExistsError, match=f"another {found}:"):
                embed(source, half_done, checkpoints / "masked-lm-dense")
    monkeypatch.setattr("nystrom_np.__version__", "0.0.0")
    with pytest.raises(FileExistsError, match="another versions:"):
        embed(source, half_done, checkpoints / "masked-lm-dense")


@pytest.mark.parametrize("damage", ["short", "gone", "note", "negative"])
def test_damage_is_noticed(damage: str, half_done: Path, source: Path, checkpoints: Path) -> None:
    partial = half_done.with_name("out.npy.partial")
    if damage == "short":
        os.truncate(partial / "rows", (partial / "rows").stat().st_size - BATCH * WIDTH * 4)
    elif damage == "gone":
        (partial / "rows").unlink()
    else:
        plan = json.loads((partial / "plan.json").read_text())
        (partial / "plan.json").write_text(json.dumps({**plan, "rows": None if damage == "note" else -1}))
    with pytest.raises(OSError, match=r"out\.npy\.partial is damaged: remove it to begin again"):
        embed(source, half_done, checkpoints / "masked-lm-dense")


def test_a_source_that_changes_while_it_is_read(
    source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = TextVectors.of

    def slowly(*arguments: Any) -> Any:
        source.write_text(source.read_text().replace("charm", "wit"))  # after it was surveyed
        return load(*arguments)

    monkeypatch.setattr(TextVectors, "of", slowly)
    with pytest.raises(OSError, match=r"lines\.txt changed while it was read"):
        embed(source, tmp_path / "out.npy", checkpoints / "masked-lm-dense")
    assert not (tmp_path / "out.npy").exists()


def test_an_output_that_exists_is_not_touched(source: Path, half_done: Path, checkpoints: Path) -> None:
    half_done.write_text("mine")
    with pytest.raises(FileExistsError, match=r"out\.npy exists already, and .*\.partial beside it is of another run"):
        embed(source, half_done, checkpoints / "masked-lm-dense")
    other = half_done.with_name("other.npy")
    other.write_text("mine")
    with pytest.raises(FileExistsError, match=r"other\.npy exists already"):
        embed(source, other, checkpoints / "masked-lm-dense")
    assert half_done.read_text() == other.read_text() == "mine"
    assert not other.with_name("other.npy.partial").exists()


def hold(folder: str, ready: Any, release: Any) -> None:
    with growing.growing(Path(folder) / "out.npy", b"", 1, 1, {}):
        ready.set()
        release.wait(60)


def test_two_processes_do_not_write_the_same_output(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(str(tmp_path), ready, release))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(BlockingIOError, match=r"another process is writing .*out\.npy"):  # noqa: SIM117
            with growing.growing(tmp_path / "out.npy", b"", 1, 1, {}):
                pass
    finally:
        other.kill()
        other.join()
    with growing.growing(tmp_path / "out.npy", b"> ", 1, 1, {}) as rows:  # the lock went with the process
        rows.append(b"a", 1, "")
    assert (tmp_path / "out.npy").read_bytes() == b"> a"


@pytest.mark.parametrize("name", ["source", "output", "model"])
def test_what_is_no_path_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    arguments = {"source": tmp_path / "lines.txt", "output": tmp_path / "out.npy", name: 5}
    with pytest.raises(TypeError, match=f"{name} must be a path; found int"):
        unwrap(embed)(**arguments)


def test_too_few_rows_are_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="should have 2 rows, and has 1"),
        growing.growing(tmp_path / "out", b"", 1, 2, {}) as rows,
    ):
        rows.append(b"a", 1, "")
    assert not (tmp_path / "out").exists()


# --- a source that changes, or cannot be read twice, and what else goes wrong under work ---


def test_rows_of_a_source_that_was_put_back(
    source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were made of lines that are there no more are not kept, those before them are."""
    model = checkpoints / "masked-lm-dense"
    expected, before = undisturbed(source, model), source.read_text()
    monkeypatch.setattr(growing, "SECONDS_PER_SAVE", 0)
    load = TextVectors.of

    def slowly(*arguments: Any) -> Any:
        source.write_text("\n".join([*lines(COUNT)[:10], *reversed(lines(COUNT)[10:])]) + "\n")
        return load(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TextVectors, "of", slowly)
        with pytest.raises(OSError, match="changed while it was read"):
            embed(source, tmp_path / "out.npy", model)
    assert noted(tmp_path / "out.npy.partial") == COUNT
    with pytest.raises(FileExistsError, match="another source:"):
        embed(source, tmp_path / "out.npy", model)
    source.write_text(before)
    assert embed(source, tmp_path / "out.npy", model).resumed_at == BATCH
    assert (tmp_path / "out.npy").read_bytes() == expected


def piped(data: bytes, path: Path) -> threading.Thread:
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,))
    writer.start()
    return writer


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_read_once(source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, pipe, data = checkpoints / "masked-lm-dense", tmp_path / "pipe.jsonl", b""
    for text in lines(COUNT):
        data += json.dumps({"text": text}).encode() + b"\n"
    monkeypatch.setattr(growing, "SECONDS_PER_SAVE", 0)
    writer = piped(data, pipe)
    with monkeypatch.context() as patch:
        ending_after(2, patch)
        with pytest.raises(Ended):
            embed(pipe, tmp_path / "out.npy", model)
    writer.join()
    writer = piped(data, pipe)
    assert embed(pipe, tmp_path / "out.npy", model).resumed_at == 2 * BATCH
    writer.join()
    assert (tmp_path / "out.npy").read_bytes() == undisturbed(source, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.txt", "out.npy", "pipe.jsonl", "undisturbed"]


@pytest.mark.skipif(not Path("/dev/stdin").exists(), reason="there is no /dev/stdin here")
def test_standard_input_and_devices(source: Path, tmp_path: Path, checkpoints: Path) -> None:
    model = checkpoints / "masked-lm-dense"
    command = [sys.executable, "-c", OFTEN, "embed", "/dev/stdin", "--model", str(model), "--output"]
    small = f"from nystrom_np import text_vectors; text_vectors.LINES_PER_WINDOW = {BATCH}; "
    command[2] = small + command[2]
    with subprocess.Popen([*command, str(tmp_path / "out.npy")], stdin=subprocess.PIPE) as process:
        process.communicate(source.read_bytes(), timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "out.npy").read_bytes() == undisturbed(source, model)
    with pytest.raises(ValueError, match="/dev/null is neither a file nor a pipe"):
        embed("/dev/null", tmp_path / "other.npy", model)


def test_a_very_long_line(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of it is looked at as can matter, and a line without an end is refused."""
    model, source = checkpoints / "masked-lm-dense", tmp_path / "lines.txt"
    network, tokenizer = NystromformerModel.from_pretrained(model), NystromformerTokenizer.from_pretrained(model)
    limit = min(tokenizer.model_max_length, network.config.max_position_embeddings)
    source.write_text("a film of great charm " * 1_000_000)
    looked_at = []
    real = NystromformerTokenizer.__call__

    def call(self: Any, texts: list[str], **options: Any) -> Any:
        looked_at.extend(map(len, texts))
        return real(self, texts, **options)

    monkeypatch.setattr(NystromformerTokenizer, "__call__", call)
    embed(source, tmp_path / "out.npy", model)
    assert looked_at == [64 * limit]
    expected = alone(model, "a film of great charm " * limit, "mean")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy")[0], expected, rtol=0, atol=2e-5)
    monkeypatch.setattr(text_vectors, "LONGEST_LINE", 100)
    source.write_text("a\n" + "b" * 100 + "\n")
    with pytest.raises(ValueError, match=r"lines\.txt, line 2 is longer than 100 bytes"):
        embed(source, tmp_path / "other.npy", model)


@pytest.mark.parametrize("links", [True, False])
def test_an_output_that_appears_meanwhile(
    links: bool, source: Path, tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, output = checkpoints / "masked-lm-dense", tmp_path / "out.npy"
    expected = undisturbed(source, model)
    if not links:
        monkeypatch.setattr(growing.os, "link", unsupported)
    with monkeypatch.context() as patch:
        load = TextVectors.of
        patch.setattr(TextVectors, "of", lambda *arguments: (output.write_text("mine"), load(*arguments))[1])
        with pytest.raises(FileExistsError, match="exists already"):
            embed(source, output, model)
        assert output.read_text() == "mine"
        output.unlink()
    with monkeypatch.context() as patch:
        answer = TextVectors.answer
        patch.setattr(TextVectors, "answer", lambda *arguments: (output.write_text("mine"), answer(*arguments))[1])
        with pytest.raises(FileExistsError, match=r"out\.npy has appeared meanwhile: move it away"):
            embed(source, output, model)
    with pytest.raises(FileExistsError, match="exists already, and"):
        embed(source, output, model)
    assert output.read_text() == "mine"
    output.unlink()
    assert embed(source, output, model).resumed_at == COUNT
    assert output.read_bytes() == expected


def unsupported(*_: Any) -> None:
    raise OSError("no links here")


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from nystrom_np import cli, growing
growing.SECONDS_PER_SAVE = 0
sys.exit(cli.main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of size here")
@pytest.mark.parametrize("room", [0, 100, 20_000])
def test_a_disk_that_is_full(room: int, tmp_path: Path, checkpoints: Path) -> None:
    """A write that fails, at the beginning or later, is one line; with room again the same command goes on."""
    source, output, model = tmp_path / "lines.txt", tmp_path / "out.npy", str(checkpoints / "masked-lm-dense")
    source.write_text("\n".join(lines(600)) + "\n")
    command = [sys.executable, "-c", FULL, str(room), "embed", str(source), "--output", str(output), "--model", model]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (2, "", 1)
    assert "File too large" in ended.stderr
    assert not output.exists()
    command[3] = str(10**8)
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    embed(source, tmp_path / "expected.npy", model)
    np.testing.assert_allclose(np.load(output), np.load(tmp_path / "expected.npy"), rtol=0, atol=1e-5)
    assert not output.with_name("out.npy.partial").exists()


@pytest.mark.parametrize("kind", ["read-only", "a file"])
def test_a_folder_that_cannot_be_written_to(
    kind: str, source: Path, tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "closed"
    if kind == "read-only":
        folder.mkdir(mode=0o500)
    else:
        folder.write_text("a file")
    command = ["embed", str(source), "--output", str(folder / "out.npy"), "--model"]
    with permissions_hold():
        assert cli.main([*command, str(checkpoints / "masked-lm-dense")]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert str(folder) in err


def disturbed(whole: str, rng: np.random.RandomState) -> str:
    """What an editor or a copy under way might make of a text: a line changed, the end cut off, a line more."""
    texts = whole.splitlines()
    place = int(rng.randint(len(texts)))
    edited = "\n".join([*texts[:place], "an edited line", *texts[place + 1 :]]) + "\n"
    made: str = rng.choice([whole, edited, whole[: len(whole) * place // len(texts)], whole + "one more line\n"])
    return made


def assert_is_of_one_text(found: np.ndarray, expected: np.ndarray) -> None:
    """A file that was finished while its source was disturbed: of the whole text, but for the one line that differs."""
    same = min(len(found), len(expected))
    differing = np.flatnonzero(np.abs(found[:same] - expected[:same]).max(axis=1, initial=0) > 1e-5)
    assert len(differing) <= 1
    assert len(found) in (len(expected), len(expected) + 1) or set(differing) <= {len(found) - 1}


def assert_kills_and_edits_do_no_harm(kills: int, count: int, most: float, model: Path, folder: Path) -> None:
    """End runs at random moments, with the source disturbed during them, between them, and put back."""
    rng, whole = np.random.RandomState(kills), "\n".join(lines(count)) + "\n"
    source, output, partial = folder / "lines.txt", folder / "out.npy", folder / "out.npy.partial"
    source.write_text(whole)
    command = [sys.executable, "-c", OFTEN, "embed", str(source), "--model", str(model), "--output"]
    subprocess.run([*command, str(folder / "expected.npy")], check=True, capture_output=True, timeout=600)
    expected = np.load(folder / "expected.npy")
    ends = {-signal.SIGKILL: 0, 0: 0, 2: 0}
    while ends[-signal.SIGKILL] < kills:
        source.write_text(whole if rng.uniform() < 0.7 else disturbed(whole, rng))
        with subprocess.Popen([*command, str(output)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            for _ in range(int(rng.randint(1, 4))):
                time.sleep(rng.uniform(0, most))
                if rng.uniform() < 0.5:
                    source.write_text(disturbed(whole, rng))
            process.send_signal(signal.SIGKILL)
            err = process.communicate()[1].decode()
        ends[process.returncode] += 1
        assert process.returncode != 2 or len(err.splitlines()) == 1
        if output.exists():
            assert_is_of_one_text(np.load(output), expected)
            output.unlink()
            shutil.rmtree(partial, ignore_errors=True)
        if "is of a run with another source" in err:
            shutil.rmtree(partial)
    print(f"ends by code: {ends}; then {noted(partial)} rows are noted")
    source.write_text(whole)
    ended = subprocess.run([*command, str(output)], capture_output=True, text=True, timeout=600, check=False)
    if ended.returncode == 2:
        assert "is of a run with another" in ended.stderr
        shutil.rmtree(partial)
        subprocess.run([*command, str(output)], check=True, capture_output=True, timeout=600)
    assert output.read_bytes() == (folder / "expected.npy").read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize(
    ("kills", "count"), [(2, 2000), pytest.param(20, 6000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_killed_while_the_source_changes(kills: int, count: int, tmp_path: Path, checkpoints: Path) -> None:
    assert_kills_and_edits_do_no_harm(kills, count, 0.8, checkpoints / "masked-lm-dense", tmp_path)


# --- the command ---


def fails(arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["embed", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def test_lines_that_are_wrong_are_named(
    source: Path, tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[str | Path] = ["--output", tmp_path / "out.npy", "--model", checkpoints / "masked-lm-dense"]
    wrong = tmp_path / "wrong.jsonl"
    for content, said in [
        (b'"fine"\n{"text": 1}\n', "line 2 is not a string, or an object with a string under 'text'"),
        (b'"fine"\n\n', "line 2 is not JSON"),
        (b'"fine"\n["a"]', "line 2 is not a string"),
        (b"[" * 100_000, "line 1 is not JSON"),
        (b'"\xff"', "line 1 is not UTF-8"),
    ]:
        wrong.write_bytes(content)
        assert f"{wrong}, {said}" in fails([wrong, *given], capsys)
    source.write_bytes(b"fine\n\xff\n")
    assert f"{source}, line 2 is not UTF-8" in fails([source, *given], capsys)
    assert "No such file" in fails([tmp_path / "absent.txt", *given], capsys)
    assert "must be named *.npy or *.safetensors" in fails([source, "--output", tmp_path / "out.csv"], capsys)
    with pytest.raises(ValueError, match="pooling must be one of mean, first"):
        embed(source, tmp_path / "out.npy", pooling="max")
    assert not any("out" in path.name for path in tmp_path.iterdir())


def test_the_command(source: Path, half_done: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["embed", str(source), "--model", str(checkpoints / "masked-lm-dense"), "--output"]
    assert cli.main([*given, str(half_done)]) == 0
    assert capsys.readouterr().out == f"{half_done}: 25 vectors of 32, the first 16 from an earlier run\n"
    other = half_done.with_name("other.npy")
    assert cli.main([*given, str(other), "--json", "--num-landmarks", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"output": str(other), "rows": COUNT, "width": WIDTH, "resumed_at": 0}
    assert np.abs(np.load(other) - np.load(half_done)).max() > 1e-3


def test_progress(source: Path, tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embed(source, tmp_path / "out.npy", checkpoints / "masked-lm-dense", progress=True)
    assert "25/25" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("texts", "cut"),
    [(["a", "a film of " * 60], 1), (["the plot is thin " * 40] * 3 + ["a"] * 9, 3), (["a" + " " * 5000 + "b"], 1)],
)
def test_how_many_texts_were_cut_is_said(texts: list[str], cut: int, checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(texts) + "\n")
    with pytest.warns(UserWarning, match=f"^{cut} of {len(texts)} texts were cut to 64 tokens$"):
        embed(tmp_path / "lines.txt", tmp_path / "out.npy", checkpoints / "masked-lm-dense")
    assert len(np.load(tmp_path / "out.npy")) == len(texts)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("length", [0, 1, 61, 62])
def test_what_fits_is_not_said_to_be_cut(length: int, checkpoints: Path, tmp_path: Path) -> None:
    tokens = NystromformerTokenizer.from_pretrained(checkpoints / "masked-lm-dense")
    text = " ".join(["a"] * length)
    assert len(tokens(text).input_ids) == length + 2
    (tmp_path / "lines.txt").write_text(f"{text}\nb\n")
    embed(tmp_path / "lines.txt", tmp_path / "out.npy", checkpoints / "masked-lm-dense")


@pytest.mark.parametrize("half", ["\\ud800", "\\udce9", "\\ud83d\\udc4d"])
def test_half_of_a_character_in_json(half: str, checkpoints: Path, tmp_path: Path) -> None:
    """Of two that belong together comes the character, of any other U+FFFD."""
    whole = "👍" if len(half) > 6 else "\ufffd"
    for name, text in (("half", f'"a {half} b"\n{{"text": "{half}"}}\n'), ("whole", f'"a {whole} b"\n"{whole}"\n')):
        (tmp_path / f"{name}.jsonl").write_text(text)
        embed(tmp_path / f"{name}.jsonl", tmp_path / f"{name}.npy", checkpoints / "masked-lm-dense")
    np.testing.assert_array_equal(np.load(tmp_path / "half.npy"), np.load(tmp_path / "whole.npy"))
