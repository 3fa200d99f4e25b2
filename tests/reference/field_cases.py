"""What people have in their files and give to pipelines, by kind, three inputs or more each: plain data.

``python -m tests.reference.field_cases WEIGHTS`` in the reference's environment prints its answers as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

try:  # the reference takes a dataset for one where it is torch's
    from torch.utils.data import Dataset
except ImportError:
    Dataset = object

DENSE = {"num_landmarks": 64, "segment_means_seq_len": 64}
HEADS = {
    "fill-mask": "masked-lm",
    "feature-extraction": "masked-lm",
    "text-classification": "sequence-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
}
PADDING = {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
           "pad_token": "<pad>"}  # fmt: skip
TRUNCATION = {"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
NO_TYPES = {"tokenizer_config.json": {"model_input_names": ["input_ids", "attention_mask"]}}

DULL = "It starts as a dull and lifeless story. " + "We see a man and a house. " * 4
FILMS = ["A wonderful film, full of life.", "so dull", "The plot is thin and the jokes are dull, but it is funny."]
TURNS = [f"{DULL}What a wonderful film.", "A masterpiece. " + "We see it. " * 8 + "Then it is bad.", FILMS[2] * 3]
PAIRS = [{"text": "What a film", "text_pair": second} for second in ("so dull", "a joy, and full of life", "[MASK]")]
WORDS = ["The old dog sleeps in New York.", "He didn't see us, she said.", "wonderful"]
MASKS = ["Paris is the [MASK] of France.", "[MASK] river", "She lives in [MASK] York."]
STORY = "Mary went to the garden. John moved to the kitchen. Mary took the milk there. Daniel is in the office."
ASKED = [
    {"question": question, "context": context}
    for question, context in (
        ("Where is Mary?", "Mary went to the garden. John went to the kitchen."),
        ("What did Mary take?", STORY),
        ("Where is Daniel?", "Daniel got the football. Daniel went to the bedroom. Mary is in the hallway."),
        ("Who?", "Sandra took the milk."),
    )
]
SQUAD = {"id": "56be", "title": "T", "answers": {"text": ["x"], "answer_start": [0]}, "is_impossible": False}


class Items(Dataset):
    """A dataset: it has a length, and items by number."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Any:
        return self.items[number]


@dataclass(frozen=True)
class FieldCase:
    """A checkpoint with changed files, a pipeline on it, and inputs; `each` makes the form in which one is given."""

    kind: str
    task: str
    inputs: list[Any]
    edits: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    each: Callable[[Any], Any] = lambda one: one


def by_name(one: dict[str, str]) -> dict[str, list[str]]:
    return {name: [value, value] for name, value in one.items()}


TEXTS, NER, QA, FILL, FEATURES = (
    *("text-classification", "token-classification", "question-answering", "fill-mask", "feature-extraction"),
)
CUT = {"truncation": True, "max_length": 16}
CASES = [
    FieldCase("truncation side of tokenizer.json", TEXTS, TURNS, {"tokenizer.json": {"truncation": TRUNCATION}}, CUT),
    FieldCase("padding side of tokenizer.json", FILL, MASKS, {"tokenizer.json": {"padding": PADDING}},
              {"tokenizer_kwargs": {"padding": "max_length", "max_length": 20}}),
    FieldCase("a question without token types", QA, ASKED, NO_TYPES),
    FieldCase("a pair without token types", TEXTS, PAIRS, NO_TYPES),
    FieldCase("token types not asked for", TEXTS, PAIRS, made={"return_token_type_ids": False}),
    FieldCase("labels that are numbers", TEXTS, FILMS, {"config.json": {"id2label": {"0": 0, "1": 1}, "label2id": {}}}),
    FieldCase("ids that are strings", TEXTS, FILMS, {"config.json": {"label2id": {"negative": "0", "positive": "1"}}}),
    FieldCase("labels of other numbers", TEXTS, FILMS, {"config.json": {"id2label": {"0": 5, "1": 7}, "label2id": {}}}),
    FieldCase("lengths where it is made", TEXTS, TURNS, made=CUT | {"padding": True}),
    FieldCase("lengths in the call", TEXTS, TURNS, call={"truncation": True, "padding": "max_length"}),
    FieldCase("batches", TEXTS, FILMS, call={"batch_size": 8, "num_workers": 0}, each=lambda one: [one, one]),
    FieldCase("all scores", TEXTS, FILMS, call={"return_all_scores": True}),
    FieldCase("not all scores", TEXTS, FILMS, made={"return_all_scores": False}),
    FieldCase("SOFTMAX", TEXTS, FILMS, call={"function_to_apply": "SOFTMAX"}),
    FieldCase("Sigmoid", TEXTS, FILMS, call={"function_to_apply": "Sigmoid", "top_k": None}),
    FieldCase("NONE", TEXTS, FILMS, call={"function_to_apply": "NONE", "top_k": 2}),
    FieldCase("pairs in lists", TEXTS, PAIRS, each=lambda one: [[[one["text"], one["text_pair"]]]]),
    FieldCase("a dataset of texts", TEXTS, FILMS, each=lambda one: Items([one, one])),
    FieldCase("grouped entities", NER, WORDS, made={"grouped_entities": True}),
    FieldCase("no subwords", NER, WORDS, made={"grouped_entities": True, "ignore_subwords": True}),
    FieldCase("SIMPLE", NER, WORDS, made={"aggregation_strategy": "SIMPLE"}),
    FieldCase("topk", QA, ASKED, call={"topk": 2}),
    FieldCase("padded questions", QA, ASKED, call={"padding": "max_length", "batch_size": 2}),
    FieldCase("padded features", FEATURES, FILMS, made={"padding": True, "truncation": True}),
    FieldCase("arguments of transformers", FILL, MASKS, made={"device": None, "framework": "pt", "use_fast": True}),
    FieldCase("columns", QA, ASKED, each=by_name),
    FieldCase("records of SQuAD", QA, ASKED, each=lambda one: Items([SQUAD | one, one | SQUAD])),
    FieldCase("records as they come", QA, ASKED, each=lambda one: (row for row in [SQUAD | one])),
]  # fmt: skip


def plain(value: Any) -> Any:
    """Return an answer as JSON has it, and what comes one by one as a list; features as their length and sum."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][0], list):
        return {"length": len(value[0]), "sum": sum(abs(x) for row in value[0] for x in row) / len(value[0])}
    if isinstance(value, str | int | type(None)):
        return value
    return [plain(one) for one in value] if hasattr(value, "__iter__") else round(float(value), 5)


def answers(pipeline: Callable[..., Any], weights: Path) -> dict[str, list[Any]]:
    """Return what a library's pipelines answer to every case, by its kind."""
    told = {}
    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, case in enumerate(CASES):
            folder = weights / HEADS[case.task]
            if case.edits:
                folder = Path(shutil.copytree(folder, Path(made) / str(number)))
            for file, values in case.edits.items():
                content = json.loads((folder / file).read_text(encoding="utf-8"))
                (folder / file).write_text(json.dumps({**content, **values}), encoding="utf-8")
            pipe = pipeline(case.task, model=str(folder), model_kwargs=DENSE, **case.made)
            told[case.kind] = [plain(pipe(case.each(one), **case.call)) for one in case.inputs]
    return told


if __name__ == "__main__":
    import transformers

    transformers.logging.set_verbosity_error()
    found = answers(transformers.pipeline, Path(sys.argv[1]))
    print(json.dumps({"transformers": transformers.__version__, "answers": found}, ensure_ascii=False))
