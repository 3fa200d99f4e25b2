"""What is said of the survivors is about the code as it is."""

from collections import Counter

import pytest

pytest.importorskip("cosmic_ray")

from tests.mutation.__main__ import behaviour, explained, mutants, recorded, text_of


def test_each_survivor_is_explained():
    """As many as the numbers say, each of a line that is there, in a sentence."""
    for module, line, after in explained():
        assert line in map(str.strip, text_of(module).splitlines()), line
        assert after != line
    assert all(len(each["why"]) > 20 and each["why"].endswith(".") for each in recorded()["survivor"])
    alive = Counter(module for module, _, _ in explained())
    for name, numbers in recorded()["modules"].items():
        assert numbers["mutants"] - numbers["killed"] == alive[name], name


def test_a_mutant_is_one_change_of_behaviour():
    every = list(mutants(["model/packing"]))
    texts = [behaviour(mutant.source) for mutant in every]
    assert len({behaviour(text_of("model/packing")), *texts}) == len(texts) + 1
    assert {mutant.function for mutant in every} >= {"Packed.pack", "Packed.unpack", "collect"}


def test_annotations_and_messages_are_no_behaviour():
    text = 'def f(x: "a", n: int = 1) -> "b":\n    raise ValueError(f"{x}")\n'
    assert behaviour(text) == behaviour(text.replace('"a"', '"c"').replace('"b"', '"d"').replace('f"{x}"', "x, n"))
    assert behaviour(text) != behaviour(text.replace("1", "2"))
    assert behaviour(text) != behaviour(text.replace("ValueError", "TypeError"))
