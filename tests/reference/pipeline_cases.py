"""What the pipelines of both sides are asked: plain data, without torch.

The checkpoints are the random ones. On the Nyström branch the reference's pipelines raise, unless they are made to pad
each input to the one length that the reference computes. It has no pipeline for multiple choice: there the model is
run on each choice by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CHECKPOINTS = {
    "fill-mask": "masked-lm",
    "text-classification": "sequence-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
    "feature-extraction": "masked-lm",
}


@dataclass(frozen=True)
class PipelineCase:
    """A pipeline with options of its own, called with arguments and further options."""

    name: str
    task: str
    args: list[Any]
    options: dict[str, Any] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    branch: str = "dense"

    @property
    def folder(self) -> str:
        """The name of the checkpoint's folder."""
        return f"{CHECKPOINTS[self.task]}-{self.branch}"


PARIS = "Paris is the [MASK] of France."
TWO_MASKS = "The [MASK] of France is [MASK]."
FILM = "A wonderful film, well played and full of life."
PLOT = "The plot is thin."
NEW_YORK = "HuggingFace is a company based in Paris and New York."
JIM = "Jim Henson didn't live there — he lived in Søren's house, in   London!"
LONG = " ".join(["the year of the city was in the war and"] * 13)
FULL = " ".join(LONG.split()[:114])
"""In windows of 64 tokens that share 10, the last is full too: the reference would pad it."""
PUPPET = {"question": "Who was Jim Henson?", "context": "Jim Henson was a nice puppet."}
PIZZA = {
    "prompt": "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced.",
    "choices": ["It is eaten with a fork and a knife.", "He sang.", "It is eaten while held in the hand."],
}
SEVERAL = {"problem_type": "multi_label_classification"}
HOUSE = {"question": "What did the king build?", "context": "In the year of the war the king built a large house."}
RIVER = {
    "question": "Where did the river rise?",
    "context": " ".join(
        f"In the year {1900 + n} the river rose after a storm, and the {kind} of the town was under water for days."
        for n, kind in enumerate(("station", "church", "school", "market", "bridge", "theatre", "garden"))
    ),
}


def fill(name: str, *args: Any, **options: Any) -> PipelineCase:
    return PipelineCase(name, "fill-mask", list(args), options)


def classify(name: str, *args: Any, **options: Any) -> PipelineCase:
    return PipelineCase(name, "text-classification", list(args), options)


def tag(name: str, *args: Any, **options: Any) -> PipelineCase:
    return PipelineCase(name, "token-classification", list(args), options)


def ask(name: str, *args: Any, **options: Any) -> PipelineCase:
    return PipelineCase(name, "question-answering", list(args), options)


def nystrom(task: str, *args: Any, **options: Any) -> PipelineCase:
    return PipelineCase("nystrom", task, list(args), options, branch="nystrom")


def extract(name: str, *args: Any, **options: Any) -> PipelineCase:
    return PipelineCase(name, "feature-extraction", list(args), options)


CASES = [
    fill("one", PARIS),
    fill("two masks", TWO_MASKS, top_k=3),
    fill("a list", [PARIS, TWO_MASKS], top_k=2),
    fill("a list of one", [PARIS], top_k=2),
    fill("targets", PARIS, targets=["▁king", "▁capital", "s"]),
    fill("fewer targets", PARIS, targets=["▁king", "▁capital", "s"], top_k=2),
    fill("a target", TWO_MASKS, targets="▁king"),
    fill("targets that are no tokens", PARIS, targets=["Brussels", "king", "unbelievable"]),
    fill("truncated", PARIS + " It is a large city" * 20, tokenizer_kwargs={"truncation": True}, top_k=2),
    PipelineCase("made with", "fill-mask", [PARIS], {}, {"top_k": 3}),
    PipelineCase("overridden", "fill-mask", [PARIS], {"top_k": 1}, {"top_k": 3}),
    classify("one", FILM),
    classify("the best in a list", FILM, top_k=1),
    classify("two", FILM, top_k=2),
    classify("all", FILM, top_k=None),
    classify("a list", [FILM, PLOT]),
    classify("a list, all", [FILM, PLOT], top_k=None),
    classify("a list of one", [FILM]),
    classify("a pair", {"text": FILM, "text_pair": PLOT}),
    classify("pairs and texts", [{"text": FILM, "text_pair": PLOT}, {"text": PLOT}], top_k=2),
    classify("sigmoid", FILM, function_to_apply="sigmoid", top_k=None),
    classify("logits", FILM, function_to_apply="none", top_k=None),
    classify("softmax", FILM, function_to_apply="softmax"),
    classify("truncated", FILM * 10, truncation=True),
    PipelineCase("made with", "text-classification", [FILM], {}, {"top_k": None}),
    PipelineCase(
        "several labels",
        "text-classification",
        [FILM],
        {"top_k": None},
        {},
        {"problem_type": "multi_label_classification"},
    ),
    *(
        tag(f"{strategy}, {name}", text, aggregation_strategy=strategy, ignore_labels=[])
        for strategy in ("none", "simple", "first", "average", "max")
        for name, text in (("new york", NEW_YORK), ("jim", JIM))
    ),
    tag("O is ignored", NEW_YORK),
    tag("labels ignored", NEW_YORK, ignore_labels=["O", "B-PER", "I-LOC"]),
    tag("groups ignored", JIM, aggregation_strategy="simple", ignore_labels=["PER", "O"]),
    tag("a list", [NEW_YORK, JIM]),
    tag("a list of one", [NEW_YORK], aggregation_strategy="max"),
    tag("too long", LONG, aggregation_strategy="simple"),
    tag("windows", FULL, aggregation_strategy="simple", stride=10, ignore_labels=[]),
    ask("one", PUPPET),
    ask("three", PUPPET, top_k=3),
    ask("by name", **PUPPET),
    ask("several by name", question=[PUPPET["question"], "Where?"], context=PUPPET["context"], top_k=2),
    ask("a list", [PUPPET, HOUSE]),
    ask("a list of one", [HOUSE]),
    ask("of one token", HOUSE, max_answer_len=1, top_k=3),
    ask("of two tokens", HOUSE, max_answer_len=2, top_k=3),
    ask("none", PUPPET, handle_impossible_answer=True, top_k=4),
    ask("pieces", HOUSE, align_to_words=False, top_k=4),
    ask("windows", RIVER, top_k=5),
    ask("narrow windows", RIVER, max_seq_len=32, doc_stride=8, top_k=5),
    ask("windows, none", RIVER, max_seq_len=40, doc_stride=10, handle_impossible_answer=True, top_k=12),
    PipelineCase("made with", "question-answering", [HOUSE], {}, {"top_k": 2}),
    extract("one", "Hello."),
    extract("a list", ["Hello.", "My dog is cute"]),
    extract("truncated", FILM, truncation=True, tokenize_kwargs={"max_length": 6}),
    PipelineCase("two", "multiple-choice", [PIZZA], {"top_k": 2}),
    nystrom("fill-mask", [PARIS, TWO_MASKS], top_k=3),
    nystrom("text-classification", [FILM, PLOT], function_to_apply="none", top_k=None),
    nystrom("token-classification", [NEW_YORK, JIM], aggregation_strategy="average", ignore_labels=[]),
    nystrom("question-answering", [PUPPET, {**HOUSE, "context": 3 * HOUSE["context"]}], top_k=4),
    nystrom("feature-extraction", ["Hello.", "My dog is cute"]),
    nystrom("multiple-choice", PIZZA, top_k=2),
]
