"""Trains the part-of-speech tagger: ``python -m weights.recipes.token_classification --data FOLDER OUTPUT``."""

from weights.recipes import inputs
from weights.recipes.training import arguments, load_model, own_loss, shuffled, train

if __name__ == "__main__":
    options = arguments(__doc__, steps=2_000, peak=1e-3)
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    arrays = inputs.token_classification(tokenizer, options.data, "train")
    model = load_model("NystromformerForTokenClassification", options.start, inputs.SEED, 0.1, inputs.TAGS)
    train(model, shuffled(arrays, 32, inputs.SEED), options.steps, options.peak, own_loss)
    model.save_pretrained(options.output)
