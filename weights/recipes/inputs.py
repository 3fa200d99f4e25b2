"""What each head learns from and is measured on: padded arrays of ``LENGTH`` tokens, with NumPy and tokenizers alone.

Every function returns a part of the data, to learn from or held out, as arrays under the model's argument names.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from weights.recipes import text
from weights.recipes.stories import Story, stories

LENGTH = 64
"""Tokens of every input, padding included: the reference's Nyström attention computes this one length only."""

SEED = 0
MASKED = 0.15
PAD, UNKNOWN, CLS, SEP, MASK = range(5)
IGNORED = -100
# fmt: off
TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM",
    "PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X",
)
# fmt: on
CHOICES = 4
STORIES, HELD_OUT_STORIES = 40_000, 1_000
Arrays = dict[str, np.ndarray]


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer, set to give exactly ``LENGTH`` tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=PAD, pad_token="<pad>")
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str] | Sequence[tuple[str, str]]) -> Arrays:
    """Tokenise texts, or pairs of them."""
    encoded = tokenizer.encode_batch(list(texts))
    fields = {"input_ids": "ids", "token_type_ids": "type_ids", "attention_mask": "attention_mask"}
    return {name: np.array([getattr(one, field) for one in encoded]) for name, field in fields.items()}


def pieces(tokenizer: Tokenizer, documents: list[text.Document]) -> list[list[list[int]]]:
    """Tokenise each sentence of each document, without special tokens or padding."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    flat = [sentence for document in documents for sentence in document]
    encoded = iter(one.ids for one in tokenizer.encode_batch(flat, add_special_tokens=False))
    return [[next(encoded) for _ in document] for document in documents]


def windows(documents: list[list[list[int]]], rng: random.Random) -> list[list[int]]:
    """Fill inputs with sentences, documents in random order; half of the inputs end earlier, with padding."""
    order = list(range(len(documents)))
    rng.shuffle(order)
    rows: list[list[int]] = []
    now: list[int] = []
    wanted = LENGTH - 2
    for sentence in (sentence for i in order for sentence in documents[i]):
        if now and len(now) + len(sentence) > wanted:
            rows.append(_framed(now))
            now = []
            wanted = LENGTH - 2 if rng.random() < 0.5 else rng.randint(6, LENGTH - 2)
        now = now + sentence
    return [*rows, _framed(now)] if now else rows


def _framed(ids: list[int]) -> list[int]:
    framed = [CLS, *ids[: LENGTH - 2], SEP]
    return framed + [PAD] * (LENGTH - len(framed))


def masked(ids: np.ndarray, rng: np.random.Generator) -> Arrays:
    """Put [MASK] in the place of each selected piece; the labels are ``IGNORED`` elsewhere."""
    selected = (rng.random(ids.shape) < MASKED) & (ids > MASK)
    return {
        "input_ids": np.where(selected, MASK, ids),
        "token_type_ids": np.zeros_like(ids),
        "attention_mask": (ids != PAD).astype(np.int64),
        "labels": np.where(selected, ids, IGNORED),
    }


def masked_lm(tokenizer: Tokenizer, data: Path) -> dict[str, Arrays]:
    """Held-out text of each kind, its pieces masked."""
    rng = np.random.default_rng(SEED)
    held_out = {kind: text.split(documents, SEED)[1] for kind, documents in text.corpora(data).items()}
    return {
        kind: masked(np.array(windows(pieces(tokenizer, documents), random.Random(SEED))), rng)
        for kind, documents in held_out.items()
    }


def sequence_classification(tokenizer: Tokenizer, data: Path, part: str) -> Arrays:
    """Sentences of film reviews, and whether they are positive (1) or negative (0)."""
    sentences, labels = zip(*text.labelled(data / "sst2" / f"{part}.tsv"), strict=True)
    return encode(tokenizer, sentences) | {"labels": np.array(labels)}


def token_classification(tokenizer: Tokenizer, data: Path, part: str) -> Arrays:
    """Sentences and the tag of each word, at the word's first piece. Long sentences are cut between words."""
    sentences = list(text.tagged(data / "ud-english-ewt" / f"{part}.tsv"))
    parts = [short for sentence in sentences for short in _short_enough(tokenizer, sentence)]
    joined = [text.join([word for word, _ in words]) for words in parts]
    arrays = encode(tokenizer, [sentence for sentence, _ in joined])
    encoded = tokenizer.encode_batch([sentence for sentence, _ in joined])
    labels = np.full(arrays["input_ids"].shape, IGNORED)
    for row, (words, (sentence, spans), one) in enumerate(zip(parts, joined, encoded, strict=True)):
        starts = [_start(sentence, *offsets) for offsets in one.offsets]
        for (_, tag), (begin, end) in zip(words, spans, strict=True):
            own = [i for i, start in enumerate(starts) if begin <= start < end]
            labels[row, own[0]] = TAGS.index(tag)
    return arrays | {"labels": labels}


def _start(sentence: str, start: int, stop: int) -> int:
    """The first letter of a piece, after the space that may stand before it; -1 for special tokens."""
    return start + (sentence[start] == " ") if stop > start else -1


def _short_enough(tokenizer: Tokenizer, words: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    sentence, _ = text.join([word for word, _ in words])
    if len(words) > 1 and tokenizer.encode(sentence).overflowing:
        half = len(words) // 2
        yield from _short_enough(tokenizer, words[:half])
        yield from _short_enough(tokenizer, words[half:])
    else:
        yield words


def question_answering(tokenizer: Tokenizer, told: Iterable[Story]) -> Arrays:
    """Questions and stories, and the first and last piece of the answer."""
    told = list(told)
    pairs = [(one.question, one.story) for one in told]
    spans = [(one.start, one.start + len(one.answer)) for one in told]
    inside = [_within(tokenizer.encode(*pair), [span]) for pair, span in zip(pairs, spans, strict=True)]
    first, last = np.array([(row.argmax(), LENGTH - 1 - row[::-1].argmax()) for row in inside]).T
    return encode(tokenizer, pairs) | {"start_positions": first, "end_positions": last}


def about_the_question(tokenizer: Tokenizer, told: Iterable[Story]) -> np.ndarray:
    """Tell for each piece whether it is of a sentence about whom or what is asked."""
    return np.array([_within(tokenizer.encode(one.question, one.story), one.about) for one in told])


def _within(encoded: Encoding, spans: Iterable[tuple[int, int]], of: int = 1) -> np.ndarray:
    """Tell which pieces of the first or the second text (0 or 1) lie within places of it."""
    inside = np.zeros(LENGTH, dtype=bool)
    for place, ((start, stop), text_) in enumerate(zip(encoded.offsets, encoded.sequence_ids, strict=True)):
        inside[place] = text_ == of and any(start < end and stop > begin for begin, end in spans)
    return inside


def multiple_choice(tokenizer: Tokenizer, told: Iterable[Story]) -> Arrays:
    """Questions with a story, each with four answers, and which of them is right."""
    pairs, labels, _ = _choices(told)
    arrays = {name: array.reshape(-1, CHOICES, LENGTH) for name, array in encode(tokenizer, pairs).items()}
    return arrays | {"labels": np.array(labels)}


def hints(tokenizer: Tokenizer, told: Iterable[Story]) -> np.ndarray:
    """Tell for each piece of a question with its story, (stories, choices, pieces, 3), what there is to know of it.

    Is its sentence about whom or what is asked, is it of the right answer, and is it of the choice that is offered?
    """
    pairs, _, whole = _choices(told)
    rows = []
    for pair, one in zip(pairs, whole, strict=True):
        encoded, begin = tokenizer.encode(*pair), len(one.question) + 1
        about = [(begin + start, begin + stop) for start, stop in one.about]
        answer = [(begin + one.start, begin + one.start + len(one.answer))]
        chosen = [match.span() for match in re.finditer(pair[1], pair[0])]
        rows.append(np.stack([_within(encoded, spans, of=0) for spans in (about, answer, chosen)], axis=-1))
    return np.array(rows).reshape(-1, CHOICES, LENGTH, 3)


def _choices(told: Iterable[Story]) -> tuple[list[tuple[str, str]], list[int], list[Story]]:
    """Pairs of a question with its story and an answer, four a story; the right ones; and each pair's story."""
    rng = random.Random(SEED)
    pairs, labels, whole = [], [], []
    for one in told:
        answers = [one.answer, *one.others]
        rng.shuffle(answers)
        labels.append(answers.index(one.answer))
        pairs += [(f"{one.question} {one.story}", answer) for answer in answers]
        whole += [one] * CHOICES
    return pairs, labels, whole


def split_stories() -> tuple[list[Story], list[Story]]:
    """Stories to learn from and others held out: no story with its question is in both."""
    told = stories(STORIES + HELD_OUT_STORIES, SEED)
    return told[:STORIES], told[STORIES:]
