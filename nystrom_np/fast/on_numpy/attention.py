"""Attention in bounded memory: blocks of scores that stay in the cache, shared by the threads.

The idea of the blocks is that of Rabe and Staats, arXiv 2112.05682, and of the running maximum that of Milakov and
Gimelshein, arXiv 1805.02867.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nystrom_np import definition
from nystrom_np.array_module import Array
from nystrom_np.fast.on_numpy.rows import exponential, steady_exponential
from nystrom_np.fast.on_numpy.threads import parallel_map, row_blocks, thread_count
from nystrom_np.shapes import Float, Shaped

__all__ = ["nystrom_attention", "segment_means", "softmax_attention"]

QUERIES_PER_BLOCK = 256
"""Queries that a thread handles at a time: enough for an efficient matrix product. Up to twice as many, or more where
there are few keys, so that blocks are worth a thread's while."""

SCORES_PER_BLOCK = 1 << 18
"""Scores that a thread holds at a time (1 MB in float32, so that they stay in the cache): longer rows are taken in
pieces."""

SCORES_WORTH_A_THREAD = 1 << 16
"""With fewer scores in all, handing work to threads costs more than it saves."""

VALUES_WORTH_A_THREAD = 1 << 16
"""As :data:`SCORES_WORTH_A_THREAD`, of queries to be averaged."""

FAR = 16.0
"""From 0: a mean of scores that is subtracted before exponentials are taken."""

SUMS = math.exp(-FAR), 2.0**96
"""The least and the largest sum of a query's exponentials that is trusted: what a mean of -FAR leaves, and what is far
from the largest number of float32, so that products with moderate values are too."""


def softmax_attention(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    value: Float[Array, "*batch keys values"],
    mask: Shaped[Array, "..."] | None = None,
    *,
    out: Float[Array, "*batch queries values"] | None = None,
) -> Float[Array, "*batch queries values"]:
    """Compute :func:`nystrom_np.definition.softmax_attention` without holding the matrix.

    Heads and blocks of queries are shared between the threads. Each thread holds at most ``SCORES_PER_BLOCK``
    scores, however long the sequence. ``out`` may be the query itself.
    """
    shape = (*query.shape[:-1], key.shape[-2])
    masked = None if mask is None else np.broadcast_to(np.logical_not(mask), shape)
    context = _empty_context(query, value) if out is None else out

    def attend(block: tuple[tuple[Any, ...], slice]) -> None:
        heads, rows = block
        part = None if masked is None else masked[heads][..., rows, :]
        _attend(query[heads][..., rows, :], key[heads], value[heads], part, out=context[heads][..., rows, :])

    parallel_map(attend, list(_blocks(shape)))
    return context


def _empty_context(query: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Laid out in memory like the query, so that heads split without a copy also merge without one."""
    if query.shape[-1] == value.shape[-1]:
        return np.empty_like(query, dtype=value.dtype)
    return np.empty((*query.shape[:-1], value.shape[-1]), dtype=value.dtype)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[tuple[Any, ...], slice]]:
    """Cut scores of a shape (..., heads, queries, keys) into (heads, rows), blocks that fit into a core's cache.

    Of many short sequences several together. Else all of few queries, of some heads; of many queries some, of all heads
    if they fit, since the heads of a query lie side by side in memory. All heads together where there is little to do.
    """
    *outer, queries, keys = shape
    heads = outer[-1] if outer else 1
    if len(outer) == 2 and outer[0] >= 2 * thread_count() and heads * queries * keys <= SCORES_PER_BLOCK // 2:
        for sequences in row_blocks(outer[0], SCORES_PER_BLOCK // max(1, heads * queries * keys)):
            yield (sequences,), slice(0, queries)
        return
    if queries <= max(QUERIES_PER_BLOCK, min(2 * QUERIES_PER_BLOCK, SCORES_PER_BLOCK // keys)):
        groups = row_blocks(heads, max(1, SCORES_PER_BLOCK // max(1, queries * keys)))
        rows = [slice(0, queries)]
    else:
        together = min(heads, max(1, SCORES_PER_BLOCK // (QUERIES_PER_BLOCK * keys)))
        groups = [slice(start, start + together) for start in range(0, heads, together)]
        rows = row_blocks(queries, max(QUERIES_PER_BLOCK, SCORES_PER_BLOCK // (together * keys)))
    where: list[tuple[Any, ...]] = [()]
    if outer and math.prod(shape) > SCORES_WORTH_A_THREAD:
        where = [(*batch, group) for batch in np.ndindex(*outer[:-1]) for group in groups]
    yield from itertools.product(where, rows)


def _attend(query: np.ndarray, key: np.ndarray, value: np.ndarray, masked: np.ndarray | None, out: np.ndarray) -> None:
    """Write attention of one block of queries to ``out``, which may be the query: it is not read afterwards.

    A softmax does not change when one vector is subtracted from all keys. With their mean, the scores of a query have
    the mean 0 and thus, by Jensen's inequality, exponentials that add up to no less than their number: none needs a
    maximum in order not to vanish. Nor does any of many keys whose scores have a mean near 0 as they are. Whether one
    has overflowed is seen from the sums and from the contexts. Only then, or where a mask leaves each query other keys,
    is the maximum subtracted.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        key, value, masked = _without_masked(key, value, masked)
        found = None if masked is not None else _around_the_mean(query, key, value)
        context, total = found or _below_the_maximum(query, key, value, masked)
    context /= total
    out[...] = context


Sums = tuple[np.ndarray, np.ndarray]
"""Of attention to some of the keys, before the division: the contexts (..., queries, values) and the sums of the
exponentials (..., queries, 1)."""


def _without_masked(
    key: np.ndarray, value: np.ndarray, masked: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Only the keys that a mask leaves, where it leaves all queries the same: the others have the weight 0.

    All of them where a value is not finite, of which the weight 0 makes NaN by definition.
    """
    if masked is None or not masked.size:
        return key, value, masked
    if any(stride and size > 1 for stride, size in zip(masked.strides[:-1], masked.shape[:-1], strict=True)):
        return key, value, masked
    kept = np.flatnonzero(~masked[(0,) * (masked.ndim - 1)])
    if not kept.size or not np.isfinite(_sums(value)).all():
        return key, value, masked
    neighbours = kept[-1] - kept[0] + 1 == len(kept)  # and nothing is copied
    some = slice(kept[0], kept[-1] + 1) if neighbours else kept
    return key[..., some, :], value[..., some, :], None


def _around_the_mean(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> Sums | None:
    """Attention from exponentials of the scores minus their mean, or of the scores; None if one may have overflowed."""
    exp, unit = exponential()
    mean = (np.full(key.shape[-2], 1.0 / key.shape[-2], key.dtype) @ key)[..., None, :]  # in a third of mean()'s time
    few = key.shape[-2] <= query.shape[-2]  # of few keys it is subtracted in less time than it takes to look
    far = few or np.abs(query @ mean.swapaxes(-1, -2)).max(initial=0.0) > FAR
    context: Any = 0.0
    total: Any = 0.0
    for piece in _pieces(query, key):
        keys = key[..., piece, :] - mean if far else key[..., piece, :]
        weights = _scores(query, keys, unit)
        if _are_extreme(weights[..., :1, :], unit):  # as those of the other queries, most likely
            return None
        exp(weights, out=weights)
        total = total + _sums(weights)
        context = context + weights @ value[..., piece, :]
    sound = not total.size or SUMS[0] <= total.min() <= total.max() <= SUMS[1]
    return (context, total) if sound and np.isfinite(_sums(context)).all() else None


def _below_the_maximum(query: np.ndarray, key: np.ndarray, value: np.ndarray, masked: np.ndarray | None) -> Sums:
    exp, unit = steady_exponential(query.dtype)
    share = 2.0 ** -key.shape[-2].bit_length()  # of each value: no sum of them is larger than the largest of them
    highest: Any = -np.inf
    context: Any = 0.0
    total: Any = 0.0
    for piece in _pieces(query, key):
        weights = _scores(query, key[..., piece, :], unit)
        if masked is not None:
            np.copyto(weights, np.finfo(weights.dtype).min, where=masked[..., piece])
        before, highest = highest, np.maximum(highest, weights.max(axis=-1, keepdims=True))
        shrink = exp(before - highest)  # of what was summed under a lower maximum; e^−∞ = 0 of nothing
        weights -= highest
        exp(weights, out=weights)
        total = total * shrink + _sums(weights)
        context = context * shrink + weights @ (value[..., piece, :] * share)
    return context, total * share


def _pieces(query: np.ndarray, key: np.ndarray) -> list[slice]:
    step = max(1, SCORES_PER_BLOCK // max(1, query.shape[-2]))
    return [slice(start, start + step) for start in range(0, key.shape[-2], step)]


def _sums(weights: np.ndarray) -> np.ndarray:
    return (weights @ np.ones(weights.shape[-1], weights.dtype))[..., None]  # BLAS sums in half of NumPy's time


def _are_extreme(scores: np.ndarray, unit: float) -> bool:
    """Whether exponentials of some scores overflow or vanish, which takes :func:`exponential` many times as long."""
    return bool(np.abs(scores).max(initial=0.0) > unit * math.log(2.0) * np.finfo(scores.dtype).maxexp)


def _scores(query: np.ndarray, key: np.ndarray, unit: float) -> np.ndarray:
    """Scores (..., queries, keys) in the unit of an exponential, by which the fewer are multiplied.

    The longer of the two axes lies outermost in memory, as BLAS writes it fastest.
    """
    if query.shape[-2] < key.shape[-2]:
        return (key @ (query * unit).swapaxes(-1, -2)).swapaxes(-1, -2)
    return query @ (key * unit).swapaxes(-1, -2)


def nystrom_attention(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    value: Float[Array, "*batch length values"],
    num_landmarks: int,
    mask: Shaped[Array, "..."] | None = None,
    pinv: Callable[[Array], Array] = definition.iterative_pinv,
    *,
    out: Float[Array, "*batch length values"] | None = None,
) -> Float[Array, "*batch length values"]:
    """Compute :func:`nystrom_np.definition.nystrom_attention` in time and memory linear in the length.

    B v is softmax attention of the landmark queries, and F x is softmax attention over the landmark keys. So the
    product F (A⁺ (B v)) is two softmax attentions with a small inverse between them, each in bounded memory (Xiong et
    al., arXiv 2102.03902, algorithm 1). ``out`` may be the query itself.
    """
    threads = None if query.size > VALUES_WORTH_A_THREAD else 1
    query_landmarks, key_landmarks = parallel_map(lambda x: segment_means(x, num_landmarks), [query, key], threads)
    kernel_2 = definition.softmax_attention_matrix(query_landmarks, key_landmarks)
    seen_by_landmarks = softmax_attention(query_landmarks, key, value, mask)
    return softmax_attention(query, key_landmarks, pinv(kernel_2) @ seen_by_landmarks, out=out)


def segment_means(
    x: Float[Array, "*batch length dim"], num_landmarks: int
) -> Float[Array, "*batch {num_landmarks} dim"]:
    """Compute :func:`nystrom_np.definition.segment_means` for all segments of one size together, as one mean each."""
    size, longer = divmod(x.shape[-2], num_landmarks)
    short = (num_landmarks - longer) * size  # tokens in the shorter segments
    means = [_means(x[..., :short, :], num_landmarks - longer)]
    if longer:
        means.append(_means(x[..., short:, :], longer))
    return np.concatenate(means, axis=-2) if longer else means[0]


def _means(x: np.ndarray, segments: int) -> np.ndarray:
    *batch, length, dim = x.shape
    return x.reshape(*batch, segments, length // segments, dim).mean(axis=-2)
