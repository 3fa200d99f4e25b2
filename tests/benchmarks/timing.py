"""Timing contestants one run at a time, in turn, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

REST = 0.25
"""Seconds between two contestants: BLAS and OpenMP threads go on spinning for up to 0.12 s after their last product
(measured as processor time during a pause), and would take a core from whoever comes next."""

Run = Callable[[], float]
"""Does the work once and returns the seconds that it took."""


def timed(function: Callable[[], Any], synchronize: Callable[[], Any] = lambda: None) -> Run:
    """A run of a function; on a device that works on its own, until the device is done."""

    def run() -> float:
        synchronize()
        start = time.perf_counter()
        function()
        synchronize()
        return time.perf_counter() - start

    return run


def interleave(
    contestants: Mapping[str, Run], rounds: Mapping[str, int], rest: float = REST, warm: Collection[str] = ()
) -> dict[str, list[float]]:
    """The seconds of every counted run, after one that does not count of each contestant that is not warm yet.

    In each round every contestant that still has runs to do takes one; another one begins each time.
    """
    for name, run in contestants.items():
        if name not in warm:
            time.sleep(rest)
            run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(max(rounds[name] for name in names)):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if number < rounds[name]:
                time.sleep(rest)
                seconds[name].append(contestants[name]())
    return seconds


def spread(seconds: list[float]) -> dict[str, Any]:
    """Median, extremes and all samples, as they are stored."""
    return {
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "samples": [round(value, 6) for value in seconds],
    }
