"""Trains the masked language model: ``python -m weights.recipes.masked_lm --data FOLDER --tokenizer FOLDER OUTPUT``."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch

from weights.recipes import inputs, text
from weights.recipes.training import arguments, new_model, train

BATCH = 64


def batches(documents: list[list[list[int]]], seed: int) -> Iterator[inputs.Arrays]:
    """Endless batches of masked inputs, cut and masked anew in each round."""
    order, rng = random.Random(seed), np.random.default_rng(seed)
    while True:
        rows = inputs.windows(documents, order)
        order.shuffle(rows)
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            yield inputs.masked(np.array(rows[start : start + BATCH]), rng)


def loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy at the masked positions; the scores of others are not computed."""
    hidden = model.nystromformer(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    chosen = batch["labels"] != inputs.IGNORED
    return torch.nn.functional.cross_entropy(model.cls(hidden[chosen]), batch["labels"][chosen])


if __name__ == "__main__":
    options = arguments(__doc__, steps=7_000, peak=2e-3)
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    learnt = [
        document
        for documents in text.corpora(options.data).values()
        for document in inputs.pieces(tokenizer, text.split(documents, inputs.SEED)[0])
    ]
    model = new_model("NystromformerForMaskedLM", inputs.SEED, vocab_size=tokenizer.get_vocab_size())
    train(model, batches(learnt, inputs.SEED), options.steps, options.peak, loss)
    model.save_pretrained(options.output)
