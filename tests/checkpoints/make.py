"""Makes the checkpoints beside it with transformers 4.37.2, from ``tests/checkpoints/tokenizer`` and a seed.

It runs in the reference's own environment, from the root of the repository::

    "$(python -m tests.reference.environment 4.37.2)" -m tests.checkpoints.make [FOLDER]

Made again, the weights are the same to the byte, and the outputs the same within 1e-12.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

from tests.reference import cases
from tests.reference.run_reference import answer, build

HERE = Path(__file__).resolve().parent
TOLERANCE = {"float64": 1e-10}
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}

BASE = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "conv_kernel_size": 9,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
DENSE = {"num_landmarks": 64, "segment_means_seq_len": 64}
SENTIMENTS = ["negative", "neutral", "positive"]
ENTITIES = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]


@dataclass(frozen=True)
class Text:
    """One stored case: what is tokenised, and the labels that go with it."""

    name: str
    text: list
    labels: dict[str, list] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A head, its sizes on the Nyström branch, and its cases."""

    head: str
    texts: list[Text]
    labels: list[str] = field(default_factory=list)
    num_landmarks: int = 8
    length: int = 32

    def config(self, branch: str) -> dict:
        nystrom = {"num_landmarks": self.num_landmarks, "segment_means_seq_len": self.length}
        names = dict(enumerate(self.labels))
        labels = {"id2label": names, "label2id": {label: i for i, label in names.items()}} if names else {}
        return {**BASE, **(DENSE if branch == "dense" else nystrom), **labels}


PIZZA = "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced."
TASKS = {
    "masked-lm": Task(
        cases.MASKED_LM,
        [
            Text(
                "two sentences",
                ["The capital of France is [MASK].", "She was [MASK] in New York and went to London."],
            ),
            Text(
                "labels",
                ["Paris is the [MASK] of France."],
                {"labels": ["Paris is the capital of France."]},
                EVERYTHING,
            ),
        ],
        num_landmarks=6,
        length=24,
    ),
    "sequence-classification": Task(
        cases.SEQUENCE,
        [
            Text(
                "two sentences",
                ["A wonderful film, well played and full of life.", "The plot is thin."],
                flags=EVERYTHING,
            ),
            Text("labels", ["It was a long war.", "The song is a great success."], {"labels": [0, 2]}),
            Text("a pair", [["Who wrote the book?", "The book was written by two brothers."]]),
        ],
        SENTIMENTS,
    ),
    "multiple-choice": Task(
        cases.CHOICE,
        [
            Text(
                "pizza",
                [
                    [
                        [PIZZA, "It is eaten with a fork and a knife."],
                        [PIZZA, "It is eaten while held in the hand."],
                    ]
                ],
                {"labels": [0]},
                {"output_hidden_states": True},
            ),
            Text(
                "two questions",
                [
                    [
                        ["The river rose after the storm.", "The town was under water."],
                        ["The river rose after the storm.", "He sang."],
                    ],
                    [
                        ["She opened the letter.", "The sea was calm."],
                        ["She opened the letter.", "It was from her brother."],
                    ],
                ],
            ),
        ],
        num_landmarks=16,
        length=64,
    ),
    "token-classification": Task(
        cases.TOKEN,
        [
            Text(
                "two sentences",
                ["HuggingFace is a company based in Paris and New York", "Jim lives there."],
                flags=EVERYTHING,
            ),
            Text(
                "labels",
                ["Mary went to London with John."],
                {"labels": [[-100, 1, 2, 0, 0, 0, 5, 0, 1, 0, -100]]},
            ),
        ],
        ENTITIES,
    ),
    "question-answering": Task(
        cases.ANSWER,
        [
            Text("puppet", [["Who was Jim Henson?", "Jim Henson was a nice puppet"]], flags=EVERYTHING),
            Text(
                "labels",
                [
                    ["Where is Paris?", "Paris is in France."],
                    ["What did the king build?", "The king built a large house."],
                ],
                {"start_positions": [9, 16], "end_positions": [9, 18]},
            ),
        ],
    ),
}


def encode(tokenizer, task: Task, text: list, branch: str) -> dict[str, np.ndarray]:
    """Tokenise; the reference's Nyström branch takes no other length than its own."""
    flat = [pair for choices in text for pair in choices] if task.head == cases.CHOICE else text
    padding = {"padding": True} if branch == "dense" else {"padding": "max_length", "max_length": task.length}
    pairs = [flat] if isinstance(flat[0], str) else [list(side) for side in zip(*flat, strict=True)]
    encoded = {name: np.array(ids, np.int64) for name, ids in tokenizer(*pairs, **padding).items()}
    if task.head == cases.CHOICE:
        encoded = {name: ids.reshape(len(text), -1, ids.shape[-1]) for name, ids in encoded.items()}
    return encoded


def labels(tokenizer, task: Task, text: Text, inputs: dict[str, np.ndarray], branch: str) -> dict[str, np.ndarray]:
    """Return the labels of a case; whole sentences stand for masked words, short rows are filled up."""
    if task.head == cases.MASKED_LM and text.labels:
        whole = encode(tokenizer, task, text.labels["labels"], branch)["input_ids"]
        return {"labels": np.where(inputs["input_ids"] == tokenizer.mask_token_id, whole, -100)}
    told = {name: np.array(values, np.int64) for name, values in text.labels.items()}
    if task.head == cases.TOKEN and told:
        wide = np.full(inputs["input_ids"].shape, -100, np.int64)
        wide[:, : told["labels"].shape[1]] = told["labels"]
        told["labels"] = wide
    return told


def make(folder: Path, task: Task, branch: str) -> None:
    """Write one checkpoint with its tokenizer and its stored outputs."""
    folder.mkdir(parents=True, exist_ok=True)
    config = task.config(branch)
    weights = cases.draw_parameters(task.head, config)
    item = {"head": task.head, "config": config}
    build(item, weights, torch.float32).save_pretrained(folder)
    for file in sorted((HERE / "tokenizer").glob("*.json")):
        shutil.copy(file, folder / file.name)
    for medians in store(folder, task, branch, item, weights):
        check_peaked(folder, medians)


def store(folder: Path, task: Task, branch: str, item: dict, weights: dict[str, np.ndarray]) -> list[list[float]]:
    """Write what the reference computes from a task's texts; return how peaked attention is, by case and layer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    arrays, told, medians = {}, [], []
    for text in task.texts:
        inputs = encode(tokenizer, task, text.text, branch)
        inputs.update(labels(tokenizer, task, text, inputs, branch))
        answered, exact = answer({**item, "flags": text.flags, "measured": ["float32"]}, weights, inputs)
        medians.append(answered["median_row_max"])
        arrays.update({f"{text.name}/inputs/{name}": array for name, array in inputs.items()})
        arrays.update({f"{text.name}/outputs/{name}": array for name, array in exact.items()})
        told.append({"name": text.name, "text": text.text, "inputs": list(inputs), "outputs": answered["outputs"]})
    save_file(arrays, folder / "reference.safetensors")
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    reference = {**versions, "head": task.head, "tolerance": TOLERANCE, "cases": told}
    (folder / "reference.json").write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return medians


def check_peaked(folder: Path, medians: list[float]) -> None:
    """Refuse weights that would hide a wrong inverse."""
    if not all(0.4 <= median <= 0.95 for median in medians):
        raise ValueError(f"{folder.name}: median row maxima of the attention are {medians}, not 0.4 to 0.95")


def main(root: Path) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for name, task in TASKS.items():
        for branch in ("dense", "nystrom"):
            make(root / f"{name}-{branch}", task, branch)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
