"""Nyström attention: softmax attention seen through a few landmarks (Xiong et al., arXiv 2102.03902).

The L × L attention matrix is approximated by the product of three small ones, F A⁺ B: every query against the
landmark keys, landmarks against landmarks (inverted), and the landmark queries against every key.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from nystrom_np.array_module import Array, get_array_module
from nystrom_np.functional.attention import softmax_attention, softmax_attention_matrix
from nystrom_np.functional.normalization import widen
from nystrom_np.parallel import parallel_map

__all__ = [
    "initial_inverse",
    "iterative_pinv",
    "nystrom_attention",
    "nystrom_attention_matrix",
    "nystrom_kernels",
    "segment_means",
    "svd_pinv",
]


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
    length = x.shape[-2]
    if not 1 <= num_landmarks <= length:
        raise ValueError(f"num_landmarks must be between 1 and the sequence length {length}; found {num_landmarks}")
    size, longer = divmod(length, num_landmarks)
    short = (num_landmarks - longer) * size  # tokens in the shorter segments
    means = _equal_segment_means(x[..., :short, :], num_landmarks - longer)
    if not longer:
        return means
    return get_array_module(x).concatenate([means, _equal_segment_means(x[..., short:, :], longer)], axis=-2)


def _equal_segment_means(x: Array, segments: int) -> Array:
    *batch, length, dim = x.shape
    return widen(x).reshape(*batch, segments, length // segments, dim).mean(axis=-2).astype(x.dtype, copy=False)


def initial_inverse(
    a: Float[Array, "*batch m m"], initial: Literal["batch", "matrix"] = "batch"
) -> Float[Array, "*batch m m"]:
    """First guess of the inverse: Z₀ = Aᵀ / max_j Σᵢ Aᵢⱼ, the largest column sum.

    In general Aᵀ / (‖A‖₁ ‖A‖∞) makes the iteration converge; the rows of a softmax matrix sum to one, so that
    ‖A‖∞ = 1 and the largest column sum, ‖A‖₁, remains.

    Parameters
    ----------
    a : array of floats, (..., m, m)
        Row-stochastic, as a softmax leaves it.
    initial : {"batch", "matrix"}
        Whether the largest column sum is taken over all matrices (the reference's default, which makes a result
        depend on the other sequences of its batch) or for each alone (``inv_coeff_init_option=True``).

    Returns
    -------
    array, (..., m, m)

    Raises
    ------
    ValueError
        If ``initial`` is neither word.

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
    if initial not in ("batch", "matrix"):
        raise ValueError(f"initial must be 'batch' or 'matrix'; found {initial!r}")
    column_sums = a.sum(axis=-2)
    largest = column_sums.max() if initial == "batch" else column_sums.max(axis=-1)[..., None, None]
    return a.swapaxes(-1, -2) / largest


def iterative_pinv(
    a: Float[Array, "*batch m m"], iterations: int = 6, initial: Literal["batch", "matrix"] = "batch"
) -> Float[Array, "*batch m m"]:
    """Moore–Penrose inverse by matrix products alone: Z ← ¼ Z (13 I − A Z (15 I − A Z (7 I − A Z))).

    The iteration is of third order: the residual I − A Z of one step is, up to a constant, the cube of the last.

    Parameters
    ----------
    a : array of floats, (..., m, m)
        Row-stochastic, as a softmax leaves it. Half precision is computed, and returned, in float32.
    iterations : int
        Steps. Six, the paper's choice, leave a visible error where A is ill conditioned.
    initial : {"batch", "matrix"}
        As in :func:`initial_inverse`.

    Returns
    -------
    array, (..., m, m)
        An approximation of A⁺.

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
    a = widen(a)
    identity = get_array_module(a).eye(a.shape[-1], dtype=a.dtype)
    z = initial_inverse(a, initial)
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13.0 * identity - az @ (15.0 * identity - az @ (7.0 * identity - az)))
    return z


def svd_pinv(a: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """Moore–Penrose inverse by singular values, A⁺ = V Σ⁺ Uᵀ: what the iteration approximates.

    Singular values below max(m, n) · ε · σ₁ count as zero.

    Parameters
    ----------
    a : array of floats, (..., m, n)

    Returns
    -------
    array, (..., n, m)

    Examples
    --------
    >>> import numpy as np
    >>> svd_pinv(np.array([[2.0, 0.0], [0.0, 0.0]]))
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    a = widen(a)
    xp = get_array_module(a)
    u, sigma, vt = xp.linalg.svd(a, full_matrices=False)
    cutoff = max(a.shape[-2:]) * xp.finfo(a.dtype).eps * sigma[..., :1]
    counts = sigma > cutoff
    inverse = xp.where(counts, 1.0, 0.0) / xp.where(counts, sigma, 1.0)
    return (vt.swapaxes(-1, -2) * inverse[..., None, :]).astype(a.dtype, copy=False) @ u.swapaxes(-1, -2)


def nystrom_kernels(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    num_landmarks: int,
    mask: Shaped[Array, "..."] | None = None,
) -> tuple[
    Float[Array, "*batch length {num_landmarks}"],
    Float[Array, "*batch {num_landmarks} {num_landmarks}"],
    Float[Array, "*batch {num_landmarks} length"],
]:
    """The three factors of Nyström attention: F = softmax(q k̃ᵀ), A = softmax(q̃ k̃ᵀ), B = softmax(q̃ kᵀ + mask).

    Parameters
    ----------
    query, key : arrays of floats, (..., length, dim)
        Already divided by dim^¼.
    num_landmarks : int
        m, from 1 to length; q̃ and k̃ are the :func:`segment_means` of queries and keys.
    mask : array, broadcastable to (..., 1, length), optional
        1 for real keys, 0 for padding. It reaches B alone: padding still weighs in the landmarks.

    Returns
    -------
    kernel_1, kernel_2, kernel_3 : arrays, (..., length, m), (..., m, m) and (..., m, length)
        F, A and B; the rows of each sum to one.

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
    query_landmarks, key_landmarks = segment_means(query, num_landmarks), segment_means(key, num_landmarks)
    kernel_1 = softmax_attention_matrix(query, key_landmarks)
    kernel_2 = softmax_attention_matrix(query_landmarks, key_landmarks)
    kernel_3 = softmax_attention_matrix(query_landmarks, key, mask)
    return kernel_1, kernel_2, kernel_3


def nystrom_attention_matrix(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    num_landmarks: int,
    mask: Shaped[Array, "..."] | None = None,
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
    kernel_1, kernel_2, kernel_3 = nystrom_kernels(query, key, num_landmarks, mask)
    return kernel_1 @ pinv(kernel_2).astype(query.dtype, copy=False) @ kernel_3


def nystrom_attention(
    query: Float[Array, "*batch length dim"],
    key: Float[Array, "*batch length dim"],
    value: Float[Array, "*batch length values"],
    num_landmarks: int,
    mask: Shaped[Array, "..."] | None = None,
    pinv: Callable[[Array], Array] = iterative_pinv,
    out: Float[Array, "*batch length values"] | None = None,
) -> Float[Array, "*batch length values"]:
    """Nyström attention, ``nystrom_attention_matrix(...) @ value`` in time and memory linear in the length.

    B v is softmax attention of the landmark queries, and F x is softmax attention over the landmark keys. So the
    product F (A⁺ (B v)) is two softmax attentions with a small inverse between them, each in bounded memory.

    Parameters
    ----------
    query, key : arrays of floats, (..., length, dim)
        Already divided by dim^¼.
    value : array of floats, (..., length, values)
    num_landmarks : int
        m, from 1 to length.
    mask : array, broadcastable to (..., 1, length), optional
        1 for real keys, 0 for padding.
    pinv : callable
        A → A⁺, as in :func:`nystrom_attention_matrix`.
    out : array, (..., length, values), optional
        What to write the result to. It may be the query itself, if that is not needed any more.

    Returns
    -------
    array, (..., length, values)
        Dtype of the value, or ``out``. Half precision is computed in float32: an inverse magnifies rounding errors.

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
    wide_query, wide_key, wide_value = widen(query), widen(key), widen(value)
    threads = None if get_array_module(query) is np else 1
    query_landmarks, key_landmarks = parallel_map(
        lambda x: segment_means(x, num_landmarks), [wide_query, wide_key], threads
    )
    kernel_2 = softmax_attention_matrix(query_landmarks, key_landmarks)
    seen_by_landmarks = softmax_attention(query_landmarks, wide_key, wide_value, mask)
    context = softmax_attention(wide_query, key_landmarks, pinv(kernel_2) @ seen_by_landmarks, out=out)
    return context if out is not None else context.astype(value.dtype, copy=False)
