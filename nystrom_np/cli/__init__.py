"""The command ``nystrom-np``.

For each command there is a function ``add_…(commands)`` that registers its parser; ``COMMANDS`` lists them.

Exit codes: 0, success; 1, a result differs from the reference's; 2, a wrong argument or file, which one line on
standard error names; 130, interrupted.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from nystrom_np import __version__
from nystrom_np.cli.answers import (
    add_feature_extraction,
    add_fill_mask,
    add_multiple_choice,
    add_question_answering,
    add_text_classification,
    add_token_classification,
)
from nystrom_np.cli.checks import add_demo, add_verify
from nystrom_np.cli.common import BROKEN_PIPE, INTERRUPTED, WRONG, Parser
from nystrom_np.cli.conversion import add_convert
from nystrom_np.cli.embedding import add_embed
from nystrom_np.cli.exploring import add_explore
from nystrom_np.cli.inspection import add_inspect
from nystrom_np.cli.plotting import add_plot
from nystrom_np.cli.streams import complain, settled, standard_streams
from nystrom_np.cli.tracing import add_compare, add_trace

__all__ = ["main"]

COMMANDS = (
    add_demo,
    add_verify,
    add_fill_mask,
    add_text_classification,
    add_token_classification,
    add_question_answering,
    add_multiple_choice,
    add_feature_extraction,
    add_inspect,
    add_convert,
    add_embed,
    add_plot,
    add_explore,
    add_trace,
    add_compare,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments after ``nystrom-np``; by default those of the process.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    SystemExit
        After ``--help``, ``--version`` and wrong arguments, as argparse does.

    Examples
    --------
    >>> main(["inspect", "no/such/folder"])
    2
    """
    with standard_streams():
        try:
            options = _parser().parse_args(arguments)
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                code: int = options.run(options)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # the reader of the pipe has closed it
            return BROKEN_PIPE
        except KeyboardInterrupt:
            return INTERRUPTED
        except (OSError, ValueError, TypeError, IndexError, MemoryError) as error:
            complain(error)
            return WRONG
        except RecursionError:
            complain("what was given is nested too deeply")
            return WRONG
        finally:
            settled()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(message)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="nystrom-np", description="Nyströmformer in NumPy.")
    parser.add_argument("--version", action="version", version=f"nystrom-np {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser
