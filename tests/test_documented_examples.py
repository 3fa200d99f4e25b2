"""The examples of the reference's documentation, with only the import and the tensor calls changed.

They run on the checkpoints in ``tests/checkpoints``, and every number is held to what transformers 4.37.2 computed from
the same text: see ``tests/reference/run_documented_examples.py``.
"""

import json

import numpy as np
import pytest

from nystrom_np import (
    NystromformerConfig,
    NystromformerForMaskedLM,
    NystromformerForMultipleChoice,
    NystromformerForQuestionAnswering,
    NystromformerForSequenceClassification,
    NystromformerForTokenClassification,
    NystromformerModel,
    NystromformerTokenizer,
)
from tests.reference.store import DOCUMENTED


@pytest.fixture(scope="module")
def told():
    return json.loads(DOCUMENTED.read_text())


def agree(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


def test_configuration():
    configuration = NystromformerConfig()

    # one of its twelve layers is enough here
    model = NystromformerModel(NystromformerConfig(num_hidden_layers=1))

    changed = model.config
    assert {**configuration.to_dict(), "num_hidden_layers": 1} == changed.to_dict()
    assert model(input_ids=[[0, 1, 2]]).last_hidden_state.shape == (1, 3, configuration.hidden_size)


def test_base_model(checkpoints, told):
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "masked-lm-dense")
    model = NystromformerModel.from_pretrained(checkpoints / "masked-lm-dense", dtype="float64")

    inputs = tokenizer("Hello, my dog is cute", return_tensors="np")
    outputs = model(**inputs)

    last_hidden_states = outputs.last_hidden_state
    assert inputs.input_ids.tolist() == told["base_model"]["input_ids"]
    agree(last_hidden_states, told["base_model"]["last_hidden_state"])


def test_masked_lm(checkpoints, told):
    told = told["masked_lm"]
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "masked-lm-dense")
    model = NystromformerForMaskedLM.from_pretrained(checkpoints / "masked-lm-dense", dtype="float64")

    inputs = tokenizer("The capital of France is [MASK].", return_tensors="np")

    logits = model(**inputs).logits

    # where the [MASK] is
    mask_token_index = (inputs.input_ids == tokenizer.mask_token_id)[0].nonzero()[0]

    predicted_token_id = logits[0, mask_token_index].argmax(axis=-1)

    labels = tokenizer("The capital of France is Paris.", return_tensors="np")["input_ids"]
    # only the [MASK] has a label
    labels = np.where(inputs.input_ids == tokenizer.mask_token_id, labels, -100)

    outputs = model(**inputs, labels=labels)

    assert mask_token_index.tolist() == told["mask_token_index"]
    agree(logits[0, mask_token_index, :32], told["mask_logits"])
    assert predicted_token_id.tolist() == told["predicted_token_id"]
    assert tokenizer.decode(predicted_token_id) == told["predicted"]
    assert labels.tolist() == told["labels"]
    assert tokenizer.decode(labels[labels != -100]) == "paris"
    agree(outputs.loss, told["loss"])


def test_single_label_classification(checkpoints, told):
    told = told["single_label"]
    folder = checkpoints / "sequence-classification-dense"
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    model = NystromformerForSequenceClassification.from_pretrained(folder, dtype="float64")

    inputs = tokenizer("Hello, my dog is cute", return_tensors="np")

    logits = model(**inputs).logits

    predicted_class_id = logits.argmax().item()

    # the number of labels may be given at load, if it is what the file has
    num_labels = len(model.config.id2label)
    model = NystromformerForSequenceClassification.from_pretrained(folder, num_labels=num_labels, dtype="float64")

    labels = np.array([1])
    loss = model(**inputs, labels=labels).loss

    agree(logits, told["logits"])
    assert predicted_class_id == told["predicted_class_id"]
    assert model.config.id2label[predicted_class_id] == told["label"]
    agree(loss, told["loss"])


def test_multi_label_classification(checkpoints, told):
    told = told["multi_label"]
    folder = checkpoints / "sequence-classification-dense"
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    model = NystromformerForSequenceClassification.from_pretrained(
        folder, problem_type="multi_label_classification", dtype="float64"
    )

    inputs = tokenizer("Hello, my dog is cute", return_tensors="np")

    logits = model(**inputs).logits

    predicted_class_ids = np.arange(0, logits.shape[-1])[(1 / (1 + np.exp(-logits))).squeeze(axis=0) > 0.5]

    # the number of labels may be given at load, if it is what the file has
    num_labels = len(model.config.id2label)
    model = NystromformerForSequenceClassification.from_pretrained(
        folder, num_labels=num_labels, problem_type="multi_label_classification", dtype="float64"
    )

    labels = np.sum(np.eye(num_labels)[predicted_class_ids[None, :].copy()], axis=1).astype(float)
    loss = model(**inputs, labels=labels).loss

    assert predicted_class_ids.tolist() == told["predicted_class_ids"]
    assert labels.tolist() == told["labels"]
    agree(loss, told["loss"])


def test_multiple_choice(checkpoints, told):
    told = told["multiple_choice"]
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "multiple-choice-dense")
    model = NystromformerForMultipleChoice.from_pretrained(checkpoints / "multiple-choice-dense", dtype="float64")

    prompt = "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced."
    choice0 = "It is eaten with a fork and a knife."
    choice1 = "It is eaten while held in the hand."
    labels = np.expand_dims(np.array(0), 0)  # choice0, in a batch of one

    encoding = tokenizer([prompt, prompt], [choice0, choice1], return_tensors="np", padding=True)
    outputs = model(**{k: np.expand_dims(v, 0) for k, v in encoding.items()}, labels=labels)

    loss = outputs.loss
    logits = outputs.logits
    agree(loss, told["loss"])
    agree(logits, told["logits"])


def test_token_classification(checkpoints, told):
    told = told["token_classification"]
    folder = checkpoints / "token-classification-dense"
    tokenizer = NystromformerTokenizer.from_pretrained(folder)
    model = NystromformerForTokenClassification.from_pretrained(folder, dtype="float64")

    inputs = tokenizer(
        "HuggingFace is a company based in Paris and New York", add_special_tokens=False, return_tensors="np"
    )

    logits = model(**inputs).logits

    predicted_token_class_ids = logits.argmax(-1)

    # one class a token: a word may have several
    predicted_tokens_classes = [model.config.id2label[t.item()] for t in predicted_token_class_ids[0]]

    labels = predicted_token_class_ids
    loss = model(**inputs, labels=labels).loss

    agree(logits, told["logits"])
    assert predicted_tokens_classes == told["classes"]
    agree(loss, told["loss"])


def test_question_answering(checkpoints, told):
    told = told["question_answering"]
    tokenizer = NystromformerTokenizer.from_pretrained(checkpoints / "question-answering-dense")
    model = NystromformerForQuestionAnswering.from_pretrained(checkpoints / "question-answering-dense", dtype="float64")

    question, text = "Who was Jim Henson?", "Jim Henson was a nice puppet"

    inputs = tokenizer(question, text, return_tensors="np")
    outputs = model(**inputs)

    answer_start_index = outputs.start_logits.argmax()
    answer_end_index = outputs.end_logits.argmax()

    predict_answer_tokens = inputs.input_ids[0, answer_start_index : answer_end_index + 1]

    agree(outputs.start_logits, told["start_logits"])
    agree(outputs.end_logits, told["end_logits"])
    assert answer_start_index == told["answer_start_index"]
    assert answer_end_index == told["answer_end_index"]
    assert predict_answer_tokens.tolist() == told["predict_answer_tokens"]

    # where the answer is said to be
    target_start_index = np.array([14])
    target_end_index = np.array([15])

    outputs = model(**inputs, start_positions=target_start_index, end_positions=target_end_index)
    loss = outputs.loss
    agree(loss, told["loss"])
