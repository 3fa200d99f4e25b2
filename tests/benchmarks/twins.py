"""What each faster form gains on its definition: ``python -m tests.benchmarks.twins``.

Every case is one call, timed as the definition (within ``definitions()``) and as the twin, in turn, so that a slow
moment of the machine meets both. ``--docs`` keeps the figures in docs/twins.json, which the documentation shows.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np import NystromformerConfig, NystromformerForMaskedLM, definition
from nystrom_np.activations import gelu_new
from nystrom_np.fast import definitions
from tests.benchmarks.attention import ROOT
from tests.benchmarks.machine import machine, versions
from tests.benchmarks.timing import REST, interleave, spread

DOCS = ROOT / "docs" / "twins.json"
LEAST = 0.02
"""Seconds of a run: what takes less is called again and again."""


def cases(length: int = 512, long: int = 4096) -> dict[str, tuple[str, Callable[[], Any]]]:
    """What is timed, by name: what it is given, in words, and the call."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    config = NystromformerConfig(
        num_hidden_layers=1, num_landmarks=64, segment_means_seq_len=length, max_position_embeddings=length
    )
    model = NystromformerForMaskedLM(config, seed=0, dtype="float32")
    tree = model._tree
    body, layer = tree["nystromformer"], tree["nystromformer"]["encoder"]["layer"]["0"]
    attend = layer["attention"]["self"]
    x, wide = draw(1, length, 768), draw(1, length, 3072)
    query, key, value = (draw(1, 12, length, 64) / 2 for _ in range(3))
    tokens = f"{length} tokens"
    heads, width = f"{tokens}, 12 heads of 64", f"{tokens}, D = 768"
    ids, zeros, positions = (np.arange(length)[None] + first for first in (100, 0, 2))
    types = np.zeros_like(zeros)
    far = [draw(1, 12, long, 64) / 2 for _ in range(3)]
    lengths = [length // 8 * n for n in (8, 5, 4, 3, 2, 2, 1, 1)]
    ends = np.cumsum(lengths)
    segments = [slice(int(end - n), int(end)) for end, n in zip(ends, lengths, strict=True)]
    packed = [np.arange(ends[-1])[None] + 100, np.zeros((1, ends[-1]), int)]
    packed.append(np.concatenate([np.arange(n) + 2 for n in lengths])[None])
    return {
        "linear": (f"{width} to 3,072", partial(definition.linear, x, **layer["intermediate"]["dense"])),
        "layer_norm": (width, partial(definition.layer_norm, x, **layer["output"]["LayerNorm"])),
        "softmax": (f"12 · {length} · {length} scores", partial(definition.softmax, draw(1, 12, length, length))),
        "gelu_new": (f"{tokens}, 3,072 numbers each", partial(gelu_new, wide)),
        "softmax_attention": (heads, partial(definition.softmax_attention, query, key, value)),
        "softmax_attention, long": (f"{long:,} tokens", partial(definition.softmax_attention, *far)),
        "softmax_attention, large scores": (
            f"{heads}, scores up to 10⁴",
            partial(definition.softmax_attention, query * 40, key * 40, value),
        ),
        "segment_means": (f"{heads}, m = 64", partial(definition.segment_means, query, 64)),
        "nystrom_attention": (f"{heads}, m = 64", partial(definition.nystrom_attention, query, key, value, 64)),
        "nystrom_attention, long": (
            f"{long:,} tokens, 12 heads of 64, m = 64",
            partial(definition.nystrom_attention, *far, 64),
        ),
        "depthwise_conv": (f"{heads}, k = 65", partial(definition.depthwise_conv, value, attend["conv"]["weight"])),
        "embeddings": (width, partial(definition.embeddings, body["embeddings"], config, ids, types, positions)),
        "project": (width, partial(definition.project, attend, config, x)),
        "self_attention": (f"{width}, m = 64", partial(definition.self_attention, attend, config, x)),
        "encoder_layer": (f"{width}, m = 64", partial(definition.encoder_layer, layer, config, x)),
        "encode": (f"{width}, m = 64, one layer", partial(definition.encode, body, config, ids, types, positions)),
        "encode, segments": (
            f"8 texts of {lengths[-1]} to {lengths[0]} tokens, one layer",
            partial(definition.encode, body, config, *packed, segments=segments),
        ),
        "masked_lm": (f"{width}, V = {config.vocab_size:,}", partial(definition.masked_lm, tree, config, x)),
    }


def measure(
    rounds: int, rest: float = REST, settle: Callable[[], None] = lambda: None, **lengths: int
) -> dict[str, dict[str, Any]]:
    """Seconds of each case, as the definition and as the twin: medians, and all that was counted.

    ``settle`` is called before each run.
    """
    found = {}
    for name, (given, call) in cases(**lengths).items():
        with definitions():
            slow = _once(call)
        times = max(1, round(LEAST / slow))
        runs = {form: partial(_settled, settle, form, call, times) for form in ("definition", "twin")}
        seconds = interleave(runs, dict.fromkeys(runs, rounds), rest)
        found[name] = {"given": given} | {form: spread(counted) for form, counted in seconds.items()}
    return found


def pin() -> Callable[[], None]:
    """Hold BLAS's threads to one core; what is returned moves this thread to another, and lets go of it.

    The system does not see to this where it has other work; our own threads do.
    """
    np.ones((512, 512)) @ np.ones((512, 512))  # now BLAS's threads are there
    cores = os.sched_getaffinity(0)
    first, second, *_ = sorted(cores)
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            os.sched_setaffinity(int(task.name), {second})

    def settle() -> None:
        os.sched_setaffinity(0, {first})
        os.sched_setaffinity(0, cores)

    return settle


def _once(call: Callable[[], Any]) -> float:
    call()
    return _seconds(call, 1)


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def _settled(settle: Callable[[], None], form: str, call: Callable[[], Any], times: int) -> float:
    settle()
    with definitions() if form == "definition" else nullcontext():
        return _seconds(call, times)


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    rows = ["| function | input | definition | twin | gain |", "| --- | --- | --: | --: | --: |"]
    for name, case in found.items():
        slow, fast = case["definition"]["median"], case["twin"]["median"]
        rows.append(f"| `{name}` | {case['given']} | {said(slow)} | {said(fast)} | {slow / fast:.1f} |")
    return "\n".join(rows)


def restless(found: dict[str, dict[str, Any]]) -> list[str]:
    """The forms whose runs differed by more than half of their median, with the shortest and the longest run."""
    return [
        f"`{name}` ({form}: {said(case[form]['min'])} to {said(case[form]['max'])})"
        for name, case in found.items()
        for form in ("definition", "twin")
        if case[form]["max"] - case[form]["min"] > case[form]["median"] / 2
    ]


def said(seconds: float) -> str:
    """A time in milliseconds, with two or three digits that count."""
    milliseconds = seconds * 1e3
    return f"{milliseconds:,.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and keep the figures if asked to."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.twins", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="counted runs of each form")
    parser.add_argument(
        "--docs", type=Path, nargs="?", const=DOCS, help="keep the figures, in docs/twins.json by default"
    )
    parser.add_argument(
        "--pin", action="store_true", help="BLAS's threads on another core than this one (Linux, two cores)"
    )
    options = parser.parse_args(arguments)
    told = {"machine": machine("cpu"), "versions": versions("cpu"), "rounds": options.rounds, "pinned": options.pin}
    found = measure(options.rounds, settle=pin() if options.pin else lambda: None)
    print(table(found))
    if options.docs:
        told["cases"] = found
        options.docs.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
