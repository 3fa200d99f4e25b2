"""A convolution as a product with a banded matrix: the matrix, and the overlapping windows that it is multiplied by."""

from nystrom_np.array_module import Array, get_array_module
from nystrom_np.shapes import Float

__all__ = ["OUTPUTS", "toeplitz", "windows"]

OUTPUTS = 64
"""How many outputs one Toeplitz product has, about a filter's length, so that half of the band is not zero."""


def windows(
    value: Float[Array, "*heads length dim"], start: int, stop: int, size: int
) -> Float[Array, "*heads windows inputs dim"]:
    """What the Toeplitz products of positions start … stop see: overlapping views of them and their margins.

    Outside the sequence there are zeros.

    Examples
    --------
    >>> import numpy as np
    >>> seen = windows(np.ones((1, 5, 1)), start=0, stop=5, size=3)
    >>> seen.shape, seen[0, 0, :3, 0]
    ((1, 1, 66, 1), array([0., 1., 1.]))
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


def toeplitz(filters: Float[Array, "heads size"], outputs: int | None = None) -> Float[Array, "heads outputs inputs"]:
    """The banded matrix T[t, t + s] = w[s] of each filter, which turns inputs into outputs, :data:`OUTPUTS` by default.

    Rows that begin with the filter, read again as if they were one shorter: each begins one place later than the last.

    Examples
    --------
    >>> import numpy as np
    >>> toeplitz(np.array([[1.0, 2.0, 3.0]]))[0, :2, :5]
    array([[1., 2., 3., 0., 0.],
           [0., 1., 2., 3., 0.]])
    """
    xp = get_array_module(filters)
    outputs, (heads, size) = outputs or OUTPUTS, filters.shape
    rows = xp.zeros((heads, outputs, outputs + size), dtype=filters.dtype)
    rows[..., :size] = filters[:, None]
    inputs = outputs + size - 1
    return rows.reshape(heads, -1)[:, : outputs * inputs].reshape(heads, outputs, inputs)
