"""The losses of the five heads, each a mean over what counts."""

from jaxtyping import Float, Integer

from nystrom_np.array_module import Array, get_array_module
from nystrom_np.functional.normalization import log_softmax, widen

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "mean_squared_error"]


def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Integer[Array, "n"] | Float[Array, "n classes"],
    ignore_index: int = -100,
) -> Float[Array, ""]:
    """Mean cross-entropy: −log softmax(logits)[label], averaged over the labels that are not ignored.

    Parameters
    ----------
    logits : array of floats, (n, classes)
    labels : array of integers (n,), or of floats (n, classes)
        Class indices, or a target distribution for each row: −Σ target · log softmax(logits), averaged over n.
    ignore_index : int
        Rows with this label do not count.

    Returns
    -------
    array of floats, ()
        NaN if every label is ignored, as in ``torch.nn.CrossEntropyLoss``.

    Raises
    ------
    ValueError
        If the labels have another shape: nothing is broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> float(cross_entropy(np.zeros((2, 4)), np.array([3, -100])).round(4))
    1.3863
    """
    xp = get_array_module(logits, labels)
    if labels.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(f"labels must have shape {logits.shape[:1]} or {logits.shape}; found {labels.shape}")
    log_probabilities = log_softmax(widen(logits))
    if labels.ndim == 2:
        return -(labels * log_probabilities).sum(axis=-1).mean().astype(logits.dtype)
    counts = labels != ignore_index
    rows = xp.arange(labels.shape[0])
    picked = log_probabilities[rows, xp.where(counts, labels, 0)]
    total, count = xp.where(counts, -picked, 0.0).sum(), counts.sum()
    return xp.where(count > 0, total / xp.maximum(count, 1), xp.nan).astype(logits.dtype)


def mean_squared_error(predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Mean squared error: the mean of (prediction − target)². A ValueError if their shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> float(mean_squared_error(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    _check_targets(predictions, targets)
    difference = widen(predictions) - widen(targets)
    return (difference * difference).mean().astype(predictions.dtype)


def binary_cross_entropy_with_logits(
    logits: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean binary cross-entropy of σ(x) against t: max(x, 0) − x t + log(1 + e^−|x|), which cannot overflow.

    A ValueError if their shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> float(binary_cross_entropy_with_logits(np.array([0.0, 1000.0]), np.array([1.0, 1.0])).round(4))
    0.3466
    """
    xp = get_array_module(logits, targets)
    _check_targets(logits, targets)
    x = widen(logits)
    terms = xp.maximum(x, 0.0) - x * targets + xp.log1p(xp.exp(-xp.abs(x)))
    return terms.mean().astype(logits.dtype)


def _check_targets(predictions: Array, targets: Array) -> None:
    if targets.shape != predictions.shape:  # which broadcasting would hide
        raise ValueError(f"targets must have shape {predictions.shape}; found {targets.shape}")
