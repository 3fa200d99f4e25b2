"""Ids to tokens and text, and tokens to ids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.tokenization.special_tokens import SpecialTokens
from nystrom_np.tokenization.texts import kind

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.decoders import Decoder

__all__ = ["Vocabulary"]

DETACHED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What ``decode`` closes up, in this order: spaces before a mark, and on both sides of a lone apostrophe."""


class Vocabulary(SpecialTokens):
    """The tokens of a tokenizer and their ids.

    Examples
    --------
    >>> from nystrom_np import NystromformerTokenizer
    >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
    >>> tokenizer.convert_ids_to_tokens(tokenizer("Two words!").input_ids)
    ['[CLS]', '▁two', '▁words', '!', '[SEP]']
    """

    clean_up_tokenization_spaces: bool

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """Return the text of a sequence of ids.

        Parameters
        ----------
        token_ids : int, list of int, or array
            Ids of one sequence.
        skip_special_tokens : bool
            Whether to leave out ``[CLS]``, ``[SEP]``, ``<pad>`` and their kin.
        clean_up_tokenization_spaces : bool, optional
            Whether to close up the spaces before punctuation; the tokenizer's configuration says so by
            default.

        Returns
        -------
        str

        Raises
        ------
        IndexError
            If an id is not in the vocabulary.
        TypeError
            If `token_ids` are not integers of one sequence.

        Examples
        --------
        >>> from nystrom_np import NystromformerTokenizer
        >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
        >>> tokenizer.decode(tokenizer("Hey!").input_ids, skip_special_tokens=True)
        'hey!'
        """
        ids = _ids(token_ids)
        self.convert_ids_to_tokens(ids)  # names an id that is not in the vocabulary; the library leaves it out
        text: str = self.backend.decode(ids, skip_special_tokens=skip_special_tokens)
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
        return self.clean_up_tokenization(text) if clean_up_tokenization_spaces else text

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Return the text of each sequence; see :meth:`decode`.

        Parameters
        ----------
        sequences : list of sequences of int, or array of shape (batch, length)
            Ids.
        skip_special_tokens, clean_up_tokenization_spaces
            As for :meth:`decode`.

        Returns
        -------
        list of str

        Raises
        ------
        IndexError, TypeError
            As :meth:`decode`.
        """
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]

    @staticmethod
    def clean_up_tokenization(out_string: str) -> str:
        """Return a text without the spaces before punctuation and short forms.

        Parameters
        ----------
        out_string : str

        Returns
        -------
        str
        """
        for piece in DETACHED:
            out_string = out_string.replace(piece, piece.strip())
        return out_string

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> str | list[str]:
        """Return the token of an id, or the tokens of a sequence of ids.

        Parameters
        ----------
        ids : int, list of int, or array
            One id or one sequence.
        skip_special_tokens : bool
            Whether to leave out the special tokens of a sequence.

        Returns
        -------
        str or list of str

        Raises
        ------
        IndexError
            If an id is not in the vocabulary.
        TypeError
            If `ids` are not integers of one sequence.
        """
        sequence = _ids(ids)
        if np.ndim(ids) == 0:
            return self._token(sequence[0])
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._token(index) for index in sequence if index not in skipped]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        """Return the id of a token, or the ids of a sequence of tokens.

        Parameters
        ----------
        tokens : str or sequence of str
            Tokens as the vocabulary writes them: ``▁paris``, not ``Paris``.

        Returns
        -------
        int or list of int
            ``unk_token_id`` for a token that is not in the vocabulary.

        Raises
        ------
        TypeError
            If a token is not a str.
        ValueError
            If a token is not in the vocabulary and there is no unknown token.
        """
        if isinstance(tokens, str):
            return self._id(tokens)
        given = list(tokens)
        if wrong := [token for token in given if not isinstance(token, str)]:
            raise TypeError(f"a token is a str, found {kind(wrong[0])}")
        return [self._id(token) for token in given]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of a sequence of tokens.

        Parameters
        ----------
        tokens : list of str
            As :meth:`tokenize` gives them.

        Returns
        -------
        str
        """
        return str(self.decoder.decode(list(tokens))) if self.decoder is not None else " ".join(tokens)

    def get_special_tokens_mask(
        self, token_ids_0: Any, token_ids_1: None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each special token of a sequence, and 0 for the others.

        Parameters
        ----------
        token_ids_0 : list of int, or array
            A sequence with its special tokens.
        token_ids_1 : None
            Has no meaning here.
        already_has_special_tokens : bool
            True must be said: what stands in a sequence without them, ``return_special_tokens_mask`` of a call tells.

        Returns
        -------
        list of int

        Raises
        ------
        ValueError
            If it is said otherwise.
        """
        if not already_has_special_tokens or token_ids_1 is not None:
            raise ValueError("get_special_tokens_mask takes one sequence and already_has_special_tokens=True")
        special = set(self.all_special_ids)
        return [int(index in special) for index in _ids(token_ids_0)]

    def get_vocab(self) -> dict[str, int]:
        """Return every token's id, added tokens included.

        Returns
        -------
        dict of str to int
        """
        vocabulary: dict[str, int] = self.backend.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def vocab(self) -> dict[str, int]:
        """Every token's id, as :meth:`get_vocab` gives it."""
        return self.get_vocab()

    @property
    def vocab_size(self) -> int:
        """The number of tokens, without those added to the vocabulary; ``len()`` counts these too."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    @property
    def backend_tokenizer(self) -> "Tokenizer":
        """The library's tokenizer, under the name that transformers gives it."""
        return self.backend

    @property
    def decoder(self) -> "Decoder | None":
        """The library's decoder."""
        return self.backend.decoder

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, special={self.all_special_tokens})"


def _ids(ids: Any) -> list[int]:
    """Return an id, a sequence of ids or an array of them as a list of Python integers."""
    if not isinstance(ids, list | tuple):
        ids = np.atleast_1d(to_numpy(ids) if hasattr(ids, "dtype") else np.asarray(ids)).tolist()
    for index in ids:
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise TypeError(f"ids are integers of one sequence, found {kind(index)}")
    return [int(index) for index in ids]
