"""The five task guides of transformers' documentation, from preprocessing to inference, on the test checkpoints.

Each function is a guide's code for the library that it is given: nystrom_np, or in the reference's environment
transformers itself (``python -m tests.reference.guides CHECKPOINTS``), with the checkpoint's name, the data and the
kind of tensors in place of the guide's own. Training is left out.
"""

from __future__ import annotations

import json
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np


def array(value: Any) -> np.ndarray:
    """Return a tensor of either library as an array."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


def text_classification(library: Any, checkpoints: Path, tensors: str) -> dict[str, Any]:
    folder = str(checkpoints / "sequence-classification-dense")
    examples = {"text": ["A film full of life, and of people.", "dull " * 80], "label": [1, 0]}
    text = "This was a masterpiece, and the river ran through it."

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    tokenized = tokenizer(examples["text"], truncation=True)
    data_collator = library.DataCollatorWithPadding(tokenizer=tokenizer, return_tensors=tensors)
    rows = [{"input_ids": tokenized["input_ids"][i], "label": examples["label"][i]} for i in range(2)]
    batch = data_collator(rows)

    id2label = {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"}
    label2id = {"NEGATIVE": 0, "NEUTRAL": 1, "POSITIVE": 2}
    model = library.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, id2label=id2label, label2id=label2id
    ).double()

    classifier = library.pipeline("sentiment-analysis", model=folder)
    inputs = tokenizer(text, return_tensors=tensors)
    logits = model(**inputs).logits
    predicted_class_id = logits.argmax().item()
    return {
        "input_ids": [list(ids) for ids in tokenized["input_ids"]],
        "batch": {name: array(batch[name]) for name in ("input_ids", "attention_mask", "labels")},
        "loss": model(**batch).loss,
        "classifier": classifier(text),
        "logits": logits,
        "predicted": model.config.id2label[predicted_class_id],
    }


def token_classification(library: Any, checkpoints: Path, tensors: str) -> dict[str, Any]:
    folder = str(checkpoints / "token-classification-dense")
    examples = {
        "tokens": [["@paulwalk", "It", "'s", "the", "view"], ["Empire", "State", "Building"]],
        "ner_tags": [[1, 0, 0, 0, 0], [5, 6, 6]],
    }
    text = "The Golden State Warriors are a team based in San Francisco."

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    tokenized_input = tokenizer(examples["tokens"][0], is_split_into_words=True)
    tokens = tokenizer.convert_ids_to_tokens(tokenized_input["input_ids"])
    tokenized_inputs = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    labels = []
    for i, label in enumerate(examples["ner_tags"]):
        previous_word_idx = None
        label_ids = []
        for word_idx in tokenized_inputs.word_ids(batch_index=i):
            if word_idx is None or word_idx == previous_word_idx:
                label_ids.append(-100)
            else:
                label_ids.append(label[word_idx])
            previous_word_idx = word_idx
        labels.append(label_ids)
    tokenized_inputs["labels"] = labels
    data_collator = library.DataCollatorForTokenClassification(tokenizer=tokenizer, return_tensors=tensors)
    rows = [{name: values[i] for name, values in tokenized_inputs.items()} for i in range(2)]
    batch = data_collator(rows)

    model = library.AutoModelForTokenClassification.from_pretrained(folder, num_labels=7).double()
    classifier = library.pipeline("ner", model=folder)
    inputs = tokenizer(text, return_tensors=tensors)
    logits = model(**inputs).logits
    predictions = array(logits).argmax(axis=2)
    return {
        "tokens": tokens,
        "labels": labels,
        "batch": {name: array(values) for name, values in batch.items()},
        "loss": model(**batch).loss,
        "classifier": classifier(text),
        "predicted": [model.config.id2label[t.item()] for t in predictions[0]],
        "logits": logits,
    }


def question_answering(library: Any, checkpoints: Path, tensors: str) -> dict[str, Any]:
    folder = str(checkpoints / "question-answering-dense")
    examples = {
        "question": [" Where is the football? ", "Who went to the office?"],
        "context": ["Daniel got the football. Daniel went to the bedroom.", "Sandra went to the office. " * 12],
        "answers": [{"answer_start": [43], "text": ["bedroom"]}, {"answer_start": [270], "text": ["Sandra"]}],
    }
    question, context = (
        "How many languages does it support?",
        "It has 176 parameters and can generate text in 46 languages.",
    )

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    questions = [q.strip() for q in examples["question"]]
    inputs = tokenizer(
        questions,
        examples["context"],
        max_length=48,
        truncation="only_second",
        return_offsets_mapping=True,
        padding="max_length",
    )
    offset_mapping = inputs.pop("offset_mapping")
    starts, ends = [], []
    for i, offset in enumerate(offset_mapping):
        answer = examples["answers"][i]
        start_char = answer["answer_start"][0]
        end_char = answer["answer_start"][0] + len(answer["text"][0])
        sequence_ids = inputs.sequence_ids(i)
        idx = 0
        while sequence_ids[idx] != 1:
            idx += 1
        context_start = idx
        while sequence_ids[idx] == 1:
            idx += 1
        context_end = idx - 1
        if offset[context_start][0] > end_char or offset[context_end][1] < start_char:
            starts.append(0)
            ends.append(0)
            continue
        idx = context_start
        while idx <= context_end and offset[idx][0] <= start_char:
            idx += 1
        starts.append(idx - 1)
        idx = context_end
        while idx >= context_start and offset[idx][1] >= end_char:
            idx -= 1
        ends.append(idx + 1)
    inputs["start_positions"], inputs["end_positions"] = starts, ends

    model = library.AutoModelForQuestionAnswering.from_pretrained(folder).double()
    question_answerer = library.pipeline("question-answering", model=folder)
    answer = question_answerer(question=question, context=context)
    encoded = tokenizer(question, context, return_tensors=tensors)
    outputs = model(**encoded)
    answer_start_index = outputs.start_logits.argmax()
    answer_end_index = outputs.end_logits.argmax()
    predict_answer_tokens = encoded.input_ids[0, answer_start_index : answer_end_index + 1]
    return {
        "inputs": dict(inputs),
        "answer": answer,
        "start_logits": outputs.start_logits,
        "end_logits": outputs.end_logits,
        "decoded": tokenizer.decode(predict_answer_tokens),
    }


def masked_language_modeling(library: Any, checkpoints: Path, tensors: str) -> dict[str, Any]:
    folder = str(checkpoints / "masked-lm-dense")
    answers = [["The Milky Way is a [MASK] galaxy.", "It is large."], ["A river runs through town. " * 3]]
    text = "The Milky Way is a [MASK] galaxy."

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    tokenized = tokenizer([" ".join(x) for x in answers])
    block_size = 8
    concatenated = {k: list(chain(*tokenized[k])) for k in tokenized.keys()}  # noqa: SIM118
    total_length = len(concatenated["input_ids"]) // block_size * block_size
    grouped = {k: [t[i : i + block_size] for i in range(0, total_length, block_size)] for k, t in concatenated.items()}
    tokenizer.pad_token = tokenizer.eos_token
    np.random.seed(0)  # noqa: NPY002
    data_collator = library.DataCollatorForLanguageModeling(
        tokenizer=tokenizer, mlm_probability=0.15, return_tensors=tensors
    )
    batch = data_collator([{"input_ids": ids} for ids in grouped["input_ids"]])

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    model = library.AutoModelForMaskedLM.from_pretrained(folder).double()
    mask_filler = library.pipeline("fill-mask", folder)
    inputs = tokenizer(text, return_tensors=tensors)
    mask_token_index = np.where(array(inputs["input_ids"]) == tokenizer.mask_token_id)[1]
    mask_token_logits = array(model(**inputs).logits)[0, mask_token_index, :]
    top_3_tokens = np.argsort(-mask_token_logits[0], kind="stable")[:3].tolist()
    return {
        "grouped": grouped,
        "batch_shape": list(batch["input_ids"].shape),
        "pad_token": [tokenizer.pad_token, tokenizer.eos_token],
        "mask_filler": mask_filler(text, top_k=3),
        "logits": mask_token_logits,
        "replaced": [text.replace(tokenizer.mask_token, tokenizer.decode([token])) for token in top_3_tokens],
    }


def multiple_choice(library: Any, checkpoints: Path, tensors: str) -> dict[str, Any]:
    folder = str(checkpoints / "multiple-choice-dense")
    examples = {
        "sent1": ["Members of the procession walk down the street.", "A drum line passes by."],
        "sent2": ["A drum line", "They"],
        "endings": [
            ["passes by.", "walks.", "is seen by all.", "turns."],
            ["play.", "stop.", "arrive.", "sing a song."],
        ],
        "label": [0, 2],
    }
    prompt, candidates = (
        "France has a bread law.",
        ["The law does not apply to croissants.", "The law applies to baguettes."],
    )

    tokenizer = library.AutoTokenizer.from_pretrained(folder)
    first_sentences = list(chain(*[[context] * 4 for context in examples["sent1"]]))
    second_sentences = list(
        chain(*[[f"{header} {end}" for end in examples["endings"][i]] for i, header in enumerate(examples["sent2"])])
    )
    tokenized = tokenizer(first_sentences, second_sentences, truncation=True)
    examples = {k: [v[i : i + 4] for i in range(0, len(v), 4)] for k, v in tokenized.items()}
    features = [{k: v[i] for k, v in examples.items()} for i in range(2)]
    flattened = [[{k: v[i] for k, v in feature.items()} for i in range(4)] for feature in features]
    batch = tokenizer.pad(list(chain(*flattened)), padding=True, max_length=None, return_tensors=tensors)
    batch = {k: v.reshape(2, 4, -1) for k, v in batch.items()}

    model = library.AutoModelForMultipleChoice.from_pretrained(folder).double()
    inputs = tokenizer([[prompt, candidate] for candidate in candidates], return_tensors=tensors, padding=True)
    outputs = model(**{k: v[None] for k, v in inputs.items()})
    predicted_class = outputs.logits.argmax().item()
    return {
        "batch": {name: array(values) for name, values in batch.items()},
        "batch_logits": model(**batch).logits,
        "logits": outputs.logits,
        "predicted": predicted_class,
    }


GUIDES = (text_classification, token_classification, question_answering, masked_language_modeling, multiple_choice)


def told(value: Any) -> Any:
    """Return an answer as JSON has it."""
    if isinstance(value, dict):
        return {str(name): told(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [told(item) for item in value]
    return value if isinstance(value, (str, int, float, type(None))) else array(value).tolist()


def answers(library: Any, checkpoints: Path, tensors: str) -> dict[str, Any]:
    """Run all guides."""
    return {guide.__name__: told(guide(library, checkpoints, tensors)) for guide in GUIDES}


if __name__ == "__main__":
    import torch
    import transformers

    with torch.no_grad():
        print(json.dumps(answers(transformers, Path(sys.argv[1]), "pt")))
