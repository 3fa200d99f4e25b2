"""Few rows: the threads share the weights, and not the rows.

A product of few rows takes about as long as its weights take to be read. Threads that share rows would read all of the
weights each; here each reads a part of them. A thread takes some of the heads from the queries to their share of the
attention block's output, and some of the hidden features through the feed-forward block, so that it is waited for twice
a layer; the shares are added up. (Sharing of this kind, between GPUs: Shoeybi et al., arXiv 1909.08053, section 3.)

Everything lies transposed for it, with the numbers of a feature side by side: (features, rows). ``p`` is a part of the
parameters, as in :mod:`nystrom_np.definition`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from nystrom_np.activations import get_activation
from nystrom_np.array_module import Array
from nystrom_np.config import NystromformerConfig
from nystrom_np.definition import is_exact
from nystrom_np.fast.on_numpy.rows import exponential, has_avx512, steady_exponential
from nystrom_np.fast.on_numpy.threads import parallel_map, row_blocks
from nystrom_np.shapes import Float, Shaped

__all__ = ["project"]

FEW_ROWS = 128
"""With more rows sharing them is as fast."""

FEWEST_ROWS = 32
"""With fewer rows a product takes no less time: it waits for its weights."""

WORTH_A_THREAD = 1 << 24
"""With fewer multiplications, of :data:`FEWEST_ROWS` at least, handing half of them to another thread costs more than
it saves."""

UNPACKED = 1_000_000
"""Multiplications of a product up to which OpenBLAS reads both factors where they lie, on processors with AVX-512;
larger ones it first copies in another order, which takes longer than multiplying where a weight meets few rows. On
other processors it copies always, and of so small a product to memory that is in the cache."""

SCORES_PER_BLOCK = 1 << 16
"""Scores of short sequences that a thread holds at a time."""

FEATURES_PER_BLOCK = (16 if has_avx512() else 32, 32)
"""At least and at most so many features of such a product: with fewer, copying is faster."""

FEWEST_INPUTS = 768
"""With fewer inputs of such a product, adding up takes longer than copying."""

Parameters = dict[str, Any]
Transposed = Float[Array, "features rows"]
Heads = Float[Array, "batch heads head_dim length"]


def are_few(config: NystromformerConfig, x: Float[Array, "batch length dim"]) -> bool:
    """Whether a layer's rows are few, and its feed-forward block may take them together and element by element."""
    by_name = isinstance(config.hidden_act, str)  # a function of the user's may look at whole rows
    return 0 < x.shape[0] * x.shape[1] <= FEW_ROWS and by_name and not config.chunk_size_feed_forward


def are_short(segments: Sequence[slice]) -> bool:
    """Whether each of the segments has few rows."""
    return max(part.stop - part.start for part in segments) <= FEW_ROWS


def heads_are_alone(
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 queries length"] | None,
    segments: Sequence[slice] | None,
) -> bool:
    """Whether attention is one small softmax a head, and only its contexts are asked for."""
    longest = max((part.stop - part.start for part in segments or ()), default=x.shape[1])
    exact = is_exact(config, longest)  # the initial inverse of the approximation looks at all heads
    blanked = config.masking == "original" and mask is not None and mask.shape[-2] == 1
    return exact and not blanked and not config.output_attentions


def project(
    p: Parameters, config: NystromformerConfig, x: Float[Array, "batch length dim"]
) -> list[Float[Array, "batch heads length head_dim"]]:
    """Compute :func:`nystrom_np.definition.project`."""
    (batch, length, width), heads, features = x.shape, config.num_attention_heads, by_feature(x)
    results = np.empty((3, width, batch * length), x.dtype)
    scale = 1.0 / (width // heads) ** 0.25

    def compute(part: tuple[int, slice]) -> None:
        number, some = part
        y = affine(p[("query", "key", "value")[number]], features, some, out=results[number][some])
        if number < 2:
            y *= scale

    parts = [(number, some) for number in range(3) for some in shares(width, 3 * width * width, features)]
    parallel_map(compute, parts, threads=None if len(parts) > 3 else 1)
    return [y.reshape(heads, -1, batch, length).transpose(2, 0, 3, 1) for y in results]


def attention_block(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 queries length"] | None,
    head_mask: Shaped[Array, "heads"] | None,
    segments: Sequence[slice] | None,
) -> Transposed:
    """What attention adds to x, without the bias, where heads are alone: each thread takes some of them."""
    (batch, length, width), features = x.shape, by_feature(x)
    dim = width // config.num_attention_heads
    blank = None if mask is None else np.logical_not(mask).swapaxes(-1, -2)

    def of_heads(heads: slice) -> Transposed:
        some = slice(heads.start * dim, heads.stop * dim)
        maps = [affine(p["self"][name], features, some) for name in ("query", "key", "value")]
        query, key, value = (y.reshape(-1, dim, batch, length).transpose(2, 0, 1, 3) for y in maps)
        filters = p["self"]["conv"]["weight"][heads, 0, :, 0] if "conv" in p["self"] else None
        query /= math.sqrt(dim)
        for part in segments or [slice(0, length)]:
            attend(query[..., part], key[..., part], value[..., part], blank, filters)
        if head_mask is not None:
            query *= head_mask[heads, None, None].astype(x.dtype)
        return multiply(p["output"]["dense"]["weight"][:, some], maps[0])

    return sum_of_shares(of_heads, shares(config.num_attention_heads, 4 * width * width, features))


def attend_each(
    p: Parameters,
    query: Float[Array, "1 heads length head_dim"],
    key: Float[Array, "1 heads length head_dim"],
    value: Float[Array, "1 heads length head_dim"],
    segments: Sequence[slice],
) -> None:
    """Write attention of short segments to themselves over the queries, those of one length together."""
    filters = p["conv"]["weight"][:, 0, :, 0] if "conv" in p else None

    def attend_together(group: tuple[slice, int]) -> None:
        part, length = group
        parts = (y[0, :, part].reshape(y.shape[1], -1, length, y.shape[-1]) for y in (query, key, value))
        q, k, v = (y.transpose(1, 0, 3, 2) for y in parts)
        attend(q, k, v, None, filters)

    parallel_map(attend_together, list(of_one_length(segments, query.shape[1])))


def of_one_length(segments: Sequence[slice], heads: int) -> Iterator[tuple[slice, int]]:
    """Neighbours of one length, and that length; as many as have scores that fit into a core's cache."""
    for length, same in groupby(segments, lambda part: part.stop - part.start):
        parts = list(same)
        most = max(1, SCORES_PER_BLOCK // (heads * length**2))
        for few in (parts[start : start + most] for start in range(0, len(parts), most)):
            yield slice(few[0].start, few[-1].stop), length


def attend(query: Heads, key: Heads, value: Heads, blank: Array | None, filters: Array | None) -> None:
    """Write attention and the convolution of the values over the scaled queries: (P + T) v, with T of :func:`band`."""
    exp, unit = exponential() if blank is None else steady_exponential(query.dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        query *= unit
        weights = key.swapaxes(-1, -2) @ query  # (B, heads, keys, queries)
        if blank is not None:
            np.copyto(weights, np.finfo(weights.dtype).min, where=blank)
        weights -= weights.max(axis=-2, keepdims=True)
        exp(weights, out=weights)
        weights *= 1.0 / weights.sum(axis=-2, keepdims=True)
        if filters is not None:
            weights += band(filters.astype(weights.dtype, copy=False), weights.shape[-1])
        np.matmul(value, weights, out=query)


def band(filters: Float[Array, "heads size"], length: int) -> Float[Array, "heads inputs outputs"]:
    """The matrix T[s, t] = w[s − t + size // 2] of each filter, by which its convolution is a product."""
    (heads, size), end = filters.shape, length - 1
    first, last = max(-end, size // 2 + 1 - size), min(end, size // 2)  # of t − s
    diagonals = np.zeros((heads, end + length), filters.dtype)
    diagonals[:, end + first : length + last] = filters[:, size // 2 - last : size // 2 - first + 1][:, ::-1]
    across = diagonals.strides[-1]
    return np.lib.stride_tricks.as_strided(
        diagonals[:, end:], (heads, length, length), (diagonals.strides[0], -across, across)
    )


def output_block(p: Parameters, context: Float[Array, "batch length dim"]) -> Transposed:
    """The same from the contexts of all heads: each thread takes some of their features."""
    weight, features = p["output"]["dense"]["weight"], by_feature(context)
    parts = shares(len(features), weight.size, features)
    return sum_of_shares(lambda some: multiply(weight[:, some], features[some]), parts)


def feed_forward_block(p: Parameters, config: NystromformerConfig, x: Transposed) -> Transposed:
    """What the feed-forward block adds to x, without the last bias: each thread takes some of the hidden features."""
    first, last, act = p["intermediate"]["dense"], p["output"]["dense"]["weight"], get_activation(config.hidden_act)

    def of_hidden(some: slice) -> Transposed:
        return add_up(multiply(last[:, few], act(affine(first, x, few))) for few in pieces(some, x.shape[-1]))

    return sum_of_shares(of_hidden, shares(last.shape[-1], 2 * last.size, x))


def after_attention(
    p: Parameters, config: NystromformerConfig, y: Transposed, x: Float[Array, "batch length dim"]
) -> Float[Array, "batch length dim"]:
    """The layer's result, from what attention adds to x; it lies by feature."""
    output = p["attention"]["output"]
    y = end_of_block(output, config, y, by_feature(x))
    z = end_of_block(p["output"], config, feed_forward_block(p, config, y), y)
    return z.reshape(-1, *x.shape[:2]).transpose(1, 2, 0)


def pieces(features: slice, rows: int) -> list[slice]:
    """Cut the inputs of a product so that OpenBLAS need not copy them, where they stay long enough."""
    count, most = features.stop - features.start, UNPACKED // (FEATURES_PER_BLOCK[0] * rows)
    number = -(-count // most) if most >= FEWEST_INPUTS else 1
    size = -(-count // number)
    return [slice(start, min(start + size, features.stop)) for start in range(features.start, features.stop, size)]


def end_of_block(p: Parameters, config: NystromformerConfig, y: Transposed, x: Transposed) -> Transposed:
    """End a block: LayerNorm(y + b + x), of its result and its input. The result is given up."""
    y += p["dense"]["bias"][:, None]
    y += x
    mean = np.full(len(y), 1.0 / len(y), y.dtype)  # as a product: BLAS sums columns in a tenth of mean()'s time
    y -= mean @ y
    y *= 1.0 / np.sqrt(np.einsum("ij,ij->j", y, y) / len(y) + config.layer_norm_eps)
    y *= p["LayerNorm"]["weight"][:, None]
    y += p["LayerNorm"]["bias"][:, None]
    return y


def by_feature(x: Float[Array, "batch length dim"]) -> Transposed:
    """Lay the numbers of each feature side by side: a copy, unless they lie so."""
    return np.ascontiguousarray(x.transpose(2, 0, 1)).reshape(x.shape[-1], -1)


def shares(count: int, weights: int, x: Transposed) -> list[slice]:
    """Cut what has so many weights in all into a share for each thread; into one, if it is not worth a thread."""
    return row_blocks(count, count) if are_worth_threads(weights, x.shape[-1]) else [slice(0, count)]


def are_worth_threads(weights: int, rows: int) -> bool:
    """Whether a product takes longer than handing half of it to another thread."""
    return weights * max(rows, FEWEST_ROWS) >= WORTH_A_THREAD


def sum_of_shares(function: Callable[[slice], Transposed], parts: Sequence[slice]) -> Transposed:
    """Let each thread compute its share."""
    return add_up(parallel_map(function, parts, threads=None if len(parts) > 1 else 1))


def add_up(results: Iterable[Transposed]) -> Transposed:
    """The sum, in the memory of the first."""
    total, *others = results
    for result in others:
        total += result
    return total


def affine(
    p: Parameters,
    x: Float[Array, "inputs rows"],
    features: slice,
    out: Float[Array, "outputs rows"] | None = None,
) -> Float[Array, "outputs rows"]:
    """Some features of W x + b."""
    y = multiply(p["weight"][features], x, out)
    y += p["bias"][features, None]
    return y


def multiply(
    weight: Float[Array, "outputs inputs"],
    x: Float[Array, "inputs rows"],
    out: Float[Array, "outputs rows"] | None = None,
) -> Float[Array, "outputs rows"]:
    """Return W x, computed in blocks of features that OpenBLAS need not copy first, where there are such."""
    (outputs, inputs), rows = weight.shape, x.shape[-1]
    out = np.empty((outputs, rows), x.dtype) if out is None else out
    fewest, most = FEATURES_PER_BLOCK
    block = min(most, UNPACKED // max(1, x.size) // 8 * 8)
    whole = outputs // block * block if block >= fewest else 0
    if whole:
        np.matmul(weight[:whole].reshape(-1, block, inputs), x, out=out[:whole].reshape(-1, block, rows))
    if whole < outputs:
        np.matmul(weight[whole:], x, out=out[whole:])
    return out
