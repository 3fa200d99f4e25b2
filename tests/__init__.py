"""The tests, and the scripts beside them, which run in environments of their own."""

from collections.abc import Callable
from typing import Any


def check(function: Any) -> Callable[..., Any]:
    """The type checker that ``pyproject.toml`` names: that of `tests.shapes`, which is in place once it is asked."""
    from tests import shapes  # here: the scripts beside the tests need neither jaxtyping nor beartype

    return shapes.check(function)
