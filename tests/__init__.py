"""The type checker of the tests: beartype for everything that is defined once.

A function defined inside another would be decorated anew at each call of the outer one, which takes longer than
what it computes; its arguments come from a checked function anyway.
"""

from collections.abc import Callable
from typing import Any


def check(function: Any) -> Callable[..., Any]:
    """Check the types of a function's arguments and of what it returns."""
    from beartype import beartype  # here: the scripts beside the tests run without it too

    return function if "<locals>" in getattr(function, "__qualname__", "") else beartype(function)
