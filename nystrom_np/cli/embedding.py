"""``embed``: the lines of a file as vectors; of many files, with the help of many processes."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nystrom_np.cli.common import AGREES, Commands, add_options, add_overrides, overrides, positive, print_json
from nystrom_np.embed import HEADERS, POOLING, embed


def add_embed(commands: Commands) -> None:
    """Register ``embed``."""
    make = commands.add_parser("embed", help="a vector for each line of files; goes on after an interruption")
    make.add_argument(
        "input",
        nargs="+",
        help="text files, or JSON Lines (*.jsonl, *.ndjson): a line is a text; with a folder as output also URLs",
    )
    make.add_argument(
        "--output", required=True, metavar="FILE", help="*.npy or *.safetensors; or a folder, for numbered shards"
    )
    make.add_argument("--model", metavar="FOLDER", help="a checkpoint; a shipped one by default")
    make.add_argument(
        "--pooling",
        choices=POOLING,
        default="mean",
        help="of the tokens' vectors: their mean (the default), or the first",
    )
    make.add_argument(
        "--field", default="text", metavar="NAME", help="where the text is in an object of JSON Lines (text)"
    )
    _add_sharing(make)
    add_overrides(make)
    add_options(make, _embed, ("float32", "float64", "float16"))


def _add_sharing(make: argparse.ArgumentParser) -> None:
    group = make.add_argument_group("a folder of shards", "made by one process, or by several at once")
    who = group.add_mutually_exclusive_group()
    who.add_argument("--workers", type=positive, metavar="N", help="so many processes on this machine")
    who.add_argument("--scheduler", metavar="ADDRESS", help="the workers of a Dask cluster: tcp://host:8786")
    who.add_argument("--shard", type=_slot, metavar="I/N", help="every Nth shard, beginning with the Ith: 1/8 … 8/8")
    group.add_argument("--format", choices=("npy", "parquet"), help="of the shards (npy)")
    group.add_argument("--lines-per-shard", type=positive, metavar="N", help="what an interruption may cost (8192)")


def _slot(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 ≤ I ≤ N")
    return int(found[1]), int(found[2])


def _embed(options: argparse.Namespace) -> int:
    settings = {
        "model": options.model,
        "pooling": options.pooling,
        "field": options.field,
        "dtype": options.dtype or "float32",
        "device": options.device,
        **overrides(options),
    }
    shared = any((options.workers, options.scheduler, options.shard, options.format, options.lines_per_shard))
    if shared or len(options.input) > 1 or options.output.endswith("/"):
        return _embed_corpus(options, settings)
    made = embed(options.input[0], options.output, **settings)
    if options.json:
        print_json(made._asdict() | {"output": str(made.output)})
        return AGREES
    again = f", the first {made.resumed_at:,} from an earlier run" if made.resumed_at else ""
    print(f"{made.output}: {made.rows:,} vectors of {made.width}{again}")
    return AGREES


def _embed_corpus(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    from nystrom_np.cluster import embed_corpus

    if options.output.endswith(tuple(HEADERS)):
        raise ValueError(f"a folder is expected as output where shards are made; found {options.output!r}")
    with _cluster(options) as client:
        made = embed_corpus(
            options.input,
            options.output,
            **settings,
            client=client,
            shard=options.shard or (1, 1),
            format=options.format or "npy",
            lines_per_shard=options.lines_per_shard or 8192,
        )
    if options.json:
        print_json(made._asdict())
        return AGREES
    again = f", {made.kept:,} from an earlier run" if made.kept else ""
    left = f"; {made.missing:,} are left to other slots" if made.missing else ""
    print(f"{made.output}: {made.rows:,} vectors of {made.width} in {made.shards:,} shards{again}{left}")
    return AGREES


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[Any]:
    """Yield a client of the cluster that was asked for, or None."""
    if not (options.workers or options.scheduler):
        yield None
        return
    from nystrom_np.cluster.store import needed

    distributed = needed("distributed", "--workers" if options.workers else "--scheduler")
    if options.scheduler:
        with distributed.Client(options.scheduler) as client:
            yield client
        return
    try:
        local = distributed.LocalCluster(
            n_workers=options.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        )
    except RuntimeError as error:  # a process of Dask's that cannot begin
        raise OSError(f"--workers {options.workers}: the processes could not be started: {error}") from error
    with local, distributed.Client(local) as client:
        yield client
