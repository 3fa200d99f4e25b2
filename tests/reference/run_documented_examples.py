"""The examples of the reference's documentation, run with the reference, on the checkpoints in ``tests/checkpoints``.

Inside the reference's environment: ``python run_documented_examples.py WEIGHTS``. Prints the values that
``tests/test_documented_examples.py`` holds this package's to, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer


def load(checkpoints: Path, head: str, folder: str, **changes) -> tuple:
    """Return tokenizer and model, in float64."""
    path = checkpoints / folder
    model = getattr(transformers, head).from_pretrained(path, torch_dtype=torch.float64, **changes)
    return AutoTokenizer.from_pretrained(path), model.eval()


def base_model(checkpoints: Path) -> dict:
    tokenizer, model = load(checkpoints, "NystromformerModel", "masked-lm-dense")
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    return {"input_ids": inputs.input_ids, "last_hidden_state": model(**inputs).last_hidden_state}


def masked_lm(checkpoints: Path) -> dict:
    tokenizer, model = load(checkpoints, "NystromformerForMaskedLM", "masked-lm-dense")
    inputs = tokenizer("The capital of France is [MASK].", return_tensors="pt")
    logits = model(**inputs).logits
    mask_token_index = (inputs.input_ids == tokenizer.mask_token_id)[0].nonzero(as_tuple=True)[0]
    predicted_token_id = logits[0, mask_token_index].argmax(axis=-1)
    labels = tokenizer("The capital of France is Paris.", return_tensors="pt")["input_ids"]
    labels = torch.where(inputs.input_ids == tokenizer.mask_token_id, labels, -100)
    return {
        "mask_token_index": mask_token_index,
        "mask_logits": logits[0, mask_token_index, :32],
        "predicted_token_id": predicted_token_id,
        "predicted": tokenizer.decode(predicted_token_id),
        "labels": labels,
        "loss": model(**inputs, labels=labels).loss,
    }


def single_label(checkpoints: Path) -> dict:
    tokenizer, model = load(checkpoints, "NystromformerForSequenceClassification", "sequence-classification-dense")
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    logits = model(**inputs).logits
    predicted_class_id = logits.argmax().item()
    return {
        "logits": logits,
        "predicted_class_id": predicted_class_id,
        "label": model.config.id2label[predicted_class_id],
        "loss": model(**inputs, labels=torch.tensor([1])).loss,
    }


def multi_label(checkpoints: Path) -> dict:
    kind = {"problem_type": "multi_label_classification"}
    head, folder = "NystromformerForSequenceClassification", "sequence-classification-dense"
    tokenizer, model = load(checkpoints, head, folder, **kind)
    inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
    logits = model(**inputs).logits
    predicted_class_ids = torch.arange(0, logits.shape[-1])[torch.sigmoid(logits).squeeze(dim=0) > 0.5]
    num_labels = len(model.config.id2label)
    _, model = load(checkpoints, head, folder, num_labels=num_labels, **kind)
    one_hot = torch.nn.functional.one_hot(predicted_class_ids[None, :].clone(), num_classes=num_labels)
    labels = torch.sum(one_hot, dim=1).to(logits.dtype)  # float32 labels would make a float32 loss
    return {
        "predicted_class_ids": predicted_class_ids,
        "labels": labels,
        "loss": model(**inputs, labels=labels).loss,
    }


def multiple_choice(checkpoints: Path) -> dict:
    tokenizer, model = load(checkpoints, "NystromformerForMultipleChoice", "multiple-choice-dense")
    prompt = "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced."
    choice0 = "It is eaten with a fork and a knife."
    choice1 = "It is eaten while held in the hand."
    labels = torch.tensor(0).unsqueeze(0)
    encoding = tokenizer([prompt, prompt], [choice0, choice1], return_tensors="pt", padding=True)
    outputs = model(**{k: v.unsqueeze(0) for k, v in encoding.items()}, labels=labels)
    return {"loss": outputs.loss, "logits": outputs.logits}


def token_classification(checkpoints: Path) -> dict:
    tokenizer, model = load(checkpoints, "NystromformerForTokenClassification", "token-classification-dense")
    text = "HuggingFace is a company based in Paris and New York"
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    logits = model(**inputs).logits
    predicted_token_class_ids = logits.argmax(-1)
    classes = [model.config.id2label[t.item()] for t in predicted_token_class_ids[0]]
    loss = model(**inputs, labels=predicted_token_class_ids).loss
    return {"logits": logits, "classes": classes, "loss": loss}


def question_answering(checkpoints: Path) -> dict:
    tokenizer, model = load(checkpoints, "NystromformerForQuestionAnswering", "question-answering-dense")
    question, text = "Who was Jim Henson?", "Jim Henson was a nice puppet"
    inputs = tokenizer(question, text, return_tensors="pt")
    outputs = model(**inputs)
    answer_start_index = outputs.start_logits.argmax()
    answer_end_index = outputs.end_logits.argmax()
    predict_answer_tokens = inputs.input_ids[0, answer_start_index : answer_end_index + 1]
    target = {"start_positions": torch.tensor([14]), "end_positions": torch.tensor([15])}
    return {
        "start_logits": outputs.start_logits,
        "end_logits": outputs.end_logits,
        "answer_start_index": answer_start_index,
        "answer_end_index": answer_end_index,
        "predict_answer_tokens": predict_answer_tokens,
        "loss": model(**inputs, **target).loss,
    }


EXAMPLES = (
    base_model,
    masked_lm,
    single_label,
    multi_label,
    multiple_choice,
    token_classification,
    question_answering,
)


def main(checkpoints: Path) -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    with torch.no_grad():
        answered = {example.__name__: example(checkpoints) for example in EXAMPLES}
    print(json.dumps(answered, indent=1, default=torch.Tensor.tolist))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
