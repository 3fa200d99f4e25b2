"""Batches that data collators make here and in the reference's environment, and what is in them.

``python -m tests.reference.collator_cases FOLDER`` in the reference's environment prints its own as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from tests.reference.tokenizer_calls import plain

TEXTS = ("The river runs through the town.", "A house.", "What a wonderful film, full of life, and so long a one.")
SETTINGS = (
    *({}, {"pad_to_multiple_of": 8}, {"padding": "max_length", "max_length": 24}),
    *({"padding": "longest", "pad_to_multiple_of": 5}, {"max_length": 4}),
)
MASKING = (
    *({}, {"mlm_probability": 0.5}, {"mlm_probability": 1.0, "pad_to_multiple_of": 8}),
    *({"mlm": False}, {"mlm": False, "pad_to_multiple_of": 4}),
)


def batches(tokenizer: Any, collators: Any) -> dict[str, Any]:
    """Return what the collators make of the texts, by a name for each case."""
    found = {}
    for side in ("right", "left"):
        tokenizer.padding_side = side
        encoded = [tokenizer(text) for text in TEXTS]
        for number, options in enumerate(SETTINGS):
            for label, values in (("label", (0, 1, 0)), ("label_ids", (2, 0, 1)), ("labels", (0.5, 1.5, -1.0))):
                collate = collators.DataCollatorWithPadding(tokenizer, return_tensors="np", **options)
                found[f"padding {side} {number} {label}"] = collate(_with(encoded, label, values))
            collate = collators.DataCollatorForTokenClassification(tokenizer, return_tensors="np", **options)
            labels = [[index % 5 for index in range(len(one["input_ids"]))] for one in encoded]
            found[f"tokens {side} {number}"] = collate(_with(encoded, "labels", labels))
            found[f"tokens {side} {number} without labels"] = collate(_with(encoded, "token_type_ids", [[0]] * 3, True))
        for number, options in enumerate(MASKING):
            masks = [tokenizer(text, return_special_tokens_mask=True) for text in TEXTS]
            for name, rows in (
                ("encodings", encoded),
                ("masks", masks),
                ("ids", [one["input_ids"] for one in encoded]),
            ):
                np.random.seed(number)  # noqa: NPY002 (from which the reference draws)
                collate = collators.DataCollatorForLanguageModeling(tokenizer, return_tensors="np", **options)
                found[f"language {side} {number} {name}"] = collate([_copy(row) for row in rows])
    return {name: plain(batch) for name, batch in found.items()}


def _copy(row: Any) -> Any:
    return list(row) if isinstance(row, list) else dict(row)


def _with(encoded: list[Any], name: str, values: Any, is_left_out: bool = False) -> list[dict[str, Any]]:
    """Return encodings with a value more, or without it."""
    if is_left_out:
        return [{key: value for key, value in one.items() if key != name} for one in encoded]
    return [{**one, name: value} for one, value in zip(encoded, values, strict=True)]


if __name__ == "__main__":
    import transformers

    transformers.logging.set_verbosity_error()
    answered = batches(transformers.AlbertTokenizerFast.from_pretrained(sys.argv[1]), transformers)
    print(json.dumps({"transformers": transformers.__version__, "answers": answered}))
