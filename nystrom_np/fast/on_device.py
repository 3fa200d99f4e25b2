"""The twins for CuPy arrays: fewer kernels, bounded blocks of scores, and sums of half precision in float32.

A device is parallel by itself; what costs time there is each kernel's launch and each array that travels to its memory
and back. A function without a twin here runs as it is defined.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache, wraps
from inspect import unwrap
from typing import Any

from nystrom_np import definition, losses
from nystrom_np.activations import ACTIVATIONS, get_activation
from nystrom_np.array_module import Array, get_array_module
from nystrom_np.config import NystromformerConfig
from nystrom_np.fast.skip import attention_with_skip
from nystrom_np.fast.toeplitz import toeplitz, windows
from nystrom_np.shapes import Float, Integer, Shaped

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "depthwise_conv",
    "elementwise",
    "encode",
    "encoder_layer",
    "initial_inverse",
    "iterative_pinv",
    "layer_norm",
    "linear",
    "log_softmax",
    "mean_squared_error",
    "nystrom_attention",
    "nystrom_kernels",
    "project",
    "segment_means",
    "self_attention",
    "softmax",
    "softmax_attention",
    "softmax_attention_matrix",
    "svd_pinv",
]

SCORES_PER_BLOCK = 1 << 28
"""Scores that are held at a time (1 GB in float32)."""

Parameters = dict[str, Any]


def wide(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return half precision as float32, other arrays as they are."""
    return x.astype("float32") if x.dtype == "float16" else x


def in_single(function: Callable[..., Any], narrow: bool = True) -> Callable[..., Any]:
    """Make a definition compute half precision in float32; its result is narrowed again, unless told otherwise."""
    function = unwrap(function)

    @wraps(function)
    def computed(x: Array, *args: Any, **kwargs: Any) -> Any:
        result = function(wide(x), *args, **kwargs)
        return result.astype(x.dtype, copy=False) if narrow else result

    return computed


def fused(formula: Callable[..., Any]) -> Callable[..., Any]:
    """Make an elementwise formula one kernel on CuPy (``cupy.fuse``), compiled when first needed.

    The arrays broadcast to the first; a formula may write to it and return nothing.
    """
    as_written = unwrap(formula)  # without run-time type checks: a tracer has no shape to check
    name = f"fused_{as_written.__name__.strip('_<>')}"  # of its own: C has a function tanh already
    kernel = cache(lambda fuse: fuse(kernel_name=name)(as_written))

    def run(x: Array, *others: Any) -> Any:
        fuse = getattr(get_array_module(x), "fuse", None)  # which the tests' stand-in for CuPy need not have
        return (kernel(fuse) if fuse else formula)(x, *others)

    return run


def elementwise(formula: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Make a formula of one array one kernel, its result in the array's dtype; half precision is computed in float32.

    Examples
    --------
    >>> import numpy as np
    >>> elementwise(lambda x: x * x)(np.arange(3.0))
    array([0., 1., 4.])
    """
    as_written, widen = unwrap(formula), unwrap(wide)

    @wraps(as_written)
    def in_single_precision(x: Array) -> Array:
        return as_written(widen(x)).astype(x.dtype)

    del in_single_precision.__wrapped__  # what is fused is this function
    return fused(in_single_precision)


def linear(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "outputs inputs"],
    bias: Float[Array, "outputs"] | float = 0.0,
) -> Float[Array, "*batch outputs"]:
    """Compute :func:`nystrom_np.definition.linear` as a product of two matrices: CuPy starts it sooner than others."""
    y = product(x, weight)
    y += bias
    return y


def product(x: Float[Array, "*batch inputs"], weight: Float[Array, "outputs inputs"]) -> Float[Array, "*batch outputs"]:
    """Return x Wᵀ: what follows in a layer adds the bias, in the kernel that it is anyway."""
    return (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], len(weight))


@cache
def with_bias(activation: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    """Make act(y + b) one kernel of an activation that takes each element alone, in y's dtype."""
    as_written, widen = unwrap(activation), unwrap(wide)

    def biased(y: Array, bias: Array) -> Array:
        return as_written(widen(y) + widen(bias)).astype(y.dtype)

    biased.__name__ = f"biased_{as_written.__name__}"
    return fused(biased)


def softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Compute :func:`nystrom_np.definition.softmax` in two fused kernels; half precision is summed in float32."""
    highest = wide(x.max(axis=axis, keepdims=True))
    weights = _exponentials(x, highest)  # in float32 at least
    return _shares(weights, weights.sum(axis=axis, keepdims=True)).astype(x.dtype, copy=False)


@fused
def _exponentials(x: Array, highest: Array) -> Array:
    return get_array_module(x).exp(x - highest)


@fused
def _shares(weights: Array, total: Array) -> Array:
    return weights / total


def layer_norm(
    x: Float[Array, "*batch dim"], weight: Float[Array, "dim"], bias: Float[Array, "dim"], eps: float = 1e-5
) -> Float[Array, "*batch dim"]:
    """Compute :func:`nystrom_np.definition.layer_norm` in two sums and two kernels, half precision in float32."""
    mean = x.mean(axis=-1, keepdims=True, dtype="float32" if x.dtype == "float16" else x.dtype)
    variance = _squared_distances(x, mean).mean(axis=-1, keepdims=True)
    return _normalised(x, mean, variance, weight, bias, eps).astype(x.dtype, copy=False)


@fused
def _squared_distances(x: Array, mean: Array) -> Array:
    centred = x - mean
    return centred * centred


@fused
def _normalised(x: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float) -> Array:
    scale = 1.0 / get_array_module(variance).sqrt(variance + eps)
    return ((x - mean) * scale * weight + bias).astype(x.dtype)


def softmax_attention_matrix(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    mask: Shaped[Array, "..."] | None = None,
) -> Float[Array, "*batch queries keys"]:
    """Compute :func:`nystrom_np.definition.softmax_attention_matrix` with scores of half precision in float32."""
    xp, scores = get_array_module(query), wide(query @ key.swapaxes(-1, -2))
    if mask is not None:
        scores = xp.where(mask, scores, xp.finfo(scores.dtype).min)
    return softmax(scores).astype(query.dtype, copy=False)


def softmax_attention(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    value: Float[Array, "*batch keys values"],
    mask: Shaped[Array, "..."] | None = None,
    *,
    out: Float[Array, "*batch queries values"] | None = None,
) -> Float[Array, "*batch queries values"]:
    """Compute :func:`nystrom_np.definition.softmax_attention` for some of the queries at a time.

    At most ``SCORES_PER_BLOCK`` scores are held, however long the sequence (Rabe and Staats, arXiv 2112.05682).
    """
    xp, shape = get_array_module(query), (*query.shape[:-1], key.shape[-2])
    step = max(1, SCORES_PER_BLOCK // max(1, math.prod(shape[:-2]) * shape[-1]))
    if mask is not None:
        mask = xp.broadcast_to(mask, shape)
    context = xp.empty((*shape[:-1], value.shape[-1]), dtype=value.dtype) if out is None else out
    for start in range(0, shape[-2], step):
        rows = slice(start, start + step)
        part = None if mask is None else mask[..., rows, :]
        weights = softmax_attention_matrix(query[..., rows, :], key, part)
        context[..., rows, :] = weights.astype(value.dtype, copy=False) @ value
    return context


def segment_means(
    x: Float[Array, "*batch length dim"], num_landmarks: int
) -> Float[Array, "*batch {num_landmarks} dim"]:
    """Compute :func:`nystrom_np.definition.segment_means`: one mean for all segments of a size, in float32 at least."""
    size, longer = divmod(x.shape[-2], num_landmarks)
    short = (num_landmarks - longer) * size  # tokens in the shorter segments
    parts = [(x[..., :short, :], num_landmarks - longer), (x[..., short:, :], longer)][: 2 if longer else 1]
    means = [
        wide(part).reshape(*x.shape[:-2], count, part.shape[-2] // count, x.shape[-1]).mean(axis=-2)
        for part, count in parts
    ]
    return get_array_module(x).concatenate(means, axis=-2).astype(x.dtype, copy=False)


def nystrom_kernels(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    num_landmarks: int,
    mask: Shaped[Array, "..."] | None = None,
) -> tuple[Array, Array, Array]:
    """Compute :func:`nystrom_np.definition.nystrom_kernels`, half precision in float32 throughout."""
    kernels = unwrap(definition.nystrom_kernels)(wide(query), wide(key), num_landmarks, mask)
    f, a, b = (kernel.astype(query.dtype, copy=False) for kernel in kernels)
    return f, a, b


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
    """Compute :func:`nystrom_np.definition.nystrom_attention` as two softmax attentions with an inverse between them.

    Neither F nor B is held in full. Half precision is computed in float32: an inverse magnifies rounding errors.
    """
    query, key = wide(query), wide(key)
    query_landmarks, key_landmarks = segment_means(query, num_landmarks), segment_means(key, num_landmarks)
    kernel_2 = softmax_attention_matrix(query_landmarks, key_landmarks)
    seen_by_landmarks = softmax_attention(query_landmarks, key, wide(value), mask)
    context = softmax_attention(query, key_landmarks, pinv(kernel_2) @ seen_by_landmarks, out=out)
    return context.astype(value.dtype, copy=False)


# These are their definitions; an inverse of half precision stays in float32, since it magnifies rounding errors.
initial_inverse = in_single(definition.initial_inverse)
iterative_pinv = in_single(definition.iterative_pinv, narrow=False)
svd_pinv = in_single(definition.svd_pinv, narrow=False)
log_softmax = in_single(losses.log_softmax)
cross_entropy = in_single(losses.cross_entropy)
mean_squared_error = in_single(losses.mean_squared_error)
binary_cross_entropy_with_logits = in_single(losses.binary_cross_entropy_with_logits)


def depthwise_conv(
    value: Float[Array, "*batch heads length dim"],
    weight: Float[Array, "heads 1 size 1"],
    *,
    add_to: Float[Array, "*batch heads length dim"] | None = None,
) -> Float[Array, "*batch heads length dim"]:
    """Compute :func:`nystrom_np.definition.depthwise_conv` as one product a head with a banded Toeplitz matrix.

    One product, since CuPy first collects a pointer for every matrix of a product that broadcasts. An infinite value
    or NaN spreads over a whole block of outputs, as its product with the band's zeros is NaN.
    """
    xp, (length, dim) = get_array_module(value), value.shape[-2:]
    if value.size == 0:
        return xp.zeros_like(value)
    band, seen = toeplitz(weight[:, 0, :, 0]), windows(value, 0, length, weight.shape[-2])
    by_head = xp.moveaxis(seen, (-4, -2), (0, 1))  # (heads, inputs, ..., windows, dim)
    products = band @ by_head.reshape(*by_head.shape[:2], -1)
    products = xp.moveaxis(products.reshape(*band.shape[:2], *by_head.shape[2:]), (0, 1), (-4, -2))
    convolved = products.reshape(*products.shape[:-3], -1, dim)[..., :length, :]
    if add_to is None:
        return convolved
    add_to += convolved
    return add_to


def self_attention(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    head_mask: Shaped[Array, "heads"] | None = None,
    *,
    segments: Sequence[slice] | None = None,
) -> tuple[Float[Array, "batch length dim"], Any]:
    """Compute :func:`nystrom_np.definition.self_attention`, without the weights unless they are asked for.

    ``config.output_attentions`` asks for them. With ``segments``, each attends to itself, and the weights are a list.
    """
    query, key, value = project(p, config, x)
    whole = [slice(0, x.shape[1])] if segments is None else segments
    context = get_array_module(x).empty_like(query)
    weights = []
    for part in whole:
        q, k, v, out = (y[..., part, :] for y in (query, key, value, context))
        weights.append(attention_with_skip(sys.modules[__name__], p, config, q, k, v, mask, out))
    if head_mask is not None:
        context *= head_mask[:, None, None]
    return context.swapaxes(1, 2).reshape(x.shape), weights[0] if segments is None else weights


def project(
    p: Parameters, config: NystromformerConfig, x: Float[Array, "batch length dim"]
) -> list[Float[Array, "batch heads length head_dim"]]:
    """Compute :func:`nystrom_np.definition.project`, biases and the division of queries and keys where they lie."""
    batch, length, width = x.shape
    heads = config.num_attention_heads
    query, key = (product(x, p[name]["weight"]) for name in ("query", "key"))
    for y, name in ((query, "query"), (key, "key")):
        _shift_and_scale(y, p[name]["bias"], (width // heads) ** -0.25)
    value = linear(x, **p["value"])
    return [y.reshape(batch, length, heads, width // heads).swapaxes(1, 2) for y in (query, key, value)]


@fused
def _shift_and_scale(y: Array, bias: Array, scale: float) -> None:
    y += bias
    y *= scale


def encoder_layer(
    p: Parameters,
    config: NystromformerConfig,
    x: Float[Array, "batch length dim"],
    mask: Shaped[Array, "batch 1 rows length"] | None = None,
    head_mask: Shaped[Array, "heads"] | None = None,
    *,
    segments: Sequence[slice] | None = None,
) -> tuple[Float[Array, "batch length dim"], Any]:
    """Compute :func:`nystrom_np.definition.encoder_layer`, bias and residual sum in one kernel.

    The feed-forward block takes no more positions at once than ``config.chunk_size_feed_forward`` says.
    """
    output, eps = p["attention"]["output"], config.layer_norm_eps
    y, weights = self_attention(p["attention"]["self"], config, x, mask, head_mask, segments=segments)
    y = product(y, output["dense"]["weight"])
    _add_both(y, output["dense"]["bias"], x)
    x = layer_norm(y, **output["LayerNorm"], eps=eps)
    rows, max_rows = x.reshape(-1, x.shape[-1]), config.chunk_size_feed_forward
    if not 0 < max_rows < len(rows):
        return feed_forward(p, config, x), weights
    parts = [feed_forward(p, config, rows[start : start + max_rows]) for start in range(0, len(rows), max_rows)]
    return get_array_module(x).concatenate(parts).reshape(x.shape), weights


def feed_forward(
    p: Parameters, config: NystromformerConfig, x: Float[Array, "*batch dim"]
) -> Float[Array, "*batch dim"]:
    """Return LN(W₂ act(W₁ x + b₁) + b₂ + x)."""
    act, inner, outer = get_activation(config.hidden_act), p["intermediate"]["dense"], p["output"]["dense"]
    if act in ACTIVATIONS.values():
        hidden = with_bias(act)(product(x, inner["weight"]), inner["bias"])
    else:  # a function of the user's, which may look at whole rows
        hidden = act(linear(x, **inner))
    y = product(hidden, outer["weight"])
    _add_both(y, outer["bias"], x)
    return layer_norm(y, **p["output"]["LayerNorm"], eps=config.layer_norm_eps)


@fused
def _add_both(y: Array, bias: Array, x: Array) -> None:
    y += bias
    y += x


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
    """Compute :func:`nystrom_np.definition.encode`, holding states but the last and attentions only if asked for.

    ``config.output_hidden_states`` and ``config.output_attentions`` ask for them. Segments stay packed: only attention
    and convolution run on each by itself.
    """
    x = definition.embeddings(p["embeddings"], config, words, token_type_ids, position_ids)
    states, attentions = [x], []
    for number in range(config.num_hidden_layers):
        layer, heads = p["encoder"]["layer"][str(number)], None if head_mask is None else head_mask[number]
        x, weights = encoder_layer(layer, config, x, mask, heads, segments=segments)
        states = [*states, x] if config.output_hidden_states else [x]
        if config.output_attentions:
            attentions.append(weights)
    return states, attentions
