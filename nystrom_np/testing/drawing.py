"""Strategies for arrays: of any memory layout, masks, and matrices such as softmax leaves between landmarks."""

from functools import cache
from typing import Any

import numpy as np

from nystrom_np.functional import softmax

__all__ = ["LAYOUTS", "arrays", "masks", "row_stochastic"]

LAYOUTS = ("contiguous", "read-only", "fortran", "strided", "reversed", "heads")
"""The memory layouts of drawn arrays: those that :func:`arrays` takes."""


def strategies() -> Any:
    try:
        import hypothesis.strategies as strategies
    except ImportError as error:
        raise ImportError("nystrom_np.testing needs Hypothesis to draw cases: pip install hypothesis") from error
    return strategies


def arrays(shape: tuple, dtype: Any = "float64", scale: float = 4.0, layouts: tuple = LAYOUTS) -> Any:
    """Strategy for arrays of floats of a shape, in any memory layout.

    Values come from a drawn seed, so that a case has few choices and shrinks fast. It shrinks to small shapes (if
    these are drawn too) and to coarse values, not to zeros.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
        Of float16, float32 or float64: the values are the same in each.
    scale : float
        Values are multiples of scale / 128 from -scale to scale; in some cases multiples of scale / 2.
    layouts : tuple of str
        Of :data:`LAYOUTS`: C-contiguous; the same but read-only; column-major; every other element of a
        buffer that holds NaN in between; negative strides; and (..., H, L, d) as a view of (..., L, H, d), as
        models split heads.

    Returns
    -------
    hypothesis.strategies.SearchStrategy

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(arrays((2, 3), "float32"))
    ... def test(x):
    ...     assert x.shape == (2, 3) and x.dtype == "float32" and abs(x).max() <= 4
    >>> test()
    """
    return array_choices(layouts).map(lambda choices: array_of(choices, shape, dtype, scale))


@cache
def array_choices(layouts: tuple = LAYOUTS) -> Any:
    """Seed, step and layout of an array; cached, since making a strategy takes longer than a draw."""
    st = strategies()
    return st.tuples(st.integers(0, 2**16), st.sampled_from([64, 1]), st.sampled_from(layouts))


def array_of(choices: tuple, shape: tuple, dtype: Any = "float64", scale: float = 4.0) -> np.ndarray:
    seed, step, layout = choices
    steps = np.random.default_rng(seed).integers(-128 // step, 128 // step, shape, endpoint=True)
    return lay_out((steps * (step * scale / 128)).astype(dtype), layout)


def lay_out(x: np.ndarray, layout: str) -> np.ndarray:
    if layout == "read-only":
        x.setflags(write=False)
    elif layout == "fortran":
        return np.asfortranarray(x)
    elif layout == "strided" and x.ndim:
        buffer = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan if x.dtype.kind == "f" else 0, x.dtype)
        buffer[..., ::2] = x
        return buffer[..., ::2]
    elif layout == "reversed" and x.ndim:
        return x[..., ::-1].copy()[..., ::-1]
    elif layout == "heads" and x.ndim >= 3:
        return np.ascontiguousarray(x.swapaxes(-3, -2)).swapaxes(-3, -2)
    return x


def masks(shape: tuple, empty_rows: bool = True) -> Any:
    """Strategy for masks of 1 (real) and 0 (padding), anywhere in a row, as integers, floats or booleans.

    Parameters
    ----------
    shape : tuple of int
    empty_rows : bool
        Whether a row may be masked entirely.

    Returns
    -------
    hypothesis.strategies.SearchStrategy

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(masks((2, 3), empty_rows=False))
    ... def test(mask):
    ...     assert (mask.max(axis=-1) == 1).all()
    >>> test()
    """
    return mask_choices().map(lambda choices: mask_of(choices, shape, empty_rows))


@cache
def mask_choices() -> Any:
    st = strategies()
    dtypes = st.sampled_from(["int64", "bool", "float32", "uint8"])
    return st.tuples(st.integers(0, 2**16), st.sampled_from([0.5, 0.0, 0.8, 1.0]), dtypes)


def mask_of(choices: tuple, shape: tuple, empty_rows: bool = True) -> np.ndarray:
    seed, padding, dtype = choices
    generator = np.random.default_rng(seed)
    mask = generator.random(shape) >= padding
    if not empty_rows:
        mask |= np.arange(shape[-1]) == generator.integers(0, shape[-1], (*shape[:-1], 1))
    return mask.astype(dtype)


def row_stochastic(max_size: int = 6, max_condition: float = 1e4) -> Any:
    """Strategy for invertible matrices such as softmax leaves between landmarks: positive, rows sum to one.

    Parameters
    ----------
    max_size : int
        The largest number of rows.
    max_condition : float
        Bound of the condition number in the 2-norm, above 1.

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of arrays of float64, (matrices, m, m) with 1 to 3 matrices.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(row_stochastic())
    ... def test(a):
    ...     assert abs(a.sum(axis=-1) - 1).max() < 1e-14
    >>> test()
    """
    st = strategies()

    def build(choices: tuple) -> np.ndarray:
        matrices, size, values = choices
        scores = array_of(values, (matrices, size, size), scale=8.0)
        return np.stack([_conditioned(a, max_condition) for a in softmax(scores)])

    return st.tuples(st.integers(1, 3), st.integers(1, max_size), array_choices(("contiguous",))).map(build)


def _conditioned(a: np.ndarray, max_condition: float) -> np.ndarray:
    """Average with the identity until the condition number is within its bound."""
    while np.linalg.cond(a) > max_condition:
        a = (a + np.eye(len(a))) / 2
    return a
