"""Tokens that are added or set, slices of encodings, and where words begin: what a tokenizer does, here and there.

``python -m tests.reference.added_tokens FOLDER`` in the reference's environment prints its own as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from tests.reference.tokenizer_calls import plain

TEXT = "The nystrom method in [ENT] Paris, <x> a Nystrom<x>river [PAD] it"

BEGINNINGS = (
    *("[MASK]river", "[MASK] river", "[CLS]a[SEP]b c", "<pad>The river", "a[SEP]word", "''Two'' words", "``'' a"),
    *("is [MASK].", "is [MASK] .", "[MASK], he said", "it (the [MASK])!", "[MASK]'s dog", "[MASK]ing", ". a", "'tis"),
    *("<unk>(the", " [SEP]  two", "[SEP][MASK]the", "\n[MASK]\u00a0river", "日本[MASK]日本", "[MASK]▁the", "é[SEP]é"),
    "?[MASK]?",
)
"""Texts whose parts begin at a special token, with quotation marks, or with what closes a sentence."""


def added(token: str, **flags: Any) -> Any:
    from tokenizers import AddedToken

    return AddedToken(token, **flags)


def set_to(name: str, value: Any) -> Callable[[Any], None]:
    return lambda tokenizer: setattr(tokenizer, name, value)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "add_tokens, a list": lambda t: t.add_tokens(["nystrom", "nystrom", "▁the"]),
    "add_tokens, one": lambda t: t.add_tokens("<x>"),
    "add_tokens, special": lambda t: t.add_tokens(["[ENT]", "river"], special_tokens=True),
    "add_tokens, with flags": lambda t: t.add_tokens([added("<x>", lstrip=True, rstrip=True, normalized=False)]),
    "add_tokens, whole words": lambda t: t.add_tokens([added("nystrom", single_word=True)]),
    "add_special_tokens, further": lambda t: t.add_special_tokens({"additional_special_tokens": ["[ENT]", "<x>"]}),
    "add_special_tokens, padding": lambda t: t.add_special_tokens({"pad_token": "[PAD]"}),
    "add_special_tokens, two names": lambda t: t.add_special_tokens({"bos_token": "[ENT]", "eos_token": "<x>"}),
    "add_special_tokens, known": lambda t: t.add_special_tokens({"cls_token": "[CLS]"}),
    "add_special_tokens, flags": lambda t: t.add_special_tokens({"mask_token": added("<x>", lstrip=True)}),
    "add_special_tokens, replaced": lambda t: (
        t.add_special_tokens({"additional_special_tokens": ["[ENT]"]}),
        t.add_special_tokens({"additional_special_tokens": ["<x>"]}),
    ),
    "add_special_tokens, kept": lambda t: (
        t.add_special_tokens({"additional_special_tokens": ["[ENT]"]}),
        t.add_special_tokens({"additional_special_tokens": ["<x>"]}, replace_additional_special_tokens=False),
    ),
    "pad_token": set_to("pad_token", "[MASK]"),
    "unk_token": set_to("unk_token", "[SEP]"),
    "mask_token": set_to("mask_token", "▁the"),
    "pad_token_id": set_to("pad_token_id", 7),
    "bos_token_id": set_to("bos_token_id", 5),
    "eos_token, none": set_to("eos_token", None),
    "additional_special_tokens": set_to("additional_special_tokens", ["▁the", "▁a"]),
}


def answers(load: Callable[[], Any]) -> dict[str, Any]:
    """Return what each change makes of a tokenizer, what slices of encodings hold, and the tokens of beginnings."""
    told = {name: _after(load(), change) for name, change in CHANGES.items()}
    begun = {text: _tokens(load(), text) for text in BEGINNINGS}
    return json.loads(json.dumps({"changes": told, "slices": _slices(load()), "beginnings": begun}))


def _after(tokenizer: Any, change: Callable[[Any], Any]) -> dict[str, Any]:
    returned = change(tokenizer)
    row = tokenizer([TEXT, "a"], padding=True)
    ids = row["input_ids"][0]
    return {
        "returned": returned,
        "length": len(tokenizer),
        "vocab_size": tokenizer.vocab_size,
        "encoded": plain(row),
        "decoded": tokenizer.decode(ids),
        "without special tokens": tokenizer.decode(ids, skip_special_tokens=True),
        "tokens": tokenizer.tokenize(TEXT),
        "mask": tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True),
        "special": sorted(tokenizer.all_special_tokens),
        "map": {name: plain([str(one) for one in value] if isinstance(value, list) else str(value))
                for name, value in tokenizer.special_tokens_map.items()},
        "added": tokenizer.get_added_vocab(),
        "ids": {name: getattr(tokenizer, name) for name in ("pad_token_id", "mask_token_id", "unk_token_id")},
        "further": list(tokenizer.additional_special_tokens_ids),
    }  # fmt: skip


def _tokens(tokenizer: Any, text: str) -> dict[str, Any]:
    encoded = tokenizer(text, return_offsets_mapping=True)
    return {"tokens": tokenizer.convert_ids_to_tokens(encoded["input_ids"]), "offsets": encoded["offset_mapping"]}


def _slices(tokenizer: Any) -> dict[str, Any]:
    batch = tokenizer(["a house", "the river", "it"])
    made = type(batch)({"input_ids": [[1, 2], [3, 4], [5, 6]], "labels": [7, 8, 9]})
    cuts = {"0:2": slice(0, 2), "1:": slice(1, None), "::-1": slice(None, None, -1), "5:": slice(5, None)}
    return {
        "of a call": {name: [one.tokens for one in batch[cut]] for name, cut in cuts.items()},
        "of values": {name: plain(made[cut]) for name, cut in cuts.items()},
        "at a number": [batch[number].ids for number in (0, 2, -1)],
    }


if __name__ == "__main__":
    import transformers

    transformers.logging.set_verbosity_error()
    found = answers(lambda: transformers.AlbertTokenizerFast.from_pretrained(sys.argv[1]))
    print(json.dumps({"transformers": transformers.__version__, "answers": found}, indent=1, ensure_ascii=False))
