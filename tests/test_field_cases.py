"""What people have in their files and give to pipelines, by kind: transformers 4.37.2's answers, stored and live.

To store them anew: ``python -m tests.reference.field_cases weights > tests/data/field_cases.json`` in its environment.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from nystrom_np import pipeline
from tests.reference.client import run_inside
from tests.reference.environment import ReferenceUnavailable, python
from tests.reference.field_cases import CASES, answers

VERSION = "4.37.2"
STORED = json.loads((Path(__file__).parent / "data" / "field_cases.json").read_text(encoding="utf-8"))
KINDS = [case.kind for case in CASES]


@pytest.fixture(scope="module")
def ours(weights: Path) -> Any:
    return answers(pipeline, weights)


def rounded(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: rounded(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [rounded(value) for value in answer]
    return pytest.approx(answer, rel=1e-5, abs=1e-4) if isinstance(answer, float) else answer


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind(ours: Any, kind: str) -> None:
    assert ours[kind] == rounded(STORED["answers"][kind])
    assert len(ours[kind]) >= 3


def test_kinds_have_names_of_their_own() -> None:
    assert list(STORED["answers"]) == KINDS
    assert len(set(KINDS)) == len(KINDS)


@pytest.mark.reference
def test_what_is_stored_is_the_references(weights: Path) -> None:
    try:
        python(VERSION)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    live = json.loads(run_inside(VERSION, "-m", "tests.reference.field_cases", weights))
    assert live == rounded(STORED)
