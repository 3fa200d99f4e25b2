"""What is done with sequences that are ids already: framed, cut, filled up."""

import warnings
from typing import Any

from nystrom_np.tokenization.encoding import BatchEncoding, rows_of
from nystrom_np.tokenization.options import (
    NO_LIMIT,
    PADDING,
    TRUNCATION,
    CallOptions,
    Lengths,
    check_tensors,
    choice,
    options_of,
    positive,
)
from nystrom_np.tokenization.vocabulary import Vocabulary

__all__ = ["Sequences"]

FILL = {"input_ids": 0, "token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1, "offset_mapping": (0, 0)}
"""What has a value for each token, and its value at padding; that of ids is the padding token's."""


class Sequences(Vocabulary):
    """A tokenizer's way with ids, where texts have been encoded before.

    Examples
    --------
    >>> from nystrom_np import NystromformerTokenizer
    >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
    >>> ids = tokenizer("Two words!", add_special_tokens=False).input_ids
    >>> tokenizer.decode(tokenizer.build_inputs_with_special_tokens(ids, ids))
    '[CLS] two words![SEP] two words![SEP]'
    """

    padding_side: str
    truncation_side: str
    model_max_length: int
    model_input_names: list[str]
    _has_warned = False

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Fill up sequences that are encoded already, to one length.

        Parameters
        ----------
        encoded_inputs : BatchEncoding, dict of lists, or list of dicts
            With ``input_ids``, and what else the call returns.
        padding, max_length, pad_to_multiple_of, return_attention_mask, return_tensors, verbose
            As for the call.

        Returns
        -------
        BatchEncoding
            Of the input's form, with ``attention_mask`` if it had none. What is no value of a token, such as labels,
            stays as it is; so does an ``attention_mask`` where ``return_attention_mask=False``, as in the reference.

        Raises
        ------
        TypeError, ValueError
            If the encodings have another form, or an option a wrong value.
        """
        check_tensors(return_tensors)
        values, is_single = rows_of(encoded_inputs)
        options = CallOptions(padding, False, max_length, pad_to_multiple_of=pad_to_multiple_of, verbose=verbose)
        pad, _, limit, _, multiple = self._lengths(options)
        counts = [len(row) for row in values["input_ids"]]
        fill = FILL | {"input_ids": self.pad_token_id}
        if self._wants("attention_mask", return_attention_mask):
            values.setdefault("attention_mask", [[1] * count for count in counts])
        else:
            del fill["attention_mask"]
        length = limit if pad == "max_length" else max(counts, default=0)
        length += -length % (multiple or 1)
        for name in set(fill).intersection(values) if pad else ():
            values[name] = [self._filled(row, fill[name], length) for row in values[name]]
        if is_single:
            values = {name: rows[0] for name, rows in values.items()}
        return BatchEncoding(values).convert_to_tensors(return_tensors)

    def _filled(self, row: list[Any], value: Any, length: int) -> list[Any]:
        more = [value] * (length - len(row))
        return row + more if self.padding_side == "right" else more + row

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Frame the ids of a text, or of two: ``[CLS] A [SEP] B [SEP]``.

        Parameters
        ----------
        token_ids_0, token_ids_1 : list of int

        Returns
        -------
        list of int
        """
        second = [] if token_ids_1 is None else [*token_ids_1, self.sep_token_id]
        return [self.cls_token_id, *token_ids_0, self.sep_token_id, *second]

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Return the token types of what :meth:`build_inputs_with_special_tokens` makes.

        Parameters
        ----------
        token_ids_0, token_ids_1 : list of int

        Returns
        -------
        list of int
        """
        second = 0 if token_ids_1 is None else len(token_ids_1) + 1
        return [0] * (len(token_ids_0) + 2) + [1] * second

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many special tokens frame a text, or a pair of texts.

        Parameters
        ----------
        pair : bool
            Whether there are two texts.

        Returns
        -------
        int
        """
        return int(self.backend.num_special_tokens_to_add(pair))

    @property
    def max_len_single_sentence(self) -> int:
        """The most tokens of a text, special tokens left out."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """The most tokens of two texts, special tokens left out."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def truncate_sequences(
        self,
        ids: list[int],
        pair_ids: list[int] | None = None,
        num_tokens_to_remove: int = 0,
        truncation_strategy: str = "longest_first",
        stride: int = 0,
    ) -> tuple[list[int], list[int] | None, list[int]]:
        """Take tokens away from the ids of a text or of two.

        Parameters
        ----------
        ids, pair_ids : list of int
        num_tokens_to_remove : int
        truncation_strategy : {"longest_first", "only_first", "only_second", "do_not_truncate"}
        stride : int
            How many tokens before them are returned with those taken away.

        Returns
        -------
        ids, pair_ids, overflowing : list of int
            The last is empty for two texts and "longest_first".

        Warns
        -----
        UserWarning
            If the text that should lose tokens has too few: nothing is taken away then.
        """
        cut = choice("truncation_strategy", truncation_strategy, TRUNCATION)
        number = num_tokens_to_remove
        if number <= 0 or cut is None or (cut == "only_second" and pair_ids is None):
            return ids, pair_ids, []
        if cut == "longest_first" and pair_ids is not None:
            longer = min(abs(len(ids) - len(pair_ids)), number)
            first = (number - longer) // 2 + (longer if len(ids) > len(pair_ids) else 0)
            return self._cut(ids, first)[0], self._cut(pair_ids, number - first)[0], []
        row = pair_ids if cut == "only_second" and pair_ids is not None else ids
        if len(row) <= number:
            warnings.warn(f"{number} tokens cannot be taken from a text of {len(row)}: nothing is cut", stacklevel=2)
            return ids, pair_ids, []
        shorter, overflowing = self._cut(row, number, stride)
        return (ids, shorter, overflowing) if row is pair_ids else (shorter, pair_ids, overflowing)

    def _cut(self, row: list[int], number: int, stride: int = 0) -> tuple[list[int], list[int]]:
        """Return what is left of a row, and what is not, with so many tokens more."""
        left, rest = max(len(row) - number, 0), min(len(row), number + stride)
        if self.truncation_side == "right":
            return row[:left], row[len(row) - rest :]
        return row[len(row) - left :], row[:rest]

    def prepare_for_model(self, ids: list[int], pair_ids: list[int] | None = None, **options: Any) -> BatchEncoding:
        """Make what a model takes of the ids of a text, or of two.

        Parameters
        ----------
        ids, pair_ids : list of int
            Without special tokens.
        **options
            Of the call, as far as they do not concern the text; and ``prepend_batch_axis``, for arrays.

        Returns
        -------
        BatchEncoding
            With ``return_overflowing_tokens`` there is ``overflowing_tokens`` and ``num_truncated_tokens``.

        Raises
        ------
        TypeError, ValueError
            As for the call.
        """
        axis = options.pop("prepend_batch_axis", False)
        asked = options_of(options)
        check_tensors(asked.return_tensors)
        pad, cut, limit, stride, multiple = self._lengths(asked)
        if asked.return_token_type_ids and not asked.add_special_tokens:
            raise ValueError("return_token_type_ids=True needs add_special_tokens=True")
        if asked.return_overflowing_tokens and cut == "longest_first" and pair_ids is not None:
            raise ValueError('return_overflowing_tokens with two texts needs truncation="only_first" or "only_second"')
        values: dict[str, Any] = {}
        special = self.num_special_tokens_to_add(pair_ids is not None) if asked.add_special_tokens else 0
        too_many = len(ids) + len(pair_ids or ()) + special - limit
        ids, pair_ids, overflowing = self.truncate_sequences(ids, pair_ids, too_many, cut or "do_not_truncate", stride)
        if asked.return_overflowing_tokens:
            values = {"overflowing_tokens": overflowing, "num_truncated_tokens": too_many}
        values |= self._framed(ids, pair_ids, asked)
        self._check_length(len(values["input_ids"]), asked)
        if pad or self._wants("attention_mask", asked.return_attention_mask):
            values = self.pad(values, pad or False, asked.max_length, multiple, asked.return_attention_mask)
        if asked.return_length:
            values["length"] = len(values["input_ids"])
        return BatchEncoding(values).convert_to_tensors(asked.return_tensors, axis)

    def _framed(self, ids: list[int], pair_ids: list[int] | None, asked: CallOptions) -> dict[str, list[int]]:
        if not asked.add_special_tokens:
            row = [*ids, *(pair_ids or ())]
            types = mask = [0] * len(row)
        else:
            row = self.build_inputs_with_special_tokens(ids, pair_ids)
            types = self.create_token_type_ids_from_sequences(ids, pair_ids)
            mask = self.get_special_tokens_mask(row, already_has_special_tokens=True)
        values = {"input_ids": row}
        if self._wants("token_type_ids", asked.return_token_type_ids):
            values["token_type_ids"] = types
        return values | ({"special_tokens_mask": mask} if asked.return_special_tokens_mask else {})

    def _wants(self, name: str, asked: bool | None) -> bool:
        return name in self.model_input_names if asked is None else bool(asked)

    def _lengths(self, options: CallOptions) -> Lengths:
        """Return how long the sequences of a call become."""
        padding, truncation = options.padding, options.truncation
        if truncation is None:
            truncation = options.max_length is not None and padding is False
        pad, cut = choice("padding", padding, PADDING), choice("truncation", truncation, TRUNCATION)
        if pad and self.pad_token is None:
            raise ValueError(f"padding={padding!r} needs a padding token, and this tokenizer has none")
        multiple = positive("pad_to_multiple_of", options.pad_to_multiple_of)
        length = positive("max_length", options.max_length) or self.model_max_length
        if length >= NO_LIMIT and (cut or pad == "max_length"):
            if options.verbose:
                warnings.warn(
                    "neither max_length nor the tokenizer's model_max_length gives a length: "
                    "nothing is truncated or padded to it",
                    stacklevel=4,
                )
            pad, cut = (None if pad == "max_length" else pad), None
        if pad and cut and multiple and length % multiple:
            raise ValueError(f"max_length={length} is no multiple of pad_to_multiple_of={multiple}")
        return Lengths(pad, cut, length, options.stride, multiple)

    def _check_length(self, count: int, options: CallOptions) -> None:
        """Warn, once, of a sequence that is longer than a model takes, unless a length was given."""
        if count > self.model_max_length and options.max_length is None and options.verbose:
            if not self._has_warned:
                warnings.warn(
                    f"a sequence has {count} tokens, more than the {self.model_max_length} that the model takes: "
                    "truncation=True cuts it",
                    stacklevel=4,
                )
            self._has_warned = True
