"""Tokens that are added or set, slices of encodings, where words begin: what transformers 4.37.2 does, stored and live.

To store it anew: ``python -m tests.reference.added_tokens weights/masked-lm`` in its environment.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from nystrom_np import NystromformerTokenizer
from tests.reference.added_tokens import BEGINNINGS, CHANGES, TEXT, answers
from tests.reference.client import run_inside
from tests.reference.environment import ReferenceUnavailable, python

VERSION = "4.37.2"
STORED = json.loads((Path(__file__).parent / "data" / "added_tokens.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ours(weights: Path) -> Any:
    return answers(lambda: NystromformerTokenizer.from_pretrained(weights / "masked-lm"))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_tokens(ours: Any, change: str) -> None:
    assert ours["changes"][change] == STORED["answers"]["changes"][change]


@pytest.mark.parametrize("of", ["of a call", "of values", "at a number"])
def test_slices(ours: Any, of: str) -> None:
    assert ours["slices"][of] == STORED["answers"]["slices"][of]


@pytest.mark.parametrize("text", BEGINNINGS)
def test_where_words_begin(ours: Any, text: str) -> None:
    """In the shipped file, with the tokenizers library that is installed, as in the reference with its older one."""
    assert ours["beginnings"][text] == STORED["answers"]["beginnings"][text]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_kept_in_files(weights: Path, tmp_path: Path, change: str) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(weights / "masked-lm")
    CHANGES[change](tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again = NystromformerTokenizer.from_pretrained(tmp_path)
    assert again(TEXT) == tokenizer(TEXT)
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.get_added_vocab().items() >= tokenizer.get_added_vocab().items()


@pytest.mark.parametrize("tokens", [5, ["a", 5], [None]])
def test_what_is_no_token(weights: Path, tokens: Any) -> None:
    tokenizer = NystromformerTokenizer.from_pretrained(weights / "masked-lm")
    with pytest.raises(TypeError, match=r"a token is a str or a tokenizers.AddedToken, found"):
        tokenizer.add_tokens(tokens)
    assert len(tokenizer) == 2048


@pytest.mark.reference
def test_what_is_stored_is_the_references(weights: Path) -> None:
    try:
        python(VERSION)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    assert json.loads(run_inside(VERSION, "-m", "tests.reference.added_tokens", weights / "masked-lm")) == STORED
