"""The depthwise convolution of the values, the skip connection of Nyström attention."""

import numpy as np
from jaxtyping import Float

from nystrom_np.array_module import Array, get_array_module
from nystrom_np.parallel import parallel_map

__all__ = ["depthwise_conv", "shifted_sum_conv"]

POSITIONS_PER_BLOCK = 64
"""Outputs per Toeplitz product: about a filter's length, so that half of the band is not zero."""


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
    size, length = weight.shape[-2], value.shape[-2]
    out = xp.zeros_like(value)
    for tap in range(size):
        shift = tap - size // 2
        target = slice(max(0, -shift), max(0, min(length, length - shift)))
        source = slice(target.start + shift, target.stop + shift)
        out[..., target, :] += weight[:, :, tap] * value[..., source, :]
    return out


def depthwise_conv(
    value: Float[Array, "*batch heads length dim"], weight: Float[Array, "heads 1 size 1"]
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

    Returns
    -------
    array, same shape and dtype as value

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
    size, length = weight.shape[-2], value.shape[-2]
    bands = _toeplitz(weight[:, 0, :, 0], min(POSITIONS_PER_BLOCK, length))
    out = xp.empty_like(value)

    def convolve(head: tuple[int, ...]) -> None:
        for start in range(0, length, POSITIONS_PER_BLOCK):
            stop = min(start + POSITIONS_PER_BLOCK, length)
            first = start - size // 2  # what the block's first output sees; the sequence may begin later
            seen = slice(max(first, 0), min(stop + size // 2, length))
            band = bands[head[-1:]][..., : stop - start, seen.start - first : seen.stop - first]
            out[head][..., start:stop, :] = band @ value[head][..., seen, :]

    parallel_map(convolve, list(np.ndindex(*value.shape[:-2])) if xp is np else [()])
    return out


def _toeplitz(filters: Float[Array, "heads size"], outputs: int) -> Float[Array, "heads outputs inputs"]:
    """The banded matrix T[t, t + s] = w[s] of each filter, which turns inputs into outputs."""
    xp = get_array_module(filters)
    size = filters.shape[-1]
    tap = xp.arange(outputs + size - 1) - xp.arange(outputs)[:, None]
    return xp.where((tap >= 0) & (tap < size), filters[:, xp.clip(tap, 0, size - 1)], 0)
