"""Text to ids and back: a thin wrapper over the ``tokenizers`` library, called as transformers' are.

A Nyströmformer's tokenizer is ALBERT's: a lower-casing Unigram vocabulary whose template is ``[CLS] A [SEP] B
[SEP]``. All of that is in ``tokenizer.json``, and other tokenizers saved in that format work as well. What is
added here is the choice of padding and truncation for each call, and the record that the model takes.
"""

import json
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nystrom_np.array_module import to_numpy
from nystrom_np.files import replacing, stand_in
from nystrom_np.hub import local_folder
from nystrom_np.tokenization.encoding import BatchEncoding, as_arrays, rows_of, with_overflowing
from nystrom_np.tokenization.special_tokens import ALBERT_TOKENS, NAMELESS, add_tokens, content, listed, read_config
from nystrom_np.tokenization.texts import as_batch, kind, whole_characters

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["NystromformerTokenizer"]

NO_LIMIT = 2**31
"""A length that stands for none: transformers writes 10³⁰ as ``model_max_length`` where there is no limit."""

DETACHED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""What ``decode`` closes up, in this order: spaces before a mark, and on both sides of a lone apostrophe."""

PADDING = {False: None, "do_not_pad": None, True: "longest", "longest": "longest", "max_length": "max_length"}
TRUNCATION = {False: None, "do_not_truncate": None, True: "longest_first"} | {
    name: name for name in ("longest_first", "only_first", "only_second")
}

VALUES = {
    "input_ids": "ids",
    "token_type_ids": "type_ids",
    "attention_mask": "attention_mask",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
}
"""What a call may return, in this order, and the library's name for it."""

SETTINGS: dict[str, Any] = {
    "padding_side": "right",
    "truncation_side": "right",
    "model_max_length": int(1e30),
    "clean_up_tokenization_spaces": True,
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
}
"""The attributes that a configuration may set, and what holds where it does not."""

# Padding and truncation are settings of the library's object, so one call at a time may set and use them.
_settings = threading.Lock()


def _special_token(name: str, meaning: str) -> tuple[Any, Any]:
    """Make the properties of a special token: its text and its id, which both can be set."""

    def text(self: "NystromformerTokenizer") -> str | None:
        return self._special[name]

    def set_text(self: "NystromformerTokenizer", token: Any) -> None:
        self._special[name] = None if token is None else str(getattr(token, "content", token))
        self.config[name] = self._special[name]

    def index(self: "NystromformerTokenizer") -> int | None:
        token = self._special[name]
        return None if token is None else self._id(token)

    def set_index(self: "NystromformerTokenizer", index: int | None) -> None:
        set_text(self, None if index is None else self.convert_ids_to_tokens(index))

    text.__doc__, index.__doc__ = f"{meaning}; None if there is none.", f"The id of :attr:`{name}`."
    return property(text, set_text), property(index, set_index)


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
        ``model_max_length``, ``padding_side``, ``truncation_side``, ``clean_up_tokenization_spaces`` and
        ``model_input_names``; the rest is kept for :meth:`save_pretrained`. Where it names no side, or no padding
        token, that of the padding and truncation stored in `backend` holds.

    Attributes
    ----------
    padding_side, truncation_side : {"right", "left"}
        Where sequences are filled up, and cut.
    model_max_length : int
        The longest sequence, where a call does not say.
    clean_up_tokenization_spaces : bool
        Whether :meth:`decode` closes up the spaces before punctuation.
    model_input_names : list of str
        What a call returns, of ``input_ids``, ``token_type_ids`` and ``attention_mask``.

    Raises
    ------
    ValueError
        If a field of `config` has a value that cannot be used.

    Notes
    -----
    Ids, masks, token types, offsets and decoded text are those of ``AlbertTokenizerFast`` in transformers 4.37.2 for
    the same files. One difference: half of a character (a lone surrogate) is one unknown character. There it is
    three, and the offsets after it are those in a text that is two characters longer.

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

    bos_token, bos_token_id = _special_token("bos_token", "The token that begins a sequence: ``[CLS]`` in ALBERT")
    eos_token, eos_token_id = _special_token("eos_token", "The token that ends a sequence: ``[SEP]`` in ALBERT")
    unk_token, unk_token_id = _special_token("unk_token", "The token for what the vocabulary cannot write")
    sep_token, sep_token_id = _special_token("sep_token", "The token after each text")
    pad_token, pad_token_id = _special_token("pad_token", "The token that fills a sequence up")
    cls_token, cls_token_id = _special_token("cls_token", "The first token, whose vector the classification heads read")
    mask_token, mask_token_id = _special_token("mask_token", "The token to be guessed by the masked language model")
    is_fast = True

    def __init__(self, backend: "Tokenizer", config: dict[str, Any] | None = None) -> None:
        self.backend = backend
        self.config = dict(config or {})
        padding, truncation = backend.padding or {}, backend.truncation or {}
        self.padding_side = _side(self.config, "padding_side", padding)
        self.truncation_side = _side(self.config, "truncation_side", truncation)
        limit = self.config.get("model_max_length", self.config.get("max_len"))
        self.model_max_length = _max_length("model_max_length", limit) or SETTINGS["model_max_length"]
        self.clean_up_tokenization_spaces = bool(self.config.get("clean_up_tokenization_spaces", True))
        self.model_input_names = _names(self.config.get("model_input_names", SETTINGS["model_input_names"]))
        self._read = {name: getattr(self, name) for name in SETTINGS}
        self._special = add_tokens(backend, self.config, padding.get("pad_token"))
        if self.pad_token not in (None, ALBERT_TOKENS["pad_token"]):
            self.config.setdefault("pad_token", self.pad_token)  # it may stand in the stored padding alone
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
        use_fast: bool = True,
        **settings: Any,
    ) -> "NystromformerTokenizer":
        """Load a tokenizer from the folder of a checkpoint, or from the Hugging Face Hub.

        Parameters
        ----------
        folder : str or path
            It holds ``tokenizer.json`` and, all optional, ``tokenizer_config.json``,
            ``special_tokens_map.json`` and ``added_tokens.json``. Or the ``owner/name`` of a repository, if there
            is no folder of that name.
        revision, cache_dir, local_files_only
            Of a repository: see :func:`nystrom_np.hub.local_folder`.
        use_fast : bool
            There is one kind of tokenizer here.
        **settings
            What to use instead of the configuration's value: a special token, or ``padding_side`` and its like.

        Returns
        -------
        NystromformerTokenizer

        Raises
        ------
        FileNotFoundError
            If there is no such folder or repository, or no ``tokenizer.json`` in it.
        OSError
            If it cannot be fetched.
        TypeError
            If there is no such setting.
        ValueError
            If a file is not what its name says, or a setting has a wrong value.

        Notes
        -----
        ``special_tokens_map.json`` overrides the configuration, and ``added_tokens.json`` adds to it, unless that has
        ``added_tokens_decoder``, which made both redundant.

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
        data = path.read_bytes()
        if instead := stand_in(data):
            raise ValueError(f"{path} is {instead}")
        try:
            backend = Tokenizer.from_buffer(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises nothing more specific, and where it panics no Exception
            raise ValueError(f"{path} cannot be read by the tokenizers library: {error}") from error
        known = (*SETTINGS, *ALBERT_TOKENS, "additional_special_tokens")
        for name in set(settings).difference(known):
            raise TypeError(f"a tokenizer has the settings {', '.join(known)}; found {name!r}")
        values, added = read_config(folder) | settings, backend.get_added_tokens_decoder()
        try:
            tokenizer = cls(backend, values)
        except ValueError as error:
            raise ValueError(f"{folder / 'tokenizer_config.json'} or special_tokens_map.json: {error}") from error
        if backend.get_added_tokens_decoder() == added:
            tokenizer._file = data
        return tokenizer

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``.

        Parameters
        ----------
        folder : path
            Made if it does not exist. Each file is replaced as a whole or not at all.

        Notes
        -----
        A ``tokenizer.json`` to which nothing was added is written as it was read, to the byte.
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
        for name, data in (
            ("tokenizer.json", backend),
            ("tokenizer_config.json", _to_json(self._described())),
            ("special_tokens_map.json", _to_json(names)),
        ):
            with replacing(folder / name) as temporary:
                temporary.write_bytes(data)

    def _described(self) -> dict[str, Any]:
        """Return the configuration with the attributes that are no longer what it says."""
        values = {name: getattr(self, name) for name in SETTINGS}
        return self.config | {
            name: value
            for name, value in values.items()
            if value != self._read[name] or value != self.config.get(name, SETTINGS[name])
        }

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
        *,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_length: bool = False,
        verbose: bool = True,
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
        stride : int
            How many tokens each overflowing part repeats of the one before it.
        is_split_into_words : bool
            Whether a text is a list of words, and a batch a list of such lists.
        pad_to_multiple_of : int, optional
            Padding goes on to the next multiple.
        return_token_type_ids, return_attention_mask : bool, optional
            Whether to return them; by default what :attr:`model_input_names` says.
        return_overflowing_tokens : bool
            Whether what truncation cuts off follows as further rows, with ``overflow_to_sample_mapping``: the
            number of the text that each row is of.
        return_special_tokens_mask, return_length : bool
            Whether to add ``special_tokens_mask`` (1 for ``[CLS]`` and its kin) and ``length``.
        verbose : bool
            Without effect.

        Returns
        -------
        BatchEncoding
            ``input_ids``, ``token_type_ids`` (0 in the first text, 1 in the second), ``attention_mask`` (1
            real, 0 padding) and what else is asked for.

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
        _check_tensors(return_tensors)
        batch, is_single = as_batch(text, text_pair, is_split_into_words)
        options = (padding, truncation, max_length, add_special_tokens, stride, pad_to_multiple_of, is_split_into_words)
        encodings = self._encode(batch, *options)
        samples: list[int] = []
        if return_overflowing_tokens:
            samples, encodings = with_overflowing(encodings)
        optional = (return_token_type_ids, return_attention_mask, return_special_tokens_mask, return_offsets_mapping)
        is_single = is_single and not return_overflowing_tokens and return_tensors is None
        result = self._columns(encodings, (True, *optional), is_single)
        if return_length:
            result["length"] = [len(encoding.ids) for encoding in encodings]
        if return_overflowing_tokens:
            result["overflow_to_sample_mapping"] = samples
        if return_tensors == "np":
            return as_arrays(result)
        return result

    def _columns(self, encodings: list["Encoding"], wanted: tuple[bool | None, ...], is_single: bool) -> BatchEncoding:
        """Return what is wanted of each encoding, or of the only one; None is what the model takes."""
        result = BatchEncoding()
        result.encodings = encodings
        for (name, value), is_wanted in zip(VALUES.items(), wanted, strict=True):
            if is_wanted or (is_wanted is None and name in self.model_input_names):
                rows = [getattr(encoding, value) for encoding in encodings]
                result[name] = rows[0] if is_single else rows
        return result

    def encode_plus(self, text: object, text_pair: object = None, **options: Any) -> BatchEncoding:
        """Encode a text or a pair: an older name of the call.

        Parameters
        ----------
        text, text_pair : str, or list of str
            A text, or its words with ``is_split_into_words``.
        **options
            Of the call.

        Returns
        -------
        BatchEncoding
        """
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: object, **options: Any) -> BatchEncoding:
        """Encode a batch of texts or pairs: an older name of the call.

        Parameters
        ----------
        batch_text_or_text_pairs : list
            Texts, or pairs of texts.
        **options
            Of the call.

        Returns
        -------
        BatchEncoding
        """
        return self(batch_text_or_text_pairs, **options)

    def encode(self, text: object, text_pair: object = None, **options: Any) -> Any:
        """Return the ids of a text or a pair.

        Parameters
        ----------
        text, text_pair : str
            As for the call.
        **options
            Of the call.

        Returns
        -------
        list of int, or what else ``return_tensors`` says
        """
        return self(text, text_pair, **options).input_ids

    def tokenize(
        self, text: object, pair: object = None, add_special_tokens: bool = False, **options: Any
    ) -> list[str]:
        """Return the tokens of a text or a pair, as the vocabulary writes them.

        Parameters
        ----------
        text, pair : str
            As for the call.
        add_special_tokens : bool
            Whether to make ``[CLS] A [SEP] B [SEP]`` of the texts.
        **options
            Of the call.

        Returns
        -------
        list of str
        """
        return self(text, pair, add_special_tokens=add_special_tokens, **options).tokens()

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
            stays as it is.

        Raises
        ------
        TypeError, ValueError
            If the encodings have another form, or an option a wrong value.
        """
        _check_tensors(return_tensors)
        values, is_single = rows_of(encoded_inputs)
        pad, _, limit = self._lengths(padding, False, max_length)
        counts = [len(row) for row in values["input_ids"]]
        if return_attention_mask or (return_attention_mask is None and "attention_mask" in self.model_input_names):
            values.setdefault("attention_mask", [[1] * count for count in counts])
        length = limit if pad == "max_length" else max(counts, default=0)
        length += -length % (_max_length("pad_to_multiple_of", pad_to_multiple_of) or 1)
        fill = {"input_ids": self.pad_token_id, "special_tokens_mask": 1, "offset_mapping": (0, 0)}
        for name in VALUES if pad else ():
            if name in values:
                values[name] = [self._filled(row, fill.get(name, 0), length) for row in values[name]]
        result = BatchEncoding(values)
        if return_tensors == "np":
            return as_arrays(result)
        return BatchEncoding({name: rows[0] for name, rows in values.items()}) if is_single else result

    def _filled(self, row: list[Any], value: Any, length: int) -> list[Any]:
        more = [value] * (length - len(row))
        return row + more if self.padding_side == "right" else more + row

    def windows(
        self,
        text: Any,
        text_pair: Any = None,
        max_length: int | None = None,
        stride: int = 0,
        cut: str | None = None,
        padding: bool | str = False,
    ) -> list["Encoding"]:
        """Encode a text, or a pair of texts, in as many windows as it takes.

        Parameters
        ----------
        text : str
            The text.
        text_pair : str, optional
            The second text.
        max_length : int, optional
            The longest window, special tokens included; :attr:`model_max_length` by default.
        stride : int
            How many tokens a window repeats of the one before it.
        cut : {None, "only_first", "only_second"}
            Which text of a pair has but a part in each window, where the other is whole; the second by default.
        padding : bool or str
            As for the call.

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
                raise TypeError(f"{name} is a str, found {kind(value)}")
        length = _max_length("max_length", max_length) or self.model_max_length
        cut = cut or ("longest_first" if text_pair is None else "only_second")
        fixed = self.num_special_tokens_to_add(text_pair is not None)
        if text_pair is not None:
            fixed += len(self.encode(text_pair if cut == "only_first" else text, add_special_tokens=False))
        if not 0 <= stride < length - fixed:
            raise ValueError(
                f"max_length={length} and stride={stride} leave no room: {fixed} tokens are the same in every window"
            )
        batch, _ = as_batch([text] if text_pair is None else [(text, text_pair)], None)
        [first] = self._encode(batch, padding, cut if length < NO_LIMIT else False, length, True, stride)
        return [first, *first.overflowing]

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

    def _encode(
        self,
        batch: list[Any],
        padding: bool | str,
        truncation: bool | str | None,
        max_length: int | None,
        add_special_tokens: bool,
        stride: int = 0,
        multiple: int | None = None,
        is_split: bool = False,
    ) -> list["Encoding"]:
        pad, cut, max_length = self._lengths(padding, truncation, max_length)
        if multiple is not None:
            multiple = _max_length("pad_to_multiple_of", multiple)
        if cut:
            self._check_room(batch, max_length, stride, add_special_tokens)
            if pad and multiple and max_length % multiple:
                raise ValueError(f"max_length={max_length} is no multiple of pad_to_multiple_of={multiple}")
        with _settings:
            self._set(pad, cut, max_length, stride, multiple)
            try:
                return list(self.backend.encode_batch(batch, is_split, add_special_tokens))
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
        if clean_up_tokenization_spaces is None:
            clean_up_tokenization_spaces = self.clean_up_tokenization_spaces
        if clean_up_tokenization_spaces:
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
        decoder = self.backend.decoder
        return str(decoder.decode(list(tokens))) if decoder is not None else " ".join(tokens)

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
    def vocab(self) -> dict[str, int]:
        """Every token's id: see :meth:`get_vocab`."""
        return self.get_vocab()

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens without a name of their own."""
        return [content(token) for name in NAMELESS for token in listed(self.config.get(name))]

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens under their names."""
        more = self.additional_special_tokens
        named: dict[str, Any] = {name: token for name, token in self._special.items() if token}
        return named | ({"additional_special_tokens": more} if more else {})

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once, those under ``additional_special_tokens`` last."""
        named = [token for token in self._special.values() if token]
        return list(dict.fromkeys([*named, *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of :attr:`all_special_tokens`."""
        return [self._id(token) for token in self.all_special_tokens]

    def _id(self, token: str) -> int:
        index = self.backend.token_to_id(whole_characters(token))
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

    def _check_room(self, batch: list[Any], max_length: int, stride: int, add_special_tokens: bool) -> None:
        special = 0
        if add_special_tokens:
            special = max(self.num_special_tokens_to_add(isinstance(item, tuple)) for item in batch)
        if max_length < special:
            raise ValueError(f"max_length={max_length} has no room for the {special} special tokens")
        if stride and not 0 < stride < max_length - special:
            raise ValueError(f"stride={stride} has no room in max_length={max_length} with {special} special tokens")

    def _set(
        self, pad: str | None, cut: str | None, max_length: int, stride: int = 0, multiple: int | None = None
    ) -> None:
        if cut:
            self.backend.enable_truncation(max_length, stride=stride, strategy=cut, direction=self.truncation_side)
        else:
            self.backend.no_truncation()
        if pad:
            self.backend.enable_padding(
                direction=self.padding_side,
                pad_id=self.pad_token_id,
                pad_token=self.pad_token,
                length=max_length if pad == "max_length" else None,
                pad_to_multiple_of=multiple,
            )
        else:
            self.backend.no_padding()


def _check_tensors(return_tensors: object) -> None:
    if return_tensors not in (None, "np"):
        raise ValueError(f'return_tensors is None (lists) or "np" (NumPy arrays), found {return_tensors!r}')


def _ids(ids: Any) -> list[int]:
    """Return an id, a sequence of ids or an array of them as a list of Python integers."""
    if not isinstance(ids, list | tuple):
        ids = np.atleast_1d(to_numpy(ids) if hasattr(ids, "dtype") else np.asarray(ids)).tolist()
    for index in ids:
        if not isinstance(index, int | np.integer) or isinstance(index, bool):
            raise TypeError(f"ids are integers of one sequence, found {kind(index)}")
    return [int(index) for index in ids]


def _to_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


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


def _side(config: dict[str, Any], name: str, stored: Mapping[str, Any]) -> str:
    side = config.get(name, stored.get("direction", SETTINGS[name]))
    if side not in ("left", "right"):
        raise ValueError(f'{name} is "left" or "right", found {side!r}')
    return str(side)


def _names(names: Any) -> list[str]:
    if not isinstance(names, list | tuple) or "input_ids" not in names or not all(isinstance(n, str) for n in names):
        raise ValueError(f'model_input_names is a list of str with "input_ids", found {names!r}')
    return list(names)
