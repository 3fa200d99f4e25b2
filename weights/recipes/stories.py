"""Short stories with questions, made by a seeded generator in the style of bAbI (Weston et al., arXiv 1502.05698).

People walk between places and pick things up. What is asked is answered by the last sentence that tells it, in a word
or two of the story itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

NAMES = ("Mary", "John", "Daniel", "Sandra", "Anna", "Peter", "Julia", "Thomas")
PLACES = ("kitchen", "garden", "office", "bathroom", "hallway", "bedroom", "school", "park", "library", "station")
THINGS = ("apple", "football", "book", "letter", "lamp", "hat", "bottle", "key")
WALKS = ("went to the", "moved to the", "walked to the", "ran to the", "came back to the")
TAKES = ("picked up the", "took the", "got the")
SENTENCES = 6


@dataclass(frozen=True)
class Story:
    """A story, a question about it, the answer's place in the story, and wrong answers of the same kind."""

    story: str
    question: str
    answer: str
    start: int
    others: tuple[str, ...]


def stories(count: int, seed: int) -> list[Story]:
    """Make ``count`` different stories."""
    rng = random.Random(seed)
    made: dict[str, Story] = {}
    while len(made) < count:
        one = _story(rng)
        made.setdefault(f"{one.story} {one.question}", one)
    return list(made.values())


def _story(rng: random.Random) -> Story:
    names = rng.sample(NAMES, rng.randint(2, 3))
    things = rng.sample(THINGS, 2)
    sentences, told = [], []
    for _ in range(rng.randint(3, SENTENCES)):
        name = rng.choice(names)
        if things and rng.random() < 0.3:
            what, verb = things.pop(), rng.choice(TAKES)
            told.append(("thing", name, what))
        else:
            what, verb = rng.choice(PLACES), rng.choice(WALKS)
            told.append(("place", name, what))
        sentences.append(f"{name} {verb} {what}.")
    ends = [0]
    for sentence in sentences:
        ends.append(ends[-1] + len(sentence) + 1)
    number, question, answer, others = rng.choice(list(_questions(told, names)))
    within = sentences[number].index(answer) if answer in names else sentences[number].rindex(answer)
    rng.shuffle(others)
    others.sort(key=lambda word: not any(word in sentence for sentence in sentences))  # those of the story mislead
    return Story(" ".join(sentences), question, answer, ends[number] + within, tuple(others[:3]))


def _questions(told: list[tuple[str, str, str]], names: list[str]) -> Iterator[tuple[int, str, str, list[str]]]:
    """Every question that the story answers, with the number of the sentence that does."""
    last = {(kind, name): number for number, (kind, name, _) in enumerate(told)}
    for (kind, name), number in last.items():
        what = told[number][2]
        if kind == "place":
            yield number, f"Where is {name}?", what, [place for place in PLACES if place != what]
        else:
            yield number, f"What did {name} take last?", what, [thing for thing in THINGS if thing != what]
            yield number, f"Who has the {what}?", name, [other for other in NAMES if other != name]
