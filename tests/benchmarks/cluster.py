"""Lines a second of a cluster of two workers and of one process, in turn: ``python -m tests.benchmarks.cluster``.

And what the page on very many lines computes with: how fast lines are read and digested, shards written, and tasks
handed out, and how many tokens a second a model of 12 layers of 768 runs. It prints JSON, part by
part.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np import NystromformerConfig, NystromformerModel, NystromformerTokenizer
from nystrom_np.cluster import embed_corpus, run
from nystrom_np.cluster.plan import scan
from nystrom_np.cluster.store import Store
from nystrom_np.embed import embed
from nystrom_np.pipelines.loading import shipped_weights
from nystrom_np.text_vectors import TextVectors
from tests.benchmarks.machine import machine, versions

WORDS = (
    "the",
    "train",
    "film",
    "was",
    "late",
    "with",
    "great",
    "plot",
    "city",
    "bread",
    "violin",
    "river",
    "old",
    "man",
)


def write_lines(path: Path, count: int) -> Path:
    """Lines of 5 to 40 words."""
    state = np.random.RandomState(0)
    path.write_text("".join(" ".join(state.choice(WORDS, size=n)) + "\n" for n in state.randint(5, 41, size=count)))
    return path


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(folder: Path, lines: int, rounds: int) -> dict[str, Any]:
    """One process with its two threads, and two workers of one thread, in turn."""
    from distributed import Client, LocalCluster

    source = write_lines(folder / "lines.txt", lines)
    seconds: dict[str, list[float]] = {"one process": [], "two workers": []}
    processor: dict[str, list[float]] = {name: [] for name in seconds}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as two, Client(two) as client:

        def used(name: str) -> float:
            return time.process_time() + (sum(client.run(time.process_time).values()) if name == "two workers" else 0)

        def go(name: str, number: int) -> None:
            if name == "two workers":
                embed_corpus(source, folder / f"{number}", client=client, lines_per_shard=512)
            else:
                embed(source, folder / f"{number}.npy")

        for number in range(rounds + 1):
            for name in seconds:
                before = used(name)
                took = timed(lambda name=name, number=number: go(name, number))  # type: ignore[misc]
                if number:  # the first of each is not counted
                    seconds[name].append(took)
                    processor[name].append(used(name) - before)
    rate = {name: [round(lines / one, 1) for one in sorted(took)] for name, took in seconds.items()}
    middle = {name: statistics.median(found) for name, found in rate.items()}
    paired = [one / two for one, two in zip(seconds["one process"], seconds["two workers"], strict=True)]
    return {
        "lines": lines,
        "lines a second": rate,
        "two workers / one process, of medians": round(middle["two workers"] / middle["one process"], 3),
        "two workers / one process, median of rounds": round(statistics.median(paired), 3),
        "processor seconds for 1,000 lines": {
            name: round(1000 * statistics.median(found) / lines, 3) for name, found in processor.items()
        },
    }


def rates(folder: Path) -> dict[str, float]:
    """Reading and digesting, writing, handing out."""
    from distributed import Client, LocalCluster

    source = write_lines(folder / "many.txt", 200_000)
    size = source.stat().st_size
    store, shard = Store(str(folder / "written")), os.urandom(8192 * 768 * 4)
    writing = [timed(lambda i=i: store.write(f"part-{i}", shard)) for i in range(8)]  # type: ignore[misc]
    reading = [timed(lambda: scan(str(source), "text", 8192)) for _ in range(3)]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as local,
        Client(local) as client,
    ):
        list(run._on_dask(client, abs, range(20)))
        tasks = timed(lambda: list(run._on_dask(client, abs, range(1000))))
    return {
        "bytes of a line": round(size / 200_000, 1),
        "lines read and digested a second": round(200_000 / statistics.median(reading)),
        "MB read and digested a second": round(size / 1e6 / statistics.median(reading), 1),
        "MB of shards written and flushed a second": round(len(shard) / 1e6 / statistics.median(writing), 1),
        "tasks a second": round(1000 / tasks),
    }


def large_model(folder: Path, lines: int) -> dict[str, float]:
    """Tokens and lines a second of 12 layers of 768, with the shipped tokenizer."""
    tokenizer = NystromformerTokenizer.from_pretrained(shipped_weights() / "masked-lm")
    config = NystromformerConfig(vocab_size=len(tokenizer), max_position_embeddings=512, segment_means_seq_len=64)
    NystromformerModel(config).save_pretrained(folder / "large")
    tokenizer.save_pretrained(folder / "large")
    make = TextVectors.of(folder / "large", "mean", "float32", "cpu", {})
    texts = write_lines(folder / "few.txt", lines).read_text().splitlines()
    encodings = make.encodings(texts)
    tokens = sum(len(row["input_ids"]) for row in encodings)
    make.vectors(encodings[:8])
    took = statistics.median(timed(lambda: make.vectors(encodings)) for _ in range(3))
    cut = statistics.median(timed(lambda: make.encodings(texts)) for _ in range(5))
    return {
        "model": "12 layers of 768",
        "tokens a second": round(tokens / took),
        "tokens of a line": round(tokens / lines, 1),
        "lines tokenised a second": round(lines / cut),
    }


def main() -> None:
    """Measure all, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from distributed import __version__ as distributed

    told: dict[str, Any] = machine("cpu") | versions("cpu") | {"distributed": distributed}
    print(json.dumps(told, indent=2))
    with tempfile.TemporaryDirectory() as name:
        for part in (
            lambda: rates(Path(name)),
            lambda: large_model(Path(name), 128),
            lambda: compare(Path(name), options.lines, options.rounds),
        ):
            print(json.dumps({"load average": os.getloadavg(), **part()}, indent=2), flush=True)


if __name__ == "__main__":
    main()
