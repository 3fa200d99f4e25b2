"""Vectors of many files in shards: the same whoever makes them and whoever is killed, none missing, none twice."""

import json
import os
import sys
import threading
from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import cli
from nystrom_np.cluster import embed_corpus, open_vectors, plan, run
from nystrom_np.cluster import store as cluster_store
from nystrom_np.embed import embed

pytestmark = pytest.mark.filterwarnings("ignore:.* texts? were cut to:UserWarning")

EXTRA = "needs the extra cluster: pip install 'nystrom_np[cluster]'"
LINES, PER_SHARD = 300, 32
ROUNDING = 4e-6
"""Of the largest number: what the lines that run together and the threads of a process may change in float32."""

WORDS = ("a", "film", "of", "great", "charm", "and", "little", "wit", ",", "the", "plot", "is", "thin")


def texts(count: int, seed: int = 1) -> list[str]:
    """Texts of different lengths; one is empty, one longer than the model takes."""
    state = np.random.RandomState(seed)
    lengths = state.randint(1, 20, size=count)
    lengths[3], lengths[9] = 0, 100
    return [" ".join(state.choice(WORDS, size=length)) for length in lengths]


def write_sources(folder: Path, count: int = LINES) -> list[Path]:
    """A text file and a JSON Lines file."""
    one, two = folder / "one.txt", folder / "two.jsonl"
    one.write_text("".join(f"{text}\n" for text in texts(count)))
    objects = ({"id": i, "text": text} for i, text in enumerate(texts(count // 2, 2)))
    two.write_text("".join(json.dumps(one) + "\n" for one in objects))
    return [one, two]


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return write_sources(tmp_path)


@pytest.fixture
def model(checkpoints: Path) -> Path:
    return checkpoints / "masked-lm-dense"


def together(folder: str | Path) -> np.ndarray:
    """All vectors, in order."""
    found = open_vectors(folder)
    return np.concatenate(found) if isinstance(found, list) else found.compute()


def of_each_file(sources: list[Path], model: Path) -> np.ndarray:
    """What `embed` makes of the files, one after the other."""
    rows = []
    for number, source in enumerate(sources):
        output = source.with_name(f"alone-{number}.npy")
        embed(source, output, model)
        rows.append(np.load(output))
    return np.concatenate(rows)


def assert_whole(folder: Path, expected: np.ndarray) -> None:
    """Every shard is there once, with its entry, and nothing else; the vectors equal others but for rounding."""
    agreed = plan.read_plan(run.Store(str(folder)))
    assert agreed is not None
    names = [agreed.name(number) for number, _, _ in agreed.shards]
    entries = [f"{name[:11]}.json" for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, *entries, "plan.json"])
    found = together(folder)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def test_one_process_gives_what_embed_gives(sources: list[Path], model: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="^2 texts were cut to the length that the model takes"):
        made = embed_corpus(sources, tmp_path / "out", model, lines_per_shard=PER_SHARD)
    assert made == (str(tmp_path / "out"), 450, 32, 10 + 5, 0, 0)
    assert_whole(tmp_path / "out", of_each_file(sources, model))
    entry = json.loads((tmp_path / "out" / "part-000012.json").read_text())
    agreed = plan.read_plan(run.Store(str(tmp_path / "out")))
    _, source, shard = agreed.shards[12]
    assert (
        (entry["source"], entry["first line"], entry["lines"])
        == (str(sources[1]), 65, 32)
        == (source.name, *shard[2:4])
    )
    assert (entry["digest"], entry["model"], entry["pooling"]) == (shard.digest, agreed.settings["model"], "mean")
    assert (entry["texts cut"], json.loads((tmp_path / "out" / "part-000000.json").read_text())["texts cut"]) == (0, 1)
    assert sources[1].read_bytes()[shard.start : shard.stop].count(b"\n") == 32


def test_shards_that_are_there_are_not_made_again(sources: list[Path], model: Path, tmp_path: Path) -> None:
    embed_corpus(sources, tmp_path / "out", model, lines_per_shard=PER_SHARD)
    expected = together(tmp_path / "out").copy()
    (tmp_path / "out" / "part-000003.json").unlink()  # as if the process had been killed before it wrote the entry
    (tmp_path / "out" / "part-000005.npy").unlink()
    (tmp_path / "out" / ".part-000005.npy.123").write_bytes(b"torn")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(FileNotFoundError, match=r"out lacks 2 of 15 shards, part-000003\.npy first"):
        open_vectors(tmp_path / "out")
    assert embed_corpus(sources, tmp_path / "out", model, lines_per_shard=PER_SHARD).kept == 13
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {f"part-00000{i}.{end}" for i in (3, 5) for end in ("npy", "json")}
    assert_whole(tmp_path / "out", expected)


def test_slots_make_the_same_bytes(sources: list[Path], model: Path, tmp_path: Path) -> None:
    embed_corpus(sources, tmp_path / "whole", model, lines_per_shard=PER_SHARD)
    options = ["--model", str(model), "--lines-per-shard", str(PER_SHARD), "--output", str(tmp_path / "out")]
    for i in (2, 3, 1):
        assert cli.main(["embed", *map(str, sources), *options, "--shard", f"{i}/3"]) == 0
        if i == 3:
            with pytest.raises(FileNotFoundError, match="lacks 5 of 15"):
                open_vectors(tmp_path / "out")
    for path in (tmp_path / "whole").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    assert embed_corpus(sources, tmp_path / "out", model, lines_per_shard=PER_SHARD, shard=(3, 3)).kept == 5


def test_slots_that_begin_at_once_agree_on_a_plan(sources: list[Path], model: Path, tmp_path: Path) -> None:
    made: list[Any] = []

    def slot(i: int) -> None:
        made.append(embed_corpus(sources, tmp_path / "out", model, lines_per_shard=PER_SHARD, shard=(i, 4)))

    threads = [threading.Thread(target=slot, args=(i,)) for i in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert_whole(tmp_path / "out", of_each_file(sources, model))


CHANGES: list[tuple[str, Callable[[list[Path], Path], dict[str, Any]]]] = [
    ("model", lambda _, folder: {"model": folder / "masked-lm-nystrom"}),
    ("model", lambda *_: {"num_landmarks": 3}),
    ("pooling", lambda *_: {"pooling": "first"}),
    ("dtype, model", lambda *_: {"dtype": "float64"}),
    ("format", lambda *_: {"format": "parquet"}),
    ("lines per shard", lambda *_: {"lines_per_shard": 33}),
    ("source", lambda sources, _: {"sources": sources[::-1]}),
    ("source", lambda sources, _: {"sources": sources[:1]}),
]


@pytest.mark.parametrize(("found", "change"), CHANGES)
def test_another_run_does_not_go_on(
    found: str, change: Callable[..., dict[str, Any]], sources: list[Path], checkpoints: Path, tmp_path: Path
) -> None:
    if found == "format":
        pytest.importorskip("pyarrow", reason=EXTRA)
    asked = {"sources": sources, "model": checkpoints / "masked-lm-dense", "lines_per_shard": PER_SHARD}
    embed_corpus(output=tmp_path / "out", shard=(1, 9), **asked)
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(FileExistsError, match=f"out is of a run with another {found}: repeat that run, or choose"):
        embed_corpus(output=tmp_path / "out", **{**asked, **change(sources, checkpoints)})
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_source_that_changes(sources: list[Path], model: Path, tmp_path: Path) -> None:
    asked = {"sources": sources, "output": tmp_path / "out", "model": model, "lines_per_shard": PER_SHARD}
    embed_corpus(**asked, shard=(1, 9))
    content, written = sources[0].read_text(), sources[0].stat().st_mtime_ns
    os.utime(sources[0], (1, 1))  # touched: read again, and found to be the same
    assert embed_corpus(**asked, shard=(1, 9)).kept == 2
    before = sources[0].stat()
    sources[0].write_text(content.replace("charm", "chasm"))
    with pytest.raises(FileExistsError, match="another source"):
        embed_corpus(**asked)
    os.utime(sources[0], ns=(0, written))  # in secret: size and time are what they were when the run began
    assert before.st_size == sources[0].stat().st_size
    with pytest.raises(OSError, match=r"one\.txt changed after the run began"):
        embed_corpus(**asked)


def test_wrong_arguments(sources: list[Path], model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "one"}\n{"no": 1}\n')
    for changed, message in [
        (
            {"sources": [sources[0], bad]},
            r"bad\.jsonl, line 2 is not a string, or an object with a string under 'text'",
        ),
        ({"sources": []}, "there are no sources"),
        ({"shard": (0, 3)}, r"shard must be \(i, n\) with 1 ≤ i ≤ n; found \(0, 3\)"),
        ({"format": "csv"}, "format must be one of 'npy', 'parquet'; found 'csv'"),
        ({"pooling": "last"}, "pooling must be one of 'mean', 'first'; found 'last'"),
        ({"lines_per_shard": 0}, "lines_per_shard must be a positive integer; found 0"),
        ({"sources": [tmp_path]}, "is no file that can be read in parts: a directory"),
        ({"output": "nowhere://a"}, "nowhere://a cannot be reached: .*nowhere"),
    ]:
        with pytest.raises(ValueError, match=message):
            embed_corpus(**{"sources": sources, "output": tmp_path / "out", "model": model, **changed})
    for name in ("sources", "output", "model", "client"):
        with pytest.raises(TypeError, match=f"{name} must be a .*; found int"):
            unwrap(embed_corpus)(**{"sources": sources, "output": tmp_path / "out", "model": model, name: 5})
    with pytest.raises(TypeError, match="folder must be a path; found int"):
        unwrap(open_vectors)(5)
    for wrong in (3, (1, 2, 3), ("1", "2")):
        with pytest.raises(ValueError, match=r"shard must be \(i, n\) with 1 ≤ i ≤ n; found "):
            unwrap(embed_corpus)(sources, tmp_path / "out", model, shard=wrong)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone\.txt"):
        embed_corpus(tmp_path / "gone.txt", tmp_path / "out", model)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-000000.npy").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"out has shards and no plan\.json"):
        embed_corpus(sources, tmp_path / "out", model)
    (tmp_path / "out" / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"out/plan\.json is damaged"):
        embed_corpus(sources, tmp_path / "out", model)
    with pytest.raises(FileNotFoundError, match=r"there is no plan\.json"):
        open_vectors(tmp_path)


def test_commands_that_fit_nothing(sources: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    name = str(sources[0])
    assert cli.main(["embed", name, name, "--output", "out.npy"]) == 2
    assert (
        capsys.readouterr().err == "nystrom-np: a folder is expected as output where shards are made; found 'out.npy'\n"
    )
    for words in (["--shard", "0/3"], ["--shard", "1/3", "--workers", "2"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["embed", name, "--output", "out/", *words])
        assert ended.value.code == 2


def test_without_the_extra(
    sources: list[Path],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for missing in ("distributed", "pyarrow", "dask", "dask.array"):
        monkeypatch.setitem(sys.modules, missing, None)
    common = ["embed", str(sources[0]), "--output", str(tmp_path / "out"), "--model", str(model)]
    for words, message in [
        (["--workers", "2"], "--workers needs distributed"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler needs distributed"),
        (["--format", "parquet"], "format='parquet' needs pyarrow"),
    ]:
        assert cli.main([*common, *words]) == 2
        assert capsys.readouterr().err == f'nystrom-np: {message}: pip install "nystrom_np[cluster]"\n'
    assert cli.main([*common, "--shard", "1/1", "--lines-per-shard", "200"]) == 0
    found = open_vectors(tmp_path / "out")
    assert [type(one) for one in found] == [np.memmap, np.memmap]
    assert_whole(tmp_path / "out", of_each_file(sources[:1], model))


def test_processes_that_cannot_be_started(
    sources: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which option asked for them, and what Dask said."""
    distributed = pytest.importorskip("distributed", reason=EXTRA)

    def fail(**_: Any) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(distributed, "LocalCluster", fail)
    assert cli.main(["embed", str(sources[0]), "--output", "out/", "--workers", "2"]) == 2
    said = capsys.readouterr().err
    assert said == "nystrom-np: --workers 2: the processes could not be started: Nanny failed to start.\n"


def test_parquet_has_ids_and_texts(sources: list[Path], model: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason=EXTRA)
    embed_corpus(sources, tmp_path / "out", model, format="parquet", lines_per_shard=PER_SHARD)
    assert_whole(tmp_path / "out", of_each_file(sources, model))
    table = parquet.read_table(sorted((tmp_path / "out").glob("*.parquet")))
    assert table["text"].to_pylist() == texts(LINES) + texts(LINES // 2, 2)
    assert table["id"].to_pylist() == [None] * LINES + [str(i) for i in range(LINES // 2)]
    assert table["vector"].type.list_size == 32


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    store = run.Store(str(tmp_path / "out"))
    assert store.create("plan.json", b"one")
    assert not store.create("plan.json", b"other")
    assert store.read("plan.json") == b"one"
    assert store.sizes() == {"plan.json": 3}


def test_a_shard_that_another_process_has_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, write = run.Store(str(tmp_path)), cluster_store._write_to_disk

    def overtaken(path: Path, content: bytes) -> None:
        write(path, content)
        (tmp_path / "part-000000.npy").write_bytes(b"of the other")
        store.remove_leftovers()

    monkeypatch.setattr(cluster_store, "_write_to_disk", overtaken)
    store.write("part-000000.npy", b"mine")
    assert store.sizes() == {"part-000000.npy": 12}
    (tmp_path / "part-000000.npy").unlink()
    monkeypatch.setattr(cluster_store, "_write_to_disk", lambda path, _: path.unlink())
    with pytest.raises(FileNotFoundError):
        store.write("part-000000.npy", b"mine")


def test_a_changed_field_may_be_a_dictionary(sources: list[Path], model: Path, tmp_path: Path) -> None:
    asked = {"sources": sources[1:], "model": model, "id2label": {0: "no", 1: "yes"}}
    assert embed_corpus(**asked, output=tmp_path / "out").rows == 150


def test_nothing_to_do(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    made = embed_corpus(tmp_path / "empty.txt", tmp_path / "out", model)
    assert made[1:] == (0, 32, 0, 0, 0)
    found = open_vectors(tmp_path / "out")
    assert found == [] if isinstance(found, list) else found.shape == (0, 32)
