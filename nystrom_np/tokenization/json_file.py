"""What a ``tokenizer.json`` is checked for before the tokenizers library reads it: it ends the process at some."""

import base64
import json
import re
from typing import Any

__all__ = ["check_json"]

DEEPEST = 64
"""Objects and lists that may lie one in another; the library's own limit is 127."""

LONGEST = 10_000
"""Characters that what is put in a text's place, or a pattern, may have: it is put in at every place."""


CHARSMAP = re.compile(rb'"precompiled_charsmap"\s*:\s*"([A-Za-z0-9+/=]*)"')
HIDING = (b"recompiled_charsmap", b"\\u00")
"""Besides a table as it is usually written: what may be one that is written with escapes."""


def check_json(data: bytes, source: object) -> None:
    """Refuse what makes the tokenizers library end the process or compute without end.

    Parameters
    ----------
    data : bytes
        The file.
    source : object
        Names it in the error.

    Raises
    ------
    ValueError
        If a normalizer, pre-tokenizer or decoder in it has a value that the library does not check. What else is wrong
        with it the library says.

    Examples
    --------
    >>> check_json(b'{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////fwA="}}', "tokenizer.json")
    Traceback (most recent call last):
    ValueError: tokenizer.json: precompiled_charsmap says that it has a table of 2147483647 bytes, and has 1 after that
    """
    tables = CHARSMAP.findall(data) if HIDING[0] in data else []
    for table in tables:
        _check_charsmap(table, source)
    rest = CHARSMAP.sub(b"", data) if tables else data
    half = LONGEST // 2  # in a longer text, one such stretch has no quotation mark
    has_long = any(rest.find(b'"', i, i + half) < 0 for i in range(0, len(rest) - half, half))
    if not has_long and not any(text in rest for text in HIDING) and rest.count(b'\\"') < 100:
        return  # so that a large vocabulary is not read twice
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} cannot be read by the tokenizers library: it is not JSON: {error}") from None
    if isinstance(value, dict):
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            _check_part(value.get(part), source, 0)


def _check_part(value: Any, source: object, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"{source} is nested more than {DEEPEST} deep")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_part(part, source, depth + 1)
    if isinstance(value, dict):
        if "precompiled_charsmap" in value:
            _check_charsmap(value["precompiled_charsmap"], source)
        for name, text in value.items():
            if name != "precompiled_charsmap" and isinstance(text, str) and len(text) > LONGEST:
                raise ValueError(f"{source}: {name!r:.40} has {len(text)} characters, at most {LONGEST} are allowed")


def _check_charsmap(text: Any, source: object) -> None:
    """Of SentencePiece: the size of a table in bytes, the table of 4-byte integers, and texts in UTF-8."""
    where = f"{source}: precompiled_charsmap"
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is not base64") from None
    size, room = int.from_bytes(content[:4], "little"), max(len(content) - 4, 0)
    if size > room:
        raise ValueError(f"{where} says that it has a table of {size} bytes, and has {room} after that")
    if size == 0 or size % 4:
        raise ValueError(f"{where} has a table of {size} bytes, expected a multiple of 4")
    try:
        content[4 + size :].decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} has texts that are not UTF-8: {error}") from None
