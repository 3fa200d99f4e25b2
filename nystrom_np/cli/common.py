"""What the commands share: exit codes, options, and how results are printed."""

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

AGREES, DIFFERS, WRONG, BROKEN_PIPE, INTERRUPTED = 0, 1, 2, 141, 130

Commands = Any
"""What ``add_subparsers`` returns: argparse keeps its type to itself."""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with an argument, and ends with code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        self.exit(WRONG, f"{self.prog}: {message} (--help says more)\n")


def add_options(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], dtypes: Sequence[str] = ()
) -> None:
    """Give a command what it runs, ``--json``, and if it computes, ``--dtype`` and ``--device``."""
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON")
    if dtypes:
        parser.add_argument("--dtype", choices=dtypes, help="what to compute in")
        parser.add_argument("--device", default="cpu", help="cpu (the default), cuda or cuda:N")


def positive(text: str) -> int:
    """Return a positive whole number that is given as an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def print_json(value: dict[str, Any]) -> None:
    """Print one object."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
