"""Few rows: the threads share the features of each product, and not its rows.

A product of few rows takes about as long as its weights take to be read. Threads that share rows would read all of the
weights each; here each reads a part of them. Everything lies transposed for it, with the numbers of a feature side by
side: (features, rows). ``p`` is a part of the parameters, as in :mod:`nystrom_np.definition`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from nystrom_np.activations import get_activation
from nystrom_np.array_module import Array
from nystrom_np.config import NystromformerConfig
from nystrom_np.fast.on_numpy.threads import parallel_map, row_blocks
from nystrom_np.shapes import Float

__all__ = ["project"]

FEW_ROWS = 96
"""With more rows sharing them is as fast, and needs fewer handovers."""

FEWEST_ROWS = 32
"""With fewer rows a product takes no less time: it waits for its weights."""

WORTH_A_THREAD = 1 << 24
"""With fewer multiplications, of :data:`FEWEST_ROWS` at least, handing half of them to another thread costs more than
it saves."""

UNPACKED = 1_000_000
"""Multiplications of a product up to which OpenBLAS reads both factors where they lie, on processors with AVX-512;
larger ones it first copies in another order, which takes longer than multiplying where a weight meets few rows."""

FEATURES_PER_BLOCK = 32
"""At most so many features of such a product."""

Parameters = dict[str, Any]
Transposed = Float[Array, "features rows"]


def are_few(config: NystromformerConfig, x: Float[Array, "batch length dim"]) -> bool:
    """Whether a layer's rows are few, and its feed-forward block may take them together and element by element."""
    by_name = isinstance(config.hidden_act, str)  # a function of the user's may look at whole rows
    return 0 < x.shape[0] * x.shape[1] <= FEW_ROWS and by_name and not config.chunk_size_feed_forward


def project(
    p: Parameters, config: NystromformerConfig, x: Float[Array, "batch length dim"]
) -> list[Float[Array, "batch heads length head_dim"]]:
    """Compute :func:`nystrom_np.definition.project`."""
    batch, length, width = x.shape
    heads, features = config.num_attention_heads, by_feature(x)
    scale = 1.0 / (width // heads) ** 0.25

    def scaled(y: Transposed) -> Transposed:
        y *= scale
        return y

    maps = [(p["query"], scaled), (p["key"], scaled), (p["value"], None)]
    return [y.reshape(heads, width // heads, batch, length).transpose(2, 0, 3, 1) for y in affine(features, *maps)]


def after_attention(
    p: Parameters,
    config: NystromformerConfig,
    context: Float[Array, "batch length dim"],
    x: Float[Array, "batch length dim"],
) -> Float[Array, "batch length dim"]:
    """Compute the rest of :func:`nystrom_np.definition.encoder_layer`; the result lies by feature."""
    output, act = p["attention"]["output"], get_activation(config.hidden_act)
    (y,) = affine(by_feature(context), (output["dense"], None))
    y = add_and_norm(output["LayerNorm"], config, y, by_feature(x))
    (hidden,) = affine(y, (p["intermediate"]["dense"], act))
    (z,) = affine(hidden, (p["output"]["dense"], None))
    z = add_and_norm(p["output"]["LayerNorm"], config, z, y)
    return z.reshape(-1, *x.shape[:2]).transpose(1, 2, 0)


def by_feature(x: Float[Array, "batch length dim"]) -> Transposed:
    """Lay the numbers of each feature side by side: a copy, unless they lie so."""
    return np.ascontiguousarray(x.transpose(2, 0, 1)).reshape(x.shape[-1], -1)


def add_and_norm(p: Parameters, config: NystromformerConfig, y: Transposed, x: Transposed) -> Transposed:
    """End a block: LayerNorm(y + x), the block's result and its input. The result is given up."""
    y += x
    y -= y.mean(axis=0)
    variance = np.einsum("ij,ij->j", y, y) / len(y)
    y *= 1.0 / np.sqrt(variance + config.layer_norm_eps)
    y *= p["weight"][:, None]
    y += p["bias"][:, None]
    return y


def affine(
    x: Float[Array, "inputs rows"], *maps: tuple[Parameters, Callable[[Array], Array] | None]
) -> list[Transposed]:
    """W x + b for each map of the same x, and what the elementwise function beside the map makes of it."""
    rows = x.shape[-1]
    results = [np.empty((len(p["weight"]), rows), x.dtype) for p, _ in maps]

    def compute(part: tuple[int, slice]) -> None:
        number, features = part
        p, then = maps[number]
        y = multiply(p["weight"][features], x, out=results[number][features])
        y += p["bias"][features, None]
        if then is not None:
            y[...] = then(y)

    shared = are_worth_threads(sum(p["weight"].size for p, _ in maps), rows)
    parts = [
        (number, features)
        for number, y in enumerate(results)
        for features in (row_blocks(len(y), len(y)) if shared else [slice(0, len(y))])
    ]
    parallel_map(compute, parts, threads=None if shared else 1)
    return results


def are_worth_threads(weights: int, rows: int) -> bool:
    """Whether a product takes longer than handing half of it to another thread."""
    return weights * max(rows, FEWEST_ROWS) >= WORTH_A_THREAD


def multiply(
    weight: Float[Array, "outputs inputs"], x: Float[Array, "inputs rows"], out: Float[Array, "outputs rows"]
) -> Float[Array, "outputs rows"]:
    """Write W x to ``out``, in blocks of features that OpenBLAS need not copy first, where there are such."""
    (outputs, inputs), rows = weight.shape, x.shape[-1]
    block = min(FEATURES_PER_BLOCK, UNPACKED // max(1, x.size) // 8 * 8)
    whole = outputs // block * block if block else 0
    if whole:
        np.matmul(weight[:whole].reshape(-1, block, inputs), x, out=out[:whole].reshape(-1, block, rows))
    if whole < outputs:
        np.matmul(weight[whole:], x, out=out[whole:])
    return out
