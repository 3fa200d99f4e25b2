"""Texts as the ``tokenizers`` library takes them: one or many, alone or in pairs, whole or in words."""

from collections.abc import Callable
from typing import Any

__all__ = ["whole_characters"]


def whole_characters(text: str) -> str:
    """Return a text without halves of characters, which no encoding can write.

    Parameters
    ----------
    text : str
        Python's strings may hold surrogates, from damaged files or names: halves of a character in UTF-16.

    Returns
    -------
    str
        Two halves that belong together are the character that they stand for, any other is U+FFFD.

    Examples
    --------
    >>> first, second = chr(0xD83D), chr(0xDE00)
    >>> whole_characters(f"{first}{second} or {first}")
    '😀 or �'
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def is_one(text: object, is_split: bool) -> bool:
    """Whether this is one text: a str, or a list of words."""
    if not is_split:
        return isinstance(text, str)
    return isinstance(text, list | tuple) and not any(isinstance(word, list | tuple) for word in text)


def single(text: Any, text_pair: Any, is_split: bool = False) -> Any:
    """Return one text, or a pair in a tuple, as the library takes it. An empty second text is none."""
    if text_pair is None and isinstance(text, str) and not is_split:
        return _text(text, "text")
    part, what = (_words, "a list of str") if is_split else (_text, "a str")
    for name, one in (("text", text), ("text_pair", text_pair)):
        if not is_one(one, is_split) and (name == "text" or one is not None):
            expected = what if name == "text" else f"{what} or None"
            raise TypeError(f"{name} is {expected}, found {kind(one)}")
    first = part(text, "text")
    return (first, part(text_pair, "text_pair")) if text_pair else first


def as_batch(text: Any, text_pair: Any, is_split: bool = False) -> list[Any]:
    """Return a list of texts or pairs as the library takes it."""
    part, what = (_words, "a list of str") if is_split else (_text, "a str")
    if not isinstance(text, list | tuple):
        raise TypeError(f"text is {what}, a list of {what[2:]} or a list of pairs of {what[2:]}, found {kind(text)}")
    if not text:
        raise ValueError("text is an empty list, at least one text is needed")
    if text_pair is None:
        return [_item(item, f"text[{i}]", part, is_split) for i, item in enumerate(text)]
    if not isinstance(text_pair, list | tuple):
        raise TypeError(f"text is a list, so text_pair is a list or None, found {kind(text_pair)}")
    if len(text) != len(text_pair):
        raise ValueError(f"text and text_pair have the same length, found {len(text)} and {len(text_pair)}")
    for name, texts in (("text", text), ("text_pair", text_pair)):
        for i, item in enumerate(texts):
            if not is_one(item, is_split):
                raise TypeError(f"{name}[{i}] is {what} when text_pair is given, found {kind(item)}")
    return [(part(one, "text"), part(other, "text_pair")) for one, other in zip(text, text_pair, strict=True)]


def _item(item: Any, name: str, part: Callable[[Any, str], Any], is_split: bool) -> Any:
    """Return a text, or a pair of texts in a tuple."""
    if is_one(item, is_split):
        return part(item, name)
    if isinstance(item, list | tuple) and len(item) == 2 and all(is_one(text, is_split) for text in item):
        return part(item[0], name), part(item[1], name)
    expected = "a list of str or a pair of such lists" if is_split else "a str or a pair of str"
    raise TypeError(f"{name} is {expected}, found {kind(item)}")


def _text(text: Any, name: str) -> str:
    return text if text.isascii() else whole_characters(text)


def _words(words: Any, name: str) -> list[str]:
    for i, word in enumerate(words):
        if not isinstance(word, str):
            raise TypeError(f"{name}[{i}] is a str, as is_split_into_words says, found {kind(word)}")
    return [whole_characters(word) for word in words]


def kind(value: object) -> str:
    """Say what a value is, for an error message."""
    try:
        return "None" if value is None else f"{type(value).__name__} {value!r}"[:80]
    except RecursionError:
        return f"{type(value).__name__}, nested too deeply"
