"""Random calls of a tokenizer, which are the same here and in the reference's environment, and what they return."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass
from typing import Any

WORDS = (
    *("the", "The", "river", "Paris", "wonderful", "New York", "don't", "it's", "3,000", "café", "naïve", "ＦＵＬＬ"),
    *("[MASK]", "[CLS]", "[SEP]", "<pad>", "<unk>", "[mask]", " ", "  ", "\t", "\n", "…", ".", "!", " ?", ", ", "''"),
    *(
        "``quoted''",
        "日本",
        "👍",
        "👩‍👩‍👧",
        "\u0301",
        "\u00a0",
        "\u200b",
        "▁",
        "▁the",
        "ß",
        "İ",
        "1st",
        "co-operate",
        "a",
    ),
)
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 40)
PADDING = (True, False, "longest", "max_length", "do_not_pad")
TRUNCATION = (True, False, "longest_first", "only_first", "only_second", "do_not_truncate")
FLAGS = (
    *("return_token_type_ids", "return_attention_mask", "return_overflowing_tokens", "return_special_tokens_mask"),
    *("return_offsets_mapping", "return_length", "add_special_tokens", "verbose"),
)
SIDES = ("right", "left")


@dataclass(frozen=True)
class Call:
    """One call: what is set before it, the method, and its arguments."""

    settings: dict[str, Any]
    method: str
    args: tuple[Any, ...]
    options: dict[str, Any]


class Draw:
    """Draws calls from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def often(self, share: float) -> bool:
        return self.random.random() < share

    def text(self) -> str:
        count = self.random.choice((0, 1, 1, 2, 3, 5, 8, 13, 30))
        return self.random.choice(("", " ")).join(self.random.choice(WORDS) for _ in range(count))

    def words(self) -> list[str]:
        return [self.random.choice(WORDS) for _ in range(self.random.choice((1, 1, 2, 4, 9)))]

    def ids(self) -> list[int]:
        high = self.random.choice((10, 2048))
        return [self.random.randrange(high) for _ in range(self.random.choice((0, 1, 2, 3, 5, 9, 17)))]

    def settings(self) -> dict[str, Any]:
        return {
            "padding_side": self.random.choice(SIDES),
            "truncation_side": self.random.choice(SIDES),
            "model_max_length": self.random.choice((512, 64, 12, int(1e30))),
            "clean_up_tokenization_spaces": self.often(0.5),
        }

    def lengths(self) -> dict[str, Any]:
        """Draw options about lengths."""
        options: dict[str, Any] = {}
        if self.often(0.5):
            options["padding"] = self.random.choice(PADDING)
        if self.often(0.6):
            options["truncation"] = self.random.choice(TRUNCATION)
        if self.often(0.6):
            options["max_length"] = self.random.choice(LENGTHS)
        if self.often(0.25):
            options["stride"] = self.random.choice((0, 1, 2, 5))
        if self.often(0.2):
            options["pad_to_multiple_of"] = self.random.choice((1, 4, 8))
        if self.often(0.25):
            options["return_tensors"] = "np"
        return options

    def flags(self) -> dict[str, Any]:
        return {name: self.often(0.5) for name in FLAGS if self.often(0.3)}

    def encoding(self, form: str) -> Call:
        """Draw a call that encodes texts: ``one``, ``pair``, ``batch`` or ``pairs``."""
        is_split = self.often(0.2)
        one = self.words if is_split else self.text
        options = self.lengths() | self.flags() | ({"is_split_into_words": True} if is_split else {})
        count = self.random.choice((1, 2, 3, 5))
        if form == "one":
            args: tuple[Any, ...] = (one(),)
        elif form == "pair":
            args = (one(), one())
        elif form == "batch":
            args = ([one() for _ in range(count)],)
        elif self.often(0.5):
            args = ([one() for _ in range(count)], [one() for _ in range(count)])
        else:
            args = ([(one(), one()) for _ in range(count)],)
        method = "__call__"
        if form in ("one", "pair"):
            method = self.random.choice(("__call__", "__call__", "encode_plus", "encode", "tokenize"))
        elif len(args) == 1 and self.often(0.3):
            method = "batch_encode_plus"
        if method == "tokenize":  # takes the options of texts alone
            options = {name: options[name] for name in ("add_special_tokens",) if name in options}
        return Call(self.settings(), method, args, options)

    def pad(self) -> Call:
        rows = [self.ids() or [2, 3] for _ in range(self.random.choice((1, 2, 4)))]
        encoded = [{"input_ids": row} for row in rows]
        if self.often(0.5):
            encoded = [one | {"attention_mask": [1] * len(one["input_ids"])} for one in encoded]
        if self.often(0.5):
            encoded = [one | {"token_type_ids": [1] * len(one["input_ids"])} for one in encoded]
        if self.often(0.3):
            encoded = [one | {"special_tokens_mask": [0] * len(one["input_ids"])} for one in encoded]
        if self.often(0.3):
            encoded = [one | {"label": number} for number, one in enumerate(encoded)]
        form = self.random.choice(("list", "dict", "single"))
        value: Any = encoded
        if form == "dict":
            value = {name: [one[name] for one in encoded] for name in encoded[0]}
        elif form == "single":
            value = encoded[0]
        options = {k: v for k, v in self.lengths().items() if k not in ("truncation", "stride")}
        options |= {k: v for k, v in self.flags().items() if k in ("return_attention_mask", "verbose")}
        return Call(self.settings(), "pad", (value,), options)

    def prepared(self) -> Call:
        args = (self.ids(),) if self.often(0.5) else (self.ids(), self.ids())
        options = self.lengths() | self.flags()
        options.pop("return_offsets_mapping", None)
        if options.get("return_tensors"):
            options["prepend_batch_axis"] = self.often(0.7)
        return Call(self.settings(), "prepare_for_model", args, options)

    def cut(self) -> Call:
        args = (self.ids(), self.random.choice((None, self.ids())))
        options = {
            "num_tokens_to_remove": self.random.choice((0, 1, 2, 3, 4, 7, 12)),
            "truncation_strategy": self.random.choice([one for one in TRUNCATION if isinstance(one, str)]),
            "stride": self.random.choice((0, 0, 1, 3)),
        }
        return Call(self.settings(), "truncate_sequences", args, options)

    def decoded(self) -> Call:
        method = self.random.choice(("decode", "decode", "batch_decode", "convert_ids_to_tokens"))
        ids = self.ids()
        options: dict[str, Any] = {"skip_special_tokens": self.often(0.5)} if self.often(0.7) else {}
        if method != "convert_ids_to_tokens" and self.often(0.3):
            options["clean_up_tokenization_spaces"] = self.often(0.5)
        return Call(self.settings(), method, ([ids, self.ids()] if method == "batch_decode" else ids,), options)

    def small(self) -> Call:
        """Draw a call of one of the smaller methods."""
        two = (self.ids(), self.random.choice((None, self.ids())))
        method, args, options = self.random.choice(
            (
                ("convert_tokens_to_ids", (self.words(),), {}),
                ("convert_tokens_to_ids", (self.random.choice(WORDS),), {}),
                ("convert_tokens_to_string", ([f"▁{self.random.choice(WORDS)}", *self.words()],), {}),
                ("build_inputs_with_special_tokens", two, {}),
                ("create_token_type_ids_from_sequences", two, {}),
                ("get_special_tokens_mask", (two[0],), {"already_has_special_tokens": True}),
                ("num_special_tokens_to_add", (self.often(0.5),), {}),
                ("clean_up_tokenization", (self.text(),), {}),
            )
        )
        return Call(self.settings(), method, args, options)

    def call(self) -> Call:
        kind = self.random.choice(
            (
                *("one", "one", "pair", "pair", "batch", "batch", "pairs", "pairs"),
                *("pad", "pad", "prepared", "prepared", "cut", "decoded", "decoded", "small"),
            )
        )
        return self.encoding(kind) if kind in ("one", "pair", "batch", "pairs") else getattr(self, kind)()


def calls(count: int, seed: int = 0) -> list[Call]:
    draw = Draw(seed)
    return [draw.call() for _ in range(count)]


def answers(tokenizer: Any, asked: list[Call]) -> list[Any]:
    """Return what each call returns, as JSON has it; an error is its class and its text."""
    return [_answer(tokenizer, call) for call in asked]


def _answer(tokenizer: Any, call: Call) -> Any:
    for name, value in call.settings.items():
        setattr(tokenizer, name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = getattr(tokenizer, call.method)(*_copied(call.args), **call.options)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # where the library panics it is no Exception
        return {"error": type(error).__name__, "says": str(error)[:300]}
    told = plain(found)
    if getattr(found, "encodings", None):
        told = {"values": told, "rows": [_row(found, number) for number in range(len(found.encodings))]}
    return told


def _row(found: Any, number: int) -> dict[str, Any]:
    """Return what an encoding says of the tokens, words and characters of a row."""
    sequence = found.sequence_ids(number)
    told = {
        "tokens": found.tokens(number),
        "word_ids": found.word_ids(number),
        "sequence_ids": sequence,
        "token_to_chars": [plain(found.token_to_chars(number, token)) for token in range(len(sequence))],
        "token_to_word": [found.token_to_word(number, token) for token in range(len(sequence))],
        "char_to_token": [found.char_to_token(number, place) for place in range(4)],
        "char_to_word": [found.char_to_word(number, place) for place in range(4)],
    }
    if (0, 0) in zip(sequence, told["word_ids"], strict=True):
        told["word_to_tokens"] = plain(found.word_to_tokens(number, 0))
        told["word_to_chars"] = plain(found.word_to_chars(number, 0))
    return told


def _copied(value: Any) -> Any:
    """Copy lists and dicts, which the reference's ``pad`` changes."""
    if isinstance(value, dict):
        return {name: _copied(one) for name, one in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value


def plain(value: Any) -> Any:
    if hasattr(value, "dtype"):
        return {"dtype": str(value.dtype), "values": plain(value.tolist())}
    if hasattr(value, "items"):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
