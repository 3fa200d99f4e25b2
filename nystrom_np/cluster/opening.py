"""The vectors of a finished run: one array of all shards."""

import io
import os
from typing import Any

import numpy as np

from nystrom_np.cluster.plan import read_plan
from nystrom_np.cluster.store import Store, absolute, needed
from nystrom_np.files import check_path

__all__ = ["open_vectors"]


def open_vectors(folder: str | os.PathLike[str]) -> Any:
    r"""Open what `embed_corpus` wrote: row i is line i of all sources together.

    Parameters
    ----------
    folder : path or URL

    Returns
    -------
    dask.array.Array
        (rows, width), a chunk for each shard, which is memory-mapped when it is used. Where Dask is not installed a
        list of arrays, one for each shard.

    Raises
    ------
    TypeError
        If the folder is no path.
    FileNotFoundError
        If there is no run in the folder, or shards are missing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from nystrom_np.cluster import embed_corpus
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "lines.txt").write_text("A dog.\nA cat.\nA horse.\n")
    ...     made = embed_corpus(f"{folder}/lines.txt", f"{folder}/vectors")
    ...     np.asarray(open_vectors(f"{folder}/vectors")).size == made.rows * made.width
    True
    """
    check_path("folder", folder)
    store = Store(os.fspath(folder))
    plan = read_plan(store)
    if plan is None:
        raise FileNotFoundError(f"there is no plan.json in {folder}: the folder of embed_corpus is expected")
    sizes, names = store.sizes(), [plan.name(number) for number, _, _ in plan.shards]
    if missing := [name for name in names if f"{name.partition('.')[0]}.json" not in sizes or name not in sizes]:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} of {len(names)} shards, {missing[0]} first")
    try:
        import dask.array as da
    except ImportError:
        return [_read(store.url, name) for name in names]
    chunks = tuple(shard.lines for _, _, shard in plan.shards)
    dtype = np.dtype(plan.settings["dtype"])
    if not chunks:
        return da.zeros((0, plan.width), dtype)
    return da.map_blocks(
        _block, absolute(folder), names, chunks=(chunks, (plan.width,)), dtype=dtype, meta=np.empty((0, 0), dtype)
    )


def _block(url: str, names: list[str], block_id: tuple[int, int]) -> np.ndarray:
    return _read(url, names[block_id[0]])


def _read(url: str, name: str) -> np.ndarray:
    """Open a shard: memory-mapped where it is a file of this machine in NumPy's format."""
    store = Store(url)
    if name.endswith(".npy"):
        if store.folder is not None:
            return np.load(store.folder / name, mmap_mode="r")
        return np.load(io.BytesIO(store.read(name)), allow_pickle=False)
    parquet = needed("pyarrow.parquet", "a run in Parquet")
    column = parquet.read_table(io.BytesIO(store.read(name)), columns=["vector"])["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)
