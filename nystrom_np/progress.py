"""A progress bar on long work."""

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["with_progress"]


def with_progress(items: Iterable[Any], progress: bool | None, total: int | None) -> Iterator[Any]:
    """The items, with a progress bar always, never, or (None) in a terminal after a second; of a total if known.

    Examples
    --------
    >>> list(with_progress([1, 2], progress=False, total=2))
    [1, 2]
    """
    if progress is False:
        yield from items
        return
    from tqdm import tqdm  # here, since it is only needed here

    yield from tqdm(items, total=total, disable=None if progress is None else False, delay=0 if progress else 1)
