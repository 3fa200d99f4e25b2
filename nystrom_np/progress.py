"""A progress bar on long work."""

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["progress_bar", "with_progress"]


def progress_bar(progress: bool | None, total: int | None, **options: Any) -> Any:
    """Make a progress bar that shows always, never, or (None) in a terminal after a second; of a total if known.

    Examples
    --------
    >>> with progress_bar(False, total=2) as bar:
    ...     _ = bar.update(2)
    """
    from tqdm import tqdm  # here, since it is only needed here

    hidden = None if progress is None else not progress
    return tqdm(total=total, disable=hidden, delay=0 if progress else 1, **options)


def with_progress(items: Iterable[Any], progress: bool | None, total: int | None) -> Iterator[Any]:
    """The items, with a progress bar as `progress_bar` makes it.

    Examples
    --------
    >>> list(with_progress([1, 2], progress=False, total=2))
    [1, 2]
    """
    if progress is False:
        yield from items
        return
    with progress_bar(progress, total) as bar:
        for item in items:
            yield item
            bar.update()
