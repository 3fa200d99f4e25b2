"""Writes a trained model as a folder of ``weights/``: float16 weights, the tokenizer, and the reference's outputs.

It runs in the reference's own environment, from the root of the repository::

    "$(python -m tests.reference.environment 4.37.2)" -m weights.recipes.publish --data FOLDER --model TRAINED HEAD

The stored outputs are those of a text that shows what the head does, and of held-out data.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.checkpoints.make import EVERYTHING, Task, Text, store
from weights.recipes import inputs, text
from weights.recipes.evaluate import TASKS, WEIGHTS

WORDS = 8, 20
"""The fewest and the most words of a held-out sentence that is stored."""


def masked_lm(tokenizer: Any, data: Path) -> list[Text]:
    """A sentence, and a held-out gloss and sentence of prose with their longest one-piece word masked."""
    held_out = [text.split(documents, inputs.SEED)[1] for documents in text.corpora(data).values()]
    long = [[one for one, *_ in documents if WORDS[0] <= len(one.split()) <= WORDS[1]] for documents in held_out]
    whole = [random.Random(inputs.SEED).choice(sentences) for sentences in long]
    hidden = [_hide(tokenizer, sentence) for sentence in whole]
    return [
        Text("shown", ["The capital of the [MASK] States is Washington."]),
        Text("held out", hidden, {"labels": whole}, EVERYTHING),
    ]


def _hide(tokenizer: Any, sentence: str) -> str:
    words = [word for word in sentence.split() if word.isalpha() and _is_one_piece(tokenizer, word)]
    return sentence.replace(f" {max(words, key=len)}", " [MASK]", 1)


def _is_one_piece(tokenizer: Any, word: str) -> bool:
    return len(inputs.pieces(tokenizer, [[word]])[0][0]) == 1


def sequence_classification(tokenizer: Any, data: Path) -> list[Text]:
    """Two opinions, and held-out reviews."""
    sentences, labels = zip(*islice(text.labelled(data / "sst2" / "test.tsv"), 3), strict=True)
    return [
        Text("shown", ["A wonderful film, well played and full of life.", "The plot is thin and the jokes are dull."]),
        Text("held out", list(sentences), {"labels": list(labels)}, EVERYTHING),
    ]


def token_classification(tokenizer: Any, data: Path) -> list[Text]:
    """A sentence, and held-out ones with their tags."""
    sentences = list(islice(text.tagged(data / "ud-english-ewt" / "test.tsv"), 3))
    labels = inputs.token_classification(tokenizer, data, "test")["labels"][: len(sentences)]
    joined = [text.join([word for word, _ in words])[0] for words in sentences]
    return [
        Text("shown", ["Mary quickly opened the old door and looked at the garden."]),
        Text("held out", joined, {"labels": labels.tolist()}, EVERYTHING),
    ]


def question_answering(tokenizer: Any, data: Path) -> list[Text]:
    """A story, and held-out ones with the places of the answers."""
    told = inputs.split_stories()[1][:2]
    arrays = inputs.question_answering(tokenizer, told)
    story = "Mary went to the kitchen. John moved to the garden. Mary picked up the apple. Mary walked to the office."
    return [
        Text("shown", [["Where is Mary?", story], ["Who has the apple?", story]]),
        Text(
            "held out",
            [[one.question, one.story] for one in told],
            {name: arrays[name].tolist() for name in ("start_positions", "end_positions")},
            EVERYTHING,
        ),
    ]


def multiple_choice(tokenizer: Any, data: Path) -> list[Text]:
    """A story, and a held-out one with the number of the right answer."""
    one = inputs.split_stories()[1][0]
    told = "Where is Mary? Mary went to the kitchen. John moved to the garden. Mary walked to the office."
    choices = [[f"{one.question} {one.story}", answer] for answer in (*one.others, one.answer)]
    return [
        Text("shown", [[[told, place] for place in ("kitchen", "garden", "office", "bedroom")]]),
        Text("held out", [choices], {"labels": [inputs.CHOICES - 1]}, {"output_hidden_states": True}),
    ]


TEXTS = {
    "masked-lm": masked_lm,
    "sequence-classification": sequence_classification,
    "token-classification": token_classification,
    "question-answering": question_answering,
    "multiple-choice": multiple_choice,
}


def save(head: str, trained: Path, folder: Path) -> None:
    """Write the weights in float16; the configuration says float32, which is what they are for."""
    model = getattr(transformers, TASKS[head].head).from_pretrained(trained)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.1
    model.half().save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"torch_dtype": "float32"}
    config.pop("_name_or_path", None)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in sorted((WEIGHTS / "tokenizer").glob("*.json")):
        shutil.copy(file, folder / file.name)


def publish(head: str, trained: Path, data: Path) -> None:
    """Make the folder anew beside the old one, whose model card is kept, and put it in its place."""
    target = WEIGHTS / head
    with tempfile.TemporaryDirectory(dir=WEIGHTS) as made:
        folder = Path(made) / head
        folder.mkdir()
        save(head, trained, folder)
        name = TASKS[head].head
        task = Task(name, TEXTS[head](inputs.load_tokenizer(folder), data), length=inputs.LENGTH)
        store(folder, task, "nystrom", {"head": name, "folder": str(folder)}, {})
        if (target / "README.md").exists():
            shutil.copy(target / "README.md", folder)
        if target.exists():
            target.rename(Path(made) / "old")
        folder.rename(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="as weights/recipes/text.py says")
    parser.add_argument("--model", type=Path, required=True, help="the folder that a recipe wrote")
    parser.add_argument("head", choices=TASKS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    publish(options.head, options.model, options.data)
