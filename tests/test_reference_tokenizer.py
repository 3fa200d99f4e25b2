"""Six thousand random calls of the tokenizer, answered by this package and by transformers 4.37.2, live.

``pytest -m reference`` runs this. Values and types are equal. What one of the two refuses and the other answers is here
by its kinds, and on the documentation's page about transformers' interface.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nystrom_np import NystromformerTokenizer
from tests.reference.client import run_inside
from tests.reference.environment import ReferenceUnavailable, python
from tests.reference.tokenizer_calls import Call, answers, calls

pytestmark = pytest.mark.reference

VERSION = "4.37.2"
COUNT, SEED = 6000, 0


def says(answer: Any) -> str:
    """Return an error's sentence; nothing for what is none."""
    return answer["says"] if isinstance(answer, dict) and "says" in answer else ""


def is_ragged(call: Call, ours: Any, theirs: Any) -> bool:
    return "need sequences of one length" in says(ours) and "'dtype': 'object'" in str(theirs)


def is_mask_of_ids(call: Call, ours: Any, theirs: Any) -> bool:
    return call.options.get("return_special_tokens_mask", False) and "already_has_special_tokens" in says(theirs)


def has_no_length(call: Call, ours: Any, theirs: Any) -> bool:
    return call.method == "prepare_for_model" and "unsupported operand" in says(theirs)


def is_pair_of_words(call: Call, ours: Any, theirs: Any) -> bool:
    return call.options.get("is_split_into_words", False) and says(theirs).startswith("text input must be")


def is_wide_stride(call: Call, ours: Any, theirs: Any) -> bool:
    """The reference refuses a stride that nothing that is cut would have."""
    return says(theirs).startswith("tokenizer stride set to") and not says(ours)


def is_cut_or_empty_array(call: Call, ours: Any, theirs: Any) -> bool:
    return call.method == "prepare_for_model" and says(theirs).startswith("Unable to create tensor")


ONLY_THERE: tuple[Callable[[Call, Any, Any], bool], ...] = (
    *(is_mask_of_ids, has_no_length, is_pair_of_words, is_wide_stride, is_cut_or_empty_array),
)
"""What the reference refuses and this package answers."""


@pytest.fixture(scope="module")
def compared(weights: Path) -> list[tuple[Call, Any, Any]]:
    """Each call, and what the two answer."""
    folder = weights / "masked-lm"
    try:
        python(VERSION)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    told = json.loads(run_inside(VERSION, "-m", "tests.reference.run_tokenizer", folder, str(COUNT), str(SEED)))
    assert told["transformers"] == VERSION
    asked = calls(COUNT, SEED)
    ours = json.loads(json.dumps(answers(NystromformerTokenizer.from_pretrained(folder), asked)))
    return list(zip(asked, ours, told["answers"], strict=True))


def test_values_are_the_references(compared: list[tuple[Call, Any, Any]]) -> None:
    """To the type: no value is another one, wherever both answer."""
    answered = [one for one in compared if not says(one[1]) and not says(one[2])]
    assert [one for one in answered if one[1] != one[2]] == []
    assert len(answered) > 0.85 * COUNT


def test_refused_is_what_the_reference_refuses_and_what_is_no_array(compared: list[tuple[Call, Any, Any]]) -> None:
    only_here = [one for one in compared if says(one[1]) and not says(one[2])]
    assert [one for one in only_here if not is_ragged(*one)] == []
    assert len(only_here) > 0


def test_what_only_the_reference_refuses(compared: list[tuple[Call, Any, Any]]) -> None:
    only_there = [one for one in compared if says(one[2]) and not says(one[1])]
    assert [one for one in only_there if not any(kind(*one) for kind in ONLY_THERE)] == []
    for kind in ONLY_THERE:
        assert any(kind(*one) for one in only_there), kind.__name__


def test_errors_are_the_documented_ones(compared: list[tuple[Call, Any, Any]]) -> None:
    found = {ours["error"] for _, ours, _ in compared if says(ours)}
    assert found <= {"ValueError", "TypeError", "IndexError"}
