"""What the commands share: exit codes, options, and printing of JSON."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from nystrom_np.cli.streams import complain

AGREES, DIFFERS, WRONG, BROKEN_PIPE, INTERRUPTED = 0, 1, 2, 141, 130

CHECKPOINT = "a checkpoint's folder, or owner/name on the Hugging Face Hub"

Commands = Any
"""What ``add_subparsers`` returns, a type that argparse does not publish."""


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong with an argument, and exits with code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        complain(f"{message} (--help says more)", self.prog)
        self.exit(WRONG)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Exit once the help that was asked for has arrived."""
        sys.stdout.flush()
        super().exit(status, message)


def add_options(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], dtypes: Sequence[str] = ()
) -> None:
    """Give a command its function and ``--json``, and if there are dtypes, ``--dtype`` and ``--device``."""
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON")
    if dtypes:
        parser.add_argument("--dtype", choices=dtypes, help="what to compute in")
        parser.add_argument("--device", default="cpu", help="cpu (the default), cuda or cuda:N")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Give a command options for the fields of the configuration that choose exact or Nyström attention."""
    group = parser.add_argument_group(
        "attention", "exact if both are equal; by default what the checkpoint's config.json says"
    )
    group.add_argument("--num-landmarks", type=positive, metavar="M", help="landmarks of Nyström attention")
    group.add_argument("--segment-means-seq-len", type=positive, metavar="L", help="the length it was made for")


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `add_overrides` that were given."""
    names = ("num_landmarks", "segment_means_seq_len")
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def positive(text: str) -> int:
    """Parse an argument that has to be a positive whole number."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def print_json(value: dict[str, Any]) -> None:
    """Print an object as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
