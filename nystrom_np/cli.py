"""The command ``nystrom-np``: ``demo``, ``verify``, ``fill-mask`` and ``inspect``.

Exit codes: 0, it went well; 1, a result differs from the reference's; 2, a wrong argument or file, with one
line on standard error that says which; 130, interrupted.
"""

import argparse
import json
import math
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nystrom_np import __version__
from nystrom_np.checkpoint import stored_tensors
from nystrom_np.config import NystromformerConfig
from nystrom_np.demo import (
    CLASSES,
    HEADS,
    Comparison,
    Demonstration,
    demonstrate,
    fill_mask,
    load,
    shipped_weights,
    verify,
)
from nystrom_np.tokenization import NystromformerTokenizer

__all__ = ["main"]

AGREES, DIFFERS, WRONG, BROKEN_PIPE, INTERRUPTED = 0, 1, 2, 141, 130

HONESTY = (
    "The weights are small and random. The differences show that this package computes what the reference "
    "computes; the answers show the way from text to text, and nothing that was learnt."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the command's name; what the process was given, by default.

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
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot write ö is no reason to stop
    try:
        options = _parser().parse_args(arguments)
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python flushes once more when it ends: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (OSError, ValueError, TypeError, IndexError, MemoryError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"nystrom-np: {message}", file=sys.stderr)
        return WRONG


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {message} (--help says more)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="nystrom-np", description="Nyströmformer in NumPy.")
    parser.add_argument("--version", action="version", version=f"nystrom-np {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="every head on real text, compared with the reference")
    _add_options(demo, _demo, ("float64", "float32"))

    check = commands.add_parser("verify", help="run a checkpoint's stored inputs, compare with its stored outputs")
    check.add_argument("folder", type=Path, help="a checkpoint with reference.json")
    _add_options(check, _verify, ("float64", "float32"))

    fill = commands.add_parser("fill-mask", help="guess the masked words of a text")
    fill.add_argument("text", help='with a [MASK] or more: "Paris is the [MASK] of France."')
    fill.add_argument("--model", type=Path, metavar="FOLDER", help="a checkpoint; a shipped one by default")
    fill.add_argument("--top-k", type=_positive, default=5, metavar="N", help="guesses for each mask (5)")
    _add_options(fill, _fill_mask, ("float32", "float64", "float16"))

    look = commands.add_parser("inspect", help="what a checkpoint is, and which attention it runs")
    look.add_argument("folder", type=Path, help="a checkpoint")
    _add_options(look, _inspect, ())
    return parser


def _add_options(parser: argparse.ArgumentParser, run: Any, dtypes: Sequence[str]) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    if dtypes:
        parser.add_argument("--dtype", choices=dtypes, help="what to compute in")
        parser.add_argument("--device", default="cpu", help="cpu (the default), cuda or cuda:N")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _demo(options: argparse.Namespace) -> int:
    dtypes = [options.dtype] if options.dtype else ["float64", "float32"]
    shown: list[Demonstration] = []
    for demonstration in demonstrate(dtypes, options.device):
        if not options.json:
            _print_demonstration(demonstration, first=not shown)
        shown.append(demonstration)
    comparisons = [comparison for demonstration in shown for comparison in demonstration.comparisons]
    agrees = all(comparison.agrees for comparison in comparisons)
    if options.json:
        _print_json({"version": __version__, "agrees": agrees, "heads": [_demonstration(item) for item in shown]})
    else:
        print()
        _print_verdict(comparisons)
    return AGREES if agrees else DIFFERS


def _print_demonstration(shown: Demonstration, first: bool) -> None:
    if first:
        versions = f"nystrom_np {__version__} with NumPy {np.__version__}"
        print(f"{versions}: five heads on real text, compared with transformers 4.37.2.")
        print(textwrap.fill(HONESTY, 100))
    print(f"\n{shown.head}")
    print(textwrap.fill(shown.text, 100, initial_indent="  ", subsequent_indent="  "))
    largest = [f"{dtype} {_bounds(item)}" for dtype, item in _worst(shown.comparisons).items()]
    print(f"  → {textwrap.shorten(shown.answer, 96, placeholder=' …')}")
    print(f"    {1000 * shown.seconds:.1f} ms; largest difference: {', '.join(largest)}")


def _demonstration(shown: Demonstration) -> dict[str, Any]:
    return {
        "head": shown.head,
        "text": shown.text,
        "answer": shown.answer,
        "seconds": shown.seconds,
        "agrees": all(comparison.agrees for comparison in shown.comparisons),
        "largest": {dtype: _comparison(item) for dtype, item in _worst(shown.comparisons).items()},
    }


def _verify(options: argparse.Namespace) -> int:
    dtypes = [options.dtype] if options.dtype else ["float64", "float32"]
    comparisons = list(verify(options.folder, dtypes, options.device))
    if not comparisons:
        raise ValueError(f"{options.folder} holds no stored outputs: reference.json lists no cases")
    agrees = all(comparison.agrees for comparison in comparisons)
    if options.json:
        rows = [_comparison(comparison) for comparison in comparisons]
        _print_json({"folder": str(options.folder), "agrees": agrees, "comparisons": rows})
    else:
        for item in comparisons:
            verdict = "agrees" if item.agrees else "DIFFERS"
            print(f"{verdict:<8} {item.dtype:<8} {_bounds(item):<28} {item.output:<16} {item.case}")
        _print_verdict(comparisons)
    return AGREES if agrees else DIFFERS


def _fill_mask(options: argparse.Namespace) -> int:
    folder = options.model or shipped_weights() / "masked-lm"
    model = load(HEADS["masked-lm"], folder, options.dtype or "float32", options.device)
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    masks = fill_mask(model, tokenizer, options.text, options.top_k)
    if options.json:
        _print_json({"text": options.text, "masks": [[vars(guess) for guess in guesses] for guesses in masks]})
        return AGREES
    if options.model is None:
        print("(the shipped weights are random: --model FOLDER takes a trained checkpoint)", file=sys.stderr)
    for guesses in masks:
        for guess in guesses:
            print(f"{guess.probability:6.1%}  {guess.token:<16} {guess.sequence}")
    return AGREES


def _inspect(options: argparse.Namespace) -> int:
    config = NystromformerConfig.from_pretrained(options.folder)
    tensors = stored_tensors(options.folder)
    named = getattr(config, "architectures", None)
    name = str(named[0]) if isinstance(named, list) and named else "NystromformerModel"
    if name not in CLASSES:
        raise ValueError(f"{options.folder} is a {name}, which is none of {', '.join(CLASSES)}")
    files = sorted({tensor.path for tensor in tensors.values()})
    facts = {
        "folder": str(options.folder),
        "model": name,
        "parameters": load(CLASSES[name], options.folder).num_parameters(),
        "dtype": sorted({tensor.dtype for tensor in tensors.values()}),
        "bytes": sum(path.stat().st_size for path in files),
        "files": [path.name for path in files],
        "attention": "nystrom" if config.uses_nystrom_attention else "dense",
        "why": _why(config),
        "config": config.to_dict(),
    }
    if options.json:
        _print_json(facts)
        return AGREES
    size = f"{facts['bytes'] / 1e6:,.1f} MB in {', '.join(facts['files'])}"
    shape = (
        f"{config.num_hidden_layers} layers, width {config.hidden_size}, {config.num_attention_heads} heads, "
        f"feed-forward {config.intermediate_size}, {config.vocab_size:,} tokens, "
        f"{config.max_position_embeddings:,} positions"
    )
    lines = {"model": name, "shape": shape, "parameters": f"{facts['parameters']:,}"}
    lines |= {
        "dtype": ", ".join(facts["dtype"]),
        "size": size,
        "attention": f"{facts['attention']}: {facts['why']}",
    }
    for label, text in lines.items():
        print(textwrap.fill(text, 100, initial_indent=f"{label:<12}", subsequent_indent=" " * 12))
    print("config")
    for key, value in config.to_dict().items():
        print(f"    {key}: {json.dumps(value, ensure_ascii=False)}")
    return AGREES


def _why(config: NystromformerConfig) -> str:
    landmarks, means = config.num_landmarks, config.segment_means_seq_len
    if not config.uses_nystrom_attention:
        return (
            f"num_landmarks equals segment_means_seq_len ({landmarks}), which means exact softmax attention "
            "at every length; override one of the two when loading to run the Nyström approximation"
        )
    return (
        f"num_landmarks ({landmarks}) differs from segment_means_seq_len ({means}), so attention is "
        f"approximated where there are more than {landmarks} tokens, and exact up to there"
    )


def _worst(comparisons: Iterable[Comparison]) -> dict[str, Comparison]:
    """Return for each dtype the comparison whose difference is largest, measured by what is allowed."""
    worst: dict[str, Comparison] = {}
    for item in comparisons:
        if item.dtype == "int64" and item.agrees:
            continue
        if item.dtype not in worst or not _share(item) <= _share(worst[item.dtype]):
            worst[item.dtype] = item
    return worst


def _share(item: Comparison) -> float:
    if math.isnan(item.difference):
        return math.inf
    return item.difference / item.allowed if item.allowed else math.inf


def _comparison(item: Comparison) -> dict[str, Any]:
    difference = item.difference if math.isfinite(item.difference) else None  # JSON has no infinity
    return vars(item) | {"difference": difference, "agrees": item.agrees}


def _print_verdict(comparisons: Sequence[Comparison]) -> None:
    wrong = [item for item in comparisons if not item.agrees]
    for dtype, item in _worst(comparisons).items():
        print(f"{dtype}: the largest difference is {_bounds(item)} ({item.output} of {item.case!r}).")
    count = f"{len(comparisons)} outputs"
    print(
        f"{len(wrong)} of {count} differ from the reference's." if wrong else f"All {count} agree with the reference's."
    )


def _bounds(item: Comparison) -> str:
    return f"{item.difference:.1e} of {item.allowed:.1e} allowed"


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
