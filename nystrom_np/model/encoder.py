"""The encoder, from embeddings to the last hidden state, as functions of its parameters.

``p`` is a part of the parameter tree (:func:`nystrom_np.model.parameters.tree`), under the names of the state dict.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer, Shaped

from nystrom_np.array_module import Array, get_array_module, overwrite
from nystrom_np.config import NystromformerConfig
from nystrom_np.functional import (
    depthwise_conv,
    embedding,
    get_activation,
    iterative_pinv,
    layer_norm,
    linear,
    linear_activation,
    nystrom_attention,
    nystrom_kernels,
    softmax_attention,
    softmax_attention_matrix,
    svd_pinv,
)
from nystrom_np.parallel import parallel_map, row_blocks

__all__ = [
    "attention",
    "embed",
    "encoder_layer",
    "feed_forward",
    "is_exact",
    "over_rows",
    "project",
    "self_attention",
]

ROWS_PER_BLOCK = 2048
"""Token positions that a thread takes through a row-wise step at a time: the more, the less often the weights are
packed for BLAS."""

FEW_ROWS = 512
"""Up to so many rows BLAS saves more time by computing W xᵀ for x Wᵀ than it then takes to put its result in order."""

ROWS_WORTH_A_THREAD = 32
"""With fewer positions in all, handing them to threads costs more than it saves."""

Parameters = dict[str, Any]
Segments = dict[int, slice]


def embed(
    p: Parameters,
    config: NystromformerConfig,
    input_ids: Integer[Array, "batch length"] | None,
    inputs_embeds: Float[Array, "batch length dim"] | None,
    token_type_ids: Integer[Array, "..."],
    position_ids: Integer[Array, "..."],
    dtype: object = None,
) -> Float[Array, "batch length dim"]:
    """Embeddings: LayerNorm(word + token type + position).

    Parameters
    ----------
    p : dict
        ``embeddings`` of the state dict.
    config : NystromformerConfig
    input_ids, inputs_embeds : array, (B, L) or (B, L, D)
        One of the two.
    token_type_ids, position_ids : arrays of integers, broadcastable to (B, L)
        Rows of their tables.
    dtype : dtype, optional
        To compute in, by default that of the tables.

    Returns
    -------
    array, (B, L, D)

    References
    ----------
    ``NystromformerEmbeddings`` in transformers 4.37.2.

    Examples
    --------
    >>> import numpy as np
    >>> ones, zeros = np.ones(2), np.zeros(2)
    >>> tables = {
    ...     name: {"weight": np.array([[0.0, 1.0], [5.0, 2.0]])}
    ...     for name in ("word_embeddings", "token_type_embeddings", "position_embeddings")
    ... }
    >>> p = tables | {"LayerNorm": {"weight": ones, "bias": zeros}}
    >>> ids, first = np.array([[0, 1]]), np.array([[0]])
    >>> embed(p, NystromformerConfig(), ids, None, first, first).round(2)
    array([[[-1.,  1.],
            [ 1., -1.]]])
    """
    table = p["word_embeddings"]["weight"]
    dtype = table.dtype if dtype is None else dtype
    words: Array = inputs_embeds if input_ids is None else input_ids[..., None]
    xp, (batch, length, _) = get_array_module(words), words.shape

    def add_up(words: Array, types: Array, positions: Array, out: Array | None) -> tuple[Array]:
        x = (words if input_ids is None else embedding(words[:, 0], table)).astype(dtype)  # a copy: it is changed
        x += embedding(types[:, 0], p["token_type_embeddings"]["weight"])
        x += embedding(positions[:, 0], p["position_embeddings"]["weight"])
        return (layer_norm(x, **p["LayerNorm"], eps=config.layer_norm_eps, out=x if out is None else out),)

    rows = [xp.broadcast_to(ids, (batch, length))[..., None] for ids in (token_type_ids, position_ids)]
    return over_rows(add_up, words, *rows, width=table.shape[-1], dtype=dtype)[0]


def encoder_layer(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    head_mask: Shaped[Array, "heads"] | None = None,
    segments: Segments | None = None,
    output_attentions: bool = False,
    room: Float[Array, "3 batch length dim"] | None = None,
) -> tuple[Float[Array, "batch length dim"], Any]:
    """One layer, normalised after each block: x ← LN(attention(x) + x), then x ← LN(feed-forward(x) + x).

    Parameters
    ----------
    p : dict
        ``encoder.layer.N`` of the state dict.
    config : NystromformerConfig
    x : array of floats, (B, L, D)
    mask : array, (B, 1, 1, L), or (B, 1, L, L) where attention is exact; optional
        1 for real positions, 0 for padding.
    head_mask : array, (H,), optional
        0 for heads that contribute nothing to the output projection.
    segments : dict of int to slice, optional
        Of a packed batch, B = 1: the positions of each sequence, which attends to itself alone.
    output_attentions : bool
        Whether to return the attention too.
    room : array, (3, B, L, D), optional
        What to write queries, keys and values to, so that all layers can share the memory.

    Returns
    -------
    x : array, (B, L, D)
    attention : array, dict of int to array, or None
        As in :func:`attention`; of a packed batch, each sequence's.

    References
    ----------
    ``NystromformerLayer`` in transformers 4.37.2.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.model.parameters import draw, layer_shapes, tree
    >>> config = NystromformerConfig(hidden_size=4, num_attention_heads=2, intermediate_size=8)
    >>> p = tree(draw(config, layer_shapes(config), seed=0))
    >>> x, weights = encoder_layer(p, config, np.ones((1, 3, 4), np.float32), output_attentions=True)
    >>> x.shape, weights.shape
    ((1, 3, 4), (1, 2, 3, 3))
    """
    attend = p["attention"]["self"]
    context, weights = self_attention(attend, config, x, mask, head_mask, segments, output_attentions, room)

    output = p["attention"]["output"]

    def after_attention(context: Array, x: Array, out: Array | None) -> tuple[Array]:
        x = affine(output["dense"], context, partial(add_and_norm, output["LayerNorm"], config), x)
        return (feed_forward(p, config, x, out),)

    (x,) = over_rows(after_attention, context, x, width=x.shape[-1], most=config.chunk_size_feed_forward)
    return x, weights


def feed_forward(
    p: Parameters, config: NystromformerConfig, x: Float[Array, "rows dim"], out: Float[Array, "rows dim"] | None = None
) -> Float[Array, "rows dim"]:
    """Position-wise feed-forward block: LN(W₂ act(W₁ x + b₁) + b₂ + x), written to ``out`` if given.

    References
    ----------
    ``NystromformerIntermediate`` and ``NystromformerOutput`` in transformers 4.37.2.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.model.parameters import draw, layer_shapes, tree
    >>> config = NystromformerConfig(hidden_size=4, num_attention_heads=2, intermediate_size=8)
    >>> p = tree(draw(config, layer_shapes(config), seed=0))
    >>> feed_forward(p, config, np.ones((3, 4), np.float32)).shape
    (3, 4)
    """
    by_name = isinstance(config.hidden_act, str)  # a function of the user's may look at whole rows
    hidden = (activated if by_name else affine)(p["intermediate"]["dense"], x, get_activation(config.hidden_act))
    return affine(p["output"]["dense"], hidden, partial(add_and_norm, p["output"]["LayerNorm"], config), x, out=out)


def affine(
    p: Parameters,
    x: Float[Array, "rows inputs"],
    then: Callable[..., Array],
    *beside: Float[Array, "rows outputs"],
    out: Float[Array, "rows outputs"] | None = None,
) -> Float[Array, "rows outputs"]:
    """What a row-wise function makes of an affine map: then(x Wᵀ + b, …), written to ``out`` if given.

    It is ``then(linear(x, **p), *beside)``. The product is one for all rows, since every product has to read all of
    the weights; the bias and the function are applied to a few rows at a time.

    Examples
    --------
    >>> import numpy as np
    >>> p = {"weight": np.array([[3.0, 4.0]]), "bias": np.array([0.5])}
    >>> affine(p, np.array([[1.0, 2.0]]), np.add, np.array([[100.0]]))
    array([[111.5]])
    """
    xp, weight = get_array_module(x), p["weight"]
    if xp is np and len(x) <= FEW_ROWS and x.shape[-1] > len(weight):
        y = by_feature(x, weight)
        target = np.empty(y.shape, y.dtype) if out is None else out
    else:
        y = linear(x, weight, out=out)
        target = y

    def finish(target: Array, y: Array, *beside: Array) -> Array:
        return then(xp.add(y, p["bias"], out=target), *beside)

    result = overwrite(target, finish, y, *beside)
    if out is None or result is out:
        return result
    out[...] = result
    return out


def activated(
    p: Parameters, x: Float[Array, "rows inputs"], activation: Callable[[Array], Array]
) -> Float[Array, "rows outputs"]:
    """An elementwise function of an affine map, act(x Wᵀ + b): on NumPy each feature's column lies together in memory.

    It is ``activation(linear(x, **p))``.

    Examples
    --------
    >>> import numpy as np
    >>> p = {"weight": np.array([[3.0, 4.0]]), "bias": np.array([0.5])}
    >>> activated(p, np.array([[1.0, 2.0]]), np.negative)
    array([[-11.5]])
    """
    if get_array_module(x) is not np:
        return activation(linear(x, **p))

    def finish(features: Array, bias: Array) -> Array:
        features += bias
        return activation(features)

    return overwrite(by_feature(x, p["weight"]).T, finish, p["bias"][:, None]).T


def by_feature(x: Float[Array, "rows inputs"], weight: Float[Array, "outputs inputs"]) -> Float[Array, "rows outputs"]:
    """Return x Wᵀ on NumPy, computed as W xᵀ: for few rows BLAS takes up to a third less time for it."""
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
    segments: Segments | None = None,
    output_attentions: bool = False,
    room: Float[Array, "3 batch length dim"] | None = None,
) -> tuple[Float[Array, "batch length dim"], Any]:
    """Multi-head attention plus the convolution of the values, before the output projection.

    Parameters
    ----------
    p : dict
        ``attention.self`` of a layer.
    config, x, mask, head_mask, segments, output_attentions, room
        As in :func:`encoder_layer`.

    Returns
    -------
    context : array, (B, L, D)
        The heads side by side.
    attention
        As in :func:`encoder_layer`.

    References
    ----------
    ``NystromformerSelfAttention`` in transformers 4.37.2; for ``masking="original"``, ``NystromAttention`` in
    mlpen/Nystromformer.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.model.parameters import draw, layer_shapes, tree
    >>> config = NystromformerConfig(hidden_size=4, num_attention_heads=2, intermediate_size=8)
    >>> p = tree(draw(config, layer_shapes(config), seed=0))
    >>> context, weights = self_attention(p["attention"]["self"], config, np.ones((1, 3, 4), np.float32))
    >>> context.shape, weights
    ((1, 3, 4), None)
    """
    query, key, value = project(p, config, x, room)
    context = query  # written over the queries, block by block when they have been read
    attend = partial(attention_with_skip, p, config, mask=mask, output_attentions=output_attentions)
    if segments is None:
        weights = attend(query, key, value, out=context)
    else:
        weights = {}

        def alone(sequence: int) -> None:
            part = (..., segments[sequence], slice(None))
            weights[sequence] = attend(query[part], key[part], value[part], out=context[part])

        parallel_map(alone, list(segments), threads=threads_for(query))
    if head_mask is not None:
        context *= head_mask[:, None, None].astype(x.dtype)
    return context.swapaxes(1, 2).reshape(x.shape), weights


def attention_with_skip(
    p: Parameters,
    config: NystromformerConfig,
    query: Float[Array, "batch heads length head_dim"],
    key: Float[Array, "batch heads length head_dim"],
    value: Float[Array, "batch heads length head_dim"],
    out: Float[Array, "batch heads length head_dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    output_attentions: bool = False,
) -> Float[Array, "batch heads length columns"] | None:
    """Write attention plus the depthwise convolution of the values, a skip connection around it, to ``out``.

    ``masking="original"`` blanks padding in queries and keys, so that it does not weigh in the landmarks, and in the
    values before the convolution.
    """
    convolved = value
    if config.masking == "original" and mask is not None and mask.shape[-2] == 1:
        real = mask.swapaxes(-1, -2).astype(query.dtype)  # (B, 1, L, 1)
        query, key, convolved = query * real, key * real, value * real
    _, weights = attention(config, query, key, value, mask, output_attentions, out)
    if "conv" in p:
        depthwise_conv(convolved, p["conv"]["weight"].astype(query.dtype, copy=False), add_to=out)
    return weights


def project(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    room: Float[Array, "3 batch length dim"] | None = None,
) -> list[Float[Array, "batch heads length head_dim"]]:
    """Queries, keys and values of each head; queries and keys are divided by d^¼, so that q kᵀ is scaled by √d.

    They are views of ``room`` if given, an array (3, B, L, D) that is overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.model.parameters import draw, layer_shapes, tree
    >>> config = NystromformerConfig(hidden_size=4, num_attention_heads=2, intermediate_size=8)
    >>> p = tree(draw(config, layer_shapes(config), seed=0))
    >>> [y.shape for y in project(p["attention"]["self"], config, np.ones((1, 3, 4), np.float32))]
    [(1, 2, 3, 2), (1, 2, 3, 2), (1, 2, 3, 2)]
    """
    batch, length, width = x.shape
    heads = config.num_attention_heads
    scale = (width // heads) ** 0.25

    def scaled(y: Array) -> Array:
        y *= 1.0 / scale
        return y

    def rows(x: Array, query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        return (
            affine(p["query"], x, scaled, out=query),
            affine(p["key"], x, scaled, out=key),
            affine(p["value"], x, linear_activation, out=value),
        )

    projected = over_rows(rows, x, outputs=3, width=width, out=room)
    return [y.reshape(batch, length, heads, width // heads).swapaxes(1, 2) for y in projected]


def is_exact(config: NystromformerConfig, length: int) -> bool:
    """Whether attention over a sequence of this length is softmax attention itself and not its approximation.

    It is where the configuration says so (the reference's rule: as many landmarks as ``segment_means_seq_len``), and
    where there are at least as many landmarks as tokens, so that nothing is left to approximate.

    Examples
    --------
    >>> config = NystromformerConfig(num_landmarks=8, segment_means_seq_len=64)
    >>> is_exact(config, length=8), is_exact(config, length=9)
    (True, False)
    """
    return not config.uses_nystrom_attention or length <= config.num_landmarks


def attention(
    config: NystromformerConfig,
    query: Float[Array, "batch heads length head_dim"],
    key: Float[Array, "batch heads length head_dim"],
    value: Float[Array, "batch heads length head_dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    output_attentions: bool = False,
    out: Float[Array, "batch heads length head_dim"] | None = None,
) -> tuple[Float[Array, "batch heads length head_dim"], Float[Array, "batch heads length columns"] | None]:
    """Exact or Nyström attention, whichever :func:`is_exact` says.

    Returns
    -------
    context : array, (B, H, L, d)
        ``out`` if given, which may be the query.
    attention : array or None
        If asked for: the softmax matrix (B, H, L, L), or F A⁺ (B, H, L, m) of Nyström attention. Without it the
        context is computed in bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> config = NystromformerConfig(num_landmarks=2, segment_means_seq_len=64)
    >>> q = np.ones((1, 1, 5, 4))
    >>> context, weights = attention(config, q, q, q, output_attentions=True)
    >>> context.shape, weights.shape
    ((1, 1, 5, 4), (1, 1, 5, 2))
    """
    xp, pinv = get_array_module(query), inverse(config)
    exact = is_exact(config, query.shape[-2])
    if exact and not output_attentions:
        return softmax_attention(query, key, value, mask, out), None
    if exact:
        weights = softmax_attention_matrix(query, key, mask)
        return xp.matmul(weights, value, out=out), weights
    if not output_attentions:
        return nystrom_attention(query, key, value, config.num_landmarks, mask, pinv, out), None
    kernel_1, kernel_2, kernel_3 = nystrom_kernels(query, key, config.num_landmarks, mask)
    weights = kernel_1 @ pinv(kernel_2).astype(query.dtype, copy=False)
    return xp.matmul(weights, kernel_3 @ value, out=out), weights


def inverse(config: NystromformerConfig) -> Callable[[Array], Array]:
    """Return the pseudo-inverse that a configuration names."""
    if config.pinv_method == "svd":
        return svd_pinv
    initial: Literal["batch", "matrix"] = "matrix" if config.inv_coeff_init_option else "batch"
    return partial(iterative_pinv, iterations=config.pinv_iterations, initial=initial)


def threads_for(x: Array) -> int | None:
    """Return the threads to share work on an array: the default for NumPy, one for a device that is parallel itself."""
    return None if get_array_module(x) is np else 1


def over_rows(
    function: Callable[..., tuple[Array, ...]],
    *arrays: Array,
    outputs: int = 1,
    width: int,
    most: int = 0,
    dtype: object = None,
    out: Float[Array, "{outputs} batch length {width}"] | None = None,
) -> tuple[Float[Array, "batch length {width}"], ...]:
    """Apply a position-wise function to arrays (B, L, ·), in blocks of positions that threads share.

    Parameters
    ----------
    function : callable
        Takes a block of rows (n, ·) of each array and of each result (n, width), fills the latter and returns them.
        On a device that is parallel itself it takes None for each result, and returns new arrays.
    *arrays : arrays, (B, L, ·)
    outputs, width : int
        How many results there are, and their last axis.
    most : int
        Rows to a block, if positive.
    dtype : dtype, optional
        Of the results, by default that of the first array.
    out : array, (outputs, B, L, width), optional
        What to write the results to.

    Returns
    -------
    tuple of arrays, (B, L, width)

    Examples
    --------
    >>> import numpy as np
    >>> over_rows(lambda x, out: (np.add(x, x, out=out),), np.ones((1, 2, 3)), width=3)
    (array([[[2., 2., 2.],
            [2., 2., 2.]]]),)
    """
    xp = get_array_module(*arrays)
    batch, length, _ = arrays[0].shape
    rows = batch * length
    flat = [array.reshape(rows, array.shape[-1]) for array in arrays]
    if xp is not np and most <= 0:
        return tuple(whole.reshape(batch, length, width) for whole in function(*flat, *[None] * outputs))
    if out is None:
        out = xp.empty((outputs, batch, length, width), dtype=arrays[0].dtype if dtype is None else dtype)
    results = out.reshape(outputs, rows, width)

    def apply(block: slice) -> None:
        function(*(array[block] for array in flat), *(result[block] for result in results))

    if most > 0 or rows >= ROWS_WORTH_A_THREAD:
        parallel_map(apply, row_blocks(rows, most if most > 0 else ROWS_PER_BLOCK), threads=threads_for(out))
    else:
        apply(slice(0, rows))
    return tuple(out)
