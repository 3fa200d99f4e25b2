"""Attention with its skip connection, written to memory that is there: what the twins of both rooms have in common."""

from typing import Any

from nystrom_np import definition
from nystrom_np.array_module import Array
from nystrom_np.config import NystromformerConfig
from nystrom_np.shapes import Float, Shaped

__all__ = ["attention_with_skip"]

Heads = Float[Array, "batch heads length head_dim"]


def attention_with_skip(
    twins: Any,
    p: dict[str, Any],
    config: NystromformerConfig,
    query: Heads,
    key: Heads,
    value: Heads,
    mask: Shaped[Array, "batch 1 rows length"] | None,
    out: Heads,
) -> Float[Array, "batch heads length columns"] | None:
    """Write attention plus the convolution of the values to ``out``, which may be the query.

    Parameters
    ----------
    twins : module
        The room whose ``softmax_attention``, ``nystrom_attention`` and ``depthwise_conv`` are to be used.
    p, config, query, key, value, mask
        As in :func:`nystrom_np.definition.self_attention`, whose middle part this is.
    out : array, (B, H, L, d)

    Returns
    -------
    array or None
        The weights, if ``config.output_attentions`` asks for them. Without them attention takes bounded memory.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_np.fast import on_numpy
    >>> x = np.ones((1, 2, 3, 4))
    >>> attention_with_skip(on_numpy, {}, NystromformerConfig(output_attentions=True), x, x, x, None, x.copy()).shape
    (1, 2, 3, 3)
    """
    convolved = value
    if config.masking == "original" and mask is not None and mask.shape[-2] == 1:
        real = mask.swapaxes(-1, -2).astype(query.dtype)  # (B, 1, L, 1)
        query, key, convolved = query * real, key * real, value * real
    exact, pinv, weights = definition.is_exact(config, query.shape[-2]), definition.inverse(config), None
    if config.output_attentions and exact:
        weights = twins.softmax_attention_matrix(query, key, mask)
        out[...] = weights @ value
    elif config.output_attentions:
        f, a, b = twins.nystrom_kernels(query, key, config.num_landmarks, mask)
        weights = f @ pinv(a).astype(query.dtype, copy=False)
        out[...] = weights @ (b @ value)
    elif exact:
        twins.softmax_attention(query, key, value, mask, out=out)
    else:
        twins.nystrom_attention(query, key, value, config.num_landmarks, mask, pinv, out=out)
    if "conv" in p:
        twins.depthwise_conv(convolved, p["conv"]["weight"].astype(query.dtype, copy=False), add_to=out)
    return weights
