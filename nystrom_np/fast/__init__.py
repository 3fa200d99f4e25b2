"""Speed, and nothing else: a faster form of a definition is its twin, and this is the switch between them.

A twin is a function of the same name in the room of an array module: :mod:`nystrom_np.fast.on_numpy`, or
:mod:`nystrom_np.fast.on_device` for CuPy. It takes the same parameters, and may have more, keyword-only ones with
defaults, which only other twins pass. The laws of the tests hold every twin to its definition.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from importlib import import_module
from typing import Any, TypeVar

from nystrom_np.array_module import Array, get_array_module

__all__ = ["accelerated", "definitions", "elementwise", "in_room"]

TWINS = {"numpy": "nystrom_np.fast.on_numpy", "cupy": "nystrom_np.fast.on_device"}
"""The room of each array module that has twins."""

Function = TypeVar("Function", bound=Callable[..., Any])

OF_THE_ARRAY = object()
_chosen: ContextVar[Any] = ContextVar("chosen", default=OF_THE_ARRAY)


@contextmanager
def in_room(room: Any) -> Iterator[None]:
    """Let the functions of one room run in this block, for this thread, whatever module the arrays belong to.

    The room has an ``elementwise`` and, of the accelerated definitions, those that are to be replaced.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from nystrom_np import definition
    >>> with in_room(SimpleNamespace(softmax=lambda x: x + 1.0)):
    ...     definition.softmax(np.array([0.0, 1.0]))
    array([1., 2.])
    """
    token = _chosen.set(room)
    try:
        yield
    finally:
        _chosen.reset(token)


@contextmanager
def definitions() -> Iterator[None]:
    """Let every function be its definition in this block, for this thread: slower, and as it is read.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np import definition
    >>> with definitions():
    ...     definition.softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    with in_room(None):
        yield


def twins_of(array: Array) -> Any:
    """Return the room with the twins for an array, or None if it has none or they are shut out.

    Examples
    --------
    >>> import numpy as np
    >>> twins_of(np.zeros(1)).__name__
    'nystrom_np.fast.on_numpy'
    """
    room = _chosen.get()
    return _room(get_array_module(array).__name__) if room is OF_THE_ARRAY else room


@cache
def _room(module: str) -> Any:
    return import_module(TWINS[module]) if module in TWINS else None  # when first used: twins import definitions


def accelerated(definition: Function) -> Function:
    """Let the twin of a definition run in its place where the first array among its arguments has one.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np import definition
    >>> bool(definition.softmax is not definition.softmax.__wrapped__)
    True
    """
    name = definition.__name__

    @wraps(definition)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        array = next((value for value in (*args, *kwargs.values()) if hasattr(value, "shape")), None)
        if array is None:
            raise TypeError(f"{name} takes arrays; found none")
        return getattr(twins_of(array), name, definition)(*args, **kwargs)

    return chosen  # type: ignore[return-value]


def elementwise(formula: Function) -> Function:
    """Let a formula of one array, each element alone, take one pass over memory.

    Each room has its own ``elementwise``, which makes such a form of any formula: in blocks that stay in the cache on
    NumPy, as a kernel on CuPy.

    Examples
    --------
    >>> import numpy as np
    >>> elementwise(lambda x: x * x + 1.0)(np.arange(3.0))
    array([1., 2., 5.])
    """
    form = cache(lambda make: make(formula))

    @wraps(formula)
    def chosen(x: Array) -> Array:
        room = twins_of(x)
        # integers and numbers follow the formula: a pass would write its results into an array of their own type
        is_floats = getattr(getattr(x, "dtype", None), "kind", None) == "f"
        return form(room.elementwise)(x) if room and is_floats else formula(x)

    return chosen  # type: ignore[return-value]
