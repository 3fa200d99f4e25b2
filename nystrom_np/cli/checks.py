"""``demo`` and ``verify``: how far the shipped checkpoints, or one that is given, are from the reference."""

import argparse
import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nystrom_np import __version__
from nystrom_np.cli.answers import described, in_full
from nystrom_np.cli.common import AGREES, CHECKPOINT, DIFFERS, Commands, add_options, print_json
from nystrom_np.demo import Comparison, Demonstration, demonstrate, verify
from nystrom_np.hub import local_folder


def add_demo(commands: Commands) -> None:
    """Register ``demo``."""
    demo = commands.add_parser("demo", help="every head on real text, compared with the reference")
    add_options(demo, _demo, ("float64", "float32"))


def add_verify(commands: Commands) -> None:
    """Register ``verify``."""
    check = commands.add_parser("verify", help="run a checkpoint's stored inputs, compare with its stored outputs")
    check.add_argument("folder", help=f"{CHECKPOINT}, with reference.json")
    add_options(check, _verify, ("float64", "float32"))


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
        print_json({"version": __version__, "agrees": agrees, "heads": [_demonstration(item) for item in shown]})
    else:
        print()
        _print_verdict(comparisons)
    return AGREES if agrees else DIFFERS


def _print_demonstration(shown: Demonstration, first: bool) -> None:
    if first:
        versions = f"nystrom_np {__version__} with NumPy {np.__version__}"
        print(f"{versions}: five heads on real text, compared with transformers 4.37.2.")
    print(f"\n{shown.head}")
    for item, answer in zip(shown.inputs, shown.answers, strict=True):
        if shown.pipeline.task != "text-classification":
            print(textwrap.fill(in_full(item), 100, initial_indent="  ", subsequent_indent="  "))
        print("\n".join(f"  {line}" for line in described(shown.pipeline, item, answer)))
    largest = [f"{dtype} {_bounds(item)}" for dtype, item in _worst(shown.comparisons).items()]
    print(f"  {1000 * shown.seconds:.0f} ms; largest difference: {', '.join(largest)}")


def _demonstration(shown: Demonstration) -> dict[str, Any]:
    return {
        "head": shown.head,
        "inputs": shown.inputs,
        "answers": shown.answers,
        "seconds": shown.seconds,
        "agrees": all(comparison.agrees for comparison in shown.comparisons),
        "largest": {dtype: _comparison(item) for dtype, item in _worst(shown.comparisons).items()},
    }


def _verify(options: argparse.Namespace) -> int:
    dtypes = [options.dtype] if options.dtype else ["float64", "float32"]
    folder = local_folder(options.folder, "weights")
    local_folder(options.folder, "reference")  # of a repository, into the same folder
    comparisons = list(verify(folder, dtypes, options.device))
    if not comparisons:
        raise ValueError(f"{options.folder} holds no stored outputs: reference.json lists no cases")
    agrees = all(comparison.agrees for comparison in comparisons)
    if options.json:
        rows = [_comparison(comparison) for comparison in comparisons]
        print_json({"folder": str(options.folder), "agrees": agrees, "comparisons": rows})
    else:
        for item in comparisons:
            verdict = "agrees" if item.agrees else "DIFFERS"
            print(f"{verdict:<8} {item.dtype:<8} {_bounds(item):<28} {item.output:<16} {item.case}")
        _print_verdict(comparisons)
    return AGREES if agrees else DIFFERS


def _worst(comparisons: Iterable[Comparison]) -> dict[str, Comparison]:
    """Return for each dtype the comparison whose difference is the largest share of what is allowed."""
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
