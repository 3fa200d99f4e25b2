"""Short stories with questions, made by a seeded generator in the style of bAbI (Weston et al., arXiv 1502.05698).

People walk between places and pick things up. What is asked is answered by the last sentence that tells it, in a word
or two of the story itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

NAMES = ("Mary", "John", "Daniel", "Sandra")
PLACES = ("kitchen", "garden", "office", "bathroom", "hallway", "bedroom")
THINGS = ("apple", "football", "book", "letter")
WALKS = ("went to the", "moved to the", "walked to the", "ran to the", "came back to the")
TAKES = ("picked up the", "took the", "got the")
SENTENCES = 6


@dataclass(frozen=True)
class Story:
    """A story, a question about it, the answer's place in the story, and wrong answers of the same kind.

    ``about`` are the places of the sentences that speak of whom or what is asked.
    """

    story: str
    question: str
    answer: str
    start: int
    others: tuple[str, ...]
    about: tuple[tuple[int, int], ...] = ()


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
    for _ in range(rng.randint(2, SENTENCES)):
        name = rng.choice(names)
        if things and rng.random() < 0.3:
            what, verb = things.pop(), rng.choice(TAKES)
            told.append(("thing", name, what))
        else:
            what, verb = rng.choice(PLACES), rng.choice(WALKS)
            told.append(("place", name, what))
        sentences.append(f"{name} {verb} {what}.")
    starts = [0]
    for sentence in sentences:
        starts.append(starts[-1] + len(sentence) + 1)
    number, question, asked, answer, others = rng.choice(list(_questions(told)))
    within = sentences[number].index(answer) if answer in NAMES else sentences[number].rindex(answer)
    rng.shuffle(others)
    others.sort(key=lambda word: not any(word in sentence for sentence in sentences))  # those of the story mislead
    about = [(starts[n], starts[n + 1] - 1) for n, sentence in enumerate(sentences) if asked in sentence]
    return Story(" ".join(sentences), question, answer, starts[number] + within, tuple(others[:3]), tuple(about))


def _questions(told: list[tuple[str, str, str]]) -> Iterator[tuple[int, str, str, str, list[str]]]:
    """Every question that the story answers: the number of the sentence that does, and of whom or what is asked."""
    last = {(kind, name): number for number, (kind, name, _) in enumerate(told)}
    for (kind, name), number in last.items():
        what = told[number][2]
        if kind == "place":
            yield number, f"Where is {name}?", name, what, [place for place in PLACES if place != what]
        else:
            yield number, f"What did {name} take last?", name, what, [thing for thing in THINGS if thing != what]
            yield number, f"Who has the {what}?", what, name, [other for other in NAMES if other != name]
