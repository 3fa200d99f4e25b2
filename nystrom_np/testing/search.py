"""The search for a case in which two implementations differ, and the account of what was tried."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nystrom_np.testing.drawing import strategies
from nystrom_np.testing.mismatch import Mismatch

__all__ = ["Exercised", "NotExercised", "search"]

KEPT = 0.1
"""A smaller case stands for the one found only where it differs by at least this part of it."""


class NotExercised(ValueError):
    """Nothing can be said of a port: no case of a kind that matters was tried.

    Examples
    --------
    >>> str(NotExercised("no case of Nyström attention"))
    'no case of Nyström attention'
    """


@dataclass(frozen=True)
class Exercised:
    """What a comparison in which everything agreed has tried.

    Attributes
    ----------
    cases : int
        How many were drawn.
    kinds : dict of str to int
        How many of them were of a kind: with a mask, with Nyström attention …

    Examples
    --------
    >>> print(Exercised(3, {"exact attention": 1, "Nyström attention": 2}))
    3 cases agree: exact attention 1, Nyström attention 2
    """

    cases: int
    kinds: dict[str, int]

    def __str__(self) -> str:
        return f"{self.cases} cases agree: {', '.join(f'{kind} {count}' for kind, count in self.kinds.items())}"


def search(
    check: Callable[[Any], None],
    cases: Any,
    max_examples: int,
    kinds: Callable[[Any], Iterable[str]],
    wanted: Iterable[str] = (),
) -> Exercised:
    """Run a check over drawn cases, the same ones every time, until every wanted kind has been tried.

    Parameters
    ----------
    check : callable
        Raises a :class:`Mismatch` where a case differs.
    cases : hypothesis.strategies.SearchStrategy
    max_examples : int
    kinds : callable
        The kinds that a case is of.
    wanted : iterable of str
        Of which kinds a case must be tried.

    Raises
    ------
    Mismatch
        Of the smallest case that differs as the first one found does.
    NotExercised
        If no case of a kind that is wanted could be drawn.

    Examples
    --------
    >>> import hypothesis.strategies as st
    >>> search(lambda case: None, st.booleans(), 10, lambda case: ["true" if case else "false"], ["true"]).kinds["true"]
    1
    """
    strategies()
    from hypothesis.errors import Unsatisfiable

    tried: Counter[str] = Counter()
    total = 0

    def counted(case: Any) -> None:
        nonlocal total
        check(case)
        total += 1
        tried.update(kinds(case))

    _run(counted, cases, max_examples)
    for kind in wanted:
        if not tried[kind]:
            try:
                _run(counted, cases.filter(lambda case, kind=kind: kind in kinds(case)), max(1, max_examples // 10))
            except Unsatisfiable:
                raise NotExercised(f"no case was tried of this kind: {kind}") from None
    return Exercised(total, dict(sorted(tried.items())))


def _run(check: Callable[[Any], None], cases: Any, max_examples: int) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Flaky

    kept = _Kept(check)

    def one(case: Any) -> None:
        kept(case)

    run = settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(given(cases)(one))
    try:
        run()
    except Mismatch as error:
        raise error.afresh() from None
    except Flaky:
        if kept.smallest is None:
            raise
        raise kept.smallest.afresh() from None


class _Kept:
    """A check that, once it has failed, fails only for the same reason: what is shrunk stays the difference found.

    Otherwise the search for a smaller case may slide from a wrong formula to a rounding error, another cause.
    """

    def __init__(self, check: Callable[[Any], None]) -> None:
        self.check = check
        self.first: Mismatch | None = None
        self.smallest: Mismatch | None = None

    def __call__(self, case: Any) -> None:
        try:
            self.check(case)
        except Mismatch as error:
            if self.first is None:
                self.first = error
            if _same(error, self.first):
                self.smallest = error
                raise
        except Exception:
            if self.first is None:
                raise


def _same(one: Mismatch, first: Mismatch) -> bool:
    if (one.name, one.step, one.index is None) != (first.name, first.step, first.index is None):
        return False
    return math.isinf(one.difference) == math.isinf(first.difference) and one.difference >= KEPT * first.difference
