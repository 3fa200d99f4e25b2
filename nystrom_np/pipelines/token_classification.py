"""``token-classification``: a label for each word piece, or for the words and entities they make up."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Any

import numpy as np

from nystrom_np.model import NystromformerForTokenClassification
from nystrom_np.pipelines.base import (
    Encoding,
    Pipeline,
    PipelineOptions,
    check_choice,
    check_text,
    deprecated,
    probabilities,
)

__all__ = ["AggregationStrategy", "TokenClassificationOptions", "TokenClassificationPipeline"]


class AggregationStrategy(Enum):
    """How pieces become entities: what ``aggregation_strategy`` may be, beside the values themselves.

    Examples
    --------
    >>> from nystrom_np.pipelines import AggregationStrategy
    >>> AggregationStrategy.FIRST.value
    'first'
    """

    NONE = "none"
    SIMPLE = "simple"
    FIRST = "first"
    AVERAGE = "average"
    MAX = "max"


STRATEGIES = tuple(strategy.value for strategy in AggregationStrategy)


@dataclass(frozen=True)
class TokenClassificationOptions(PipelineOptions):
    """Options of ``token-classification``.

    Attributes
    ----------
    aggregation_strategy : {"none", "simple", "first", "average", "max"}
        ``"none"``: each piece by itself. ``"simple"``: neighbouring pieces of one label are one entity. The rest:
        first each word gets one label, that of its first piece, of its pieces' mean probabilities, or of the
        piece that is surest; then neighbouring words of one label are one entity.
    ignore_labels : list of str
        Labels to leave out.
    stride : int, optional
        A text that is too long is cut into windows, each of which repeats so many tokens of the one before; by
        default the rest of it is left out. Needs an aggregation. A window has as many tokens as both the tokenizer
        and the model take.

    Notes
    -----
    ``grouped_entities`` and ``ignore_subwords`` are older names: together they are "first", the former alone is
    "simple", the latter alone "none".
    """

    aggregation_strategy: Any = "none"
    ignore_labels: Any = ("O",)
    stride: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lowered("aggregation_strategy")
        check_choice("aggregation_strategy", self.aggregation_strategy, STRATEGIES)
        if isinstance(self.ignore_labels, str) or not all(isinstance(one, str | Real) for one in self.ignore_labels):
            raise TypeError(f"ignore_labels must be a list of str; found {self.ignore_labels!r}")
        if self.stride is not None and self.aggregation_strategy == "none":
            raise ValueError("stride needs an aggregation_strategy other than 'none'")


@dataclass(frozen=True)
class Piece:
    """A word piece: its text, where it stands, and the probabilities of the labels (labels,)."""

    word: str
    start: int
    end: int
    index: int
    goes_on: bool
    """Whether it continues the word of the piece before."""
    scores: np.ndarray


@dataclass(frozen=True)
class Labelled:
    """A piece, a word or an entity, and its label, which is a number in some files."""

    label: Any
    score: float
    words: tuple[str, ...]
    start: int
    end: int


class TokenClassificationPipeline(Pipeline[TokenClassificationOptions]):
    """Label the words of a text.

    An answer is a list of dicts with ``score``, ``word``, and ``start`` and ``end``, where it stands in the text;
    without aggregation ``entity`` and ``index`` (of the token), with it ``entity_group``, the label without a
    ``B-`` or ``I-`` in front.

    Notes
    -----
    Names, shapes and values are those of ``TokenClassificationPipeline`` in transformers 4.37.2. Its rule for where a
    word begins, unless the vocabulary marks what continues a word: at the start of the text and after a space, so
    punctuation belongs to the word before it. A piece that begins a word covers the space before it, too. With
    ``stride`` the reference pads the last window, which has an influence there and none here.

    Examples
    --------
    >>> from nystrom_np.pipelines import pipeline
    >>> tag = pipeline("token-classification", aggregation_strategy="first", ignore_labels=[])
    >>> words = tag("The dog sleeps.")
    >>> list(words[0])
    ['entity_group', 'score', 'word', 'start', 'end']
    >>> words[0]["start"], words[-1]["end"]
    (0, 15)
    """

    task = "token-classification"
    head = NystromformerForTokenClassification
    options = TokenClassificationOptions

    def encode(self, item: Any, options: TokenClassificationOptions) -> tuple[Any, list[Encoding]]:
        """Tokenise a text; what is known are it and its windows."""
        text = check_text("an input", item)
        windows = self.tokenizer.windows(text, max_length=self.longest, stride=options.stride or 0)
        windows = windows if options.stride is not None else windows[:1]
        return (text, windows), [self._inputs(window) for window in windows]

    def answer(self, known: Any, outputs: list[Any], options: TokenClassificationOptions) -> list[dict[str, Any]]:
        """Label the pieces of each window, and join them."""
        text, windows = known
        found: list[dict[str, Any]] = []
        for window, output in zip(windows, outputs, strict=True):
            pieces = list(self._pieces(text, window, probabilities(output.logits[0])))
            found += self._entities(pieces, options.aggregation_strategy)
        kept = [one for one in found if one.get("entity", one.get("entity_group")) not in options.ignore_labels]
        return kept if len(windows) == 1 else list(without_overlaps(kept))

    def _choose(self, before: TokenClassificationOptions, given: dict[str, Any]) -> TokenClassificationOptions:
        older = {name: given.get(name) for name in ("grouped_entities", "ignore_subwords")}
        given = {name: value for name, value in given.items() if name not in older}
        if any(value is not None for value in older.values()):
            together = "first" if older["ignore_subwords"] else "simple"
            given["aggregation_strategy"] = together if older["grouped_entities"] else "none"
            names = " and ".join(name for name, value in older.items() if value is not None)
            deprecated(names, f"aggregation_strategy={given['aggregation_strategy']!r} is taken")
        return super()._choose(before, given)

    def _pieces(self, text: str, window: Any, scores: np.ndarray) -> Iterator[Piece]:
        marked = bool(getattr(self.tokenizer.backend.model, "continuing_subword_prefix", None))
        for index, token in enumerate(window.ids):
            if window.special_tokens_mask[index]:
                continue
            start, end = window.offsets[index]
            word = str(self.tokenizer.convert_ids_to_tokens(token))
            goes_on = len(word) != end - start if marked else start > 0 and " " not in text[start - 1 : start + 1]
            if token == self.tokenizer.unk_token_id:
                word, goes_on = text[start:end], False
            yield Piece(word, start, end, index, goes_on, scores[index])

    def _entities(self, pieces: list[Piece], strategy: str) -> list[dict[str, Any]]:
        if strategy == "none":
            return [self._alone(piece) for piece in pieces]
        by_word = strategy != "simple"
        words = groups(pieces, lambda before, piece: by_word and piece.goes_on)
        labelled = [self._word(word, strategy) for word in words]
        return [self._group(group) for group in groups(labelled, is_one_entity)]

    def _alone(self, piece: Piece) -> dict[str, Any]:
        best = int(piece.scores.argmax())
        return {
            "entity": self.model.config.id2label[best],
            "score": float(piece.scores[best]),
            "index": piece.index,
            "word": piece.word,
            "start": piece.start,
            "end": piece.end,
        }

    def _word(self, pieces: list[Piece], strategy: str) -> Labelled:
        scores = pieces[0].scores
        if strategy == "average":
            scores = np.mean([piece.scores for piece in pieces], axis=0)
        elif strategy == "max":
            scores = max(pieces, key=lambda piece: float(piece.scores.max())).scores
        best = int(scores.argmax())
        words = tuple(piece.word for piece in pieces)
        if strategy != "simple":
            words = (self._text(words),)
        return Labelled(self.model.config.id2label[best], float(scores[best]), words, pieces[0].start, pieces[-1].end)

    def _group(self, group: list[Labelled]) -> dict[str, Any]:
        return {
            "entity_group": label.split("-", 1)[-1] if isinstance(label := group[0].label, str) else label,
            "score": float(np.mean([one.score for one in group])),
            "word": self._text([word for one in group for word in one.words]),
            "start": group[0].start,
            "end": group[-1].end,
        }

    def _text(self, words: Sequence[str]) -> str:
        return self.tokenizer.convert_tokens_to_string(words)


def groups(items: Iterable[Any], belongs: Callable[[Any, Any], bool]) -> list[list[Any]]:
    """Cut a sequence wherever an item does not belong to the one before it."""
    cut: list[list[Any]] = []
    for item in items:
        if cut and belongs(cut[-1][-1], item):
            cut[-1].append(item)
        else:
            cut.append([item])
    return cut


def is_one_entity(before: Labelled, after: Labelled) -> bool:
    """Whether the entity goes on: the same label, and not marked as the beginning of another."""
    return not str(after.label).startswith("B-") and _kind(after.label) == _kind(before.label)


def _kind(label: Any) -> Any:
    return label[2:] if isinstance(label, str) and label.startswith(("B-", "I-")) else label


def without_overlaps(entities: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of entities that windows share, the longest alone, and the likeliest of the same length."""
    best: dict[str, Any] | None = None
    for entity in sorted(entities, key=lambda one: one["start"]):
        if best is None or not best["start"] <= entity["start"] < best["end"]:
            if best is not None:
                yield best
            best = entity
        elif (entity["end"] - entity["start"], entity["score"]) > (best["end"] - best["start"], best["score"]):
            best = entity
    if best is not None:
        yield best
