"""The encoder on both cores: rows shared by threads, and one workspace for the queries, keys and values of all layers.

Between two attentions every step treats each position alone. So a thread takes a block of positions through all of
these steps, instead of all threads through one step after the other. ``p`` is a part of the parameters, as in
:mod:`nystrom_np.definition`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nystrom_np.activations import get_activation, linear_activation
from nystrom_np.array_module import Array
from nystrom_np.config import NystromformerConfig
from nystrom_np.fast import on_numpy
from nystrom_np.fast.on_numpy import few_rows
from nystrom_np.fast.on_numpy.rows import layer_norm, linear, overwrite
from nystrom_np.fast.on_numpy.threads import one_blas_thread, parallel_map, row_blocks
from nystrom_np.fast.skip import attention_with_skip
from nystrom_np.shapes import Float, Integer, Shaped

__all__ = ["embeddings", "encode", "encoder_layer", "masked_lm", "project", "self_attention"]

ROWS_PER_BLOCK = 2048
"""Token positions that a thread takes through a row-wise step at a time: the more, the less often the weights are
packed for BLAS."""

FEW_ROWS = 512
"""Up to so many rows BLAS saves more time by computing W xᵀ for x Wᵀ than it then takes to put its result in order,
where x is wider than the result."""

ROWS_WORTH_A_THREAD = 128
"""With fewer positions in all, handing them to threads costs more than it saves."""

Parameters = dict[str, Any]


def embeddings(
    p: Parameters,
    config: NystromformerConfig,
    words: Shaped[Array, "batch length *dim"],
    token_type_ids: Integer[Array, "..."],
    position_ids: Integer[Array, "..."],
) -> Float[Array, "batch length dim"]:
    """Compute :func:`nystrom_np.definition.embeddings` in blocks of positions; half precision becomes float32 here."""
    table = p["word_embeddings"]["weight"]
    dtype = np.dtype("float32") if table.dtype == "float16" else table.dtype
    given = words.ndim == 3

    def add_up(words: Array, types: Array, positions: Array, out: Array) -> None:
        x = (words if given else table[words[:, 0]]).astype(dtype)  # a copy: it is changed
        x += p["token_type_embeddings"]["weight"][types[:, 0]]
        x += p["position_embeddings"]["weight"][positions[:, 0]]
        layer_norm(x, **p["LayerNorm"], eps=config.layer_norm_eps, out=out)

    ids = [np.broadcast_to(ids, words.shape[:2])[..., None] for ids in (token_type_ids, position_ids)]
    return map_rows(add_up, words if given else words[..., None], *ids, width=table.shape[-1], dtype=dtype)[0]


def encode(
    p: Parameters,
    config: NystromformerConfig,
    words: Shaped[Array, "batch length *dim"],
    token_type_ids: Integer[Array, "..."],
    position_ids: Integer[Array, "..."],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    head_mask: Shaped[Array, "layers heads"] | None = None,
    segments: Sequence[slice] | None = None,
) -> tuple[list[Array], list[Any]]:
    """Compute :func:`nystrom_np.definition.encode` in one workspace for all layers.

    A fresh one for each would cost time for all of its pages. States but the last and attentions are kept where the
    configuration asks for them (``output_hidden_states``, ``output_attentions``).

    Segments stay packed: steps that treat each position alone see nothing but more rows, and attention and convolution
    run on each segment, one beside the other on the threads. (Packing of this kind: Krell et al., arXiv 2107.02027.)
    """
    with one_blas_thread():
        x = embeddings(p["embeddings"], config, words, token_type_ids, position_ids)
        states, attentions = [x], []
        workspace = np.empty((3, *x.shape), dtype=x.dtype)
        for number in range(config.num_hidden_layers):
            layer, heads = p["encoder"]["layer"][str(number)], None if head_mask is None else head_mask[number]
            x, weights = encoder_layer(layer, config, x, mask, heads, segments=segments, workspace=workspace)
            states = [*states, x] if config.output_hidden_states else [x]
            if config.output_attentions:
                attentions.append(weights)
    return [np.ascontiguousarray(x) for x in states], attentions


def encoder_layer(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    head_mask: Shaped[Array, "heads"] | None = None,
    *,
    segments: Sequence[slice] | None = None,
    workspace: Float[Array, "3 batch length dim"] | None = None,
) -> tuple[Float[Array, "batch length dim"], Any]:
    """Compute :func:`nystrom_np.definition.encoder_layer`: after attention a block of rows goes through all steps."""
    attend, output = p["attention"]["self"], p["attention"]["output"]
    few = few_rows.are_few(config, x)
    if few and few_rows.heads_are_alone(config, x, mask, segments):
        y = few_rows.attention_block(p["attention"], config, x, mask, head_mask, segments)
        return few_rows.after_attention(p, config, y, x), None
    context, weights = self_attention(attend, config, x, mask, head_mask, segments=segments, workspace=workspace)
    if few:
        return few_rows.after_attention(p, config, few_rows.output_block(p["attention"], context), x), weights

    def after_attention(context: Array, x: Array, out: Array) -> None:
        x = affine(output["dense"], context, partial(add_and_norm, output["LayerNorm"], config), x)
        feed_forward(p, config, x, out)

    (x,) = map_rows(after_attention, context, x, width=x.shape[-1], max_rows=config.chunk_size_feed_forward)
    return x, weights


def feed_forward(
    p: Parameters, config: NystromformerConfig, x: Float[Array, "rows dim"], out: Float[Array, "rows dim"]
) -> Float[Array, "rows dim"]:
    """Write LN(W₂ act(W₁ x + b₁) + b₂ + x) to ``out``."""
    by_name = isinstance(config.hidden_act, str)  # a function of the user's may look at whole rows
    hidden = (activated if by_name else affine)(p["intermediate"]["dense"], x, get_activation(config.hidden_act))
    return affine(p["output"]["dense"], hidden, partial(add_and_norm, p["output"]["LayerNorm"], config), x, out=out)


def affine(
    p: Parameters,
    x: Float[Array, "rows inputs"],
    then: Callable[..., Array],
    *rows: Float[Array, "rows outputs"],
    out: Float[Array, "rows outputs"] | None = None,
) -> Float[Array, "rows outputs"]:
    """What a row-wise function makes of an affine map, then(x Wᵀ + b, …), written to ``out`` if given.

    It is ``then(linear(x, **p), *rows)``. The product is one for all rows, since every product has to read all of
    the weights; the bias and the function are applied to a few rows at a time.
    """
    weight = p["weight"]
    if len(x) <= FEW_ROWS and x.shape[-1] > len(weight):
        y = by_feature(x, weight)
        target = np.empty(y.shape, y.dtype) if out is None else out
    else:
        y = linear(x, weight, out=out)
        target = y

    def finish(target: Array, y: Array, *rows: Array) -> Array:
        return then(np.add(y, p["bias"], out=target), *rows)

    result = overwrite(target, finish, y, *rows)
    if out is None or result is out:
        return result
    out[...] = result
    return out


def activated(
    p: Parameters, x: Float[Array, "rows inputs"], activation: Callable[[Array], Array]
) -> Float[Array, "rows outputs"]:
    """``activation(linear(x, **p))`` for an elementwise function, each feature's column together in memory."""

    def finish(features: Array, bias: Array) -> Array:
        features += bias
        return activation(features)

    return overwrite(by_feature(x, p["weight"]).T, finish, p["bias"][:, None]).T


def by_feature(x: Float[Array, "rows inputs"], weight: Float[Array, "outputs inputs"]) -> Float[Array, "rows outputs"]:
    """Return x Wᵀ, computed as W xᵀ: for few rows BLAS takes less time for it."""
    return linear(x, weight, out=np.empty((len(weight), len(x)), x.dtype).T)


def add_and_norm(
    p: Parameters, config: NystromformerConfig, y: Float[Array, "rows dim"], x: Float[Array, "rows dim"]
) -> Float[Array, "rows dim"]:
    """End a block: LayerNorm(y + x), the block's result and its input. The result is given up."""
    y += x
    return layer_norm(y, **p, eps=config.layer_norm_eps, out=y)


def self_attention(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    head_mask: Shaped[Array, "heads"] | None = None,
    *,
    segments: Sequence[slice] | None = None,
    workspace: Float[Array, "3 batch length dim"] | None = None,
) -> tuple[Float[Array, "batch length dim"], Any]:
    """Compute :func:`nystrom_np.definition.self_attention` in the memory of the queries, and of ``workspace`` if given.

    The weights, (B, H, L, columns), are computed where ``config.output_attentions`` asks for them, and for a packed
    batch as a list of each segment's. Without them attention takes bounded memory.
    """
    query, key, value = project(p, config, x, workspace=workspace)
    context = query  # written over the queries, block by block when they have been read
    attend = partial(attention_with_skip, on_numpy, p, config)
    weights: Any
    if segments is None:
        weights = attend(query, key, value, mask, context)
    elif few_rows.are_short(segments) and few_rows.heads_are_alone(config, x, mask, segments):
        few_rows.attend_each(p, query, key, value, segments)
        weights = None
    else:

        def alone(segment: slice) -> Any:
            part = (..., segment, slice(None))
            return attend(query[part], key[part], value[part], None, context[part])

        weights = parallel_map(alone, segments)
    if head_mask is not None:
        context *= head_mask[:, None, None].astype(x.dtype)
    return context.swapaxes(1, 2).reshape(x.shape), weights


def project(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    *,
    workspace: Float[Array, "3 batch length dim"] | None = None,
) -> list[Float[Array, "batch heads length head_dim"]]:
    """Compute :func:`nystrom_np.definition.project`, in ``workspace`` if given."""
    if few_rows.are_few(config, x):
        return few_rows.project(p, config, x)
    batch, length, width = x.shape
    heads = config.num_attention_heads
    scale = (width // heads) ** 0.25

    def scaled(y: Array) -> Array:
        y *= 1.0 / scale
        return y

    def rows(x: Array, query: Array, key: Array, value: Array) -> None:
        affine(p["query"], x, scaled, out=query)
        affine(p["key"], x, scaled, out=key)
        affine(p["value"], x, linear_activation, out=value)

    projected = map_rows(rows, x, outputs=3, width=width, out=workspace)
    return [y.reshape(batch, length, heads, width // heads).swapaxes(1, 2) for y in projected]


def masked_lm(p: Parameters, config: NystromformerConfig, x: Float[Array, "batch length dim"]) -> Array:
    """Compute :func:`nystrom_np.definition.masked_lm`: the transform block by block of rows, as in the layers."""
    words, p = p["nystromformer"]["embeddings"]["word_embeddings"]["weight"], p["cls"]["predictions"]
    act, norm = get_activation(config.hidden_act), p["transform"]["LayerNorm"]

    def finish(y: Array) -> Array:
        return layer_norm(act(y), **norm, eps=config.layer_norm_eps)

    def transform(x: Array, out: Array) -> None:
        affine(p["transform"]["dense"], x, finish, out=out)

    with one_blas_thread():
        (transformed,) = map_rows(transform, x, width=config.hidden_size)
        return shared_linear(transformed, words if config.tie_word_embeddings else p["decoder"]["weight"], p["bias"])


def shared_linear(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "outputs inputs"],
    bias: Float[Array, "outputs"] | float = 0.0,
) -> Float[Array, "*batch outputs"]:
    """Compute :func:`nystrom_np.definition.linear` on all threads: of few rows they share the features, else the rows.

    BLAS's own threads stay asleep, for a head too: they would go on waiting for work when the next pass has begun.
    """
    rows, everything = x.reshape(-1, x.shape[-1]), slice(None)
    y = np.empty((len(rows), len(weight)), np.result_type(x, weight))

    def compute(block: tuple[slice, slice]) -> None:
        some, features = block
        np.matmul(rows[some], weight[features].T, out=y[block])
        if isinstance(bias, np.ndarray):
            y[block] += bias[features]

    blocks = [(everything, everything)]
    if few_rows.are_worth_threads(weight.size, len(rows)):
        if len(rows) <= few_rows.FEW_ROWS:
            blocks = [(everything, features) for features in row_blocks(len(weight), len(weight))]
        else:
            blocks = [(some, everything) for some in row_blocks(len(rows), ROWS_PER_BLOCK)]
    with one_blas_thread():
        parallel_map(compute, blocks)
    return y.reshape(*x.shape[:-1], len(weight))


def map_rows(
    function: Callable[..., None],
    *arrays: Array,
    outputs: int = 1,
    width: int,
    max_rows: int = 0,
    dtype: object = None,
    out: Float[Array, "{outputs} batch length {width}"] | None = None,
) -> tuple[Float[Array, "batch length {width}"], ...]:
    """Apply a position-wise function to arrays (B, L, ·), in blocks of positions that threads share.

    It takes a block of rows (n, ·) of each array and of each result (n, width), and fills the latter. A block has at
    most ``max_rows`` rows, if that is positive; the results are written to ``out`` if given.
    """
    batch, length, _ = arrays[0].shape
    rows = batch * length
    flat = [array.reshape(rows, array.shape[-1]) for array in arrays]
    if out is None:
        out = np.empty((outputs, batch, length, width), dtype=arrays[0].dtype if dtype is None else dtype)
    results = out.reshape(outputs, rows, width)

    def apply(block: slice) -> None:
        function(*(array[block] for array in flat), *(result[block] for result in results))

    if max_rows > 0 or rows >= ROWS_WORTH_A_THREAD:
        parallel_map(apply, row_blocks(rows, max_rows if max_rows > 0 else ROWS_PER_BLOCK))
    else:
        apply(slice(0, rows))
    return tuple(out)
