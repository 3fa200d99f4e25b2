"""Trains the chooser of answers about stories: ``python -m weights.recipes.multiple_choice --data FOLDER OUTPUT``.

It begins with the body of the question answering model. Which answer is right says little about why: so each piece
also learns what there is to know of it, by a layer that is thrown away in the end.
"""

import torch

from weights.recipes import inputs
from weights.recipes.training import arguments, load_model, shuffled, train


def loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss of the choice plus that of what each piece of the question and the story is."""
    hints = batch.pop("hints").flatten(0, 1)
    outputs = model(**batch, output_hidden_states=True)
    text = ((batch["token_type_ids"] == 0) & (batch["attention_mask"] == 1)).flatten(0, 1)
    told = model.hints(outputs.hidden_states[-1][text])
    return outputs.loss + 3 * torch.nn.functional.binary_cross_entropy_with_logits(told, hints[text].float())


if __name__ == "__main__":
    options = arguments(__doc__, steps=1_500, peak=1e-3, start="weights/question-answering")
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    learnt, _ = inputs.split_stories()
    model = load_model("NystromformerForMultipleChoice", options.start, inputs.SEED, dropout=0.0)
    model.hints = torch.nn.Linear(model.config.hidden_size, 3)
    arrays = inputs.multiple_choice(tokenizer, learnt)
    arrays["hints"] = inputs.hints(tokenizer, learnt)
    train(model, shuffled(arrays, 16, inputs.SEED), options.steps, options.peak, loss)
    del model.hints
    model.save_pretrained(options.output)
