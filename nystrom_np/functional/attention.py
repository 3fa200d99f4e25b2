"""Softmax attention: the textbook form that holds every weight, and the same numbers in bounded memory."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

from nystrom_np.array_module import Array, get_array_module
from nystrom_np.functional.normalization import softmax, widen
from nystrom_np.parallel import parallel_map, row_blocks

__all__ = ["additive_mask", "attention_scores", "softmax_attention", "softmax_attention_matrix"]

QUERIES_PER_BLOCK = 256
"""Queries of one head that a thread handles at a time: enough for an efficient matrix product. More of them where
there are few keys, so that blocks are worth a thread's while."""

SCORES_PER_BLOCK = 1 << 18
"""Scores that a thread holds at a time (1 MB in float32, so that they stay in the cache): longer rows are taken in
pieces."""

SCORES_WORTH_A_THREAD = 1 << 16
"""With fewer scores in all, handing work to threads costs more than it saves."""

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
    """Cut scores of a shape (..., heads, queries, keys) into (heads, rows).

    Some heads, or some rows of one, for each thread of a CPU; all heads together where there is little to do, or
    where the device is parallel by itself.
    """
    *heads, queries, keys = shape
    together: list[tuple[Any, ...]] = [()]
    if xp is not np:
        rows = max(1, SCORES_ON_A_DEVICE // max(1, math.prod(heads) * keys))
    else:
        rows = max(QUERIES_PER_BLOCK, SCORES_PER_BLOCK // keys)
        if heads and math.prod(shape) > SCORES_WORTH_A_THREAD:
            groups = row_blocks(heads[-1], max(1, SCORES_PER_BLOCK // (queries * keys)))
            together = [(*batch, group) for batch in np.ndindex(*heads[:-1]) for group in groups]
    for some in together:
        for start in range(0, queries, rows):
            yield some, slice(start, start + rows)


def _attend(query: Array, key: Array, value: Array, bias: Array | None, out: Array) -> None:
    """Write attention of one block of queries to ``out``, its keys in pieces: a running maximum and a running sum.

    It may be the queries' memory, since they are read before. Scores lie with the keys first, (..., keys, queries):
    NumPy takes a maximum or a sum over the keys of all queries at once far faster than one query after the other.
    Away from NumPy a block is small enough to be taken as it is defined.
    """
    xp = get_array_module(query)
    if xp is not np:
        scores = query @ key.swapaxes(-1, -2)
        weights = softmax(scores if bias is None else widen(scores) + bias)
        out[...] = weights.astype(value.dtype, copy=False) @ value
        return
    step = max(1, SCORES_PER_BLOCK // query.shape[-2])
    so_far: Any = None  # the highest scores, the sums and the contexts of the pieces before
    for start in range(0, key.shape[-2], step):
        piece = slice(start, start + step)
        scores = widen(key[..., piece, :] @ query.swapaxes(-1, -2))
        if bias is not None:
            scores += bias[..., piece].swapaxes(-1, -2)
        highest = scores.max(axis=-2, keepdims=True)  # (..., 1, queries), as is the total
        if so_far is not None:
            highest = xp.maximum(highest, so_far[0])
        scores -= highest
        weights = xp.exp(scores, out=scores)
        total = weights.sum(axis=-2, keepdims=True)
        context = weights.astype(value.dtype, copy=False).swapaxes(-1, -2) @ value[..., piece, :]
        if so_far is not None:
            before, total_before, context_before = so_far
            shrink = xp.exp(before - highest)
            total += total_before * shrink
            context = context + context_before * shrink.swapaxes(-1, -2)
        so_far = highest, total, context
    xp.divide(context, total.swapaxes(-1, -2), out=out)
