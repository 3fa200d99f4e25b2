"""Table look-ups and affine maps: what moves between ids, embeddings and features."""

from jaxtyping import Float, Integer

from nystrom_np.array_module import Array, get_array_module

__all__ = ["embedding", "linear"]


def embedding(ids: Integer[Array, "*ids"], table: Float[Array, "rows dim"]) -> Float[Array, "*ids dim"]:
    """Look up rows of a table: ``table[ids]``.

    Parameters
    ----------
    ids : array of integers, any shape
        From 0 to rows − 1. NumPy would take negative ids from the end and CuPy does not check at all, so the
        caller checks them (:mod:`nystrom_np.model.inputs` does, by name and position).
    table : array of floats, (rows, dim)

    Returns
    -------
    array, (*ids.shape, dim)

    Examples
    --------
    >>> import numpy as np
    >>> embedding(np.array([[2, 0]]), np.arange(6.0).reshape(3, 2))
    array([[[4., 5.],
            [0., 1.]]])
    """
    return table[ids]


def linear(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "outputs inputs"],
    bias: Float[Array, "outputs"] | None = None,
    out: Float[Array, "*batch outputs"] | None = None,
) -> Float[Array, "*batch outputs"]:
    """Affine map: y = x Wᵀ + b, with W stored as PyTorch stores it.

    Parameters
    ----------
    x : array of floats, (..., inputs)
    weight : array of floats, (outputs, inputs)
    bias : array of floats, (outputs,), optional
    out : array, (..., outputs), optional
        What to write the result to.

    Returns
    -------
    array, (..., outputs)

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([11.5])
    """
    rows = x.reshape(-1, x.shape[-1])  # one product of two matrices, whatever the leading axes
    if out is None:
        y = rows @ weight.T  # which CuPy starts sooner than matmul
    else:
        y = get_array_module(x, weight).matmul(rows, weight.T, out=out.reshape(-1, len(weight)))
    if bias is not None:
        y += bias  # y is ours: no second array
    return y.reshape(*x.shape[:-1], len(weight)) if out is None else out
