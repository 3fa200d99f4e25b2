"""The task guides of transformers' documentation run with the import changed, and give what 4.37.2 gives."""

import json
from pathlib import Path
from typing import Any

import pytest

import nystrom_np
from nystrom_np import collators, pipelines
from tests.reference.client import run_inside
from tests.reference.environment import ReferenceUnavailable, python
from tests.reference.guides import GUIDES, told

VERSION = "4.37.2"
STORED = Path(__file__).parent / "data" / "guides.json"


class Library:
    """Where the guides' names are in this package."""

    def __getattr__(self, name: str) -> Any:
        return next(getattr(room, name) for room in (nystrom_np, collators, pipelines) if hasattr(room, name))


def same(found: Any, expected: Any, place: str) -> None:
    """Assert that JSON is the same: numbers within 1e-10, a pipeline's, which computes in float32, within 1e-5."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), place
        for name in expected:
            same(found[name], expected[name], f"{place}/{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for number, pair in enumerate(zip(found, expected, strict=True)):
            same(*pair, f"{place}/{number}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=0, abs=1e-5 if place.endswith("/score") else 1e-10), place
    else:
        assert (type(found), found) == (type(expected), expected), place


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.__name__)
def test_guide(guide: Any, checkpoints: Path) -> None:
    """Preprocessing, collation, loading, a pipeline and inference by hand."""
    expected = json.loads(STORED.read_text(encoding="utf-8"))[guide.__name__]
    same(json.loads(json.dumps(told(guide(Library(), checkpoints, "np")))), expected, guide.__name__)


@pytest.mark.reference
def test_what_is_stored_is_the_references(checkpoints: Path) -> None:
    try:
        python(VERSION)
    except ReferenceUnavailable as error:
        pytest.skip(str(error))
    live = json.loads(run_inside(VERSION, "-m", "tests.reference.guides", checkpoints))
    same(live, json.loads(STORED.read_text(encoding="utf-8")), "")
