"""Where a port first differs from the definition, and why if the cause is a known one.

What is allowed at a step follows from the dtype: it is what rounding does to the definition itself, measured by running
it with every value disturbed as that dtype would round it, and, where NumPy has the dtype, by running it in it.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from inspect import signature
from typing import Any

import numpy as np

from nystrom_np.array_module import Array, get_array_module, to_numpy
from nystrom_np.causes import CAUSES, Cause
from nystrom_np.trace import Step, Trace, run

__all__ = ["Compared", "Report", "compare", "rounding_errors", "single_steps"]

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
"""The distance from 1 to the next number, of the most precise dtype first."""
FACTOR, FLOOR, RUNS = 16.0, 16.0, 3
"""Allowed are so many times the definition's own rounding errors, and so many ε of the step's largest value."""


@dataclass(frozen=True)
class Compared:
    """One step of a port, compared.

    Attributes
    ----------
    name : str
    error, relative, allowed : float
        The largest difference, also as a share of the largest value expected, and the largest that is allowed.
    line, formula : int, str
        Where the definition computes the step, and how.
    inputs : tuple of str
        The steps it is computed from.
    """

    name: str
    error: float
    relative: float
    allowed: float
    line: int
    formula: str
    inputs: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether the difference is within what is allowed."""
        return self.error <= self.allowed


@dataclass(frozen=True)
class Report:
    """All steps that a port handed over, in the order of execution.

    Attributes
    ----------
    steps : dict of str to Compared
    dtype : str
        What the tolerances are for.
    causes : tuple of str
        The known causes that explain the first wrong step, that which explains most of the later ones first.
    searched : bool
        Whether causes were looked for, which needs the model itself.
    """

    steps: dict[str, Compared]
    dtype: str
    causes: tuple[str, ...] = ()
    searched: bool = True

    @property
    def first(self) -> Compared | None:
        """The first step that is out, or None."""
        return next((step for step in self.steps.values() if not step.agrees), None)

    @property
    def agrees(self) -> bool:
        """Whether no step is out."""
        return self.first is None

    @property
    def cause(self) -> str | None:
        """The known cause that explains the numbers, or None."""
        return self.causes[0] if self.causes else None

    def __str__(self) -> str:
        rows = [
            f"{'agrees' if step.agrees else 'DIFFERS':<8} {step.error:8.1e} of {step.allowed:7.1e} allowed "
            f"({step.relative:7.1e} of the largest)  {step.name}"
            for step in self.steps.values()
        ]
        return "\n".join([*rows, *self.verdict()])

    def verdict(self) -> list[str]:
        """Return what is to be said at the end: the first wrong step, its formula, its inputs' errors, the cause."""
        first = self.first
        if first is None:
            return [f"All {len(self.steps)} steps agree in {self.dtype}."]
        place = f"line {first.line} of the definition: {first.formula}" if first.line else first.formula
        lines = [f"The first step that differs is {first.name}", f"  {place}"]
        for name in first.inputs:
            given = self.steps.get(name)
            told = f"{given.error:.1e} of {given.allowed:.1e} allowed" if given else "was not handed over"
            lines.append(f"  its input {name}: {told}")
        if not self.searched:
            return [*lines, "  cause: not looked for"]
        return [*lines, f"  cause: {'; or '.join(self.causes) if self.causes else 'none of the known ones'}"]


def compare(
    expected: Trace,
    found: Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    dtype: str | None = None,
    causes: Iterable[Cause] = CAUSES,
) -> Report:
    """Compare a port's steps with those of the definition.

    Parameters
    ----------
    expected : Trace
        Of a model in float64: see :func:`nystrom_np.trace.trace`.
    found : mapping of str to array
        The port's, any of the steps.
    names : mapping of str to str, optional
        From the port's names to those of the trace, for those that differ.
    dtype : {"float64", "float32", "bfloat16", "float16"}, optional
        What the port computes in; by default the least precise that its arrays have.
    causes : iterable of Cause
        What is tried where a step is out.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If a name is none of the trace's, or an array has another shape than its step.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> from nystrom_np.rewrite import Change
    >>> from nystrom_np.trace import run, trace
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, initializer_range=0.5)
    >>> model, inputs = NystromformerModel(config, dtype="float64"), {"input_ids": [[7, 3, 9, 4]]}
    >>> port = run(
    ...     model,
    ...     inputs,
    ...     [
    ...         Change("project", 'heads("query") / d**0.25', 'heads("query") / d**0.5'),
    ...         Change("project", 'heads("key") / d**0.25', 'heads("key") / d**0.5'),
    ...     ],
    ... )
    >>> report = compare(trace(model, **inputs), port)
    >>> report.first.name, report.cause
    ('encoder.layer.0.attention.self.q', 'scores are divided by √d twice')
    """
    theirs, ours = _named(expected, found, names or {}), expected.numpy
    arrays = [*theirs.values(), *ours.values()]
    dtype = dtype or max((str(array.dtype) for array in arrays), key=lambda name: EPS.get(name, 0.0))
    if dtype not in EPS:
        raise ValueError(f"dtype must be one of {', '.join(EPS)}; found {dtype!r}")
    errors = rounding_errors(expected, dtype)
    steps = {}
    for name, step in expected.steps.items():
        if name in theirs:
            error, largest = _distance(theirs[name], ours[name]), _largest(ours[name])
            allowed = FACTOR * errors[name] + FLOOR * EPS[dtype] * largest
            relative = error / largest if largest else math.inf if error else 0.0
            sources = tuple(dict.fromkeys(step.sources.values()))
            steps[name] = Compared(name, error, relative, allowed, step.line, step.formula, sources)
    report = Report(steps, dtype)
    if report.agrees or expected.model is None:
        return Report(steps, dtype, searched=report.agrees)
    return Report(steps, dtype, _explaining(expected, theirs, report, causes))


def single_steps(expected: Trace, functions: Mapping[str, Callable[..., Any]], *, dtype: str | None = None) -> Report:
    """Feed each stage's expected inputs to a port's function for it, so that one fault does not hide the next.

    Parameters
    ----------
    expected : Trace
        Of a model in float64.
    functions : mapping of str to callable
        By the name of a step, or by a pattern such as ``"*.self.F"``, which stands for that of every layer. A function
        takes what it needs of the step's ``inputs``, by their names, as NumPy arrays, and has its own parameters.
    dtype : {"float64", "float32", "float16"}, optional
        What floats are handed over in, and what the tolerances are for; by default the trace's.

    Returns
    -------
    Report
        Of the steps that have a function, with no causes.

    Raises
    ------
    ValueError
        If a name fits no step, a function asks for what its step is not computed from, or what it returns has another
        shape.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> from nystrom_np.trace import trace
    >>> config = NystromformerConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, num_landmarks=2)
    >>> steps = trace(NystromformerModel(config, dtype="float64"), input_ids=[[7, 3, 9, 4]])
    >>> single_steps(steps, {"*.self.B_v": lambda b, value: b @ value, "*.conv": lambda value: value}).first.name
    'encoder.layer.0.attention.self.conv'
    """
    found: dict[str, Any] = {}
    dtype = dtype or max((str(value.dtype) for value in expected.values()), key=lambda name: EPS.get(name, 0.0))
    for pattern, function in functions.items():
        fitting = [name for name in expected if fnmatchcase(name, pattern)]
        if not fitting:
            raise ValueError(f"{pattern!r} fits none of the trace's {len(expected)} steps")
        found |= {name: function(**_asked_for(expected.steps[name], function, dtype)) for name in fitting}
    return replace(compare(expected, found, dtype=dtype, causes=()), searched=False)


def _asked_for(step: Step, function: Callable[..., Any], dtype: str) -> dict[str, np.ndarray]:
    """What a step is computed from, as far as the function takes it."""
    parameters = signature(function).parameters.values()
    every = any(one.kind is one.VAR_KEYWORD for one in parameters)
    names = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    needed = {one.name for one in parameters if one.name in names and one.default is one.empty}
    if missing := needed - step.inputs.keys():
        known = ", ".join(step.inputs) or "nothing that is known"
        raise ValueError(f"the function for {step.name!r} asks for {min(missing)!r}; the step is computed from {known}")
    given = {name: to_numpy(value) for name, value in step.inputs.items() if every or name in names}
    return {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in given.items()}


def rounding_errors(expected: Trace, dtype: str) -> dict[str, float]:
    """Measure what rounding in a dtype does to each step of the definition: the largest error of several runs.

    Examples
    --------
    >>> from nystrom_np import NystromformerConfig, NystromformerModel
    >>> from nystrom_np.trace import trace
    >>> config = NystromformerConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)
    >>> errors = rounding_errors(trace(NystromformerModel(config, dtype="float64"), input_ids=[[7, 3]]), "float32")
    >>> 1e-9 < errors[
    ...     "last_hidden_state" if "last_hidden_state" in errors else "encoder.layer.0.output.LayerNorm"
    ... ] < 1e-5
    True
    """
    if dtype not in EPS:
        raise ValueError(f"dtype must be one of {', '.join(EPS)}; found {dtype!r}")
    if dtype in expected.errors:
        return expected.errors[dtype]
    if expected.model is None:
        raise ValueError(f"the trace knows rounding in {', '.join(expected.errors)} alone; found {dtype}")
    exact, worst = expected.numpy, dict.fromkeys(expected, 0.0)
    with np.errstate(all="ignore"):
        for seed in range(RUNS):
            draw = np.random.default_rng(seed)

            def disturb(x: Array, draw: Any = draw) -> Array:
                xp = get_array_module(x)
                # Every score rounds away in a mask's number, but for float16, whose own is small.
                hidden = (abs(x) > xp.finfo(x.dtype).max / 2) & (dtype != "float16")
                rounded = x * (1.0 + EPS[dtype] * _beside(draw.uniform(-1.0, 1.0, x.shape), x))
                return xp.where(hidden, x, rounded)

            _widen(worst, exact, run(_rounded(expected.model, dtype), expected.inputs, disturb=disturb))
        if dtype in ("float32", "float16"):
            lower = type(expected.model)(expected.model.config, parameters=expected.model.state_dict(), dtype=dtype)
            _widen(worst, exact, run(lower, expected.inputs))
    expected.errors[dtype] = worst
    return worst


def _beside(noise: Any, like: Array) -> Array:
    from nystrom_np.array_module import move_like

    return move_like(np.asarray(noise), like).astype(like.dtype)


def _rounded(model: Any, dtype: str) -> Any:
    """The model with parameters that the dtype can hold."""
    if dtype == "float64":
        return model
    parameters = model.state_dict()
    if dtype == "bfloat16":
        rounded = {name: _to_bfloat16(value) for name, value in parameters.items()}
    else:
        rounded = {name: value.astype(dtype).astype(model.dtype) for name, value in parameters.items()}
    return type(model)(model.config, parameters=rounded)


def _to_bfloat16(value: Array) -> Array:
    bits = np.ascontiguousarray(to_numpy(value), np.float32).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return _beside(nearest.view(np.float32), value)


def _widen(worst: dict[str, float], exact: Mapping[str, np.ndarray], other: Trace) -> None:
    for name in worst.keys() & {*other, *other.aliases}:  # an output may be a step of its own in one dtype alone
        worst[name] = max(worst[name], _distance(to_numpy(other[name]), exact[name], unknown=math.inf))


def _named(expected: Trace, found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The port's arrays under the trace's names, checked."""
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"the names' map speaks of {missing[0]!r}, which is none of the port's {len(found)} arrays")
    theirs: dict[str, np.ndarray] = {}
    for given, value in found.items():
        name = names.get(given, given)
        if name.split(".")[-1] == "dropout":
            continue  # at inference it hands on what it is given
        name = next((one for one in (name, f"nystromformer.{name}") if one in expected), name)
        if name not in expected:
            near = get_close_matches(name, [*expected, *expected.aliases], 1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise ValueError(f"{given!r} is none of the trace's {len(expected)} steps{hint}")
        name = expected.aliases.get(name, name)
        theirs[name] = _shaped(given, value, to_numpy(expected[name]))
    if not theirs:
        raise ValueError(f"the port has none of the trace's {len(expected)} steps")
    return theirs


def _shaped(given: str, value: Any, like: np.ndarray) -> np.ndarray:
    value = value.detach() if hasattr(value, "detach") else value
    try:
        array = np.asarray(value.cpu() if hasattr(value, "cpu") else value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{given!r} cannot be read as an array: {error}") from None
    if array.dtype.kind != "f":
        raise ValueError(f"{given!r} must hold floats; found {array.dtype}")
    if array.size == 1 and not like.ndim:
        return array.reshape(())  # a loss, which some formats hold as one row
    same = array.ndim == like.ndim and all(1 in (a, b) or a == b for a, b in zip(array.shape, like.shape, strict=True))
    if array.shape != like.shape and not (same and array.ndim > 0 and array.shape[1:] == like.shape[1:]):
        raise ValueError(f"{given!r} must have shape {like.shape}; found {array.shape}")
    return array


def _distance(a: Any, b: Any, unknown: float = math.inf) -> float:
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    with np.errstate(all="ignore"):
        difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return float(np.max(np.where(np.isnan(difference), unknown, difference), initial=0.0))


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(np.where(np.isfinite(x), x, 0.0)), initial=0.0))


def _explaining(
    expected: Trace, theirs: Mapping[str, np.ndarray], report: Report, causes: Iterable[Cause]
) -> tuple[str, ...]:
    """The causes with which the definition computes the first wrong step as the port does; the best one first."""
    assert report.first is not None
    wrong, found = report.first, []
    for cause in causes:
        other = _supposing(expected, cause)
        if other is None:
            continue
        value = other.get(wrong.name)
        if value is None or value.shape != expected[wrong.name].shape:
            continue
        left = _distance(theirs[wrong.name], value)
        if left <= wrong.allowed and left <= 0.1 * wrong.error:
            agreeing = [
                name in other
                and other[name].shape == theirs[name].shape
                and _distance(theirs[name], other[name]) <= step.allowed
                for name, step in report.steps.items()
            ]
            found.append((-sum(agreeing), left, cause.name))
    best = min(found, default=(0, 0.0, ""))[0]
    return tuple(name for score, _, name in sorted(found, key=lambda one: one[0]) if score == best)


def _supposing(expected: Trace, cause: Cause) -> dict[str, np.ndarray] | None:
    """What the definition computes if the cause holds; None if it cannot, or computes the same."""
    model = expected.model
    if cause.config:
        config = copy.copy(model.config)
        if all(getattr(config, name) == value for name, value in cause.config.items()):
            return None
        for name, value in cause.config.items():
            setattr(config, name, value)
        model = type(model)(config, parameters=model.state_dict())
    try:
        with np.errstate(all="ignore"):
            other = run(model, expected.inputs, cause.changes)
    except (ValueError, TypeError, IndexError, ZeroDivisionError):
        return None  # these inputs are none that such a port could take
    values = other.numpy
    for alias, name in expected.aliases.items():  # what is computed packed is of another shape until it is returned
        if alias in other and (name not in values or values[name].shape != expected[name].shape):
            values[name] = to_numpy(other[alias])
    return values
