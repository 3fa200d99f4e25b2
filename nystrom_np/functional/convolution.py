"""The depthwise convolution of the values, the skip connection of Nyström attention."""

import numpy as np
from jaxtyping import Float

from nystrom_np.array_module import Array, get_array_module
from nystrom_np.parallel import parallel_map, row_blocks

__all__ = ["depthwise_conv", "shifted_sum_conv"]

OUTPUTS = 64
"""Outputs of one Toeplitz product: about a filter's length, so that half of the band is not zero."""

VALUES_PER_BLOCK = 1 << 18
"""Values that a thread convolves at a time (1 MB in float32)."""


def shifted_sum_conv(
    value: Float[Array, "*batch heads length dim"], weight: Float[Array, "heads 1 size 1"]
) -> Float[Array, "*batch heads length dim"]:
    """The definition of :func:`depthwise_conv`: for each tap of the filter, the values shifted and weighted.

    Examples
    --------
    >>> import numpy as np
    >>> value = np.array([1.0, 2.0, 4.0]).reshape(1, 3, 1)
    >>> shifted_sum_conv(value, np.array([1.0, 0.0, 10.0]).reshape(1, 1, 3, 1)).ravel()
    array([20., 41.,  2.])
    """
    xp = get_array_module(value, weight)
    _check_filters(value, weight)
    size, length = weight.shape[-2], value.shape[-2]
    out = xp.zeros_like(value)
    for tap in range(size):
        shift = tap - size // 2
        start = min(max(0, -shift), length)
        target = slice(start, max(start, min(length, length - shift)))
        source = slice(target.start + shift, target.stop + shift)
        out[..., target, :] += weight[:, :, tap] * value[..., source, :]
    return out


def _check_filters(value: Array, weight: Array) -> None:
    heads, size = value.shape[-3], weight.shape[-2] if weight.ndim > 1 else 0
    if weight.shape != (heads, 1, size, 1) or size % 2 == 0:
        raise ValueError(f"weight must have shape ({heads}, 1, size, 1) of odd size; found {weight.shape}")


def depthwise_conv(
    value: Float[Array, "*batch heads length dim"],
    weight: Float[Array, "heads 1 size 1"],
    add_to: Float[Array, "*batch heads length dim"] | None = None,
) -> Float[Array, "*batch heads length dim"]:
    """Convolve the values along the sequence, one filter for each head: out[t] = Σₛ w[s] · v[t + s − size//2].

    Positions before the first and after the last count as zero. The filter is not flipped (cross-correlation, as
    ``torch.nn.Conv2d`` computes it). In blocks of positions this is a product with a banded Toeplitz matrix made of
    the filter, which matrix multiplication does faster than a loop over the taps; :func:`shifted_sum_conv` is
    that loop.

    Parameters
    ----------
    value : array of floats, (..., heads, length, dim)
    weight : array of floats, (heads, 1, size, 1)
        Odd size.
    add_to : array, same shape as value, optional
        Changed in place: the convolution is added to it, and it is returned.

    Returns
    -------
    array, same shape and dtype as value

    Raises
    ------
    ValueError
        If there is not one filter of odd size for each head.

    References
    ----------
    Xiong et al., arXiv 2102.03902, section 3.4 (figure 2); ``NystromformerSelfAttention.conv`` in transformers.

    Examples
    --------
    >>> import numpy as np
    >>> value = np.array([1.0, 2.0, 4.0]).reshape(1, 3, 1)
    >>> depthwise_conv(value, np.array([1.0, 0.0, 10.0]).reshape(1, 1, 3, 1)).ravel()
    array([20., 41.,  2.])
    """
    xp = get_array_module(value, weight)
    _check_filters(value, weight)
    size, (heads, length, dim) = weight.shape[-2], value.shape[-3:]
    band = _toeplitz(weight[:, 0, :, 0], OUTPUTS)
    out = xp.zeros_like(value) if add_to is None else add_to
    if value.size == 0:
        return out

    def convolve(group: slice) -> None:
        some, target = value[..., group, :, :], out[..., group, :, :]
        positions = length if xp is not np else VALUES_PER_BLOCK // (some.size // length)
        step = max(1, positions // OUTPUTS) * OUTPUTS
        for start in range(0, length, step):
            windows = _windows(some, start, min(start + step, length), size)
            products = _products(band[group], windows)
            flat = products.reshape(*products.shape[:-3], -1, dim)
            target[..., start : start + step, :] += flat[..., : min(step, length - start), :]

    parallel_map(convolve, row_blocks(heads, heads) if xp is np else [slice(0, heads)])
    return out


def _windows(
    value: Float[Array, "*heads length dim"], start: int, stop: int, size: int
) -> Float[Array, "*heads windows inputs dim"]:
    """What the Toeplitz products of positions start … stop see: overlapping views of them and their margins.

    Outside the sequence there are zeros.
    """
    xp = get_array_module(value)
    *heads, length, dim = value.shape
    count = -(-(stop - start) // OUTPUTS)
    first = start - size // 2
    seen = slice(max(first, 0), min(first + count * OUTPUTS + size - 1, length))
    padded = xp.zeros((*heads, count * OUTPUTS + size - 1, dim), dtype=value.dtype)
    padded[..., seen.start - first : seen.stop - first, :] = value[..., seen, :]
    *outer, along, across = padded.strides
    return xp.lib.stride_tricks.as_strided(
        padded, (*heads, count, OUTPUTS + size - 1, dim), (*outer, OUTPUTS * along, along, across)
    )


def _products(
    band: Float[Array, "heads outputs inputs"], windows: Float[Array, "*batch heads windows inputs dim"]
) -> Float[Array, "*batch heads windows outputs dim"]:
    """``band @ windows`` for every window of a head.

    Away from NumPy as one product a head, since CuPy first collects a pointer for every matrix of a product that
    broadcasts.
    """
    xp = get_array_module(band)
    if xp is np:
        return band[:, None] @ windows
    by_head = xp.moveaxis(windows, (-4, -2), (0, 1))  # (heads, inputs, ..., windows, dim)
    products = band @ by_head.reshape(*by_head.shape[:2], -1)
    return xp.moveaxis(products.reshape(*band.shape[:2], *by_head.shape[2:]), (0, 1), (-4, -2))


def _toeplitz(filters: Float[Array, "heads size"], outputs: int) -> Float[Array, "heads outputs inputs"]:
    """The banded matrix T[t, t + s] = w[s] of each filter, which turns inputs into outputs.

    Rows that begin with the filter, read again as if they were one shorter: each begins one place later than the last.
    """
    xp = get_array_module(filters)
    heads, size = filters.shape
    rows = xp.zeros((heads, outputs, outputs + size), dtype=filters.dtype)
    rows[..., :size] = filters[:, None]
    inputs = outputs + size - 1
    return rows.reshape(heads, -1)[:, : outputs * inputs].reshape(heads, outputs, inputs)
