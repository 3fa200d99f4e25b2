"""What the figures are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Cases = dict[str, Any]
MEGABYTE = 1e6
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Goal:
    """A figure that must not be above (with ``at_least``: below) a bound, and that aims at another."""

    case: str
    text: str
    measure: Callable[[Any], float | None]
    must: float
    aim: float | None = None
    at_least: bool = False
    unit: str = "×"

    def reached(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound


@dataclass(frozen=True)
class Verdict:
    """What was measured for a goal; None where it was not."""

    goal: Goal
    value: float | None

    def says(self, bound: float | None) -> str:
        """Yes, or by how much the bound is missed."""
        if bound is None:
            return ""
        if self.value is None:
            return "not measured"
        if self.goal.reached(self.value, bound):
            return "yes"
        return f"no, by {max(abs(self.value / bound - 1), 0.01):.0%}"  # at least 1%: it was missed


def ratio(numerator: str, denominator: str) -> Callable[[Any], float | None]:
    """The quotient of two contestants' medians."""

    def measure(case: Any) -> float | None:
        seconds = case["seconds"]
        if numerator not in seconds or denominator not in seconds:
            return None
        return seconds[numerator]["median"] / seconds[denominator]["median"]

    return measure


def at_length(length: int, measure: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """A measure of one length; None where a form was not run."""

    def of(case: Any) -> float | None:
        try:
            return measure(case["lengths"][str(length)])
        except KeyError:
            return None

    return of


def long_ratio(case: Any) -> float | None:
    lengths = case["lengths"]
    if not {"131072", "1048576"} <= lengths.keys():
        return None
    return lengths["1048576"]["nystrom"]["seconds"]["median"] / lengths["131072"]["nystrom"]["seconds"]["median"]


def texts_a_second(ours: str, theirs: str) -> Callable[[Any], float | None]:
    """How many times as many texts a second ours are as theirs, at whatever batch size they are most."""

    def measure(case: Any) -> float | None:
        found = case["seconds_a_text"]
        if not any(name.startswith(theirs) for name in found):
            return None
        best = [min(told["median"] for name, told in found.items() if name.startswith(who)) for who in (theirs, ours)]
        return best[0] / best[1]

    return measure


def short_goals() -> tuple[Goal, ...]:
    """Of one short text: short ones are bound by reading the weights, and the floor by copying them."""
    of_length = [
        (
            Goal(f"dense-{length}", f"B=1 L={length} dense, time / transformers", ratio("ours", "eager"), must),
            Goal(f"dense-{length}", f"B=1 L={length} dense, time / floor", ratio("ours", "floor"), 1.40, 1.20),
        )
        for length, must in ((8, 0.85), (16, 0.85), (32, 0.85), (64, 0.9), (128, 0.9))
    ]
    return tuple(goal for pair in of_length for goal in pair)


GOALS = (
    *short_goals(),
    Goal("dense-512", "B=1 L=512 dense, time / transformers", ratio("ours", "eager"), 0.80, 0.65),
    Goal("dense-512", "B=1 L=512 dense, time / ONNX Runtime", ratio("ours", "onnx"), 1.15, 1.0),
    Goal("dense-512", "B=1 L=512 dense, time / floor", ratio("ours", "floor"), 1.40, 1.25),
    Goal(
        "ragged",
        "B=8 ragged dense, time / transformers on the padded batch",
        ratio("ours", "eager"),
        0.60,
        0.50,
    ),
    Goal("ragged", "B=8 ragged dense, time / floor of the real tokens", ratio("ours", "floor"), 1.25, 1.15),
    Goal("nystrom-4096", "B=1 L=4096 m=64 Nyström, time / transformers", ratio("ours", "eager"), 0.75, 0.65),
    Goal("nystrom-4096", "B=1 L=4096 m=64 Nyström, time / floor", ratio("ours", "floor"), 1.30, 1.20),
    Goal(
        "pipelines",
        "pipeline, one short text a call, texts a second / transformers'",
        texts_a_second("dense/ours/None", "dense/eager/None"),
        1.3,
        2.0,
        at_least=True,
    ),
    Goal(
        "pipelines",
        "pipeline, a list of short texts, texts a second / transformers' at its best",
        texts_a_second("dense/ours", "dense/eager"),
        1.5,
        2.0,
        at_least=True,
    ),
    Goal(
        "attention",
        "attention alone, n=8,192: dense time / Nyström time",
        at_length(8192, lambda at: at["dense"]["seconds"]["median"] / at["nystrom"]["seconds"]["median"]),
        12.0,
        20.0,
        at_least=True,
    ),
    Goal(
        "attention",
        "attention alone, n=8,192: textbook's extra memory / Nyström's",
        at_length(8192, lambda at: at["textbook"]["bytes"] / at["nystrom"]["bytes"]),
        19.0,
        40.0,
        at_least=True,
    ),
    Goal("million", "Nyström attention, 1,048,576 tokens: time / that of 131,072", long_ratio, 8.8, 8.2),
    Goal("load", "load 440 MB", lambda case: case["seconds"]["ours"]["median"], 0.1, unit="s"),
    Goal(
        "load",
        "load 440 MB, resident growth",
        lambda case: case["bytes"]["ours"]["median"] / MEGABYTE,
        50.0,
        unit="MB",
    ),
    Goal("cold-start", "process start to first answer, time / transformers", ratio("ours", "eager"), 0.15, 0.08),
    Goal(
        "size",
        "installed size of the run-time dependencies",
        lambda case: case["ours"] / MEBIBYTE,
        260.0,
        unit="MiB",
    ),
)

GPU_GOALS = {
    "dense-512": (("eager", 0.8),),
    "dense-32x512": (("eager", 1.0), ("floor", 1 / 0.6)),
    "nystrom-8x4096": (("eager", 1.0),),
}


def verdicts(cases: Cases) -> list[Verdict]:
    """Every goal with its figure; None where the case was not measured."""
    return [Verdict(goal, goal.measure(cases[goal.case]) if measured(cases, goal.case) else None) for goal in GOALS]


def gpu_verdicts(precision: str, cases: Cases) -> list[Verdict]:
    """The goals of a GPU, in float32 and float16."""
    goals = [
        Goal(case, f"{cases[case]['title']}, {precision}, time / {rival}", ratio("ours", rival), must)
        for case, bounds in GPU_GOALS.items()
        if measured(cases, case)
        for rival, must in bounds
        if precision != "tf32"
    ]
    return [Verdict(goal, goal.measure(cases[goal.case])) for goal in goals]


def measured(cases: Cases, name: str) -> bool:
    return name in cases and "error" not in cases[name]
