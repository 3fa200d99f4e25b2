"""Attention alone: exact, as the textbook writes it, and Nyström; time and memory against length."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np.fast.on_numpy import attention as on_numpy
from nystrom_np.functional import (
    nystrom_attention,
    nystrom_attention_matrix,
    softmax_attention,
    softmax_attention_matrix,
)
from tests.benchmarks.timing import Run, interleave, spread, timed

ROOT = Path(__file__).resolve().parents[2]
HEAD_DIM, LANDMARKS = 64, 64
DRAWN = 1 << 17
"""Positions that are drawn; longer sequences repeat them."""

TEXTBOOK_ARRAYS = 3
"""As many L × L arrays as the textbook form may hold at once."""

Attention = Callable[..., Any]


def textbook(query: Any, key: Any, value: Any) -> Any:
    """Exact attention that materialises the L × L matrix."""
    return softmax_attention_matrix(query, key) @ value


def nystrom(query: Any, key: Any, value: Any, out: Any = None) -> Any:
    """Nyström attention; with ``out`` as the encoder on NumPy calls it, which says where to write."""
    if out is None:
        return nystrom_attention(query, key, value, LANDMARKS)
    return on_numpy.nystrom_attention(query, key, value, LANDMARKS, out=out)


FORMS: dict[str, Attention] = {"dense": softmax_attention, "nystrom": nystrom, "textbook": textbook}


class Mismatch(Exception):
    """Two forms that should compute the same do not: nothing is timed."""


def draw(heads: int, length: int) -> list[np.ndarray]:
    """Queries, keys and values (heads, length, 64) in float32, queries and keys already scaled."""
    state = np.random.default_rng(0)
    repeats = -(-length // DRAWN)
    drawn = [state.standard_normal((heads, min(length, DRAWN), HEAD_DIM), dtype=np.float32) for _ in range(3)]
    for scaled in drawn[:2]:
        scaled /= np.float32(HEAD_DIM**0.25)
    return [np.tile(array, (1, repeats, 1))[:, :length] if repeats > 1 else array for array in drawn]


def compare(heads: int, length: int) -> dict[str, float]:
    """Largest differences of the bounded forms from the forms that hold the matrix."""
    query, key, value = draw(heads, length)
    differences = {
        "dense": np.abs(softmax_attention(query, key, value) - textbook(query, key, value)).max(),
        "nystrom": np.abs(nystrom(query, key, value) - nystrom_attention_matrix(query, key, LANDMARKS) @ value).max(),
    }
    if not all(difference < 1e-3 for difference in differences.values()):
        raise Mismatch(f"attention differs from the textbook form: {differences}")
    return {name: float(difference) for name, difference in differences.items()}


def against_length(
    heads: int, lengths: Sequence[int], rounds: Callable[[str, int], int], rest: float
) -> dict[str, Any]:
    """Time and peak extra memory of the three forms; of the textbook's only where its matrices fit."""
    results: dict[str, Any] = {
        "heads": heads,
        "landmarks": LANDMARKS,
        "difference": compare(heads, min(2048, max(lengths))),
        "lengths": {},
    }
    for length in lengths:
        fits = TEXTBOOK_ARRAYS * heads * length**2 * 4 < available_bytes() / 2
        forms = [form for form in FORMS if fits or form != "textbook"]
        arrays = draw(heads, length)

        def run(form: str, arrays: list[np.ndarray] = arrays) -> Run:
            return timed(lambda: FORMS[form](*arrays))

        seconds = interleave({form: run(form) for form in forms}, {form: rounds(form, length) for form in forms}, rest)
        results["lengths"][str(length)] = {
            form: {"seconds": spread(seconds[form]), "bytes": peak(form, heads, length)} for form in forms
        }
    return results


def long(heads: int, lengths: Sequence[int], rounds: int, rest: float) -> dict[str, Any]:
    """Nyström attention over very many tokens, all lengths in turn, as far as they fit into the memory.

    The context is written to memory that is there already, as the encoder does it: what the system takes to provide
    fresh pages is not attention's, and far from proportional. The shortest and the longest are measured both ways.
    """
    bytes_a_token = 5 * heads * HEAD_DIM * 4  # queries, keys, values, context, and one to spare
    fitting = [length for length in lengths if length * bytes_a_token < available_bytes() / 2]
    if not fitting:
        raise MemoryError("there is too little free memory for the shortest sequence")
    arrays = draw(heads, max(fitting))
    arrays.append(np.zeros_like(arrays[2]))

    def run(length: int) -> Run:
        return timed(lambda: nystrom(*(array[:, :length] for array in arrays)))

    def fresh(length: int) -> Run:
        return timed(lambda: nystrom(*(array[:, :length] for array in arrays[:3])))

    ends = {fitting[0], fitting[-1]}
    runs = {str(length): run(length) for length in fitting} | {f"{length}/fresh": fresh(length) for length in ends}
    seconds = interleave(runs, dict.fromkeys(runs, rounds), rest)
    del arrays
    return {
        "heads": heads,
        "landmarks": LANDMARKS,
        "left_out": [length for length in lengths if length not in fitting],
        "lengths": {
            str(length): {
                "nystrom": {
                    "seconds": spread(seconds[str(length)]),
                    "fresh": spread(seconds[f"{length}/fresh"]) if length in ends else None,
                    "bytes": peak("nystrom", heads, length) if length in ends else None,
                }
            }
            for length in fitting
        },
    }


def peak(form: str, heads: int, length: int) -> int:
    """Peak extra bytes of a form, found by a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.peak", form, str(heads), str(length)]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
