"""The tokens beside the vocabulary: the special ones, and those that files or users add."""

from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nystrom_np.files import read_json_object
from nystrom_np.tokenization.texts import whole_characters

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

__all__ = ["SpecialTokens"]

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

NAMELESS = ("additional_special_tokens", "extra_special_tokens")
"""Where further special tokens are; newer files have the second."""

MOST_RUNS = 1000
"""Of special tokens, and of others, among those added: each takes as long as all tokens before it."""


def _named(name: str, meaning: str) -> tuple[Any, Any]:
    """Make the properties of a special token: its text and its id, which both can be set."""

    def text(self: "SpecialTokens") -> str | None:
        return self._special[name]

    def set_text(self: "SpecialTokens", token: Any) -> None:
        if token is not None and not isinstance(content(token), str):
            raise ValueError(f"{name} is a str or a tokenizers.AddedToken, found {token!r}")
        self._special[name] = self.config[name] = content(token)

    def index(self: "SpecialTokens") -> int | None:
        token = self._special[name]
        return None if token is None else self._id(token)

    def set_index(self: "SpecialTokens", index: int | None) -> None:
        set_text(self, None if index is None else self._token(index))

    text.__doc__, index.__doc__ = f"{meaning}; None if there is none.", f"The id of :attr:`{name}`."
    return property(text, set_text), property(index, set_index)


class SpecialTokens:
    """The special tokens of a tokenizer, and how tokens are added.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        Tokens are added to it.
    config : dict
        What ``tokenizer_config.json`` holds. It is changed where a token is set.
    stored_pad : str, optional
        The padding token that `backend` was saved with.
    """

    bos_token, bos_token_id = _named("bos_token", "The token that begins a sequence, ``[CLS]`` in ALBERT")
    eos_token, eos_token_id = _named("eos_token", "The token that ends a sequence, ``[SEP]`` in ALBERT")
    unk_token, unk_token_id = _named("unk_token", "The token for what the vocabulary cannot write")
    sep_token, sep_token_id = _named("sep_token", "The token after each text")
    pad_token, pad_token_id = _named("pad_token", "The token that fills a sequence up")
    cls_token, cls_token_id = _named("cls_token", "The first token, whose vector the classification heads read")
    mask_token, mask_token_id = _named("mask_token", "The token to be guessed by the masked language model")
    pad_token_type_id = 0
    SPECIAL_TOKENS_ATTRIBUTES = (*ALBERT_TOKENS, "additional_special_tokens")

    def __init__(self, backend: "Tokenizer", config: dict[str, Any], stored_pad: str | None) -> None:
        self.backend, self.config = backend, config
        self._special = add_tokens(backend, config, stored_pad)
        if self.pad_token not in (None, ALBERT_TOKENS["pad_token"]):
            config.setdefault("pad_token", self.pad_token)  # it may stand in the stored padding alone
        self._file: bytes | None = None  # the tokenizer.json that says the same as the backend

    @property
    def additional_special_tokens(self) -> list[str]:
        """The special tokens without a name of their own. They can be set."""
        return [content(token) for name in NAMELESS for token in listed(self.config.get(name))]

    @additional_special_tokens.setter
    def additional_special_tokens(self, tokens: Iterable[Any] | None) -> None:
        self.config["additional_special_tokens"] = [content(token) for token in tokens or ()]
        self.config.pop("extra_special_tokens", None)

    @property
    def additional_special_tokens_ids(self) -> list[int]:
        """The ids of :attr:`additional_special_tokens`. They can be set."""
        return [self._id(token) for token in self.additional_special_tokens]

    @additional_special_tokens_ids.setter
    def additional_special_tokens_ids(self, ids: Iterable[int]) -> None:
        self.additional_special_tokens = [self._token(index) for index in ids]

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

    @property
    def added_tokens_decoder(self) -> dict[int, "AddedToken"]:
        """The tokens that are found in a text before it is cut into pieces, by their ids."""
        return dict(self.backend.get_added_tokens_decoder())

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """The ids of the tokens in :attr:`added_tokens_decoder`."""
        return {token.content: index for index, token in sorted(self.added_tokens_decoder.items())}

    def get_added_vocab(self) -> dict[str, int]:
        """Return :attr:`added_tokens_encoder`."""
        return self.added_tokens_encoder

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens to the vocabulary, which are then found whole in a text.

        A model needs as many embeddings as the tokenizer has tokens, ``len(tokenizer)``.

        Parameters
        ----------
        new_tokens : str or tokenizers.AddedToken, or a list of them
            Those that are known already are left out.
        special_tokens : bool
            Whether ``skip_special_tokens`` leaves them out, and no lower-casing finds them.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        TypeError
            If a token is something else.

        Examples
        --------
        >>> from nystrom_np import NystromformerTokenizer
        >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
        >>> tokenizer.add_tokens(["nystrom", "nystrom"])
        1
        >>> tokenizer.tokenize("The nystrom method")
        ['▁the', '▁', 'nystrom', '▁me', 'th', 'od']
        """
        from tokenizers import AddedToken

        tokens = list(new_tokens) if isinstance(new_tokens, list | tuple) else [new_tokens]
        for token in tokens:
            if not isinstance(token, str | AddedToken):
                raise TypeError(f"a token is a str or a tokenizers.AddedToken, found {token!r}")
        self._file = None
        return int((self.backend.add_special_tokens if special_tokens else self.backend.add_tokens)(tokens))

    def add_special_tokens(
        self, special_tokens_dict: dict[str, Any], replace_additional_special_tokens: bool = True
    ) -> int:
        """Give special tokens their names, and add them to the vocabulary where it lacks them.

        Parameters
        ----------
        special_tokens_dict : dict
            Tokens by name: ``{"pad_token": "[PAD]"}``; under ``additional_special_tokens`` a list of them.
        replace_additional_special_tokens : bool
            Whether the list takes the place of the one before, or comes after it.

        Returns
        -------
        int
            How many were new to the vocabulary.

        Raises
        ------
        TypeError, ValueError
            If there is no such name, or a token is something else.

        Examples
        --------
        >>> from nystrom_np import NystromformerTokenizer
        >>> tokenizer = NystromformerTokenizer.from_pretrained("weights/masked-lm")
        >>> tokenizer.add_special_tokens({"additional_special_tokens": ["[ENT]"]})
        1
        >>> tokenizer.convert_ids_to_tokens(tokenizer("[ENT] a").input_ids)
        ['[CLS]', '[ENT]', '▁a', '[SEP]']
        """
        from tokenizers import AddedToken

        added: list[Any] = []
        for name, value in special_tokens_dict.items():
            if name not in self.SPECIAL_TOKENS_ATTRIBUTES:
                raise ValueError(f"{name!r} is no special token: {', '.join(self.SPECIAL_TOKENS_ATTRIBUTES)}")
            is_list = name == "additional_special_tokens"
            if is_list != isinstance(value, list | tuple):
                raise TypeError(f"{name} is {'a list of tokens' if is_list else 'a token'}, found {value!r}")
            tokens = [AddedToken(one, normalized=False, special=True) if isinstance(one, str) else one
                      for one in (value if is_list else [value])]  # fmt: skip
            if not all(isinstance(token, AddedToken) for token in tokens):
                raise TypeError(f"{name}: a token is a str or a tokenizers.AddedToken, found {value!r}")
            if is_list:
                before = [] if replace_additional_special_tokens and tokens else self.additional_special_tokens
                tokens = [token for token in tokens if token.content not in before]
                self.additional_special_tokens = [*before, *tokens]
            else:
                setattr(self, name, tokens[0])
            added += [token for token in tokens if is_list or token not in added]
        return self.add_tokens(added, special_tokens=True)

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
            size = self.backend.get_vocab_size(with_added_tokens=True)
            raise IndexError(f"the id {index} is not in the vocabulary of {size} tokens")
        return str(token)


def read_config(folder: Path) -> dict[str, Any]:
    """Read what the files beside ``tokenizer.json`` say."""
    config, names, tokens = (
        _object_in(folder / f"{name}.json") for name in ("tokenizer_config", "special_tokens_map", "added_tokens")
    )
    if "added_tokens_decoder" in config:
        return config
    config |= names
    for token, index in tokens.items():
        if isinstance(index, bool) or not isinstance(index, int):
            raise ValueError(f"added_tokens.json maps tokens to ids, found {index!r:.80} for {token!r:.80}")
    special = {content(token) for name in (*ALBERT_TOKENS, *NAMELESS) for token in listed(config.get(name))}
    added = {
        index: {"content": token, "special": token in special, "normalized": token not in special}
        for token, index in tokens.items()
    }
    return config | ({"added_tokens_decoder": added} if added else {})


def _object_in(path: Path) -> dict[str, Any]:
    """Read a file that need not be there; a pipe in its place, say, is not waited for."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a file")
    return read_json_object(path) if path.exists() else {}


def listed(tokens: Any) -> list[Any]:
    """Return one token, a list of them or a dict of them under names as a list."""
    if isinstance(tokens, dict) and "content" not in tokens:
        return list(tokens.values())
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]


def content(token: Any) -> Any:
    """Return the text of a token, which may be an object with flags, of JSON or of the library."""
    return token.get("content") if isinstance(token, dict) else getattr(token, "content", token)


def _added_token(entry: Any) -> "AddedToken":
    from tokenizers import AddedToken

    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise ValueError(f"a token is an object with content and flags, found {entry!r:.200}")
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(entry["content"], **({"special": True} | {f: bool(entry[f]) for f in flags if f in entry}))


def add_tokens(backend: "Tokenizer", config: dict[str, Any], stored_pad: str | None) -> dict[str, str | None]:
    """Add the configuration's tokens to the tokenizer, and return the special ones' text under their names.

    The flags in ``added_tokens_decoder`` win over those in ``tokenizer.json``, which win over those of a
    special token's own entry.
    """
    described = [_added_token(entry) for _, entry in _in_order(config.get("added_tokens_decoder") or {})]
    runs = [list(run) for _, run in groupby(described, attrgetter("special"))]
    if len(runs) > MOST_RUNS:  # after each call the library looks at all tokens again
        raise ValueError(f"added_tokens_decoder goes {len(runs)} times from special tokens to others or back")
    for run in runs:
        (backend.add_special_tokens if run[0].special else backend.add_tokens)(run)
    defaults: dict[str, str | None] = {
        name: token if backend.token_to_id(token) is not None else None for name, token in ALBERT_TOKENS.items()
    }
    if defaults["pad_token"] is None or config.get("tokenizer_class") == "PreTrainedTokenizerFast":
        defaults["pad_token"] = stored_pad or defaults["pad_token"]
    named = {name: config.get(name, default) for name, default in defaults.items()}
    tokens = {name: None if entry is None else _special(name, entry) for name, entry in named.items()}
    nameless: list[Any] = []
    for name in NAMELESS:
        more = config.get(name) or []
        if not isinstance(more, list | dict) or (isinstance(more, dict) and name == NAMELESS[0]):
            raise ValueError(f"{name} is a list, found {more!r:.200}")
        nameless += [_special(name, entry) for entry in listed(more)]
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    new = {token.content: token for token in reversed([*filter(None, tokens.values()), *nameless])}  # the first counts
    backend.add_special_tokens([token for token in reversed(new.values()) if token.content not in known])
    return {name: token and token.content for name, token in tokens.items()}


def _special(name: str, entry: object) -> Any:
    if isinstance(entry, str):
        # As in ALBERT, [MASK] takes the space before it.
        return _added_token({"content": entry, "lstrip": name == "mask_token", "normalized": False})
    if isinstance(entry, dict):
        return _added_token(entry)
    raise ValueError(f"{name} is a str or an object with content and flags, found {entry!r:.200}")


def _in_order(added: Any) -> list[tuple[int, Any]]:
    try:
        return sorted(((int(index), token) for index, token in added.items()), key=itemgetter(0))
    except (AttributeError, ValueError) as error:
        raise ValueError(f"added_tokens_decoder maps ids to tokens, found {added!r:.200}: {error!s:.200}") from error
