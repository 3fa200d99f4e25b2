"""What a tokenizer returns: the rows that a model takes, and which token stands for which part of a text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nystrom_np.array_module import to_device
from nystrom_np.tokenization.options import check_tensors

if TYPE_CHECKING:
    from tokenizers import Encoding

__all__ = ["BatchEncoding", "CharSpan", "TokenSpan", "rows_of"]


class CharSpan(NamedTuple):
    """The characters from `start` up to but without `end`."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """The tokens from `start` up to but without `end`."""

    start: int
    end: int


class BatchEncoding(dict[str, Any]):
    """What a tokenizer returns: a dict whose values are attributes too.

    Under a number is what the ``tokenizers`` library says of that sequence: ``encoding[0].offsets``; under a slice, of
    several. Its methods are here under the same names and take the number of the sequence first, which is 0 if there
    is one argument alone.

    Parameters
    ----------
    data : dict, optional
        The values by name.
    encoding : tokenizers.Encoding, or list of them, optional
        What the library returned for each sequence.
    tensor_type, prepend_batch_axis
        As for :meth:`convert_to_tensors`.

    Attributes
    ----------
    encodings : list of tokenizers.Encoding, optional
        What the library returned for each sequence.

    Examples
    --------
    >>> encoding = BatchEncoding({"input_ids": [2, 7, 3], "attention_mask": [1, 1, 1]})
    >>> encoding.input_ids == encoding["input_ids"]
    True
    """

    encodings: "Sequence[Encoding] | None" = None

    def __init__(
        self, data: Any = None, encoding: Any = None, tensor_type: Any = None, prepend_batch_axis: bool = False
    ) -> None:
        super().__init__(data or ())
        if encoding is not None:
            self.encodings = list(encoding) if isinstance(encoding, (list, tuple)) else [encoding]
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        return self.encodings[key] if self.encodings is not None else {name: row[key] for name, row in self.items()}

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getitem__(name)
        except KeyError:
            raise AttributeError(f"the encoding has no {name!r}, it has {', '.join(self)}") from None

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int):
            return self._row(key)
        raise KeyError(key)

    @property
    def data(self) -> dict[str, Any]:
        """The values, as a plain dict."""
        return dict(self)

    @property
    def is_fast(self) -> bool:
        """Whether the sequences' :attr:`encodings` are known."""
        return self.encodings is not None

    @property
    def n_sequences(self) -> int | None:
        """How many texts are in a sequence: 2 for pairs; None where :attr:`encodings` are not known."""
        return int(self.encodings[0].n_sequences) if self.encodings else None

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the tokens of a sequence."""
        return list(self._row(batch_index).tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return which word of its text each token of a sequence is in; None for special tokens."""
        return list(self._row(batch_index).word_ids)

    words = word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return which text each token of a sequence is of: 0, 1, or None for special tokens."""
        return list(self._row(batch_index).sequence_ids)

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Return which text a token is of."""
        return self._ask("token_to_sequence", batch_or_token_index, token_index)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """Return which word a token is in."""
        return self._ask("token_to_word", batch_or_token_index, token_index)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """Return the characters that a token stands for; None for a special token."""
        found = self._ask("token_to_chars", batch_or_token_index, token_index)
        return None if found is None else CharSpan(*found)

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """Return the tokens of a word; None for a word without any."""
        found = self._ask("word_to_tokens", batch_or_word_index, word_index, sequence_index)
        return None if found is None else TokenSpan(*found)

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """Return the characters of a word."""
        found = self._ask("word_to_chars", batch_or_word_index, word_index, sequence_index)
        return None if found is None else CharSpan(*found)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the token that stands for a character; None for a space between tokens."""
        return self._ask("char_to_token", batch_or_char_index, char_index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the word that a character is in."""
        return self._ask("char_to_word", batch_or_char_index, char_index, sequence_index)

    def to(self, device: str) -> "BatchEncoding":
        """Move the arrays to a device, and return the encoding itself.

        Parameters
        ----------
        device : str
            ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

        Returns
        -------
        BatchEncoding
        """
        for name, value in self.items():
            if hasattr(value, "dtype"):
                self[name] = to_device(value, device)
        return self

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> "BatchEncoding":
        """Make arrays of the values, and return the encoding itself.

        Parameters
        ----------
        tensor_type : {None, "np"}
            None: nothing is done.
        prepend_batch_axis : bool
            Whether each value is that of one sequence, of which a batch is made.

        Returns
        -------
        BatchEncoding
            int64 arrays of shape (batch, length), (batch, length, 2) for offsets, and (batch,) for what is one number
            a sequence; what is no integer, or empty, has NumPy's dtype for it.

        Raises
        ------
        ValueError
            If the sequences differ in length.
        """
        check_tensors(tensor_type)
        if tensor_type is not None:
            for name, values in self.items():
                self[name] = _array(name, [values] if prepend_batch_axis else values)
        return self

    def _ask(self, method: str, index: int, second: int | None, *sequence: int) -> Any:
        batch_index, index = (0, index) if second is None else (index, second)
        row = self._row(batch_index)
        if index < 0 and method.startswith("token"):
            index += len(row.ids)
        return getattr(row, method)(index, *sequence)

    def _row(self, index: int) -> Any:
        if self.encodings is None:
            raise ValueError("the tokens of this encoding are not known: it does not come from a tokenizer's call")
        if not -len(self.encodings) <= index < len(self.encodings):
            raise IndexError(f"the encoding has {len(self.encodings)} sequences, found the index {index}")
        return self.encodings[index]


def _array(name: str, values: Any) -> np.ndarray:
    if not isinstance(values, list | tuple | np.ndarray):  # one number
        return np.asarray(values)
    lengths = sorted({len(row) for row in values if isinstance(row, list | tuple | np.ndarray)})
    if len(lengths) > 1:
        found = f"found {lengths[0]} to {lengths[-1]}: use padding=True"
        raise ValueError(f"arrays of {name} need sequences of one length, {found}")
    array = np.asarray(values)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def with_overflowing(encodings: "list[Encoding]") -> "tuple[list[int], list[Encoding]]":
    """Return encodings followed each by what was cut off, and the number of the one that each of these is of."""
    rows = [(number, part) for number, one in enumerate(encodings) for part in (one, *one.overflowing)]
    return [number for number, _ in rows], [part for _, part in rows]


def rows_of(encodings: Any) -> tuple[dict[str, Any], bool]:
    """Return a batch's values by name, and whether it was one sequence outside a list.

    Parameters
    ----------
    encodings : mapping, or sequence of mappings
        One encoding, of one sequence or several; or an encoding for each sequence.

    Returns
    -------
    dict of str to list, bool

    Raises
    ------
    TypeError, ValueError
        If it is something else, or has no ``input_ids``, or one has other names than the first.

    Examples
    --------
    >>> rows_of([{"input_ids": [2, 3]}, {"input_ids": [2, 7, 3]}])
    ({'input_ids': [[2, 3], [2, 7, 3]]}, False)
    """
    if isinstance(encodings, list | tuple) and encodings and all(isinstance(one, Mapping) for one in encodings):
        encodings = _transposed(encodings)
    if not isinstance(encodings, Mapping):
        raise TypeError(f"encodings are a mapping or a list of mappings, found {type(encodings).__name__}")
    if "input_ids" not in encodings:
        raise ValueError(f"encodings have input_ids, found {', '.join(map(str, encodings)) or 'nothing'}")
    values = {name: _plain(value) for name, value in encodings.items()}
    ids = values["input_ids"]
    if ids and not isinstance(ids[0], list):
        return {name: [value] for name, value in values.items()}, True
    return values, False


def _transposed(encodings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    for number, one in enumerate(encodings):
        if set(one) != set(encodings[0]):
            raise ValueError(f"encodings[{number}] has {', '.join(one)}, the first has {', '.join(encodings[0])}")
    return {name: [one[name] for one in encodings] for name in encodings[0]}


def _plain(value: Any) -> Any:
    """Return an array, or a list of them, as lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, Iterable) and not isinstance(value, str) else value
