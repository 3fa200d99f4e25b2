"""Text to ids and back: a thin wrapper over the ``tokenizers`` library, called as transformers' are.

A Nyströmformer's tokenizer is ALBERT's: a lower-casing Unigram vocabulary whose template is ``[CLS] A [SEP] B
[SEP]``. All of that is in ``tokenizer.json``, and other tokenizers saved in that format work as well. What is
added here is the choice of padding and truncation for each call, and the record that the model takes.
"""

import json
import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.files import read_json_object, replacing
from nystrom_np.hub import local_folder

if TYPE_CHECKING:
    from tokenizers import AddedToken, Encoding, Tokenizer

__all__ = ["BatchEncoding", "NystromformerTokenizer"]

ALBERT_TOKENS = {
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "unk_token": "<unk>",
    "sep_token": "[SEP]",
    "pad_token": "<pad>",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
"""The special tokens' names that hold where the files name none (and the vocabulary knows them)."""

NO_LIMIT = 2**31
"""A length that stands for none: transformers writes 10³⁰ as ``model_max_length`` where there is no limit."""

DETACHED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What ``decode`` closes up, in this order: spaces before a mark, and on both sides of a lone apostrophe."""

PADDING = {False: None, "do_not_pad": None, True: "longest", "longest": "longest", "max_length": "max_length"}
TRUNCATION = {False: None, "do_not_truncate": None, True: "longest_first"} | {
    name: name for name in ("longest_first", "only_first", "only_second")
}

# Padding and truncation are settings of the library's object, so one call at a time may set and use them.
_settings = threading.Lock()


class BatchEncoding(dict[str, Any]):
    """What a tokenizer returns: a dict whose values are attributes too.

    Examples
    --------
    >>> encoding = BatchEncoding(input_ids=[2, 7, 3], attention_mask=[1, 1, 1])
    >>> encoding.input_ids == encoding["input_ids"]
    True
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the encoding has no {name!r}, it has {', '.join(self)}") from None


class NystromformerTokenizer:
    """Turn text into what a Nyströmformer reads, and ids into text.

    Made by :meth:`from_pretrained`. One tokenizer may be used from several threads.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        The tokenizer that does the work. It is changed: special tokens are added, padding and truncation are
        set.
    config : dict, optional
        What ``tokenizer_config.json`` holds. Obeyed are the special tokens, ``added_tokens_decoder``,
        ``model_max_length``, ``padding_side``, ``truncation_side`` and ``clean_up_tokenization_spaces``; the
        rest is kept for :meth:`save_pretrained`.

    Raises
    ------
    ValueError
        If a field of `config` has a value that cannot be used.

    Notes ----- Ids, masks, token types, offsets and decoded text are those of ``AlbertTokenizerFast`` in
    transformers 4.37.2 for the same files.

    Examples
    --------
    >>> from tokenizers import Tokenizer
    >>> from tokenizers.models import WordLevel
    >>> from tokenizers.pre_tokenizers import Whitespace
    >>> backend = Tokenizer(WordLevel({"<unk>": 0, "<pad>": 1, "two": 2, "words": 3}, unk_token="<unk>"))
    >>> backend.pre_tokenizer = Whitespace()
    >>> tokenizer = NystromformerTokenizer(backend)
    >>> tokenizer("two words").input_ids
    [2, 3]
    >>> tokenizer(["two words", "two"], padding=True, return_tensors="np").attention_mask
    array([[1, 1],
           [1, 0]])
    >>> tokenizer.decode([2, 3])
    'two words'
    """

    def __init__(self, backend: "Tokenizer", config: dict[str, Any] | None = None) -> None:
        self.backend = backend
        self.config = dict(config or {})
        self.padding_side = _side(self.config, "padding_side")
        self.truncation_side = _side(self.config, "truncation_side")
        limit = _max_length("model_max_length", self.config.get("model_max_length"))
        self.model_max_length = int(1e30) if limit is None else limit
        self._clean_up = bool(self.config.get("clean_up_tokenization_spaces", True))
        self._special = _add_tokens(backend, self.config)
        backend.no_padding()
        backend.no_truncation()
        self._file: bytes | None = None  # the tokenizer.json that says the same as the backend

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> "NystromformerTokenizer":
        """Load a tokenizer from the folder of a checkpoint, or from the Hugging Face Hub.

        Parameters
        ----------
        folder : str or path
            It holds ``tokenizer.json`` and, both optional, ``tokenizer_config.json`` and
            ``special_tokens_map.json``. Or the ``owner/name`` of a repository, if there is no folder of that name.
        revision, cache_dir, local_files_only
            Of a repository: see :func:`nystrom_np.hub.local_folder`.

        Returns
        -------
        NystromformerTokenizer

        Raises
        ------
        FileNotFoundError
            If there is no such folder or repository, or no ``tokenizer.json`` in it.
        OSError
            If it cannot be fetched.
        ValueError
            If a file is not what its name says.

        Notes ----- ``special_tokens_map.json`` overrides the configuration unless that has
        ``added_tokens_decoder``, which made it redundant.

        Examples
        --------
        >>> NystromformerTokenizer.from_pretrained("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: there is no folder no/such/folder
        """
        from tokenizers import Tokenizer

        folder = local_folder(folder, "tokenizer", revision, cache_dir, local_files_only)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no tokenizer.json")
        content = path.read_bytes()
        try:
            backend = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"{path} cannot be read by the tokenizers library: {error}") from error
        config, names = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
        values = read_json_object(config) if config.exists() else {}
        if "added_tokens_decoder" not in values and names.exists():
            values |= read_json_object(names)
        added = backend.get_added_tokens_decoder()
        try:
            tokenizer = cls(backend, values)
        except ValueError as error:
            raise ValueError(f"{config} or {names.name}: {error}") from error
        if backend.get_added_tokens_decoder() == added:
            tokenizer._file = content
        return tokenizer

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``.

        Parameters
        ----------
        folder : path
            Made if it does not exist. Each file is replaced as a whole or not at all.

        Notes ----- A ``tokenizer.json`` to which nothing was added is written as it was read, to the byte.
        Otherwise the library writes it, and older versions of the library may not read that: transformers
        4.37.2 needs one that was made with tokenizers 0.15.

        Examples
        --------
        >>> import tempfile
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> tokenizer = NystromformerTokenizer(Tokenizer(WordLevel({"word": 0}, unk_token="word")))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tokenizer.save_pretrained(folder)
        ...     NystromformerTokenizer.from_pretrained(folder).get_vocab()
        {'word': 0}
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = {name: token for name, token in self._special.items() if token is not None}
        with _settings:
            self._set(None, None, NO_LIMIT)
            backend = self._file or self.backend.to_str(pretty=True).encode()
        for name, content in (
            ("tokenizer.json", backend),
            ("tokenizer_config.json", _to_json(self.config)),
            ("special_tokens_map.json", _to_json(names)),
        ):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)

    def __call__(
        self,
        text: object,
        text_pair: object = None,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Encode a text, a pair of texts, or a batch of either.

        Parameters
        ----------
        text : str, or list of str, or list of (str, str)
            One text, a batch of texts, or a batch of pairs.
        text_pair : str or list of str, optional
            The second text; a list of the batch's length if `text` is a list. Beside a text that is not in a
            list, an empty one is no second text, as in the reference.
        padding : bool or {"longest", "max_length", "do_not_pad"}
            True is "longest": as long as the longest of the batch. "max_length": to `max_length`.
        truncation : bool or {"longest_first", "only_first", "only_second", "do_not_truncate"}, optional
            Which text of a pair loses tokens to fit `max_length`; True is "longest_first": the longer one,
            token by token. None is False, unless `max_length` is given without `padding`; then it is True.
        max_length : int, optional
            The longest sequence allowed, special tokens included; :attr:`model_max_length` by default.
        add_special_tokens : bool
            Whether to make ``[CLS] A [SEP] B [SEP]`` of the texts.
        return_offsets_mapping : bool
            Whether to add ``offset_mapping``, the start and end of each token in its text.
        return_tensors : {None, "np"}
            "np": int64 arrays of shape (batch, length), (batch, length, 2) for the offsets. None: lists, and
            for a text that is not in a list, its own values alone.

        Returns
        -------
        BatchEncoding
            ``input_ids``, ``token_type_ids`` (0 in the first text, 1 in the second), ``attention_mask`` (1
            real, 0 padding) and, if asked for, ``offset_mapping``.

        Raises
        ------
        TypeError
            If `text` or `text_pair` is something else.
        ValueError
            If an option has an unknown value, there is no padding token, the texts cannot be truncated as
            asked, or arrays are asked for and the sequences differ in length.

        Examples
        --------
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> from tokenizers.pre_tokenizers import Whitespace
        >>> backend = Tokenizer(WordLevel({"<unk>": 0, "hot": 1, "dog": 2}, unk_token="<unk>"))
        >>> backend.pre_tokenizer = Whitespace()
        >>> tokenizer = NystromformerTokenizer(backend)
        >>> encoding = tokenizer("hot dog", "hot", return_offsets_mapping=True)
        >>> encoding.input_ids, encoding.token_type_ids, encoding.offset_mapping
        ([1, 2, 1], [0, 0, 1], [(0, 3), (4, 7), (0, 3)])
        """
        if return_tensors not in (None, "np"):
            raise ValueError(f'return_tensors is None (lists) or "np" (NumPy arrays), found {return_tensors!r}')
        batch, is_single = _batch(text, text_pair)
        encodings = self._encode(batch, padding, truncation, max_length, add_special_tokens)
        result = BatchEncoding(
            input_ids=[encoding.ids for encoding in encodings],
            token_type_ids=[encoding.type_ids for encoding in encodings],
            attention_mask=[encoding.attention_mask for encoding in encodings],
        )
        if return_offsets_mapping:
            result["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if return_tensors == "np":
            return _as_arrays(result)
        return BatchEncoding({name: rows[0] for name, rows in result.items()}) if is_single else result

    def windows(
        self, text: Any, text_pair: Any = None, max_length: int | None = None, stride: int = 0
    ) -> list["Encoding"]:
        """Encode a text, or a pair of texts, in as many windows as it takes.

        Parameters
        ----------
        text : str
            The text; with a second text, it is whole in each window.
        text_pair : str, optional
            The second text, a part of which is in each window.
        max_length : int, optional
            The longest window, special tokens included; :attr:`model_max_length` by default.
        stride : int
            How many tokens a window repeats of the one before it.

        Returns
        -------
        list of tokenizers.Encoding
            With ``ids``, ``type_ids``, ``offsets`` and, to tell the tokens apart, ``special_tokens_mask``,
            ``sequence_ids`` and ``word_ids``.

        Raises
        ------
        TypeError
            If a text is something else.
        ValueError
            If no token of the text, or none but repeated ones, has room in a window.

        Examples
        --------
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> from tokenizers.pre_tokenizers import Whitespace
        >>> backend = Tokenizer(WordLevel({"<unk>": 0, "one": 1, "two": 2, "three": 3}, unk_token="<unk>"))
        >>> backend.pre_tokenizer = Whitespace()
        >>> tokenizer = NystromformerTokenizer(backend)
        >>> [window.ids for window in tokenizer.windows("one two three", max_length=2, stride=1)]
        [[1, 2], [2, 3]]
        """
        for name, value in (("text", text), ("text_pair", text_pair)):
            if not isinstance(value, str) and (name == "text" or value is not None):
                raise TypeError(f"{name} is a str, found {_kind(value)}")
        length = _max_length("max_length", max_length) or self.model_max_length
        fixed = self.backend.num_special_tokens_to_add(text_pair is not None)
        if text_pair is not None:
            fixed += len(self(text, add_special_tokens=False).input_ids)
        if not 0 <= stride < length - fixed:
            raise ValueError(
                f"max_length={length} and stride={stride} leave no room: {fixed} tokens are the same in every window"
            )
        batch: list[Any] = [text if text_pair is None else (text, text_pair)]
        cut = length < NO_LIMIT and ("longest_first" if text_pair is None else "only_second")
        [first] = self._encode(batch, False, cut, length, True, stride)
        return [first, *first.overflowing]

    def _encode(
        self,
        batch: list[Any],
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        add_special_tokens: bool,
        stride: int = 0,
    ) -> list["Encoding"]:
        pad, cut, max_length = self._lengths(padding, truncation, max_length)
        if cut and add_special_tokens:
            self._check_room(batch, max_length)
        with _settings:
            self._set(pad, cut, max_length, stride)
            try:
                return list(self.backend.encode_batch(batch, add_special_tokens=add_special_tokens))
            except Exception as error:  # the library raises nothing more specific
                raise ValueError(f"truncation={cut!r} to max_length={max_length}: {error}") from error

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
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> tokenizer = NystromformerTokenizer(Tokenizer(WordLevel({"hey": 0, "!": 1}, unk_token="!")))
        >>> tokenizer.decode([0, 1])
        'hey!'
        """
        ids = _ids(token_ids)
        self.convert_ids_to_tokens(ids)  # names an id that is not in the vocabulary; the library leaves it out
        text: str = self.backend.decode(ids, skip_special_tokens=skip_special_tokens)
        clean_up = self._clean_up if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        if clean_up:
            for piece in DETACHED:
                text = text.replace(piece, piece.strip())
        return text

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

        Examples
        --------
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> tokenizer = NystromformerTokenizer(Tokenizer(WordLevel({"hey": 0, "!": 1}, unk_token="!")))
        >>> tokenizer.batch_decode([[0], [0, 1]])
        ['hey', 'hey!']
        """
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]

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

        Examples
        --------
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> tokenizer = NystromformerTokenizer(Tokenizer(WordLevel({"hey": 0, "!": 1}, unk_token="!")))
        >>> tokenizer.convert_ids_to_tokens(1), tokenizer.convert_ids_to_tokens([0, 1])
        ('!', ['hey', '!'])
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
            :attr:`unk_token_id` for a token that is not in the vocabulary.

        Raises
        ------
        ValueError
            If a token is not in the vocabulary and there is no unknown token.

        Examples
        --------
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> tokenizer = NystromformerTokenizer(Tokenizer(WordLevel({"<unk>": 0, "hey": 1}, unk_token="<unk>")))
        >>> tokenizer.convert_tokens_to_ids(["hey", "you"])
        [1, 0]
        """
        if not isinstance(tokens, str):
            return [self._id(token) for token in tokens]
        return self._id(tokens)

    def get_vocab(self) -> dict[str, int]:
        """Return every token's id, added tokens included.

        Returns
        -------
        dict of str to int

        Examples
        --------
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> NystromformerTokenizer(Tokenizer(WordLevel({"hey": 0}, unk_token="hey"))).get_vocab()
        {'hey': 0}
        """
        vocabulary: dict[str, int] = self.backend.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def vocab_size(self) -> int:
        """The number of tokens, without those added to the vocabulary; ``len()`` counts these too."""
        return int(self.backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, special={self.all_special_tokens})"

    @property
    def bos_token(self) -> str | None:
        """The token that begins a sequence: ``[CLS]`` in ALBERT."""
        return self._special["bos_token"]

    @property
    def bos_token_id(self) -> int | None:
        """The id of :attr:`bos_token`."""
        return self._special_id("bos_token")

    @property
    def eos_token(self) -> str | None:
        """The token that ends a sequence: ``[SEP]`` in ALBERT."""
        return self._special["eos_token"]

    @property
    def eos_token_id(self) -> int | None:
        """The id of :attr:`eos_token`."""
        return self._special_id("eos_token")

    @property
    def unk_token(self) -> str | None:
        """The token for what the vocabulary cannot write."""
        return self._special["unk_token"]

    @property
    def unk_token_id(self) -> int | None:
        """The id of :attr:`unk_token`."""
        return self._special_id("unk_token")

    @property
    def sep_token(self) -> str | None:
        """The token after each text."""
        return self._special["sep_token"]

    @property
    def sep_token_id(self) -> int | None:
        """The id of :attr:`sep_token`."""
        return self._special_id("sep_token")

    @property
    def pad_token(self) -> str | None:
        """The token that fills a sequence up."""
        return self._special["pad_token"]

    @property
    def pad_token_id(self) -> int | None:
        """The id of :attr:`pad_token`."""
        return self._special_id("pad_token")

    @property
    def cls_token(self) -> str | None:
        """The first token, whose vector the classification heads read."""
        return self._special["cls_token"]

    @property
    def cls_token_id(self) -> int | None:
        """The id of :attr:`cls_token`."""
        return self._special_id("cls_token")

    @property
    def mask_token(self) -> str | None:
        """The token to be guessed by the masked language model."""
        return self._special["mask_token"]

    @property
    def mask_token_id(self) -> int | None:
        """The id of :attr:`mask_token`."""
        return self._special_id("mask_token")

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, those under ``additional_special_tokens`` last."""
        named = [token for token in self._special.values() if token]
        return list(dict.fromkeys([*named, *map(_content, self.config.get("additional_special_tokens") or [])]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of :attr:`all_special_tokens`."""
        return [self._id(token) for token in self.all_special_tokens]

    def _special_id(self, name: str) -> int | None:
        token = self._special[name]
        return None if token is None else self._id(token)

    def _id(self, token: str) -> int:
        index = self.backend.token_to_id(token)
        if index is None:
            index = None if self.unk_token is None else self.backend.token_to_id(self.unk_token)
        if index is None:
            raise ValueError(f"the token {token!r} is not in the vocabulary, and there is no unknown token")
        return int(index)

    def _token(self, index: int) -> str:
        token = self.backend.id_to_token(index) if 0 <= index < 2**32 else None
        if token is None:
            raise IndexError(f"the id {index} is not in the vocabulary of {len(self)} tokens")
        return str(token)

    def _lengths(
        self, padding: bool | str, truncation: bool | str | None, max_length: int | None
    ) -> tuple[str | None, str | None, int]:
        """Return the padding, the truncation (None for neither) and the length that either may use."""
        if truncation is None:
            truncation = max_length is not None and padding is False
        pad = _choice("padding", padding, PADDING)
        cut = _choice("truncation", truncation, TRUNCATION)
        if pad and self.pad_token is None:
            raise ValueError(f"padding={padding!r} needs a padding token, and this tokenizer has none")
        length = _max_length("max_length", max_length) or self.model_max_length
        if length >= NO_LIMIT and (cut or pad == "max_length"):
            warnings.warn(
                "neither max_length nor the tokenizer's model_max_length gives a length: "
                "nothing is truncated or padded to it",
                stacklevel=4,
            )
            return (None if pad == "max_length" else pad), None, length
        return pad, cut, length

    def _check_room(self, batch: list[Any], max_length: int) -> None:
        special = max(self.backend.num_special_tokens_to_add(isinstance(item, tuple)) for item in batch)
        if max_length < special:
            raise ValueError(f"max_length={max_length} has no room for the {special} special tokens")

    def _set(self, pad: str | None, cut: str | None, max_length: int, stride: int = 0) -> None:
        if cut:
            self.backend.enable_truncation(max_length, stride=stride, strategy=cut, direction=self.truncation_side)
        else:
            self.backend.no_truncation()
        if pad:
            length = max_length if pad == "max_length" else None
            self.backend.enable_padding(
                direction=self.padding_side, pad_id=self.pad_token_id, pad_token=self.pad_token, length=length
            )
        else:
            self.backend.no_padding()


def _batch(text: object, text_pair: object) -> tuple[list[Any], bool]:
    """Return the batch as the library takes it, and whether it was one text (or pair) outside a list."""
    if isinstance(text, str):
        if text_pair is not None and not isinstance(text_pair, str):
            raise TypeError(f"text is a str, so text_pair is a str or None, found {_kind(text_pair)}")
        return [(text, text_pair) if text_pair else text], True
    if not isinstance(text, list | tuple):
        raise TypeError(f"text is a str, a list of str or a list of pairs of str, found {_kind(text)}")
    if not text:
        raise ValueError("text is an empty list, at least one text is needed")
    if text_pair is None:
        return [_item(item, f"text[{i}]") for i, item in enumerate(text)], False
    if not isinstance(text_pair, list | tuple):
        raise TypeError(f"text is a list, so text_pair is a list or None, found {_kind(text_pair)}")
    if len(text) != len(text_pair):
        raise ValueError(f"text and text_pair have the same length, found {len(text)} and {len(text_pair)}")
    for name, texts in (("text", text), ("text_pair", text_pair)):
        for i, item in enumerate(texts):
            if not isinstance(item, str):
                raise TypeError(f"{name}[{i}] is a str when text_pair is given, found {_kind(item)}")
    return list(zip(text, text_pair, strict=True)), False


def _item(item: object, name: str) -> str | tuple[str, str]:
    if isinstance(item, str):
        return item
    if isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return item[0], item[1]
    raise TypeError(f"{name} is a str or a pair of str, found {_kind(item)}")


def _kind(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} {value!r}"[:80]


def _choice(name: str, value: object, choices: dict[Any, str | None]) -> str | None:
    if isinstance(value, bool | str) and value in choices:
        return choices[value]
    allowed = ", ".join(repr(choice) for choice in choices)
    raise ValueError(f"{name} is one of {allowed}, found {value!r}")


def _max_length(name: str, value: Any) -> int | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float | np.integer) and not isinstance(value, bool)
    if not is_number or not 0 < value < float("inf") or int(value) != value:
        raise ValueError(f"{name} is a positive whole number, found {value!r}")
    return int(value)


def _side(config: dict[str, Any], name: str) -> str:
    side = config.get(name, "right")
    if side not in ("left", "right"):
        raise ValueError(f'{name} is "left" or "right", found {side!r}')
    return str(side)


def _as_arrays(encoding: BatchEncoding) -> BatchEncoding:
    lengths = sorted({len(row) for row in encoding["input_ids"]})
    if len(lengths) > 1:
        raise ValueError(f"arrays need sequences of one length, found {lengths[0]} to {lengths[-1]}: use padding=True")
    shapes = {"offset_mapping": (len(encoding["input_ids"]), lengths[0], 2)}  # also where there are no tokens
    return BatchEncoding(
        {
            name: np.array(rows, dtype=np.int64).reshape(shapes.get(name, (len(rows), lengths[0])))
            for name, rows in encoding.items()
        }
    )


def _ids(ids: Any) -> list[int]:
    """Return an id, a sequence of ids or an array of them as a list of Python integers."""
    if not isinstance(ids, list | tuple):
        ids = np.atleast_1d(to_numpy(ids) if hasattr(ids, "dtype") else np.asarray(ids)).tolist()
    for index in ids:
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise TypeError(f"ids are integers of one sequence, found {_kind(index)}")
    return [int(index) for index in ids]


def _to_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _added_token(entry: Any) -> "AddedToken":
    from tokenizers import AddedToken

    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise ValueError(f"a token is an object with content and flags, found {entry!r}")
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(entry["content"], **({"special": True} | {f: bool(entry[f]) for f in flags if f in entry}))


def _add_tokens(backend: "Tokenizer", config: dict[str, Any]) -> dict[str, str | None]:
    """Add the configuration's tokens to the tokenizer, and return the special ones' text under their names.

    The flags in ``added_tokens_decoder`` win over those in ``tokenizer.json``, which win over those of a
    special token's own entry.
    """
    for _, described in _in_order(config.get("added_tokens_decoder") or {}):
        token = _added_token(described)
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    special: dict[str, str | None] = {}
    for name, default in ALBERT_TOKENS.items():
        entry = config.get(name, default if backend.token_to_id(default) is not None else None)
        special[name] = None if entry is None else _add_special(backend, name, entry)
    more = config.get("additional_special_tokens") or []
    if not isinstance(more, list):
        raise ValueError(f"additional_special_tokens is a list, found {more!r}")
    for entry in more:
        _add_special(backend, "additional_special_tokens", entry)
    return special


def _add_special(backend: "Tokenizer", name: str, entry: object) -> str:
    if isinstance(entry, str):
        # As in ALBERT, [MASK] takes the space before it.
        token = _added_token({"content": entry, "lstrip": name == "mask_token", "normalized": False})
    elif isinstance(entry, dict):
        token = _added_token(entry)
    else:
        raise ValueError(f"{name} is a str or an object with content and flags, found {entry!r}")
    if token.content not in [known.content for known in backend.get_added_tokens_decoder().values()]:
        backend.add_special_tokens([token])
    return str(token.content)


def _in_order(added: Any) -> list[tuple[int, Any]]:
    try:
        return sorted((int(index), token) for index, token in added.items())
    except (AttributeError, ValueError) as error:
        raise ValueError(f"added_tokens_decoder maps ids to tokens, found {added!r}: {error}") from error
