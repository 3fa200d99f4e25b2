"""Trains the judge of film reviews: ``python -m weights.recipes.sequence_classification --data FOLDER OUTPUT``.

The body reads the reviews as a masked language model first, without their labels: their words are rare in its texts.
Then the head learns, with as many pieces masked, so that no single word decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from weights.recipes import inputs, masked_lm
from weights.recipes.training import arguments, load_model, own_loss, shuffled, train

LABELS = ("negative", "positive")


def unlabelled(arrays: inputs.Arrays) -> Iterator[inputs.Arrays]:
    """Endless batches of the reviews, masked anew in each: the labels are the masked pieces."""
    rng = np.random.default_rng(inputs.SEED)
    for batch in shuffled({"ids": arrays["input_ids"]}, 64, inputs.SEED):
        yield inputs.masked(batch["ids"], rng)


def labelled(arrays: inputs.Arrays) -> Iterator[inputs.Arrays]:
    """Endless batches of the reviews, masked anew in each: the labels are their own."""
    rng = np.random.default_rng(inputs.SEED)
    for batch in shuffled(arrays, 32, inputs.SEED):
        yield batch | {"input_ids": inputs.masked(batch["input_ids"], rng)["input_ids"]}


if __name__ == "__main__":
    options = arguments(__doc__, steps=1_600, peak=5e-4)
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    arrays = inputs.sequence_classification(tokenizer, options.data, "train")
    reader = load_model("NystromformerForMaskedLM", options.start, inputs.SEED, dropout=0.0)
    train(reader, unlabelled(arrays), 800, 1e-3, masked_lm.loss)
    model = load_model("NystromformerForSequenceClassification", options.start, inputs.SEED, 0.2, LABELS)
    model.nystromformer.load_state_dict(reader.nystromformer.state_dict())
    train(model, labelled(arrays), options.steps, options.peak, own_loss)
    model.save_pretrained(options.output)
