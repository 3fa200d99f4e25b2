"""The functions that a port is tested against: those of :mod:`nystrom_np.definition`, documented and checked.

Arrays are (..., length, dim) with any leading axes, of NumPy or CuPy alike; no function writes to its arguments. One
that holds no floats is a TypeError, since results in its dtype would be rounded. Half precision is computed in float32
and returned in float16, but for the inverses, which stay in float32.
"""

from collections.abc import Callable
from typing import Literal

from nystrom_np import activations, definition, losses
from nystrom_np.activations import *  # noqa: F403
from nystrom_np.array_module import Array, check_arrays, get_array_module
from nystrom_np.losses import *  # noqa: F403
from nystrom_np.shapes import Float, Shaped

__all__ = [
    *activations.__all__,
    *losses.__all__,
    "depthwise_conv",
    "initial_inverse",
    "iterative_pinv",
    "layer_norm",
    "linear",
    "nystrom_attention",
    "nystrom_attention_matrix",
    "nystrom_kernels",
    "segment_means",
    "softmax",
    "softmax_attention",
    "softmax_attention_matrix",
    "svd_pinv",
]

Mask = Shaped[Array, "..."]


def _check_floats(*arrays: Array) -> None:
    """Refuse integers: a result of their dtype would be rounded."""
    check_arrays(*arrays)
    for array in arrays:
        if array.dtype.kind != "f":
            raise TypeError(f"an array of floats was expected; found {array.dtype}")


def _as_bool(mask: Array) -> Array:
    return mask if mask is None else mask != 0


def linear(
    x: Float[Array, "*batch inputs"],
    weight: Float[Array, "outputs inputs"],
    bias: Float[Array, "outputs"] | None = None,
) -> Float[Array, "*batch outputs"]:
    """Affine map: y = x Wᵀ + b, with W stored as PyTorch stores it.

    Parameters
    ----------
    x : array of floats, (..., inputs)
    weight : array of floats, (outputs, inputs)
    bias : array of floats, (outputs,), optional

    Returns
    -------
    array, (..., outputs)

    Examples
    --------
    >>> import numpy as np
    >>> linear(np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), np.array([0.5]))
    array([11.5])
    """
    check_arrays(x, weight)
    get_array_module(x, weight, bias)
    return definition.linear(x, weight, 0.0 if bias is None else bias)


def layer_norm(
    x: Float[Array, "*batch dim"],
    weight: Float[Array, "dim"],
    bias: Float[Array, "dim"],
    eps: float = 1e-5,
) -> Float[Array, "*batch dim"]:
    """Layer normalisation: (x − mean) / √(variance + ε) · weight + bias, over the last axis.

    Parameters
    ----------
    x : array of floats, (..., dim)
    weight, bias : arrays of floats, (dim,)
    eps : float
        Added to the variance, which divides by dim (not dim − 1).

    Returns
    -------
    array
        Same shape and dtype as x.

    References
    ----------
    Ba, Kiros and Hinton, arXiv 1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> layer_norm(np.array([1.0, 3.0]), np.ones(2), np.zeros(2), eps=0.0)
    array([-1.,  1.])
    """
    _check_floats(x)
    return definition.layer_norm(x, weight, bias, eps)


def softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Softmax: eˣ / Σ eˣ along an axis, shifted by the maximum so that nothing overflows.

    Parameters
    ----------
    x : array of floats, any shape
    axis : int
        The axis that sums to one.

    Returns
    -------
    array
        Same shape and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    _check_floats(x)
    return definition.softmax(x, axis)


def softmax_attention_matrix(
    query: Float[Array, "*batch queries dim"], key: Float[Array, "*batch keys dim"], mask: Mask | None = None
) -> Float[Array, "*batch queries keys"]:
    """Attention weights softmax(q kᵀ): for each query a distribution over the keys.

    Parameters
    ----------
    query : array of floats, (..., queries, dim)
    key : array of floats, (..., keys, dim)
        Both already divided by ⁴√dim, so that the scores are those of q kᵀ / √dim.
    mask : array, broadcastable to (..., queries, keys), optional
        1 for the keys to attend to, 0 for those to leave out: their scores are the most negative number there is.
        (Not −∞, so that a row of zeros gives equal weights instead of NaN.)

    Returns
    -------
    array, (..., queries, keys)
        Rows sum to one; dtype of the query.

    References
    ----------
    Vaswani et al., arXiv 1706.03762, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_attention_matrix(np.zeros((1, 2)), np.zeros((2, 2)))
    array([[0.5, 0.5]])
    """
    _check_floats(query, key)
    return definition.softmax_attention_matrix(query, key, _as_bool(mask))


def softmax_attention(
    query: Float[Array, "*batch queries dim"],
    key: Float[Array, "*batch keys dim"],
    value: Float[Array, "*batch keys values"],
    mask: Mask | None = None,
) -> Float[Array, "*batch queries values"]:
    """Softmax attention: ``softmax_attention_matrix(query, key, mask) @ value``, in bounded memory.

    Parameters
    ----------
    query, key, mask
        As in :func:`softmax_attention_matrix`.
    value : array of floats, (..., keys, values)

    Returns
    -------
    array, (..., queries, values)
        Dtype of the value.

    Raises
    ------
    ValueError
        If there is no key.

    References
    ----------
    Vaswani et al., arXiv 1706.03762, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> softmax_attention(np.zeros((1, 2)), np.zeros((2, 2)), np.array([[1.0], [3.0]]))
    array([[2.]])
    """
    get_array_module(query, key, value, mask)
    _check_floats(query, key, value)
    if key.shape[-2] == 0:
        raise ValueError("softmax attention needs at least one key; found none")
    return definition.softmax_attention(query, key, value, _as_bool(mask))


def segment_means(
    x: Float[Array, "*batch length dim"], num_landmarks: int
) -> Float[Array, "*batch {num_landmarks} dim"]:
    """Landmarks: the means of consecutive segments of the sequence.

    Parameters
    ----------
    x : array of floats, (..., length, dim)
    num_landmarks : int
        How many segments, from 1 to length. They hold ⌊length / num_landmarks⌋ tokens each, or one more where
        this does not divide evenly; the shorter segments come first, as in the authors' code for images.

    Returns
    -------
    array, (..., num_landmarks, dim)

    Raises
    ------
    ValueError
        If there are not between 1 and length landmarks.

    References
    ----------
    Xiong et al., arXiv 2102.03902, section 3.2, equation 10.

    Examples
    --------
    >>> import numpy as np
    >>> segment_means(np.array([[1.0], [3.0], [5.0], [6.0], [10.0]]), 2).ravel()
    array([2., 7.])
    """
    _check_floats(x)
    _check_landmarks(x, num_landmarks)
    return definition.segment_means(x, num_landmarks)


def _check_landmarks(x: Array, num_landmarks: int) -> None:
    length = x.shape[-2]
    if not 1 <= num_landmarks <= length:
        raise ValueError(f"num_landmarks must be between 1 and the sequence length {length}; found {num_landmarks}")


def nystrom_kernels(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    num_landmarks: int,
    mask: Mask | None = None,
) -> tuple[
    Float[Array, "*batch length {num_landmarks}"],
    Float[Array, "*batch {num_landmarks} {num_landmarks}"],
    Float[Array, "*batch {num_landmarks} length"],
]:
    """The three factors of Nyström attention: F = softmax(q k̃ᵀ), A = softmax(q̃ k̃ᵀ), B = softmax(q̃ kᵀ).

    Parameters
    ----------
    query, key : arrays of floats, (..., length, dim)
        Already divided by ⁴√dim.
    num_landmarks : int
        m, from 1 to length; q̃ and k̃ are the :func:`segment_means` of queries and keys.
    mask : array, broadcastable to (..., 1, length), optional
        1 for real keys, 0 for padding. It reaches B alone: padding still weighs in the landmarks.

    Returns
    -------
    kernel_1, kernel_2, kernel_3 : arrays, (..., length, m), (..., m, m) and (..., m, length)
        F, A and B; the rows of each sum to one.

    Raises
    ------
    ValueError
        If there are not between 1 and length landmarks.

    References
    ----------
    Xiong et al., arXiv 2102.03902, section 3.2, equation 9.

    Examples
    --------
    >>> import numpy as np
    >>> q = np.arange(8.0).reshape(4, 2) / 8
    >>> [kernel.shape for kernel in nystrom_kernels(q, q, num_landmarks=2)]
    [(4, 2), (2, 2), (2, 4)]
    """
    _check_floats(query, key)
    _check_landmarks(key, num_landmarks)
    return definition.nystrom_kernels(query, key, num_landmarks, _as_bool(mask))


def initial_inverse(
    a: Float[Array, "*batch m m"], initial: Literal["batch", "sequence", "matrix"] = "batch"
) -> Float[Array, "*batch m m"]:
    """First guess of the inverse: Z₀ = Aᵀ / maxⱼ Σᵢ Aᵢⱼ, the largest column sum.

    In general Aᵀ / (‖A‖₁ ‖A‖∞) makes the iteration converge; the rows of a softmax matrix sum to one, so that
    ‖A‖∞ = 1 and the largest column sum, ‖A‖₁, remains.

    Parameters
    ----------
    a : array of floats, (..., m, m)
        Row-stochastic, as a softmax leaves it.
    initial : {"batch", "sequence", "matrix"}
        Over what the largest column sum is taken: over all matrices (the reference's default, which makes a result
        depend on the other sequences of its batch), over the heads of each sequence, the last axis but two (which
        gives a sequence what the default gives it alone), or for each matrix (``inv_coeff_init_option=True``).

    Returns
    -------
    array, (..., m, m)

    Raises
    ------
    ValueError
        If ``initial`` is none of these words, or "sequence" where there is no axis of heads.

    References
    ----------
    Xiong et al., arXiv 2102.03902, section 3.3; Razavi et al., Asian-European J. Math. 7 (2014).

    Examples
    --------
    >>> import numpy as np
    >>> initial_inverse(np.array([[0.5, 0.5], [1.0, 0.0]])).round(4)
    array([[0.3333, 0.6667],
           [0.3333, 0.    ]])
    """
    _check_initial(a, initial)
    return definition.initial_inverse(a, initial)


def _check_initial(a: Array, initial: object) -> None:
    if initial not in ("batch", "sequence", "matrix"):
        raise ValueError(f"initial must be 'batch', 'sequence' or 'matrix'; found {initial!r}")
    if initial == "sequence" and a.ndim < 3:
        raise ValueError(f"initial='sequence' needs matrices of shape (..., heads, m, m); found {tuple(a.shape)}")


def iterative_pinv(
    a: Float[Array, "*batch m m"], iterations: int = 6, initial: Literal["batch", "sequence", "matrix"] = "batch"
) -> Float[Array, "*batch m m"]:
    """Moore–Penrose inverse by matrix products alone: Z ← ¼ Z (13 I − A Z (15 I − A Z (7 I − A Z))).

    The iteration is of third order: the residual I − A Z of one step is, up to a constant, the cube of the last.

    Parameters
    ----------
    a : array of floats, (..., m, m)
        Row-stochastic, as a softmax leaves it.
    iterations : int
        Steps. Six, the paper's choice, leave a visible error where A is ill conditioned.
    initial : {"batch", "sequence", "matrix"}
        As in :func:`initial_inverse`.

    Returns
    -------
    array, (..., m, m)
        An approximation of A⁺; in float32 if A is in half precision.

    Raises
    ------
    ValueError
        If ``initial`` is none of these words, or "sequence" where there is no axis of heads.

    References
    ----------
    Xiong et al., arXiv 2102.03902, section 3.3, equation 11; Razavi et al., Asian-European J. Math. 7 (2014).

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[0.8, 0.2], [0.3, 0.7]])
    >>> (a @ iterative_pinv(a)).round(4)
    array([[1., 0.],
           [0., 1.]])
    """
    _check_floats(a)
    _check_initial(a, initial)
    return definition.iterative_pinv(a, iterations, initial)


def svd_pinv(a: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """Moore–Penrose inverse by singular values, A⁺ = V Σ⁺ Uᵀ: what the iteration approximates.

    Singular values below max(m, n) · ε · σ₁ count as zero.

    Parameters
    ----------
    a : array of floats, (..., m, n)

    Returns
    -------
    array, (..., n, m)
        In float32 if A is in half precision.

    Examples
    --------
    >>> import numpy as np
    >>> svd_pinv(np.array([[2.0, 0.0], [0.0, 0.0]]))
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    _check_floats(a)
    return definition.svd_pinv(a)


def nystrom_attention_matrix(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    num_landmarks: int,
    mask: Mask | None = None,
    pinv: Callable[[Array], Array] = iterative_pinv,
) -> Float[Array, "*batch length length"]:
    """The approximated attention matrix F A⁺ B, held in full: what Nyström attention multiplies the values by.

    Parameters
    ----------
    query, key, num_landmarks, mask
        As in :func:`nystrom_kernels`.
    pinv : callable
        A → A⁺, :func:`iterative_pinv` or :func:`svd_pinv` (or either with arguments bound).

    Returns
    -------
    array, (..., length, length)
        Of rank m at most. Entries can be negative and, unless A is inverted exactly, rows do not quite sum to one.

    Raises
    ------
    ValueError
        If there are not between 1 and length landmarks.

    References
    ----------
    Xiong et al., arXiv 2102.03902, section 3.2, equation 9.

    Examples
    --------
    >>> import numpy as np
    >>> q = np.arange(8.0).reshape(4, 2) / 8
    >>> nystrom_attention_matrix(q, q, num_landmarks=2, pinv=svd_pinv).sum(axis=-1).round(10)
    array([1., 1., 1., 1.])
    """
    _check_floats(query, key)
    _check_landmarks(key, num_landmarks)
    matrix = definition.nystrom_attention_matrix(query, key, num_landmarks, _as_bool(mask), pinv)
    return matrix.astype(query.dtype, copy=False)


def nystrom_attention(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    value: Float[Array, "*batch length values"],
    num_landmarks: int,
    mask: Mask | None = None,
    pinv: Callable[[Array], Array] = iterative_pinv,
) -> Float[Array, "*batch length values"]:
    """Nyström attention, ``nystrom_attention_matrix(...) @ value`` in time and memory linear in the length.

    Parameters
    ----------
    query, key, num_landmarks, mask, pinv
        As in :func:`nystrom_attention_matrix`.
    value : array of floats, (..., length, values)

    Returns
    -------
    array, (..., length, values)
        Dtype of the value.

    Raises
    ------
    ValueError
        If there are not between 1 and length landmarks.

    References
    ----------
    Xiong et al., arXiv 2102.03902, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> q = np.arange(8.0).reshape(4, 2) / 8
    >>> context = nystrom_attention(q, q, q, num_landmarks=2)
    >>> np.allclose(context, nystrom_attention_matrix(q, q, num_landmarks=2) @ q)
    True
    """
    _check_floats(query, key, value)
    _check_landmarks(key, num_landmarks)
    return definition.nystrom_attention(query, key, value, num_landmarks, _as_bool(mask), pinv)


def depthwise_conv(
    value: Float[Array, "*batch heads length dim"], weight: Float[Array, "heads 1 size 1"]
) -> Float[Array, "*batch heads length dim"]:
    """Convolve the values along the sequence, one filter for each head: out[t] = Σₛ w[s] · v[t + s − size//2].

    Positions before the first and after the last count as zero. The filter is not flipped (cross-correlation, as
    ``torch.nn.Conv2d`` computes it).

    Parameters
    ----------
    value : array of floats, (..., heads, length, dim)
    weight : array of floats, (heads, 1, size, 1)
        Odd size.

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
    check_arrays(value, weight)
    get_array_module(value, weight)
    heads, size = value.shape[-3], weight.shape[-2] if weight.ndim > 1 else 0
    if weight.shape != (heads, 1, size, 1) or size % 2 == 0:
        raise ValueError(f"weight must have shape ({heads}, 1, size, 1) of odd size; found {weight.shape}")
    return definition.depthwise_conv(value, weight)
