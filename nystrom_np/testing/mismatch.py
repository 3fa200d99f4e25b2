"""Two implementations differ: where, by how much, of how much allowed, and in which case."""

import math
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import numpy as np

__all__ = ["Mismatch", "compare_arrays", "host_numbers"]


class Mismatch(ValueError):
    """Two implementations differ; the message names the output, the place, the numbers and the smallest case.

    Attributes
    ----------
    name : str
        The output that differs.
    index : tuple of int, or None
        Where the difference is largest; None if the shapes differ.
    difference : float
        The largest absolute difference; infinite if the shapes differ, or where only one of two numbers is NaN.
    case : AttentionCase or dict
        The smallest failing case found: what both were called with.
    expected, found : arrays
        The whole output, of this package and of the other.
    allowed : float
        The largest difference that would have been allowed.
    step : str or None
        The first wrong one of the steps that the other returned, by its name in :func:`nystrom_np.trace.trace`; hidden
        states, attentions and logits are steps too.

    Examples
    --------
    >>> Mismatch("logits: largest difference 0.5 at [0]", "logits", (0,), 0.5).index
    (0,)
    """

    def __init__(
        self,
        message: str,
        name: str,
        index: tuple[int, ...] | None,
        difference: float,
        *,
        case: Any = None,
        expected: Any = None,
        found: Any = None,
        allowed: float = 0.0,
        step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.name = name
        self.index = index
        self.difference = difference
        self.case = case
        self.expected = expected
        self.found = found
        self.allowed = allowed
        self.step = step

    def afresh(self) -> "Mismatch":
        """Return the same without what Hypothesis noted on it: the message has the case."""
        told = {name: value for name, value in vars(self).items() if name != "__notes__"}
        return Mismatch(str(self), **told)


def host_numbers(name: str, value: Any) -> np.ndarray:
    """Return what a port answered as a NumPy array of floats: arrays, nested lists, tensors with gradients.

    Raises
    ------
    TypeError
        If there are no numbers in it.

    Examples
    --------
    >>> host_numbers("logits", [[1, 2]])
    array([[1., 2.]])
    """
    for method in ("detach", "cpu", "get"):  # of torch's tensors; of CuPy's arrays
        if callable(getattr(value, method, None)) and not isinstance(value, dict):
            value = getattr(value, method)()
    try:
        return np.asarray(value).astype("float64")
    except (TypeError, ValueError, RuntimeError) as error:
        if callable(getattr(value, "double", None)):  # torch's bfloat16, which NumPy has not
            return np.asarray(value.double())
        raise TypeError(f"numbers were expected as {name}; found {type(value).__name__} ({error})") from None


def compare_arrays(
    name: str, found: Any, expected: Any, floor: float, case: Any, allowed: Callable[[], float] | None = None
) -> None:
    """Raise a :class:`Mismatch` unless all numbers agree.

    Parameters
    ----------
    name : str
        Of the output.
    found, expected : arrays
    floor : float
        A difference that is always allowed.
    case : AttentionCase or dict
        For the message.
    allowed : callable, optional
        Asked only where the difference is larger than the floor, since it may take long: what rounding can do in this
        case.

    Examples
    --------
    >>> compare_arrays("logits", [1.5], np.array([1.0]), 0.1, {"input_ids": [[7]]})
    Traceback (most recent call last):
    nystrom_np.testing.mismatch.Mismatch: logits: largest difference 0.5 at [0] of shape (1,): expected 1, found 1.5 ...
    """
    numbers, expected = host_numbers(name, found), np.asarray(expected, "float64")
    told = {"name": name, "case": case, "expected": expected, "found": numbers}
    if numbers.shape != expected.shape:
        what = f"{name}: expected shape {expected.shape}, found shape {numbers.shape}"
        raise Mismatch(f"{what}\n{_describe(case)}", index=None, difference=math.inf, allowed=floor, **told)
    difference = np.asarray(np.abs(numbers - expected))
    difference[(numbers == expected) | (np.isnan(numbers) & np.isnan(expected))] = 0.0  # infinities too
    difference[np.isnan(difference)] = math.inf
    largest = float(difference.max(initial=0.0))
    if largest <= floor:
        return
    bound = floor if allowed is None else max(floor, allowed())
    if largest > bound:
        index = tuple(int(i) for i in np.unravel_index(np.argmax(difference), difference.shape))
        what = (
            f"{name}: largest difference {largest:.3g} at {list(index)} of shape {expected.shape}: "
            f"expected {expected[index]:.17g}, found {numbers[index]:.17g} (allowed {bound:.3g})"
        )
        raise Mismatch(f"{what}\n{_describe(case)}", index=index, difference=largest, allowed=bound, **told)


def _describe(case: Any) -> str:
    fields = vars(case) if is_dataclass(case) else case
    with np.printoptions(threshold=400, precision=17):
        lines = [f"  {name} = {value!r}".replace("\n", "\n" + " " * (len(name) + 5)) for name, value in fields.items()]
    return "\n".join(["the smallest failing case found:", *lines])
