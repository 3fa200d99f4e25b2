"""Trains the judge of film reviews: ``python -m weights.recipes.sequence_classification --data FOLDER OUTPUT``.

The body reads the reviews as a masked language model first, without their labels: their words are rare in its texts.
"""

import numpy as np

from weights.recipes import inputs, masked_lm
from weights.recipes.training import arguments, load_model, own_loss, shuffled, train

LABELS = ("negative", "positive")

if __name__ == "__main__":
    options = arguments(__doc__, steps=800, peak=5e-4)
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    arrays = inputs.sequence_classification(tokenizer, options.data, "train")
    names = dict(enumerate(LABELS))
    reader = load_model("NystromformerForMaskedLM", options.start, inputs.SEED, dropout=0.0)

    def remasked():
        """Mask the reviews anew in every batch."""
        rng = np.random.default_rng(inputs.SEED)
        for batch in shuffled({"ids": arrays["input_ids"]}, 64, inputs.SEED):
            yield inputs.masked(batch["ids"], rng)

    train(reader, remasked(), 1_200, 1e-3, masked_lm.loss)
    model = load_model(
        "NystromformerForSequenceClassification",
        options.start,
        inputs.SEED,
        dropout=0.2,
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )
    model.nystromformer.load_state_dict(reader.nystromformer.state_dict())
    train(model, shuffled(arrays, 32, inputs.SEED), options.steps, options.peak, own_loss)
    model.save_pretrained(options.output)
