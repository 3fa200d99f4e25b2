"""Row by row and element by element, in memory that is there already and while it lies in the cache.

An expression such as ``0.5 * x * (1.0 + tanh(u))`` makes an array for each of its operations, and large arrays travel
to memory and back each time. Here every step is written over the last one, for a few rows at a time.
"""

import math
import sys
from collections.abc import Callable
from functools import cache, wraps
from inspect import unwrap
from typing import Any

import numpy as np

from nystrom_np.array_module import Array
from nystrom_np.shapes import Float

__all__ = ["elementwise", "exponential", "gelu_fast", "gelu_new", "in_single", "layer_norm", "linear", "overwrite"]

ELEMENTS_PER_BLOCK = 1 << 18
"""Elements that are handled at a time: few enough that a block and its temporaries stay in the cache, and enough that
threads seldom wait for each other between two operations."""


def in_single(function: Callable[..., Any], narrow: bool = True) -> Callable[..., Any]:
    """Make a twin compute half precision in float32, and narrow its results again unless told otherwise.

    Examples
    --------
    >>> in_single(lambda x: x * x / 300.0)(np.array([300.0], np.float16))
    array([300.], dtype=float16)
    """
    function = unwrap(function)  # of a definition not the switch, which would come back here

    @wraps(function)
    def computed(*args: Any, **kwargs: Any) -> Any:
        if not any(_is_half(value) for value in args):
            return function(*args, **kwargs)
        result = function(*(np.float32(value) if _is_half(value) else value for value in args), **kwargs)
        if not narrow:
            return result
        return tuple(map(np.float16, result)) if isinstance(result, tuple) else np.asarray(result, np.float16)

    return computed


def _is_half(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float16


def linear(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "outputs inputs"],
    bias: Float[Array, "outputs"] | float = 0.0,
    *,
    out: Float[Array, "*batch outputs"] | None = None,
) -> Float[Array, "*batch outputs"]:
    """Compute :func:`nystrom_np.definition.linear` as one product of two matrices, the bias added where it lies."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.matmul(rows, weight.T, out=None if out is None else out.reshape(-1, len(weight)))
    if isinstance(bias, np.ndarray):
        y += bias
    return y.reshape(*x.shape[:-1], len(weight)) if out is None else out


def softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Compute :func:`nystrom_np.definition.softmax`, each step written over the last."""
    y = x - x.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)
    return y


def layer_norm(
    x: Float[Array, "*batch dim"],
    weight: Float[Array, "dim"],
    bias: Float[Array, "dim"],
    eps: float = 1e-5,
    *,
    out: Float[Array, "*batch dim"] | None = None,
) -> Float[Array, "*batch dim"]:
    """Compute :func:`nystrom_np.definition.layer_norm`, each step written over the last.

    The mean of the squares is taken by einsum, in one pass that makes no array of them. ``out`` may be x itself.
    """
    same = out is not None and out.dtype == x.dtype
    y = np.subtract(x, x.mean(axis=-1, keepdims=True), out=out if same else None)
    variance = np.einsum("...i,...i->...", y, y)[..., None] / y.shape[-1]
    y *= 1.0 / np.sqrt(variance + eps)
    y *= weight
    y += bias
    if out is None or same:
        return y
    out[...] = y
    return out


def gelu_new(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute :func:`nystrom_np.activations.gelu_new` as x / (1 + e⁻²ᵘ), which is the same and takes half the time."""
    return _tanh_gelu(x, math.sqrt(2.0 / math.pi))


def gelu_fast(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute :func:`nystrom_np.activations.gelu_fast` as :func:`gelu_new` is computed."""
    return _tanh_gelu(x, 0.7978845608)


def _tanh_gelu(x: np.ndarray, scale: float) -> np.ndarray:
    # −2u in products, since a power would take fifty times as long; where e⁻²ᵘ is ∞ the quotient is 0, as it should.
    # x and one array of its size stay in the cache, three would not.
    exp, unit = exponential()
    y = x * x
    y *= -2.0 * scale * 0.044715 * unit
    y -= 2.0 * scale * unit
    y *= x  # −2u
    exp(y, out=y)
    y += 1.0  # 1 + e⁻²ᵘ
    return np.divide(x, y, out=y)


FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"gelu_new": gelu_new, "gelu_fast": gelu_fast}
"""Formulas of one array that have another form here."""


def elementwise(formula: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Make a formula of one array one pass over memory: a block after the other goes through all of its steps.

    Examples
    --------
    >>> elementwise(np.square)(np.arange(4.0))
    array([0., 1., 4., 9.])
    """
    formula = FORMULAS.get(formula.__name__, formula)

    @wraps(formula)
    def in_blocks(x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", under="ignore"):  # a formula may pass through ∞ to the right limit
            if x.ndim == 0:  # NumPy's operators return a number for it, which no step can be written over
                return formula(np.reshape(x, 1)).reshape(())
            if x.size <= ELEMENTS_PER_BLOCK:
                return formula(x).astype(x.dtype, copy=False)
            flat = x.reshape(-1)  # a view for the contiguous arrays that products return, else one copy
            out = np.empty_like(flat)
            for start in range(0, flat.size, ELEMENTS_PER_BLOCK):
                block = slice(start, start + ELEMENTS_PER_BLOCK)
                out[block] = formula(flat[block])
            return out.reshape(x.shape)

    return in_blocks


def overwrite(x: np.ndarray, function: Callable[..., np.ndarray], *rows: np.ndarray) -> np.ndarray:
    """Return ``function(x, *rows)`` for a row-wise function, in the memory of x, a few rows at a time.

    No fresh memory is taken from the system, which costs time for each of its pages. The function may change the rows
    of x that it is given, but not those of the others.

    Examples
    --------
    >>> overwrite(np.array([[1.0, 4.0]]), np.sqrt)
    array([[1., 2.]])
    """
    step = max(1, ELEMENTS_PER_BLOCK // max(1, x.shape[-1]))
    for start in range(0, len(x), step):
        block = slice(start, start + step)
        x[block] = function(x[block], *(array[block] for array in rows))
    return x


@cache
def exponential() -> tuple[Callable[..., np.ndarray], float]:
    """Return NumPy's fastest exponential and its unit: eˣ is ``exp(unit * x)``.

    It is 2ʸ, with the unit log₂ e, where NumPy has it in vectors of AVX-512 (0.6 of the time of eˣ in float32), and
    eˣ itself, with the unit one, elsewhere.

    Examples
    --------
    >>> exp, unit = exponential()
    >>> float(exp(unit * np.float64(1.0)).round(4))
    2.7183
    """
    if sys.platform == "linux" and has_avx512():  # NumPy's wheels for Linux have it
        return np.exp2, math.log2(math.e)
    return np.exp, 1.0


def steady_exponential(dtype: np.dtype) -> tuple[Callable[..., np.ndarray], float]:
    """Return the exponential, as :func:`exponential` does, whose time depends least on the numbers.

    In float32 NumPy's 2ʸ takes 10 times as long where it overflows or is 0, and 200 times as long where it is below
    the smallest normal number; eˣ does not. (In float64 neither does much better than the other.)

    Examples
    --------
    >>> exp, unit = steady_exponential(np.dtype("float32"))
    >>> round(float(exp(unit * np.float32(1.0))), 4)
    2.7183
    """
    return (np.exp, 1.0) if dtype == np.float32 else exponential()


def has_avx512() -> bool:
    """Whether NumPy has found a processor with AVX-512.

    Examples
    --------
    >>> has_avx512() in (True, False)
    True
    """
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])  # left out where there are none
    return not {"AVX512_SKX", "X86_V4"}.isdisjoint(found)  # the second is its name from NumPy 2.4 on
