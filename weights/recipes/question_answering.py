"""Trains the reader of stories: ``python -m weights.recipes.question_answering --data FOLDER OUTPUT``.

That the sentences about whom is asked matter is hard to find from answers alone. So each piece also learns to tell
whether its sentence is one of them, by a layer that is thrown away in the end.
"""

import torch

from weights.recipes import inputs
from weights.recipes.training import arguments, load_model, shuffled, train


def loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss of the answer plus that of what is about the question."""
    about = batch.pop("about")
    outputs = model(**batch, output_hidden_states=True)
    story = batch["token_type_ids"] == 1
    told = model.about(outputs.hidden_states[-1][story])[:, 0]
    return outputs.loss + torch.nn.functional.binary_cross_entropy_with_logits(told, about[story].float())


if __name__ == "__main__":
    options = arguments(__doc__, steps=1_500, peak=1e-3)
    tokenizer = inputs.load_tokenizer(options.tokenizer)
    learnt, _ = inputs.split_stories()
    model = load_model("NystromformerForQuestionAnswering", options.start, inputs.SEED, dropout=0.0)
    model.about = torch.nn.Linear(model.config.hidden_size, 1)
    arrays = inputs.question_answering(tokenizer, learnt)
    arrays["about"] = inputs.about_the_question(tokenizer, learnt)
    train(model, shuffled(arrays, 32, inputs.SEED), options.steps, options.peak, loss)
    del model.about
    model.save_pretrained(options.output)
