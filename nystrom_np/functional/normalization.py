"""Softmax and layer normalisation, the two places where precision is decided.

Both compute half-precision input in float32 and return the input's dtype.
"""

import numpy as np
from jaxtyping import Float

from nystrom_np.array_module import Array, fuse, fuse_in_place, get_array_module

__all__ = ["layer_norm", "log_softmax", "softmax", "widen"]


def widen(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return float16 input as float32, other floats as they are: sums over many terms need the precision.

    Raises
    ------
    TypeError
        If it holds no floats: results in the dtype of the input would be rounded to integers.

    Examples
    --------
    >>> import numpy as np
    >>> widen(np.zeros(2, np.float16)).dtype
    dtype('float32')
    """
    if x.dtype.kind != "f":
        raise TypeError(f"an array of floats was expected; found {x.dtype}")
    return x.astype("float32") if x.dtype == "float16" else x


def softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Softmax: eˣ / Σ eˣ along an axis, shifted by the maximum so that nothing overflows.

    Parameters
    ----------
    x : array of floats, any shape
    axis : int
        The axis that sums to one.

    Returns
    -------
    array
        Same shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    highest = widen(x.max(axis=axis, keepdims=True))
    weights = _exponentials(x, highest)
    return _shares(weights, weights.sum(axis=axis, keepdims=True, dtype=highest.dtype))


@fuse
def _exponentials(x: Array, highest: Array) -> Array:
    shifted = x - highest
    return get_array_module(x).exp(shifted)


@fuse
def _shares(weights: Array, total: Array) -> Array:
    return weights / total


def log_softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Logarithm of the softmax: x − log Σ eˣ along an axis, without overflow or log 0.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    xp = get_array_module(x)
    wide = widen(x)
    shifted = wide - wide.max(axis=axis, keepdims=True)
    return (shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))).astype(x.dtype, copy=False)


def layer_norm(
    x: Float[Array, "*batch dim"],
    weight: Float[Array, "dim"],
    bias: Float[Array, "dim"],
    eps: float = 1e-5,
    out: Float[Array, "*batch dim"] | None = None,
) -> Float[Array, "*batch dim"]:
    """Layer normalisation: (x − mean) / √(variance + ε) · weight + bias, over the last axis.

    Parameters
    ----------
    x : array of floats, (..., dim)
    weight, bias : arrays of floats, (dim,)
    eps : float
        Added to the variance, which divides by dim (not dim − 1).
    out : array, (..., dim), optional
        What to write the result to. It may be x itself, if that is not needed any more.

    Returns
    -------
    array
        Same shape and dtype as x, or ``out``.

    References
    ----------
    Ba, Kiros and Hinton, arXiv 1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> layer_norm(np.array([1.0, 3.0]), np.ones(2), np.zeros(2), eps=0.0)
    array([-1.,  1.])
    """
    wide = widen(x)
    same = out is not None and out.dtype == wide.dtype  # then no other memory is needed
    y = get_array_module(x).subtract(wide, wide.mean(axis=-1, keepdims=True), out=out if same else None)
    variance = _mean_square(y)
    _scale_and_shift(y, variance, weight, bias, eps)
    if out is None:
        return y.astype(x.dtype, copy=False)
    if not same:
        out[...] = y
    return out


def _mean_square(y: Array) -> Array:
    """Mean of the squares over the last axis, which NumPy's einsum takes in one pass."""
    if get_array_module(y) is not np:
        return (y * y).mean(axis=-1, keepdims=True)
    return np.einsum("...i,...i->...", y, y)[..., None] / y.shape[-1]


@fuse_in_place
def _scale_and_shift(y: Array, variance: Array, weight: Array, bias: Array, eps: float) -> None:
    y *= 1.0 / get_array_module(variance).sqrt(variance + eps)
    y *= weight
    y += bias
