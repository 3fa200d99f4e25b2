"""The tokens beside the vocabulary: the special ones, and those that files add."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nystrom_np.files import read_json_object

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

__all__ = ["ALBERT_TOKENS"]

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


def read_config(folder: Path) -> dict[str, Any]:
    """Read what the files beside ``tokenizer.json`` say."""
    config, names, tokens = (
        read_json_object(path) if (path := folder / f"{name}.json").exists() else {}
        for name in ("tokenizer_config", "special_tokens_map", "added_tokens")
    )
    if "added_tokens_decoder" in config:
        return config
    config |= names
    special = {content(token) for name in (*ALBERT_TOKENS, *NAMELESS) for token in listed(config.get(name))}
    added = {
        index: {"content": token, "special": token in special, "normalized": token not in special}
        for token, index in tokens.items()
    }
    return config | ({"added_tokens_decoder": added} if added else {})


def listed(tokens: Any) -> list[Any]:
    """Return one token, a list of them or a dict of them under names as a list."""
    if isinstance(tokens, dict) and "content" not in tokens:
        return list(tokens.values())
    if tokens is None:
        return []
    return tokens if isinstance(tokens, list) else [tokens]


def content(token: Any) -> str:
    """Return the text of a token, which may be an object with flags."""
    return str(token.get("content") if isinstance(token, dict) else token)


def _added_token(entry: Any) -> "AddedToken":
    from tokenizers import AddedToken

    if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
        raise ValueError(f"a token is an object with content and flags, found {entry!r}")
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(entry["content"], **({"special": True} | {f: bool(entry[f]) for f in flags if f in entry}))


def add_tokens(backend: "Tokenizer", config: dict[str, Any], stored_pad: str | None) -> dict[str, str | None]:
    """Add the configuration's tokens to the tokenizer, and return the special ones' text under their names.

    The flags in ``added_tokens_decoder`` win over those in ``tokenizer.json``, which win over those of a
    special token's own entry.
    """
    for _, described in _in_order(config.get("added_tokens_decoder") or {}):
        token = _added_token(described)
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    defaults: dict[str, str | None] = {
        name: token if backend.token_to_id(token) is not None else None for name, token in ALBERT_TOKENS.items()
    }
    if defaults["pad_token"] is None or config.get("tokenizer_class") == "PreTrainedTokenizerFast":
        defaults["pad_token"] = stored_pad or defaults["pad_token"]
    special: dict[str, str | None] = {}
    for name, default in defaults.items():
        entry = config.get(name, default)
        special[name] = None if entry is None else _add_special(backend, name, entry)
    for name in NAMELESS:
        more = config.get(name) or []
        if not isinstance(more, list | dict) or (isinstance(more, dict) and name == NAMELESS[0]):
            raise ValueError(f"{name} is a list, found {more!r}")
        for entry in listed(more):
            _add_special(backend, name, entry)
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
