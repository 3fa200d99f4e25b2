"""The standard streams of a command: what is said in one line, and what is printed, whatever becomes of the reader."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["complain", "settled", "standard_streams", "visible"]

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and line feed: to a terminal they may be commands."""


def visible(text: str) -> str:
    r"""Return a text with its control characters written out, as JSON writes them: it may come from a stranger's file.

    Examples
    --------
    >>> print(visible("\x1b[31mred"))
    \u001b[31mred
    """
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def complain(message: object, program: str = "nystrom-np") -> None:
    r"""Say what is wrong in one line on standard error, if anybody listens.

    Examples
    --------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     complain("no file\n\x1b[31mred.txt")
    nystrom-np: no file \u001b[31mred.txt
    """
    text = str(message).strip()
    line = visible(" ".join(text.split()) or type(message).__name__).encode(errors="backslashreplace").decode()
    with suppress(OSError, ValueError):
        print(f"{program}: {line}", file=sys.stderr, flush=True)


@contextmanager
def standard_streams() -> Iterator[None]:
    r"""Let streams that are closed lead to nowhere in this block, and print control characters as `visible` ones.

    Examples
    --------
    >>> with standard_streams():
    ...     print("\x07")
    \u0007
    """
    before = sys.stdin, sys.stdout, sys.stderr
    with open(os.devnull, "r+") as nowhere:  # noqa: PTH123, since on Windows it is no path
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # print ? where the terminal has no ö, in place of an error
        sys.stdin = sys.stdin or nowhere
        sys.stdout = _Visible(sys.stdout or nowhere)
        sys.stderr = sys.stderr or nowhere
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before


def settled() -> bool:
    """Whether all that was printed has arrived; if not, what is left goes to nowhere, where Python flushes it again.

    Examples
    --------
    >>> settled()
    True
    """
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


class _Visible(io.TextIOBase):
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.stream.write(visible(text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        number: int = self.stream.fileno()
        return number

    def isatty(self) -> bool:
        return bool(self.stream.isatty())
