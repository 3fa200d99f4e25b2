"""The depthwise convolution of the values as products with banded matrices."""

import numpy as np

from nystrom_np.array_module import Array
from nystrom_np.fast.on_numpy.threads import parallel_map, row_blocks
from nystrom_np.fast.toeplitz import OUTPUTS, toeplitz, windows
from nystrom_np.shapes import Float

__all__ = ["depthwise_conv"]

VALUES_PER_BLOCK = 1 << 18
"""Values that a thread convolves at a time (1 MB in float32)."""

VALUES_WORTH_A_THREAD = 1 << 16
"""With fewer values in all, handing work to threads costs more than it saves."""


def depthwise_conv(
    value: Float[Array, "*batch heads length dim"],
    weight: Float[Array, "heads 1 size 1"],
    *,
    add_to: Float[Array, "*batch heads length dim"] | None = None,
) -> Float[Array, "*batch heads length dim"]:
    """Compute :func:`nystrom_np.definition.depthwise_conv` as products with a banded Toeplitz matrix of the filter.

    Half of the matrix is zeros, and a product with all of it still takes a fraction of the time of a loop over the
    taps. An infinite value or NaN becomes NaN in the zeros' products too, so that it spreads over its whole block of
    :data:`.OUTPUTS` positions and not just as far as the filter reaches. ``add_to`` is changed in place.
    """
    heads, length, dim = value.shape[-3:]
    size = weight.shape[-2]
    band = toeplitz(weight[:, 0, :, 0], outputs=min(length, OUTPUTS))
    out = np.zeros_like(value) if add_to is None else add_to
    if value.size == 0:
        return out
    if length <= OUTPUTS:  # one block, whose margins are zeros: of the band only what meets a value
        band = band[..., size // 2 : size // 2 + length]

    def convolve(group: slice) -> None:
        if length <= OUTPUTS:
            out[..., group, :, :] += band[group] @ value[..., group, :, :]
            return
        some, target = value[..., group, :, :], out[..., group, :, :]
        step = max(1, VALUES_PER_BLOCK // (some.size // length) // OUTPUTS) * OUTPUTS
        for start in range(0, length, step):
            products = band[group][:, None] @ windows(some, start, min(start + step, length), size)
            flat = products.reshape(*products.shape[:-3], -1, dim)
            target[..., start : start + step, :] += flat[..., : min(step, length - start), :]

    parallel_map(convolve, row_blocks(heads, heads) if value.size > VALUES_WORTH_A_THREAD else [slice(0, heads)])
    return out
