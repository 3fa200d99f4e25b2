"""The type checker of the tests: beartype, with jaxtyping's scopes for the axes' names.

jaxtyping's own decorator checks a function by calling two empty ones of its signature, opens a scope for functions
that name no axes too, and decorates a function inside another anew at each call of the outer one. All that takes
longer than what small models compute. So here a function checks itself, in a scope where it names axes, and one
inside another is left to the checked function that calls it.
"""

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import beartype

_jaxtyped = jaxtyping.jaxtyped


def check(function: Any) -> Callable[..., Any]:
    """Check the types of a function's arguments and of what it returns."""
    return beartype(function)


def jaxtyped(function: Any = None, *, typechecker: Any) -> Any:
    """What jaxtyping's import hook decorates every function and class of the package with."""
    if function is None:
        return partial(jaxtyped, typechecker=typechecker)
    if "<locals>" in getattr(function, "__qualname__", ""):
        return function
    annotations = getattr(function, "__annotations__", {})
    # a quoted type may be one that only a static checker imports: jaxtyping lets it pass, beartype does not
    if not isinstance(function, FunctionType) or any(isinstance(each, str) for each in annotations.values()):
        return _jaxtyped(function, typechecker=typechecker)
    function = typechecker(function)
    return _jaxtyped(function, typechecker=None) if "jaxtyping." in str(annotations) else function


jaxtyping.jaxtyped = jaxtyped
