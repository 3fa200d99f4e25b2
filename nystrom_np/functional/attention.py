"""Softmax attention: the textbook form that holds every weight, and the same numbers in bounded memory."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

from nystrom_np.array_module import Array, exponential, get_array_module
from nystrom_np.functional.normalization import softmax, widen
from nystrom_np.parallel import parallel_map, row_blocks

__all__ = ["additive_mask", "attention_scores", "softmax_attention", "softmax_attention_matrix"]

Part = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""Of attention to some of the keys: the contexts (..., queries, values), the sums of the weights (..., queries, 1), and
what was subtracted from the scores before they became weights, if anything was."""

QUERIES_PER_BLOCK = 256
"""Queries that a thread handles at a time: enough for an efficient matrix product. Up to twice as many, or more where
there are few keys, so that blocks are worth a thread's while."""

SCORES_PER_BLOCK = 1 << 18
"""Scores that a thread holds at a time (1 MB in float32, so that they stay in the cache): longer rows are taken in
pieces."""

SCORES_WORTH_A_THREAD = 1 << 16
"""With fewer scores in all, handing work to threads costs more than it saves."""

SAFE_SUMS = 2.0**-64, 2.0**96
"""Where a query's exponentials have a sum between these, they are taken of the scores as they are: none has
overflowed, and those that vanished would not have counted."""

SCORES_ON_A_DEVICE = 1 << 28
"""Scores that a GPU holds at a time (1 GB in float32)."""


def additive_mask(mask: Num[Array, "*shape"] | Bool[Array, "*shape"], dtype: object) -> Float[Array, "*shape"]:
    """Turn a mask of ones and zeros into what is added to attention scores: (1 − mask) · min(dtype).

    Adding the most negative finite number, not −∞, leaves a row that is masked entirely with equal weights
    instead of NaN.

    Parameters
    ----------
    mask : array of integers, floats or booleans, any shape
        1 (True) for real positions, 0 (False) for padding.
    dtype : dtype
        Of the scores.

    Returns
    -------
    array of ``dtype``
        0 where the mask is 1 and ``finfo(dtype).min`` where it is 0.

    References
    ----------
    ``get_extended_attention_mask`` in ``transformers.modeling_utils``, 4.37.2.

    Examples
    --------
    >>> import numpy as np
    >>> additive_mask(np.array([1, 0]), np.float32)
    array([-0.0000000e+00, -3.4028235e+38], dtype=float32)
    """
    xp = get_array_module(mask)
    return (1.0 - mask.astype(dtype)) * xp.finfo(dtype).min


def attention_scores(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    mask: Shaped[Array, "..."] | None = None,
) -> Float[Array, "*batch queries keys"]:
    """Scores q kᵀ + mask, in float32 at least.

    Parameters
    ----------
    query : array of floats, (..., queries, dim)
    key : array of floats, (..., keys, dim)
        Both already divided by dim^¼, so that the scores are those of q kᵀ / √dim.
    mask : array, broadcastable to (..., queries, keys), optional
        1 for the keys to attend to, 0 for those to leave out.

    Returns
    -------
    array, (..., queries, keys)

    Examples
    --------
    >>> import numpy as np
    >>> attention_scores(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    array([[11., 17.]])
    """
    scores = widen(query @ key.swapaxes(-1, -2))
    if mask is not None:
        scores += additive_mask(mask, scores.dtype)
    return scores


def softmax_attention_matrix(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    mask: Shaped[Array, "..."] | None = None,
) -> Float[Array, "*batch queries keys"]:
    """Attention weights softmax(q kᵀ + mask): for each query a distribution over the keys.

    Parameters
    ----------
    query, key, mask
        As in :func:`attention_scores`.

    Returns
    -------
    array, (..., queries, keys)
        Rows sum to one; dtype of the query.

    References
    ----------
    Vaswani et al., arXiv 1706.03762, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_attention_matrix(np.zeros((1, 2)), np.zeros((2, 2)))
    array([[0.5, 0.5]])
    """
    return softmax(attention_scores(query, key, mask)).astype(query.dtype, copy=False)


def softmax_attention(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    value: Float[Array, "*batch keys values"],
    mask: Shaped[Array, "..."] | None = None,
    out: Float[Array, "*batch queries values"] | None = None,
) -> Float[Array, "*batch queries values"]:
    """Softmax attention: ``softmax_attention_matrix(query, key, mask) @ value``, without holding the matrix.

    Heads and blocks of queries are shared between the threads. Each thread holds at most
    :data:`SCORES_PER_BLOCK` scores, however long the sequence.

    Parameters
    ----------
    query : array of floats, (..., queries, dim)
    key : array of floats, (..., keys, dim)
        Both already divided by dim^¼.
    value : array of floats, (..., keys, values)
    mask : array, broadcastable to (..., queries, keys), optional
        1 for the keys to attend to, 0 for those to leave out. A row of zeros gives equal weights.
    out : array, (..., queries, values), optional
        What to write the result to. It may be the query itself, if that is not needed any more.

    Returns
    -------
    array, (..., queries, values)
        Dtype of the value, or ``out``.

    References
    ----------
    Vaswani et al., arXiv 1706.03762, equation 1; Rabe and Staats, arXiv 2112.05682, for the bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_attention(np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]]))
    array([[2.]])
    """
    xp = get_array_module(query, key, value, mask)
    if key.shape[-2] == 0:
        raise ValueError("softmax attention needs at least one key; found none")
    shape = (*query.shape[:-1], key.shape[-2])
    bias = None if mask is None else xp.broadcast_to(additive_mask(mask, widen(query[..., :0]).dtype), shape)
    context = _empty_context(query, value) if out is None else out

    def attend(block: tuple[tuple[Any, ...], slice]) -> None:
        heads, rows = block
        block_bias = None if bias is None else bias[heads][..., rows, :]
        _attend(query[heads][..., rows, :], key[heads], value[heads], block_bias, out=context[heads][..., rows, :])

    parallel_map(attend, list(_blocks(xp, shape)))
    return context


def _empty_context(query: Array, value: Array) -> Array:
    """Laid out in memory like the query, so that heads split without a copy also merge without one."""
    xp = get_array_module(query)
    if query.shape[-1] == value.shape[-1]:
        return xp.empty_like(query, dtype=value.dtype)
    return xp.empty((*query.shape[:-1], value.shape[-1]), dtype=value.dtype)


def _blocks(xp: Any, shape: tuple[int, ...]) -> Iterator[tuple[tuple[Any, ...], slice]]:
    """Cut scores of a shape (..., heads, queries, keys) into (heads, rows), blocks that fit into a core's cache.

    All of few queries, of some heads; of many queries some, of all heads if they fit, since the heads of a query lie
    side by side in memory. All heads together where there is little to do, or where the device is parallel by itself.
    """
    *outer, queries, keys = shape
    if xp is not np:
        step = max(1, SCORES_ON_A_DEVICE // max(1, math.prod(outer) * keys))
        yield from (((), slice(start, start + step)) for start in range(0, queries, step))
        return
    heads = outer[-1] if outer else 1
    if queries <= max(QUERIES_PER_BLOCK, min(2 * QUERIES_PER_BLOCK, SCORES_PER_BLOCK // keys)):
        groups = row_blocks(heads, max(1, SCORES_PER_BLOCK // max(1, queries * keys)))
        rows = [slice(0, queries)]
    else:
        most = min(heads, max(1, SCORES_PER_BLOCK // (QUERIES_PER_BLOCK * keys)))
        groups = [slice(start, start + most) for start in range(0, heads, most)]
        rows = row_blocks(queries, max(QUERIES_PER_BLOCK, SCORES_PER_BLOCK // (most * keys)))
    together: list[tuple[Any, ...]] = [()]
    if outer and math.prod(shape) > SCORES_WORTH_A_THREAD:
        together = [(*batch, group) for batch in np.ndindex(*outer[:-1]) for group in groups]
    yield from itertools.product(together, rows)


def _attend(query: Array, key: Array, value: Array, bias: Array | None, out: Array) -> None:
    """Write attention of one block of queries to ``out``, its keys in pieces: running sums of weights and contexts.

    It may be the queries' memory, since they are read before. Away from NumPy a block is small enough to be taken as
    it is defined.
    """
    if get_array_module(query) is not np:
        scores = query @ key.swapaxes(-1, -2)
        weights = softmax(scores if bias is None else widen(scores) + bias)
        out[...] = weights.astype(value.dtype, copy=False) @ value
        return
    step = max(1, SCORES_PER_BLOCK // query.shape[-2])
    so_far: Any = None
    for start in range(0, key.shape[-2], step):
        piece = slice(start, start + step)
        part_bias = None if bias is None else bias[..., piece]
        part = _unnormalised(query, key[..., piece, :], value[..., piece, :], part_bias)
        so_far = part if so_far is None else _together(so_far, part)
    context, total, _ = so_far
    context /= total
    out[...] = context


def _unnormalised(query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray | None) -> Part:
    """Attention to a piece of the keys before the division by the sums.

    The exponentials are taken of the scores as they are, and only where the sums show that one has overflowed, or that
    all of a row have vanished, again of the scores minus their maximum: moderate scores need neither to be found.
    """
    exp, _ = exponential(np)
    weights, shift = _scores(query, key, bias), None
    ones = np.ones(weights.shape[-1], weights.dtype)  # BLAS sums in half of NumPy's time
    with np.errstate(over="ignore", under="ignore"):
        exp(weights, out=weights)
        total = (weights @ ones)[..., None]
    if total.size and not (total.min() >= SAFE_SUMS[0] and total.max() <= SAFE_SUMS[1]):  # also if one is NaN
        weights = _scores(query, key, bias)
        shift = weights.max(axis=-1, keepdims=True)
        weights -= shift
        exp(weights, out=weights)
        total = (weights @ ones)[..., None]
    return weights @ widen(value), total, shift


def _together(one: Part, other: Part) -> Part:
    """Attention to two pieces of the keys, whose exponentials are brought to the same shift."""
    if one[2] is None and other[2] is None:
        return one[0] + other[0], one[1] + other[1], None
    exp, _ = exponential(np)
    shift, shift_other = (np.zeros_like(total) if shift is None else shift for _, total, shift in (one, other))
    highest = np.maximum(shift, shift_other)
    shrink, shrink_other = exp(shift - highest), exp(shift_other - highest)
    return one[0] * shrink + other[0] * shrink_other, one[1] * shrink + other[1] * shrink_other, highest


def _scores(query: np.ndarray, key: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """Scores (..., queries, keys) in the unit of :func:`exponential`.

    The longer of the last two axes lies outermost in memory, which is the order that BLAS writes fastest, and the
    shorter array is the one that is scaled.
    """
    _, unit = exponential(np)
    if query.shape[-2] < key.shape[-2]:
        scores = (key @ (query * unit).swapaxes(-1, -2)).swapaxes(-1, -2)
    else:
        scores = query @ (key * unit).swapaxes(-1, -2)
    scores = widen(scores)
    if bias is not None:
        scores += bias
    return scores
