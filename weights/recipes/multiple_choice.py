"""Trains the chooser of answers about stories: ``python -m weights.recipes.multiple_choice --data FOLDER OUTPUT``.

It begins with the body of the question answering model, which has learnt where in a story to look.
"""

from weights.recipes import inputs
from weights.recipes.training import arguments, load_model, own_loss, shuffled, train

if __name__ == "__main__":
    options = arguments(__doc__, steps=2_000, peak=1e-3, start="weights/question-answering")
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    learnt, _ = inputs.split_stories()
    model = load_model("NystromformerForMultipleChoice", options.start, inputs.SEED, dropout=0.0)
    batches = shuffled(inputs.multiple_choice(tokenizer, learnt), 16, inputs.SEED)
    train(model, batches, options.steps, options.peak, own_loss)
    model.save_pretrained(options.output)
