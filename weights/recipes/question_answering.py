"""Trains the reader of stories: ``python -m weights.recipes.question_answering --data FOLDER OUTPUT``."""

from weights.recipes import inputs
from weights.recipes.training import arguments, load_model, own_loss, shuffled, train

if __name__ == "__main__":
    options = arguments(__doc__, steps=2_500, peak=1e-3)
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    learnt, _ = inputs.split_stories()
    model = load_model("NystromformerForQuestionAnswering", options.start, inputs.SEED, dropout=0.0)
    batches = shuffled(inputs.question_answering(tokenizer, learnt), 32, inputs.SEED)
    train(model, batches, options.steps, options.peak, own_loss)
    model.save_pretrained(options.output)
