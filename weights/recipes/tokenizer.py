"""Trains ``weights/tokenizer``, an ALBERT-style tokenizer, with tokenizers 0.15.2: newer versions read its files too::

    python -m weights.recipes.tokenizer --data FOLDER OUTPUT

The Unigram trainer of tokenizers gives another file every time, and no word that is never followed by another letter.
So the pieces are those of byte-pair encoding, and their probabilities are how often the best segmentation of the text
uses them, found in a few rounds of counting (the hard form of expectation maximisation; Kudo, arXiv 1804.10959).
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from weights.recipes import stories, text

VOCABULARY = 2048
CANDIDATES = 1.5
"""Pieces to choose from, in units of the vocabulary."""
ROUNDS = 4
SPECIAL = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
APART = r"n't(?!\w)|'(?:s|re|ve|ll|d|m)(?!\w)|▁?[^\w▁]"
"""No piece goes beyond a word: what is short for a word of its own, and punctuation, are pieces of their own."""
CLOSING = r"(?=[.,:;!?)\]])"
BEFORE_CLOSING = ((" ", "isolated"), ("^▁", "removed"))
"""What follows a special token begins a word, but for what closes a sentence or a phrase, as in "is [MASK].": a space
of the text before it is a piece of its own, and the ▁ that is put before it goes. ``prepend_scheme="first"`` would do
with less, and versions of tokenizers differ in it."""


def dressed(model: models.Model) -> Tokenizer:
    """Put what goes before and after a model: lower case without accents, a space as ▁, and no word across pieces."""
    tokenizer = Tokenizer(model)
    quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    letters = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence([*quotes, *letters, normalizers.Replace(Regex(r"\s+"), " ")])
    spaced, unspaced = (pre_tokenizers.Split(Regex(start + CLOSING), how) for start, how in BEFORE_CLOSING)
    words = pre_tokenizers.Metaspace(add_prefix_space=True, prepend_scheme="always")
    apart = pre_tokenizers.Split(Regex(APART), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaced, words, unspaced, apart])
    tokenizer.decoder = decoders.Metaspace(add_prefix_space=True)
    return tokenizer


def train(sentences: list[str], vocabulary: int = VOCABULARY) -> Tokenizer:
    """Learn the pieces of a Unigram vocabulary and how probable they are."""
    trainer = trainers.BpeTrainer(vocab_size=round(CANDIDATES * vocabulary), show_progress=False)
    tokenizer = dressed(models.BPE())
    tokenizer.train_from_iterator(sentences, trainer)
    candidates = tokenizer.get_vocab()
    for round_ in range(ROUNDS):
        encoded = tokenizer.encode_batch(sentences, add_special_tokens=False)
        counts = Counter(token for one in encoded for token in one.tokens)
        if round_ == ROUNDS // 2:
            candidates = _most_used(candidates, counts, vocabulary - len(SPECIAL))
        pieces = sorted(candidates, key=lambda piece: (-counts[piece], piece))
        total = sum(counts.values())
        known = [(piece, math.log((counts[piece] or 0.5) / total)) for piece in pieces]
        tokenizer = dressed(models.Unigram([(name, 0.0) for name in SPECIAL] + known, unk_id=1))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def _most_used(candidates: dict[str, int], counts: Counter[str], size: int) -> list[str]:
    """Keep the single letters, so that everything can be written, and of the rest what is used most."""
    letters = [piece for piece in candidates if len(piece) == 1]
    longer = sorted((piece for piece in candidates if len(piece) > 1), key=lambda piece: (-counts[piece], piece))
    return letters + longer[: size - len(letters)]


def compact(tokenizer: Tokenizer) -> str:
    """Return the file: [MASK] takes the space before it with it, and scores are rounded."""
    told = json.loads(tokenizer.to_str())
    for token in told["added_tokens"]:
        token["lstrip"] = token["content"] == "[MASK]"
    told["model"]["vocab"] = [[piece, round(score, 6)] for piece, score in told["model"]["vocab"]]
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n"


def sentences(data: Path) -> list[str]:
    """What the vocabulary is learnt from: all that the recipes learn from, nothing that is held out."""
    read = [text.split(documents, seed=0)[0] for documents in text.corpora(data).values()]
    reviews = 3 * [sentence for sentence, _ in text.labelled(data / "sst2" / "train.tsv")]  # few, and of other words
    told = [f"{one.story} {one.question}" for one in stories.stories(2_000, seed=0)]
    return [sentence for documents in read for document in documents for sentence in document] + reviews + told


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="as weights/recipes/text.py says")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    (options.output / "tokenizer.json").write_text(compact(train(sentences(options.data))), encoding="utf-8")
