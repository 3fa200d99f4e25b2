"""Texts to learn from, cleaned: documents of sentences, without duplicates, some of them held out.

The data lie in a folder of their own (``--data``), in three sub-folders: ``wikitext-2/`` (``valid.txt``, ``test.txt``),
``ud-english-ewt/`` and ``sst2/`` (``train.tsv``, ``dev.tsv``, ``test.tsv``). WordNet's glosses are those of Debian's
package ``wordnet-base``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
HELD_OUT = 0.05
Document = list[str]
"""Sentences that follow one another."""


def plain(text: str) -> str:
    """Undo the spaces that tokenised corpora put around punctuation: ``1 @,@ 000 ( sic ) .`` is ``1,000 (sic).``"""
    for joint in "-,.":
        text = text.replace(f" @{joint}@ ", joint)
    text = re.sub(r"\s+([.,;:!?%)\]]|'(?:s|t|re|ve|ll|d|m)\b|n't\b)", r"\1", text)
    text = re.sub(r"([(\[$])\s+", r"\1", text)
    text = re.sub(r'"\s+([^"]*?)\s*"', r'"\1"', text)
    return re.sub(r"\s+", " ", text).strip()


NO_SPACE_BEFORE = re.compile(r"[.,;:!?%)\]}]+|'(?:s|t|re|ve|ll|d|m)|n't|\.{2,}", re.IGNORECASE)
NO_SPACE_AFTER = re.compile(r"[(\[{$#]")


def join(words: list[str]) -> tuple[str, list[tuple[int, int]]]:
    """Write words as a sentence, with the places of their first and one past their last letters."""
    sentence, spans = "", []
    for number, word in enumerate(words):
        close = NO_SPACE_BEFORE.fullmatch(word) or (number and NO_SPACE_AFTER.fullmatch(words[number - 1]))
        sentence += "" if not number or close else " "
        spans.append((len(sentence), len(sentence) + len(word)))
        sentence += word
    return sentence, spans


def glosses(folder: Path = WORDNET) -> Iterator[Document]:
    """WordNet's definitions, each with its examples, freed of quotation marks and of the names of those quoted."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" "):  # the licence
                yield [f"{sentence}." for sentence in _gloss(line.partition("| ")[2])]


def _gloss(text: str) -> Iterator[str]:
    text = text.replace("`", "'")
    examples = re.findall(r'"([^"]+)"', text)
    definition = re.sub(r';?\s*"[^"]*"?[^";]*', "", text)  # with what follows a quotation: who said it
    for sentence in (definition, *examples):
        sentence = plain(re.sub(r"\s+", " ", sentence)).strip(" ;:,.-")
        if len(sentence.split()) > 2:
            yield sentence


def articles(file: Path) -> Iterator[Document]:
    """WikiText's articles, without headings and without the sentences that have an unknown word."""
    article: Document = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r" = [^=].* = ", line):
            yield article
            article = []
        elif line.strip() and not line.startswith(" ="):
            article += [plain(one) for one in re.split(r"(?<= [.!?]) ", line.strip()) if "<unk>" not in one]
    yield article


def tagged(file: Path) -> Iterator[list[tuple[str, str]]]:
    """Sentences of words and their tags, one word a line, an empty line after each sentence."""
    for block in file.read_text(encoding="utf-8").strip().split("\n\n"):
        yield [(word, tag) for word, tag in (line.split("\t") for line in block.splitlines())]


def labelled(file: Path) -> Iterator[tuple[str, int]]:
    """Sentences and their labels, one a line."""
    for line in file.read_text(encoding="utf-8").splitlines():
        sentence, label = line.split("\t")
        yield re.sub("``|''", '"', plain(sentence)), int(label)


def without_duplicates(documents: Iterable[Document]) -> list[Document]:
    """Keep the first of equal sentences, in the letters that a lower-casing tokenizer sees, and no empty document."""
    seen: set[str] = set()
    kept = []
    for document in documents:
        new = []
        for sentence in document:
            key = re.sub(r"\W+", " ", sentence.lower())
            if key not in seen:
                seen.add(key)
                new.append(sentence)
        if new:
            kept.append(new)
    return kept


def corpora(data: Path, wordnet: Path = WORDNET) -> dict[str, list[Document]]:
    """Documents of two kinds: ``glosses``, and ``prose`` of an encyclopedia and of the web."""
    wikitext = (article for name in ("valid", "test") for article in articles(data / "wikitext-2" / f"{name}.txt"))
    web = ([join([word for word, _ in words])[0]] for words in tagged(data / "ud-english-ewt" / "train.tsv"))
    both = {"glosses": glosses(wordnet), "prose": [*wikitext, *web]}
    return {kind: without_duplicates(documents) for kind, documents in both.items()}


def split(documents: list[Document], seed: int) -> tuple[list[Document], list[Document]]:
    """Set a seeded share of the documents apart: (to learn from, held out)."""
    order = list(range(len(documents)))
    random.Random(seed).shuffle(order)
    cut = round(HELD_OUT * len(order))
    return [documents[i] for i in sorted(order[cut:])], [documents[i] for i in sorted(order[:cut])]
