"""Measures the trained checkpoints on held-out data, with the NumPy model in float32::

    python -m weights.recipes.evaluate --data FOLDER [--reference] [HEAD ...]

``--reference`` runs transformers 4.37.2 on the same inputs too, in an environment of its own, and compares every
prediction. Inputs go in batches of 64, in the same order: with the original initial value of the pseudo-inverse, the
reference's results depend on what else is in the batch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weights.recipes import inputs
from weights.recipes.inputs import IGNORED, Arrays

WEIGHTS = Path(__file__).resolve().parent.parent
BATCH = 64
LONGEST = 4
"""Pieces that an answer may have."""
Call = Callable[[Arrays], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Task:
    """How a head is measured: its held-out data by kind, what it predicts, and how good that is."""

    head: str
    held_out: Callable[[Any, Path], dict[str, Arrays]]
    predict: Callable[[dict[str, np.ndarray], Arrays], np.ndarray]
    score: Callable[[np.ndarray, Arrays], dict[str, float]]


def most_likely_pieces(outputs: dict[str, np.ndarray], batch: Arrays) -> np.ndarray:
    """The five likeliest pieces for each mask, the likeliest first."""
    logits = outputs["logits"][batch["labels"] != IGNORED]
    return np.argsort(-logits, axis=-1, kind="stable")[:, :5]


def piece_accuracy(predictions: np.ndarray, arrays: Arrays) -> dict[str, float]:
    """Share of masked pieces that are the likeliest guess, and among the five likeliest."""
    right = predictions == arrays["labels"][arrays["labels"] != IGNORED][:, None]
    return {"top-1": right[:, 0].mean(), "top-5": right.any(axis=-1).mean(), "pieces": len(right)}


def best_label(outputs: dict[str, np.ndarray], batch: Arrays) -> np.ndarray:
    """The label, or the choice, with the highest score."""
    return outputs["logits"].argmax(axis=-1)


def accuracy(predictions: np.ndarray, arrays: Arrays) -> dict[str, float]:
    """Share of right predictions."""
    return {"accuracy": (predictions == arrays["labels"]).mean(), "inputs": len(predictions)}


def word_tags(outputs: dict[str, np.ndarray], batch: Arrays) -> np.ndarray:
    """The tag at each word's first piece."""
    return outputs["logits"][batch["labels"] != IGNORED].argmax(axis=-1)


def word_accuracy(predictions: np.ndarray, arrays: Arrays) -> dict[str, float]:
    """Share of words with the right tag."""
    right = predictions == arrays["labels"][arrays["labels"] != IGNORED]
    return {"accuracy": right.mean(), "words": len(right)}


def best_span(outputs: dict[str, np.ndarray], batch: Arrays) -> np.ndarray:
    """First and last piece of the likeliest answer within the story."""
    story = (batch["token_type_ids"] == 1) & (batch["attention_mask"] == 1)
    ends, starts = (np.where(story, outputs[f"{side}_logits"], -np.inf) for side in ("end", "start"))
    length = np.arange(inputs.LENGTH)
    allowed = (length >= length[:, None]) & (length < length[:, None] + LONGEST)
    scores = np.where(allowed, starts[:, :, None] + ends[:, None, :], -np.inf)
    return np.stack(np.unravel_index(scores.reshape(len(scores), -1).argmax(axis=-1), allowed.shape), axis=-1)


def exact_match(predictions: np.ndarray, arrays: Arrays) -> dict[str, float]:
    """Share of answers whose pieces are those of the right one, wherever they stand."""
    rows = zip(predictions, arrays["input_ids"], arrays["start_positions"], arrays["end_positions"], strict=True)
    same = [ids[a : b + 1].tolist() == ids[start : end + 1].tolist() for (a, b), ids, start, end in rows]
    return {"exact match": np.mean(same), "questions": len(same)}


def _reviews(tokenizer: Any, data: Path) -> dict[str, Arrays]:
    return {f"SST-2 {part}": inputs.sequence_classification(tokenizer, data, part) for part in ("dev", "test")}


def _tags(tokenizer: Any, data: Path) -> dict[str, Arrays]:
    return {f"UD English EWT {part}": inputs.token_classification(tokenizer, data, part) for part in ("dev", "test")}


def _held_out_stories(make: Callable[..., Arrays]) -> Callable[[Any, Path], dict[str, Arrays]]:
    return lambda tokenizer, data: {"held-out stories": make(tokenizer, inputs.split_stories()[1])}


TASKS = {
    "masked-lm": Task("NystromformerForMaskedLM", inputs.masked_lm, most_likely_pieces, piece_accuracy),
    "sequence-classification": Task("NystromformerForSequenceClassification", _reviews, best_label, accuracy),
    "token-classification": Task("NystromformerForTokenClassification", _tags, word_tags, word_accuracy),
    "question-answering": Task(
        "NystromformerForQuestionAnswering", _held_out_stories(inputs.question_answering), best_span, exact_match
    ),
    "multiple-choice": Task(
        "NystromformerForMultipleChoice", _held_out_stories(inputs.multiple_choice), best_label, accuracy
    ),
}
LABELS = ("labels", "start_positions", "end_positions")


def predictions(task: Task, call: Call, arrays: Arrays) -> np.ndarray:
    """Run a model over all inputs, batch by batch."""
    parts = []
    for start in range(0, len(arrays["input_ids"]), BATCH):
        batch = {name: array[start : start + BATCH] for name, array in arrays.items()}
        given = {name: array for name, array in batch.items() if name not in LABELS}
        parts.append(task.predict(call(given), batch))
    return np.concatenate(parts)


def ours(task: Task, folder: Path) -> Call:
    """Return the NumPy model, in float32."""
    import nystrom_np

    model = getattr(nystrom_np, task.head).from_pretrained(folder, dtype="float32")
    return lambda batch: dict(model(**batch).items())


def theirs(task: Task, folder: Path) -> Call:
    """Return the model of transformers, in float32."""
    import torch
    import transformers

    model = getattr(transformers, task.head).from_pretrained(folder, torch_dtype=torch.float32).eval()

    def call(batch: Arrays) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = model(**{name: torch.from_numpy(array.copy()) for name, array in batch.items()})
        return {name: value.numpy() for name, value in outputs.items()}

    return call


def by_the_reference(heads: list[str], data: Path, weights: Path) -> dict[str, np.ndarray]:
    """Return what transformers predicts, computed in its own environment."""
    from tests.reference.environment import python

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.npz"
        command = [str(python("4.37.2")), "-m", __spec__.name, "--data", data, "--weights", weights, "--save", file]
        subprocess.run([*map(str, command), *heads], check=True)
        with np.load(file) as stored:
            return dict(stored)


def evaluations(
    heads: list[str], data: Path, weights: Path, model: Callable[[Task, Path], Call]
) -> Iterator[tuple[str, Task, Arrays, np.ndarray]]:
    """Yield each head's predictions on each kind of its held-out data."""
    for head in heads:
        task = TASKS[head]
        call = model(task, weights / head)
        for kind, arrays in task.held_out(inputs.load_tokenizer(weights / head), data).items():
            yield f"{head}: {kind}", task, arrays, predictions(task, call, arrays)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="as weights/recipes/text.py says")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--reference", action="store_true", help="compare with transformers 4.37.2")
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)  # within the reference's environment
    parser.add_argument("heads", nargs="*", metavar="HEAD", help=", ".join(TASKS))
    options = parser.parse_args()
    heads = options.heads or list(TASKS)
    if options.save:
        found = {name: made for name, _, _, made in evaluations(heads, options.data, options.weights, theirs)}
        np.savez(options.save, **found)
        return 0
    stored = by_the_reference(heads, options.data, options.weights) if options.reference else {}
    differ = 0
    for name, task, arrays, made in evaluations(heads, options.data, options.weights, ours):
        told = [
            f"{what} {value:.1%}" if value <= 1 else f"{value:,} {what}"
            for what, value in task.score(made, arrays).items()
        ]
        if stored:
            differ += (count := int((made != stored[name]).sum()))
            told.append(f"{count} of {made.size:,} predictions differ from the reference's")
        print(f"{name}: {', '.join(told)}", flush=True)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
