"""One shard: lines read, checked against the plan, made into vectors and written whole, wherever this runs."""

import io
import json
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nystrom_np.cluster.plan import Shard, Source, digest_of, is_json
from nystrom_np.cluster.store import Store, needed, opened
from nystrom_np.fast.on_numpy.threads import thread_count
from nystrom_np.text_vectors import TextVectors, Window, beside, windows
from nystrom_np.tokenization import whole_characters

__all__ = ["Job", "Overrides", "make_shard", "versions"]


class Overrides(dict[str, Any]):
    """Fields of the configuration and their values, as the key of a model: the values may be dictionaries themselves.

    Examples
    --------
    >>> hash(Overrides(id2label={0: "no"})) == hash(Overrides(id2label={0: "yes"}))  # they are told apart by ==
    True
    """

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


class Job(NamedTuple):
    """What all shards of a run have in common; small, since it goes with each of them.

    Attributes
    ----------
    output : str
        The folder's path or URL.
    settings : dict
        The plan's.
    field : str
        The key of the text in an object of JSON Lines.
    model : str, optional
        A folder or a name, the same on every machine.
    device : str
        Where a worker computes.
    overrides : Overrides
    """

    output: str
    settings: dict[str, Any]
    field: str
    model: str | None
    device: str
    overrides: Overrides


def versions() -> str:
    """Return the versions on which the rounding of vectors may depend.

    Examples
    --------
    >>> versions().startswith("nystrom_np ")
    True
    """
    from nystrom_np import __version__

    return f"nystrom_np {__version__}, NumPy {np.__version__}"


def make_shard(job: Job, task: tuple[str, Source, Shard]) -> tuple[int, int]:
    r"""Make a shard's file, and then its entry in the manifest, which says that the file is there and whole.

    Parameters
    ----------
    job : Job
    task : tuple of str, Source and Shard
        The name of its file, where its lines are (the shards of that source are not looked at), and which.

    Returns
    -------
    tokens : int
        How many it has.
    cut : int
        How many of its texts were longer than the model takes.

    Raises
    ------
    OSError
        If the lines, the model or the versions are not those of the plan, or something cannot be read or written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from nystrom_np.cluster import embed_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_text("one\n")
    ...     _ = embed_corpus([f"{folder}/a.txt"], f"{folder}/out")  # calls it
    ...     sorted(path.name for path in (Path(folder) / "out").iterdir())
    ['part-000000.json', 'part-000000.npy', 'plan.json']
    """
    name, source, shard = task
    if versions() != job.settings["versions"]:
        raise OSError(f"a worker has {versions()}; the run began with {job.settings['versions']}")
    found = _lines_of(source.name, shard, job.field)
    make = _vectors_of(job)
    vectors = np.empty((shard.lines, make.width), make.model.dtype)
    begin = tokens = cut = 0
    for encodings, shortened in beside(make.cut(window.texts) for window in found):
        vectors[begin : begin + len(encodings)] = make.vectors(encodings)
        begin += len(encodings)
        tokens += sum(len(row["input_ids"]) for row in encodings)
        cut += shortened
    entry = {
        "file": name,
        "source": source.name,
        "first line": shard.first,
        "lines": shard.lines,
        "digest": shard.digest,
        "tokens": tokens,
        "texts cut": cut,
        "threads": thread_count(),
        **job.settings,
    }
    store = Store(job.output)
    store.write(name, WRITERS[job.settings["format"]](vectors, found))
    store.write(f"{name.partition('.')[0]}.json", json.dumps(entry, indent=2, ensure_ascii=False).encode())
    return tokens, cut


def _lines_of(name: str, shard: Shard, field: str) -> list[Window]:
    """Read a shard's lines; they must be those of the plan."""
    with opened(name, shard.start) as file:
        content = file.read(shard.stop - shard.start)
    try:
        found = list(windows(io.BytesIO(content), name, field, is_json(name), shard.first))
    except ValueError:  # they were texts when the plan was made
        found = []
    if digest_of(found) != shard.digest:
        raise OSError(f"{name} changed after the run began")
    return found


def _vectors_of(job: Job) -> TextVectors:
    settings = job.settings
    return _loaded(job.model, settings["model"], settings["pooling"], settings["dtype"], job.device, job.overrides)


@lru_cache(maxsize=2)
def _loaded(model: str | None, digest: str, pooling: str, dtype: str, device: str, overrides: Overrides) -> TextVectors:
    """Load a model once in a process; it must be the one that the plan was made with."""
    make = TextVectors.of(model, pooling, dtype, device, overrides)
    if make.digest() != digest:
        raise OSError(f"{model} is not, on a worker, the model that the run began with")
    return make


def _npy(vectors: np.ndarray, found: list[Window]) -> bytes:
    file = io.BytesIO()
    np.save(file, vectors.astype(vectors.dtype.newbyteorder("<"), copy=False))
    return file.getvalue()


def _parquet(vectors: np.ndarray, found: list[Window]) -> bytes:
    """Columns id (of objects that have one, as text), text, and vector."""
    pa, parquet = needed("pyarrow", "format='parquet'"), needed("pyarrow.parquet", "format='parquet'")
    ids = [one if isinstance(one, str | None) else json.dumps(one) for window in found for one in window.ids]
    texts = [whole_characters(text) for window in found for text in window.texts]
    vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    columns = {"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string()), "vector": vector}
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


WRITERS = {"npy": _npy, "parquet": _parquet}
