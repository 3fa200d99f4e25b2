"""Every input that ever failed, and a sample of new ones, each in a child."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz import child
from tests.fuzz.areas import AREAS, WrongAnswer, same
from tests.fuzz.worker import outcome

pytestmark = pytest.mark.host

CORPUS = Path(__file__).parent / "corpus"


def test_what_once_failed_and_a_sample() -> None:
    def run(area: str) -> list[str]:
        kept = sorted(path for path in (CORPUS / area).glob("*"))
        found = [f"{area} {name}: {end}" for name, end in child.outcomes_of(area, kept)]
        return found + [f"{area} {number}: {end}" for number, end in child.outcomes(area, 0, 12)]

    with ThreadPoolExecutor(2) as pool:
        found = [line for lines in pool.map(run, AREAS) for line in lines]
    assert [line for line in found if not line.endswith((": answer", ": refusal"))] == []
    assert Counter(line.split()[0] for line in found).keys() == AREAS.keys()


def test_what_counts_as_wrong(tmp_path: Path) -> None:
    def key_error(data: bytes, folder: Path) -> None:
        raise KeyError("a")

    def writes_outside(data: bytes, folder: Path) -> None:
        (folder.parent / "there").write_bytes(data)

    def two_lines(data: bytes, folder: Path) -> None:
        raise ValueError("one\ntwo")

    assert outcome(key_error, b"", True) == "KeyError: 'a'"
    assert outcome(writes_outside, b"", True) == "files outside: {'there'}"
    assert outcome(two_lines, b"", True) == "several lines: one two"
    assert outcome(two_lines, b"", False) == "refusal"
    assert outcome(lambda data, folder: None, b"", True) == "answer"
    with pytest.raises(WrongAnswer):
        same([1.0, 2.0], [1.0, 2.1])


def test_a_child_that_crashes_or_hangs() -> None:
    for code, end in (
        ("import os; os.abort()", "crash: the process ended with -6"),
        ("input()", "hang: more than 1 s"),
    ):
        process = child.popen(["-c", code])
        assert child.line_of(process, 1.0 if "hang" in end else 30.0) == end
        child.end(process)
