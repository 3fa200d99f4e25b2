"""Six thousand random calls of the tokenizer, answered by this package and by transformers 4.37.2, live.

``pytest -m reference`` runs this. What the two answer differently is in ``DIFFERENCES``, and on the documentation's
page about transformers' interface; everything else is equal, values and types.
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


def has_no_room(call: Call, ours: Any, theirs: Any) -> bool:
    """The reference subtracts below nothing, and cuts nothing, or keeps no token."""
    return "no room for the" in says(ours) and not says(theirs) and call.options["max_length"] <= 3


def is_mask_of_ids(call: Call, ours: Any, theirs: Any) -> bool:
    return call.options.get("return_special_tokens_mask", False) and "already_has_special_tokens" in says(theirs)


def has_no_length(call: Call, ours: Any, theirs: Any) -> bool:
    return call.method == "prepare_for_model" and "unsupported operand" in says(theirs)


def is_pair_of_words(call: Call, ours: Any, theirs: Any) -> bool:
    return call.options.get("is_split_into_words", False) and says(theirs).startswith("text input must be")


def is_wide_stride(call: Call, ours: Any, theirs: Any) -> bool:
    """The reference refuses a stride that nothing that is cut would have."""
    return says(theirs).startswith("tokenizer stride set to") and not says(ours)


def is_cut_and_array(call: Call, ours: Any, theirs: Any) -> bool:
    return call.method == "prepare_for_model" and "returning overflowing tokens" in says(theirs)


def is_empty(call: Call, ours: Any, theirs: Any) -> bool:
    """No token at all: arrays of the reference are float64."""
    return ours == json.loads(json.dumps(theirs).replace("float64", "int64")) and "'values': [[]]" in str(ours)


def is_mask_unfilled(call: Call, ours: Any, theirs: Any) -> bool:
    """The reference leaves a mask shorter than its sequence, or raises because of it."""
    unasked = call.method == "pad" and call.options.get("return_attention_mask") is False
    if not unasked or "attention_mask" not in ours:
        return False
    shared = set(ours) - {"attention_mask"}
    return bool(says(theirs)) or all(ours[name] == theirs[name] for name in shared)


DIFFERENCES: tuple[Callable[[Call, Any, Any], bool], ...] = (
    *(is_ragged, has_no_room, is_mask_of_ids, has_no_length, is_pair_of_words, is_wide_stride, is_cut_and_array),
    *(is_empty, is_mask_unfilled),
)


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
    unexplained = [
        (call, ours, theirs)
        for call, ours, theirs in compared
        if ours != theirs and not (says(ours) and says(theirs))
        if not any(differs(call, ours, theirs) for differs in DIFFERENCES)
    ]
    assert unexplained == []
    same = sum(ours == theirs and not says(ours) for _, ours, theirs in compared)
    assert same > 0.8 * COUNT


def test_each_difference_is_still_one(compared: list[tuple[Call, Any, Any]]) -> None:
    different = [one for one in compared if one[1] != one[2]]
    for differs in DIFFERENCES:
        assert any(differs(*one) for one in different), differs.__name__


def test_errors_are_the_documented_ones(compared: list[tuple[Call, Any, Any]]) -> None:
    found = {ours["error"] for _, ours, _ in compared if says(ours)}
    assert found <= {"ValueError", "TypeError", "IndexError"}
