"""The options of a tokenizer's call in one table, and what each may be."""

import warnings
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

__all__ = ["CallOptions"]

NO_LIMIT = 2**31
"""A length that stands for none: transformers writes 10³⁰ as ``model_max_length`` where there is no limit."""

PADDING = {False: None, "do_not_pad": None, True: "longest", "longest": "longest", "max_length": "max_length"}
TRUNCATION = {False: None, "do_not_truncate": None, True: "longest_first"} | {
    name: name for name in ("longest_first", "only_first", "only_second")
}


@dataclass(slots=True)
class CallOptions:
    """What a call of a tokenizer may be told.

    Attributes
    ----------
    padding : bool or {"longest", "max_length", "do_not_pad"}
        True is "longest": as long as the longest of the batch. "max_length": to `max_length`.
    truncation : bool or {"longest_first", "only_first", "only_second", "do_not_truncate"}, optional
        Which text of a pair loses tokens to fit `max_length`; True is "longest_first": the longer one, token by
        token. None is False, unless `max_length` is given without `padding`; then it is True.
    max_length : int, optional
        The longest sequence allowed, special tokens included; the tokenizer's ``model_max_length`` by default.
    add_special_tokens : bool
        Whether to make ``[CLS] A [SEP] B [SEP]`` of the texts.
    return_offsets_mapping : bool
        Whether to add ``offset_mapping``, the start and end of each token in its text.
    return_tensors : {None, "np"}
        "np": int64 arrays of shape (batch, length), (batch, length, 2) for the offsets. None: lists, and for a text
        that is not in a list, its own values alone.
    stride : int
        How many tokens each overflowing part repeats of the one before it.
    is_split_into_words : bool
        Whether a text is a list of words, and a batch a list of such lists.
    pad_to_multiple_of : int, optional
        Padding goes on to the next multiple.
    return_token_type_ids, return_attention_mask : bool, optional
        Whether to return them; by default what the tokenizer's ``model_input_names`` say.
    return_overflowing_tokens : bool
        Whether what truncation cuts off follows as further rows, with ``overflow_to_sample_mapping``: the number of
        the text that each row is of.
    return_special_tokens_mask, return_length : bool
        Whether to add ``special_tokens_mask`` (1 for ``[CLS]`` and its kin) and ``length``.
    verbose : bool
        Whether to warn.
    """

    padding: Any = False
    truncation: Any = None
    max_length: Any = None
    add_special_tokens: Any = True
    return_offsets_mapping: Any = False
    return_tensors: Any = None
    stride: Any = 0
    is_split_into_words: Any = False
    pad_to_multiple_of: Any = None
    return_token_type_ids: Any = None
    return_attention_mask: Any = None
    return_overflowing_tokens: Any = False
    return_special_tokens_mask: Any = False
    return_length: Any = False
    verbose: Any = True


OPTIONS = tuple(field.name for field in fields(CallOptions))
OLDER = {"truncation_strategy": "truncation", "pad_to_max_length": 'padding="max_length"'}
"""What options were called before transformers 3."""


def options_of(named: dict[str, Any], *first: Any) -> CallOptions:
    """Return the options that are given: the first in their order, the others by name, which may be older ones."""
    older = {name: named.pop(name) for name in OLDER if name in named} if named else {}
    for name in named:
        if name not in OPTIONS:
            raise TypeError(f"a tokenizer's call has the options {', '.join(OPTIONS)}; found {name!r}")
    options = CallOptions(*first, **named)
    for name, value in older.items():
        warnings.warn(f"{name} is an older name: use {OLDER[name]}", stacklevel=4)
        if name == "truncation_strategy" and options.truncation is None:
            options.truncation = value
        elif name == "pad_to_max_length" and value and options.padding is False:
            if options.truncation is None:
                options.truncation = options.max_length is not None  # as without padding
            options.padding = "longest" if options.max_length is None else "max_length"
    return options


class Lengths(NamedTuple):
    """How long a call's sequences become."""

    pad: str | None
    cut: str | None
    max_length: int
    stride: int = 0
    multiple: int | None = None

    def __str__(self) -> str:
        return f"truncation={self.cut!r} to max_length={self.max_length}"


def choice(name: str, value: Any, choices: dict[Any, str | None]) -> str | None:
    """Return what a value means, which may be a member of an enumeration; False is none of them."""
    if value is False:
        return None
    plain = getattr(value, "value", value)
    if isinstance(plain, bool | str) and plain in choices:
        return choices[plain]
    raise ValueError(f"{name} is one of {', '.join(map(repr, choices))}, found {value!r}")


def positive(name: str, value: Any) -> int | None:
    """Return a length as an int; None stays None."""
    if value is None:
        return None
    is_number = isinstance(value, int | float | np.integer) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf") or int(value) != value:
        raise ValueError(f"{name} is a positive whole number, found {value!r}")
    return int(value)


def check_tensors(return_tensors: object) -> None:
    """Refuse every kind of tensors but NumPy's."""
    if return_tensors not in (None, "np"):
        raise ValueError(f'return_tensors is None (lists) or "np" (NumPy arrays), found {return_tensors!r}')
