"""Where the commands' inputs come from: arguments, a file, or standard input."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from nystrom_np.files import JSON_LINES, json_values, text_lines

STANDARD_INPUT = "-"


class Inputs:
    """An iterator over inputs that knows where the last one came from.

    Examples
    --------
    >>> inputs = Inputs([("argument 1", "a")])
    >>> next(inputs), inputs.place
    ('a', 'argument 1')
    """

    def __init__(self, placed: Iterable[tuple[str, Any]], several: bool = False) -> None:
        self.placed = iter(placed)
        self.several = several
        self.place: str | None = None

    def __iter__(self) -> "Inputs":
        return self

    def __next__(self) -> Any:
        self.place = None  # if the next input cannot be read, the error itself says where it is
        self.place, item = next(self.placed)
        return item


def texts_given(texts: list[str]) -> Inputs:
    """Return the texts that are arguments."""
    return Inputs(((f"text {number}", text) for number, text in enumerate(texts, 1)), several=len(texts) > 1)


def texts_of(path: str | None) -> Inputs:
    """Return the lines of a file or of standard input; of a file of JSON Lines, the value of each line."""
    path = source(path)
    return Inputs(values(path) if path.lower().endswith(JSON_LINES) else lines(path), several=True)


def records_of(path: str | None) -> Inputs:
    """Return the value of each line of JSON Lines, in a file or standard input."""
    return Inputs(values(source(path)), several=True)


def whole_text(path: str | None) -> str:
    """Return the whole text of a file, or of standard input."""
    return "\n".join(line for _, line in lines(source(path)))


def source(path: str | None) -> str:
    """Return the path; without one, standard input, which must not be a terminal."""
    if path is None and sys.stdin.isatty():
        raise ValueError("there is no input: give it as an argument, with --file, or on standard input")
    return path or STANDARD_INPUT


def values(path: str) -> Iterator[tuple[str, Any]]:
    """Yield the place and value of each line of JSON. A text may stand by itself or as ``{"text": …}``."""
    for place, value in json_values(lines(path)):
        yield place, value["text"] if isinstance(value, dict) and list(value) == ["text"] else value


def lines(path: str) -> Iterator[tuple[str, str]]:
    """Yield the place of each line, and the line without its end."""
    standard = path == STANDARD_INPUT
    name = "standard input" if standard else path
    empty = True
    with nullcontext(sys.stdin.buffer) if standard else Path(path).open("rb") as file:
        for placed in text_lines(file, name):
            empty = False
            yield placed
    if empty:
        raise ValueError(f"{name} is empty")
