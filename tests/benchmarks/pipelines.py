"""Text classification of short texts: texts a second, one at a time and in batches, beside transformers' pipeline."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_np import NystromformerConfig, NystromformerForSequenceClassification, NystromformerTokenizer, pipeline
from nystrom_np.pipelines import Pipeline
from tests.benchmarks.attention import ROOT, Mismatch
from tests.benchmarks.rivals import Rivals
from tests.benchmarks.timing import REST, interleave, spread

NYSTROM = ROOT / "weights" / "sequence-classification"
WORDS = "the old library stood at the end of a street and every morning the same man opened its heavy door"
BATCHES = (None, 1, 32, 256)
"""Sizes of a batch in a list of texts; None: one call for each text."""

Run = Callable[[Sequence[str]], tuple[float, list[dict[str, Any]]]]
"""Classifies texts; the seconds that it took, and the answers."""


def pipelines_of(rivals: Rivals, workspace: Path, count: int, rounds: int) -> dict[str, Any]:
    """Texts a second of the shipped checkpoint, and of one of its size with exact attention beside transformers.

    The branch with landmarks has no rival: transformers cannot run texts shorter than the trained length on it.
    """
    texts = draw(count)
    dense = dense_checkpoint(workspace / "dense-classifier")
    runs: dict[str, Run] = {}
    for batch in BATCHES:
        runs[f"dense/ours/{batch}"] = of_ours(pipeline("text-classification", dense), batch)
        runs[f"nystrom/ours/{batch}"] = of_ours(pipeline("text-classification", NYSTROM), batch)
        if "eager" in rivals.contestants:
            runs[f"dense/eager/{batch}"] = lambda some, batch=batch: rivals.classify(dense, some, batch)
    runs["dense/ours/iterator"] = of_ours(pipeline("text-classification", dense), "iterator")
    runs["nystrom/ours/iterator"] = of_ours(pipeline("text-classification", NYSTROM), "iterator")
    same_answers({name: run(texts[:64])[1] for name, run in runs.items()})
    timed = {name: lambda run=run: run(texts)[0] / count for name, run in runs.items()}
    seconds = interleave(timed, dict.fromkeys(timed, rounds), REST if count > 100 else 0.0, warm=timed)
    return {"texts": count, "seconds_a_text": {name: spread(samples) for name, samples in seconds.items()}}


def draw(count: int) -> list[str]:
    """Texts of 3 to 21 words."""
    state, words = np.random.default_rng(0), WORDS.split()
    return [" ".join(state.choice(words, state.integers(3, 22))) for _ in range(count)]


def dense_checkpoint(folder: Path) -> Path:
    """A classifier of the shipped ones' size whose attention is exact, with random weights."""
    config = NystromformerConfig.from_pretrained(NYSTROM)
    config.num_landmarks = config.segment_means_seq_len
    NystromformerForSequenceClassification(config, seed=0).save_pretrained(folder)
    NystromformerTokenizer.from_pretrained(NYSTROM).save_pretrained(folder)
    shutil.copy(NYSTROM / "tokenizer_config.json", folder)
    return folder


def of_ours(pipe: Pipeline[Any], batch: int | str | None) -> Run:
    def run(texts: Sequence[str]) -> tuple[float, list[dict[str, Any]]]:
        start = time.perf_counter()
        if batch is None:
            answers = [pipe(text)[0] for text in texts]
        elif batch == "iterator":
            answers = list(pipe(iter(texts)))
        else:
            answers = pipe(list(texts), batch_size=batch)
        return time.perf_counter() - start, answers

    return run


def same_answers(answers: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse to time what does not answer alike, within rounding."""
    for kind in ("dense", "nystrom"):
        first, *others = (found for name, found in answers.items() if name.startswith(kind))
        for found in others:
            for a, b in zip(first, found, strict=True):
                if a["label"] != b["label"] or abs(a["score"] - b["score"]) > 1e-4:
                    raise Mismatch(f"the answers of the {kind} pipeline are not the same: {a} and {b}")
