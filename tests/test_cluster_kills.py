"""A scheduler, workers and clients as processes of their own, on loopback: kills do not change the vectors."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nystrom_np import cli
from nystrom_np.cluster import embed_corpus, open_vectors, run
from tests.test_cluster import EXTRA, assert_whole, of_each_file, together, write_sources

distributed = pytest.importorskip("distributed", reason=EXTRA)
psutil = pytest.importorskip("psutil", reason=EXTRA)
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here"),
    pytest.mark.filterwarnings("ignore:.* texts? were cut to:UserWarning"),
]

QUIET = {"DASK_LOGGING__DISTRIBUTED": "error", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
"""Dask gives a task up as soon as it has lost one worker: then it has to be given to it again."""


class Cluster:
    """A scheduler and two workers of one thread, which begin again when they are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.begin()

    def begin(self) -> None:
        self.file.unlink(missing_ok=True)
        where = ["--scheduler-file", str(self.file)]
        local = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
        self.scheduler = self.started("scheduler", "--port", "0", *local, *where)
        scratch = ["--local-directory", str(self.folder)]
        self.nannies = self.started("worker", *where, "--nworkers", "2", "--nthreads", "1", "--no-dashboard", *scratch)
        with distributed.Client(scheduler_file=str(self.file), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            self.address = client.scheduler.address

    def started(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *words]
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **QUIET}, start_new_session=True
            )

    def workers(self) -> list[int]:
        """Process numbers of the workers; their parents, which begin them again, are not among them."""
        children = psutil.Process(self.nannies.pid).children(recursive=True)
        return [child.pid for child in children if any("spawn_main" in word for word in child.cmdline())]

    def end(self) -> None:
        for process in (self.nannies, self.scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.end()


def entries(folder: Path) -> int:
    return sum(path.suffix == ".json" and path.name.startswith("part-") for path in folder.glob("*"))


def kill_a_worker(cluster: Cluster, chance: random.Random) -> None:
    while not (found := cluster.workers()):
        time.sleep(0.05)
    try:
        os.kill(chance.choice(found), signal.SIGKILL)
    except ProcessLookupError:  # it was just ending
        kill_a_worker(cluster, chance)


def run_to_the_end(command: list[str], folder: Path, events: list[tuple[int, str]], cluster: Cluster, seed: int) -> str:
    """Run a command, and kill what the events say when so many shards are there; begin it again when it was killed."""
    chance, waiting = random.Random(seed), sorted(events)
    while True:
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while client.poll() is None:
            if not waiting or entries(folder) < waiting[0][0]:
                time.sleep(0.005)
                continue
            time.sleep(chance.uniform(0, 0.1))
            _, what = waiting.pop(0)
            if what == "worker":
                kill_a_worker(cluster, chance)
            else:
                client.kill()
        output, errors = client.communicate()
        if client.returncode == -signal.SIGKILL:
            continue
        assert client.returncode == 0, errors
        assert not waiting, "it ended before all was killed"
        return output


def assert_kills_do_no_harm(
    cluster: Cluster, model: Path, folder: Path, lines: int, per_shard: int, workers: int, clients: int
) -> None:
    sources = write_sources(folder, lines)
    shards = sum(-(-count // per_shard) for count in (lines, lines // 2))
    chance = random.Random(lines)
    events = [(chance.randrange(1, 2 * shards // 3), "worker") for _ in range(workers)]
    events += [(chance.randrange(shards // 5, 2 * shards // 3), "client") for _ in range(clients)]
    common = [sys.executable, "-m", "nystrom_np", "embed", *map(str, sources), "--model", str(model)]
    options = ["--output", str(folder / "out"), "--lines-per-shard", str(per_shard), "--scheduler", cluster.address]
    output = run_to_the_end([*common, *options], folder / "out", events, cluster, lines)
    assert f"{shards} shards, " in output
    assert "from an earlier run" in output
    embed_corpus(sources, folder / "undisturbed", model, lines_per_shard=per_shard)
    assert_whole(folder / "out", together(folder / "undisturbed"))


def test_a_worker_and_a_client_are_killed(cluster: Cluster, weights: Path, tmp_path: Path) -> None:
    assert_kills_do_no_harm(cluster, weights / "masked-lm", tmp_path, 96, 8, workers=1, clients=1)


@pytest.mark.slow
def test_twenty_workers_and_three_clients_are_killed(cluster: Cluster, weights: Path, tmp_path: Path) -> None:
    assert_kills_do_no_harm(cluster, weights / "masked-lm", tmp_path, 2_000, 12, workers=20, clients=3)


@pytest.mark.slow
def test_the_scheduler_is_killed(weights: Path, tmp_path: Path) -> None:
    sources, model = write_sources(tmp_path, 160), weights / "masked-lm"
    own = Cluster(tmp_path / "cluster") if (tmp_path / "cluster").mkdir() is None else None
    assert own is not None
    command = [sys.executable, "-m", "nystrom_np", "embed", *map(str, sources), "--model", str(model)]
    command += ["--output", str(tmp_path / "out"), "--lines-per-shard", "8", "--scheduler"]
    try:
        with subprocess.Popen([*command, own.address], stderr=subprocess.PIPE, text=True) as client:
            while entries(tmp_path / "out") < 4:
                assert client.poll() is None
                time.sleep(0.01)
            own.end()
            _, errors = client.communicate(timeout=60)
        assert client.returncode == 2
        assert errors.splitlines()[-1].startswith("nystrom-np: the scheduler went away")
        own.begin()
        done = subprocess.run([*command, own.address], capture_output=True, text=True, check=True, timeout=100)
    finally:
        own.end()
    assert "from an earlier run" in done.stdout
    assert_whole(tmp_path / "out", of_each_file(sources, model))


def test_a_client_of_the_users_own(cluster: Cluster, checkpoints: Path, tmp_path: Path) -> None:
    sources, model = write_sources(tmp_path), checkpoints / "masked-lm-dense"
    with distributed.Client(cluster.address) as client:
        made = embed_corpus(sources, tmp_path / "out", model, client=client, lines_per_shard=32)
        assert (made.rows, made.shards, made.missing) == (450, 15, 0)
        with pytest.raises(FileExistsError, match="another pooling"):
            embed_corpus(sources, tmp_path / "out", model, "first", client=client, lines_per_shard=32)
        (tmp_path / "bad.jsonl").write_text("[]\n")
        with pytest.raises(ValueError, match=r"bad\.jsonl, line 1 is not a string"):
            embed_corpus(tmp_path / "bad.jsonl", tmp_path / "bad", model, client=client)
        assert open_vectors(tmp_path / "out").sum().compute() == pytest.approx(
            together(tmp_path / "out").sum(), rel=1e-4
        )
    assert_whole(tmp_path / "out", of_each_file(sources, model))


def test_a_worker_with_another_model_or_version_is_refused(
    cluster: Cluster, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, model = write_sources(tmp_path), checkpoints / "masked-lm-dense"
    with distributed.Client(cluster.address) as client:
        monkeypatch.setattr(run.TextVectors, "digest", lambda _: "of another model")
        with pytest.raises(OSError, match=r"masked-lm-dense is not, on a worker, the model that the run began with"):
            embed_corpus(sources, tmp_path / "one", model, client=client)
        monkeypatch.setattr("nystrom_np.__version__", "0.0.0")
        with pytest.raises(OSError, match=r"a worker has nystrom_np .*; the run began with nystrom_np 0\.0\.0"):
            embed_corpus(sources, tmp_path / "two", model, client=client)


class Fatal:
    """Stands for a line that ends whoever reads it."""

    def __call__(self, item: int) -> int:
        if item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return item


def test_what_kills_every_worker_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TRIES", 1)
    with distributed.Client(cluster.address, set_as_default=False) as client:
        assert list(run._on_dask(client, Fatal(), [4])) == [(4, 4)]
        with pytest.raises(OSError, match="workers died again and again"):
            list(run._on_dask(client, Fatal(), [3]))


def test_a_scheduler_that_goes_as_a_result_is_fetched(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was finished a moment ago is then cancelled."""

    def gone(*_: Any, **__: Any) -> None:
        raise CancelledError

    monkeypatch.setattr(distributed.Future, "result", gone)
    with (
        distributed.Client(cluster.address, set_as_default=False) as client,
        pytest.raises(OSError, match="the scheduler went away"),
    ):
        list(run._on_dask(client, abs, [-1]))


def test_workers_of_this_machine(checkpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources, model = write_sources(tmp_path), checkpoints / "masked-lm-dense"
    words = ["--workers", "2", "--lines-per-shard", "100", "--output", f"{tmp_path}/out", "--model", str(model)]
    assert cli.main(["embed", *map(str, sources), *words]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out: 450 vectors of 32 in 5 shards\n"
    assert_whole(tmp_path / "out", of_each_file(sources, model))


@pytest.mark.parametrize("form", ["npy", "parquet"])
def test_files_that_fsspec_reaches(form: str, checkpoints: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec", reason=EXTRA)
    pytest.importorskip("pyarrow", reason=EXTRA)
    sources, model = write_sources(tmp_path), checkpoints / "masked-lm-dense"
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for source in sources:
        memory.pipe_file(f"/corpus/{source.name}", source.read_bytes())
    asked: dict[str, Any] = {"model": model, "format": form, "lines_per_shard": 32}
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local) as client,
    ):
        made = embed_corpus("memory://corpus/*", "memory://vectors", **asked, client=client)
        assert (made.output, made.rows, made.shards, made.kept) == ("memory://vectors", 450, 15, 0)
        memory.rm("/vectors/part-000004.json")
        with pytest.raises(FileNotFoundError, match=rf"//vectors lacks 1 of 15 shards, part-000004\.{form} first"):
            open_vectors("memory://vectors")
        assert embed_corpus("memory://corpus/*", "memory://vectors", **asked, client=client).kept == 14
        found = open_vectors("memory://vectors").compute()
    with pytest.raises(FileNotFoundError, match=r"there is no file memory://corpus/none\*"):
        embed_corpus("memory://corpus/none*", "memory://vectors", **asked)
    mapped = [f"file://{source}" for source in sources]
    embed_corpus(mapped, f"file://{tmp_path}/out", **asked)
    for other in (together(f"file://{tmp_path}/out"), together(tmp_path / "out"), of_each_file(sources, model)):
        np.testing.assert_allclose(found, other, rtol=0, atol=4e-6 * np.abs(other).max())
