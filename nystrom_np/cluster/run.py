"""A run: the plan made or found, and the shards that are missing handed out, to a Dask cluster or to this process."""

import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from nystrom_np import text_vectors
from nystrom_np.cluster.plan import FORMATS, Plan, Source, read_plan, scan, write_plan
from nystrom_np.cluster.shard import Job, Overrides, make_shard, versions
from nystrom_np.cluster.store import Store, absolute, expanded, needed, stamp_of
from nystrom_np.files import check_path
from nystrom_np.pipelines.base import check_choice, check_count
from nystrom_np.progress import progress_bar
from nystrom_np.text_vectors import POOLING, TextVectors

__all__ = ["Corpus", "embed_corpus"]

SECONDS_BETWEEN_COUNTS = 1.0
TRIES = 10
"""How often a task is given to Dask again after Dask has given it up, which it does when it has lost some workers."""

GONE = "the scheduler went away, or the run was cancelled: the same call goes on"

Engine = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[tuple[Any, Any]]]
"""Takes a function and items; yields each item with the function's result, in any order."""


class Corpus(NamedTuple):
    """The result of `embed_corpus`.

    Attributes
    ----------
    output : str
        The folder.
    rows, width : int
        The shape of all vectors together.
    shards : int
        How many files that is.
    kept : int
        How many of them were there before.
    missing : int
        How many are left to other slots; 0 where there are none.
    """

    output: str
    rows: int
    width: int
    shards: int
    kept: int
    missing: int


def embed_corpus(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    pooling: str = "mean",
    field: str = "text",
    dtype: str = "float32",
    device: str = "cpu",
    progress: bool | None = None,
    *,
    client: Any = None,
    shard: tuple[int, int] = (1, 1),
    format: str = "npy",  # noqa: A002
    lines_per_shard: int = 8192,
    **config_overrides: Any,
) -> Corpus:
    r"""Write a vector for each line of many files, in numbered shards. After an interruption, the same call goes on.

    Parameters
    ----------
    sources : path or URL, or list of them
        Files as `embed` takes them, but no pipes; URLs may have ``*``. The order of the vectors is that of the files
        and their lines.
    output : path or URL
        A folder, made if it does not exist. Here and for the sources, URLs are those that fsspec knows: ``s3://…``.
    model, pooling, field, dtype, device
        As for `embed`. Every worker finds the model under this path or name.
    progress : bool, optional
        Whether to show a progress bar; by default in a terminal, after a second.
    client : dask.distributed.Client, optional
        The cluster whose workers make the shards; by default this process makes them.
    shard : tuple of int
        (i, n), with 1 ≤ i ≤ n: leave to others all but every nth shard, beginning with the ith.
    format : {"npy", "parquet"}
        Of the shards. Parquet has the columns "id" (of JSON objects that have one), "text" and "vector".
    lines_per_shard : int
        What a killed worker loses at most. A shard also ends with the line that reaches 64 MiB.
    **config_overrides
        Fields of the configuration to change.

    Returns
    -------
    Corpus

    Raises
    ------
    FileExistsError
        If the folder is of a run with other lines, another model or other settings.
    TypeError
        If a path or the client is something else.
    OSError
        If a file is missing, cannot be read or written, or changes while it is used; if the scheduler goes away; or if
        workers die again and again of one shard.
    ValueError
        If an argument is wrong, a line is not a text (all are read before anything is computed), or a package of the
        extra is missing.

    Warns
    -----
    UserWarning
        If texts were cut, how many of those that this call made vectors of.

    Notes
    -----
    The folder has ``plan.json``, and for each shard ``part-000000.npy`` and, written after it, its entry in the
    manifest, ``part-000000.json``: file and lines, their digest, the model's digest and the settings. A shard with an
    entry is not made again. Vectors are those of `embed` but for rounding, which depends on which lines run together
    and on the processor and threads of the worker: in float32 some 10⁻⁶ of the largest number.

    Sources whose size and time of change are those of the plan are not read again as a whole. The lines of a shard are
    compared with the plan when it is made.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     source = Path(folder) / "lines.txt"
    ...     _ = source.write_text("Paris is the capital of France.\nA dog.\nA cat.\n")
    ...     made = embed_corpus([source], f"{folder}/vectors", lines_per_shard=2)
    ...     made.rows, made.shards, embed_corpus([source], f"{folder}/vectors", lines_per_shard=2).kept
    (3, 2, 2)
    """
    given = list(sources) if isinstance(sources, Iterable) and not isinstance(sources, str) else [sources]
    _check_paths(sources=given, output=[output], model=[] if model is None else [model])
    names = [name for one in given for name in expanded(one)]
    _check(names, pooling, format, shard, lines_per_shard)
    if not (client is None or hasattr(client, "scheduler_info")):
        raise TypeError(f"client must be a dask.distributed.Client; found {type(client).__name__}")
    if format == "parquet":
        needed("pyarrow", "format='parquet'")
    if model is not None:
        model = absolute(model) if Path(model).exists() else os.fspath(model)
    engine = _here if client is None else partial(_on_dask, client)
    settings, width = _settings(model, pooling, dtype, config_overrides)
    settings |= {
        "field": field,
        "device": device,
        "format": format,
        "lines per shard": int(lines_per_shard),
    }
    store = Store(os.fspath(output))
    plan = _agreed(store, settings, width, names, partial(scan, field=field, lines_per_shard=lines_per_shard), engine)
    job = Job(absolute(output), settings, field, model, device, Overrides(config_overrides))
    kept, cut = _make_missing(store, plan, shard, engine, partial(make_shard, job), progress)
    missing = len(plan.shards) - len(_done(store, plan))
    if not missing:
        store.remove_leftovers()
    if cut:
        warnings.warn(f"{cut:,} texts were cut to the length that the model takes", stacklevel=2)
    return Corpus(store.url, plan.rows, width, len(plan.shards), kept, missing)


def _check_paths(**arguments: list[Any]) -> None:
    for name, paths in arguments.items():
        for path in paths:
            check_path(name, path)


def _check(names: list[str], pooling: str, form: str, shard: Any, lines_per_shard: int) -> None:
    check_choice("pooling", pooling, POOLING)
    check_choice("format", form, FORMATS)
    check_count("lines_per_shard", lines_per_shard)
    if not names:
        raise ValueError("there are no sources: one file or more are expected")
    match shard:
        case (int(i), int(n)) if 1 <= i <= n:
            return
    raise ValueError(f"shard must be (i, n) with 1 ≤ i ≤ n; found {shard!r}")


def _settings(model: Any, pooling: str, dtype: str, overrides: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """All that the vectors depend on beside the lines, and the vectors' width. The model is read here, not run."""
    make = TextVectors.of(model, pooling, dtype, "cpu", overrides)
    return {
        "model": make.digest(),
        "pooling": pooling,
        "dtype": make.model.dtype.name,
        "window": [text_vectors.LINES_PER_WINDOW, text_vectors.BYTES_PER_WINDOW],
        "batch": [text_vectors.LINES_PER_BATCH, text_vectors.TOKENS_PER_BATCH],
        "versions": versions(),
    }, make.width


def _agreed(
    store: Store, settings: dict[str, Any], width: int, names: list[str], cut: Callable[[str], Any], engine: Engine
) -> Plan:
    """Return the plan that is in the folder, if it is this run's; write it if there is none."""
    old = read_plan(store)
    if old is not None:
        _refuse_others(store, old, settings)
    stamps = {name: stamp_of(name) for name in names}
    if old is not None and [(one.name, one.stamp) for one in old.sources] == [(name, stamps[name]) for name in names]:
        return old
    shards = dict(engine(cut, dict.fromkeys(names)))
    plan = Plan(settings, width, [Source(name, stamps[name], shards[name]) for name in names])
    if old is None:
        old = write_plan(store, plan)
        _refuse_others(store, old, settings)
    if [shard.digest for _, _, shard in old.shards] != [shard.digest for _, _, shard in plan.shards]:
        raise _other_run(store, ["source"])
    return plan


def _refuse_others(store: Store, old: Plan, settings: dict[str, Any]) -> None:
    if differing := sorted(name for name in settings if old.settings.get(name) != settings[name]):
        raise _other_run(store, differing)


def _other_run(store: Store, differing: list[str]) -> FileExistsError:
    another = f"of a run with another {', '.join(differing)}"
    return FileExistsError(f"{store.url} is {another}: repeat that run, or choose another folder")


def _done(store: Store, plan: Plan) -> set[int]:
    """Return the numbers of the shards whose entry is there, and whose file is."""
    names = store.sizes()
    return {number for number, _, _ in plan.shards if plan.name(number) in names and f"part-{number:06}.json" in names}


def _make_missing(
    store: Store,
    plan: Plan,
    slot: tuple[int, int],
    engine: Engine,
    make: Callable[[Any], tuple[int, int]],
    progress: bool | None,
) -> tuple[int, int]:
    """Make the shards of a slot that are not there; return how many were, and how many texts were cut."""
    done, (i, n) = _done(store, plan), slot
    mine = [(number, source, shard) for number, source, shard in plan.shards if number % n == i - 1]
    todo = [
        (plan.name(number), source._replace(shards=[]), shard) for number, source, shard in mine if number not in done
    ]
    began, tokens, cut = time.monotonic(), 0, 0
    lines = sum(shard.lines for _, _, shard in mine)
    with progress_bar(progress, lines, initial=lines - sum(shard.lines for _, _, shard in todo), unit=" lines") as bar:
        for (_, _, shard), (count, shortened) in engine(make, todo):
            tokens, cut = tokens + count, cut + shortened
            bar.set_postfix_str(f"{tokens / (time.monotonic() - began):,.0f} tokens/s", refresh=False)
            bar.update(shard.lines)
    return len(mine) - len(todo), cut


def _here(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The engine of this process alone."""
    for item in items:
        yield item, function(item)


def _on_dask(client: Any, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """The engine of a Dask cluster: a few tasks for each thread of it are under way at a time."""
    distributed = needed("distributed", "a cluster")
    waiting, under_way, given_up = iter(items), dict[Any, Any](), Counter[str]()
    finished = distributed.as_completed(loop=client.loop)  # of this client, which need not be the default one
    asked, known = -math.inf, 0

    def threads() -> int:
        """The threads of all workers, which come and go. To ask each time would take longer than a small task."""
        nonlocal asked, known
        if time.monotonic() - asked > SECONDS_BETWEEN_COUNTS:
            asked, known = time.monotonic(), sum(client.nthreads().values())
        return known

    def submit(item: Any) -> None:
        future = client.submit(function, item, pure=False)
        under_way[future] = item
        finished.add(future)

    def submit_more() -> None:
        for item in islice(waiting, max(0, 2 + 2 * threads() - len(under_way))):
            submit(item)

    try:
        submit_more()
        for future in finished:
            item = under_way.pop(future)
            if future.cancelled():
                raise OSError(GONE)
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                given_up[repr(item)] += 1
                if given_up[repr(item)] > TRIES:
                    raise OSError(f"workers died again and again: {error}")
                submit(item)
                continue
            if error is not None:
                raise error
            yield item, future.result()
            submit_more()
    except (distributed.comm.CommClosedError, CancelledError):  # the latter if it went between two of these lines
        raise OSError(GONE) from None
    finally:
        client.cancel(list(under_way))
