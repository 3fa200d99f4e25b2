"""Text to ids and back: a thin wrapper over the ``tokenizers`` library, called as transformers' are.

A Nyströmformer's tokenizer is ALBERT's: a lower-casing Unigram vocabulary whose template is ``[CLS] A [SEP] B
[SEP]``. All of that is in ``tokenizer.json``, and other tokenizers saved in that format work as well. What is
added here is the choice of padding and truncation for each call, and the record that the model takes.
"""

import json
import os
import threading
import warnings
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nystrom_np.files import also_called, replacing, stand_in
from nystrom_np.hub import local_folder, repository_options
from nystrom_np.origins import FromFolder, check_content, content_digest
from nystrom_np.tokenization.encoding import BatchEncoding, with_overflowing
from nystrom_np.tokenization.json_file import check_json
from nystrom_np.tokenization.options import (
    NO_LIMIT,
    CallOptions,
    Lengths,
    check_tensors,
    options_of,
    positive,
)
from nystrom_np.tokenization.sequences import Sequences
from nystrom_np.tokenization.special_tokens import ALBERT_TOKENS, read_config
from nystrom_np.tokenization.texts import as_batch, is_one, kind, single

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["NystromformerTokenizer"]

SETTINGS: dict[str, Any] = {
    "padding_side": "right",
    "truncation_side": "right",
    "model_max_length": int(1e30),
    "clean_up_tokenization_spaces": True,
    "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
}
"""The attributes that a configuration may set, and what holds where it does not."""

WITHOUT_EFFECT = ("do_lower_case", "remove_space", "keep_accents", "trust_remote_code", "legacy")
"""What code gives that loads tokenizers of other kinds: ``tokenizer.json`` says it all, in transformers as well."""

VALUES = (
    ("input_ids", attrgetter("ids"), None),
    ("token_type_ids", attrgetter("type_ids"), "return_token_type_ids"),
    ("attention_mask", attrgetter("attention_mask"), "return_attention_mask"),
    ("special_tokens_mask", attrgetter("special_tokens_mask"), "return_special_tokens_mask"),
    ("offset_mapping", attrgetter("offsets"), "return_offsets_mapping"),
)
"""What a call returns, in this order: its name, what the library says of it, and the option that asks for it."""

# Padding and truncation are settings of the library's object, so one call at a time may set and use them.
_settings = threading.Lock()


class NystromformerTokenizer(Sequences, FromFolder):
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

    is_fast = True

    def __init__(self, backend: "Tokenizer", config: dict[str, Any] | None = None) -> None:
        config = dict(config or {})
        padding, truncation = backend.padding or {}, backend.truncation or {}
        self.padding_side = _side(config, "padding_side", padding)
        self.truncation_side = _side(config, "truncation_side", truncation)
        limit = positive("model_max_length", config.get("model_max_length", config.get("max_len")))
        self.model_max_length = limit or SETTINGS["model_max_length"]
        self.clean_up_tokenization_spaces = bool(config.get("clean_up_tokenization_spaces", True))
        self.model_input_names = _names(config.get("model_input_names", SETTINGS["model_input_names"]))
        self._read = {name: getattr(self, name) for name in SETTINGS}
        super().__init__(backend, config, padding.get("pad_token"))
        backend.no_padding()
        backend.no_truncation()

    @classmethod
    @also_called("pretrained_model_name_or_path")
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
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
        use_fast : bool
            There is one kind of tokenizer here.
        **settings
            What to use instead of the configuration's value: a special token, or ``padding_side`` and its like. And
            ``revision``, ``cache_dir``, ``local_files_only``, ``token`` and ``force_download`` of a repository, and a
            ``subfolder``: see :func:`nystrom_np.hub.local_folder`. Without effect, as there: ``do_lower_case`` and what
            else ``tokenizer.json`` decides.

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

        folder = local_folder(folder, "tokenizer", **repository_options(settings))
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no tokenizer.json")
        data = path.read_bytes()
        if instead := stand_in(data):
            raise ValueError(f"{path} is {instead}")
        check_json(data, path)
        try:
            backend = Tokenizer.from_buffer(data)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises nothing more specific, and where it panics no Exception
            raise ValueError(f"{path} cannot be read by the tokenizers library: {error}") from error
        known = (*SETTINGS, *ALBERT_TOKENS, "additional_special_tokens")
        settings = {name: value for name, value in settings.items() if name not in WITHOUT_EFFECT}
        for name in set(settings).difference(known):
            raise TypeError(f"a tokenizer has the settings {', '.join(known)}; found {name!r}")
        values, added = read_config(folder) | settings, backend.get_added_tokens_decoder()
        try:
            tokenizer = cls(backend, values)
        except ValueError as error:
            raise ValueError(f"{folder / 'tokenizer_config.json'} or special_tokens_map.json: {error}") from error
        if backend.get_added_tokens_decoder() == added:
            tokenizer._file = data
        tokenizer._origin = (str(folder.absolute()), settings)
        return tokenizer

    def _from_folder(self) -> tuple[Any, ...] | None:
        """Say how to read it again, if that gives the same."""
        if self._origin is None:
            return None
        folder, settings = self._origin
        try:
            digest = content_digest(_files(folder))
            again = NystromformerTokenizer.from_pretrained(folder, **settings)
        except (OSError, ValueError, TypeError):  # the folder has gone, or its files were changed
            return None
        if type(self) is not type(again) or self._content() != again._content():
            return None
        return _restored, (folder, settings, digest)

    def _content(self) -> dict[str, Any]:
        """All that it is, to be compared."""
        with _settings:
            self._set(Lengths(None, None, NO_LIMIT))
            return {**vars(self), "backend": self.backend.to_str()}

    @also_called("save_directory")
    def save_pretrained(self, folder: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write ``tokenizer.json``, ``tokenizer_config.json`` and ``special_tokens_map.json``.

        Parameters
        ----------
        folder : path
            Made if it does not exist. Each file is replaced as a whole or not at all.

        Returns
        -------
        tuple of str
            The files.

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
        ...     files = tokenizer.save_pretrained(folder)
        ...     NystromformerTokenizer.from_pretrained(folder).get_vocab()
        {'word': 0}
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = {name: token for name, token in self._special.items() if token is not None}
        with _settings:
            self._set(Lengths(None, None, NO_LIMIT))
            backend = self._file or self.backend.to_str(pretty=True).encode()
        files = {
            "tokenizer.json": backend,
            "tokenizer_config.json": _to_json(self._described()),
            "special_tokens_map.json": _to_json(names),
        }
        for name, data in files.items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(data)
        return tuple(str(folder / name) for name in files)

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
        **more: Any,
    ) -> BatchEncoding:
        """Encode a text, a pair of texts, or a batch of either.

        Parameters
        ----------
        text : str, or list of str, or list of (str, str)
            One text, a batch of texts, or a batch of pairs. With ``is_split_into_words``, a text is a list of words.
        text_pair : str or list of str, optional
            The second text; a list of the batch's length if `text` is a list. Beside a text that is not in a
            list, an empty one is no second text, as in the reference.
        padding, truncation, max_length, add_special_tokens, return_offsets_mapping, return_tensors, **more
            The fields of :class:`nystrom_np.tokenization.options.CallOptions`.

        Returns
        -------
        BatchEncoding
            ``input_ids``, ``token_type_ids`` (0 in the first text, 1 in the second), ``attention_mask`` (1
            real, 0 padding) and what else is asked for.

        Raises
        ------
        TypeError
            If `text` or `text_pair` is something else, or there is no such option.
        ValueError
            If an option has an unknown value, there is no padding token, the texts cannot be truncated as
            asked, or arrays are asked for and the sequences differ in length.

        Warns
        -----
        UserWarning
            Once, if a sequence is longer than ``model_max_length`` and nothing was said of lengths; if
            `max_length` is below the number of special tokens, where nothing is cut, as in the reference.

        Examples
        --------
        >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
        >>> encoding = tokenizer("A dog", "ran", return_offsets_mapping=True)
        >>> encoding.tokens(), encoding.token_type_ids
        (['[CLS]', '▁a', '▁dog', '[SEP]', '▁ran', '[SEP]'], [0, 0, 0, 0, 1, 1])
        >>> encoding.offset_mapping
        [(0, 0), (0, 1), (1, 5), (0, 0), (0, 3), (0, 0)]
        """
        first = (padding, truncation, max_length, add_special_tokens, return_offsets_mapping, return_tensors)
        options = options_of(more, *first)
        if is_one(text, options.is_split_into_words):
            return self._encoded([single(text, text_pair, options.is_split_into_words)], True, options)
        return self._encoded(as_batch(text, text_pair, options.is_split_into_words), False, options)

    def encode_plus(self, text: object, text_pair: object = None, **options: Any) -> BatchEncoding:
        """Encode a text or a pair.

        Parameters
        ----------
        text, text_pair : str, or list of str
            A text, or its words with ``is_split_into_words``. A pair may be one argument, too.
        **options
            Of the call.

        Returns
        -------
        BatchEncoding
        """
        asked = options_of(options)
        if text_pair is None and not is_one(text, asked.is_split_into_words):
            return self._encoded(as_batch([text], None, asked.is_split_into_words), True, asked)
        return self._encoded([single(text, text_pair, asked.is_split_into_words)], True, asked)

    def batch_encode_plus(self, batch_text_or_text_pairs: object, **options: Any) -> BatchEncoding:
        """Encode a batch of texts or pairs.

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
        asked = options_of(options)
        return self._encoded(as_batch(batch_text_or_text_pairs, None, asked.is_split_into_words), False, asked)

    def encode(self, text: object, text_pair: object = None, **options: Any) -> Any:
        """Return the ids of a text or a pair.

        Parameters
        ----------
        text, text_pair : str
            As for :meth:`encode_plus`.
        **options
            Of the call.

        Returns
        -------
        list of int, or what else ``return_tensors`` says
        """
        return self.encode_plus(text, text_pair, **options).input_ids

    def tokenize(
        self, text: object, pair: object = None, add_special_tokens: bool = False, **options: Any
    ) -> list[str]:
        """Return the tokens of a text or a pair, as the vocabulary writes them.

        Parameters
        ----------
        text, pair : str
            As for :meth:`encode_plus`.
        add_special_tokens : bool
            Whether to make ``[CLS] A [SEP] B [SEP]`` of the texts.
        **options
            Of the call.

        Returns
        -------
        list of str
        """
        return self.encode_plus(text, pair, add_special_tokens=add_special_tokens, **options).tokens()

    def _encoded(self, batch: list[Any], is_single: bool, options: CallOptions) -> BatchEncoding:
        """Encode texts and pairs, or the one text or pair that they are, and return what is asked of each."""
        check_tensors(options.return_tensors)
        samples: list[int] = []
        encodings = self._encode(batch, options)
        for encoding in encodings:
            self._check_length(len(encoding), options)
        if options.return_overflowing_tokens:
            samples, encodings = with_overflowing(encodings)
        alone = is_single and options.return_tensors is None and not options.return_overflowing_tokens
        result = BatchEncoding(encoding=encodings)
        for name, value, option in VALUES:
            asked = option is None or getattr(options, option)
            if asked or (asked is None and name in self.model_input_names):
                result[name] = value(encodings[0]) if alone else [value(encoding) for encoding in encodings]
        if options.return_length:
            result["length"] = [len(encoding) for encoding in encodings]
        if options.return_overflowing_tokens:
            result["overflow_to_sample_mapping"] = samples
        return result if options.return_tensors is None else result.convert_to_tensors(options.return_tensors)

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
            The longest window, special tokens included; ``model_max_length`` by default.
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
        >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
        >>> for window in tokenizer.windows("one two three", max_length=4, stride=1):
        ...     print(window.tokens)
        ['[CLS]', '▁one', '▁two', '[SEP]']
        ['[CLS]', '▁two', '▁three', '[SEP]']
        """
        for name, value in (("text", text), ("text_pair", text_pair)):
            if not isinstance(value, str) and (name == "text" or value is not None):
                raise TypeError(f"{name} is a str, found {kind(value)}")
        length = positive("max_length", max_length) or self.model_max_length
        cut = cut or ("longest_first" if text_pair is None else "only_second")
        fixed = self.num_special_tokens_to_add(text_pair is not None)
        if text_pair is not None:
            whole = text_pair if cut == "only_first" else text
            fixed += len(self.encode(whole, add_special_tokens=False, verbose=False))
        if not 0 <= stride < length - fixed:
            raise ValueError(
                f"max_length={length} and stride={stride} leave no room: {fixed} tokens are the same in every window"
            )
        options = CallOptions(padding, cut if length < NO_LIMIT else False, length, stride=stride)
        [first] = self._encode(as_batch([text] if text_pair is None else [(text, text_pair)], None), options)
        return [first, *first.overflowing]

    def _encode(self, batch: list[Any], options: CallOptions) -> list["Encoding"]:
        lengths = self._lengths(options)
        is_wide = lengths.cut is not None and self._is_wide(batch, lengths, options)
        with _settings:
            try:
                self._set(lengths._replace(stride=0) if is_wide else lengths)
                found = list(self.backend.encode_batch(batch, options.is_split_into_words, options.add_special_tokens))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # as in from_pretrained
                raise ValueError(f"{lengths}: {error}") from error
        if is_wide and any(encoding.overflowing for encoding in found):
            raise ValueError(f"{lengths}: there is no room for the stride={lengths.stride} beside the special tokens")
        return found

    def _is_wide(self, batch: list[Any], lengths: Lengths, options: CallOptions) -> bool:
        """Whether the stride has no room, so that nothing may be cut; warn where special tokens have none."""
        if lengths.stride < 0:
            raise ValueError(f"stride is 0 or more, found {lengths.stride}")
        kinds = {isinstance(item, tuple) for item in batch} if options.add_special_tokens else ()
        special = [self.num_special_tokens_to_add(kind) for kind in kinds] or [0]
        if lengths.max_length < max(special) and options.verbose:
            warnings.warn(
                f"max_length={lengths.max_length} has no room for the {max(special)} special tokens: nothing is cut",
                stacklevel=5,
            )
        return any(0 < lengths.max_length - number <= lengths.stride for number in special)

    def _set(self, lengths: Lengths) -> None:
        pad, cut, max_length, stride, multiple = lengths
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


def _files(folder: str) -> list[Path]:
    names = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    return [path for name in names if (path := Path(folder) / name).is_file()]


def _restored(folder: str, settings: dict[str, Any], digest: bytes) -> NystromformerTokenizer:
    """Read a tokenizer again, where a pickle names its folder."""
    check_content(_files(folder), digest, folder)
    return NystromformerTokenizer.from_pretrained(folder, **settings)


def _to_json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _side(config: dict[str, Any], name: str, stored: Mapping[str, Any]) -> str:
    side = config.get(name, stored.get("direction", SETTINGS[name]))
    if side not in ("left", "right"):
        raise ValueError(f'{name} is "left" or "right", found {side!r}')
    return str(side)


def _names(names: Any) -> list[str]:
    if not isinstance(names, list | tuple) or "input_ids" not in names or not all(isinstance(n, str) for n in names):
        raise ValueError(f'model_input_names is a list of str with "input_ids", found {names!r}')
    return list(names)
