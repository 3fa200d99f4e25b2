"""The losses of the five heads, each a mean over what counts."""

from nystrom_np.array_module import Array, check_arrays, get_array_module
from nystrom_np.fast import accelerated
from nystrom_np.shapes import Float, Integer

__all__ = ["binary_cross_entropy_with_logits", "cross_entropy", "log_softmax", "mean_squared_error"]


@accelerated
def log_softmax(x: Float[Array, "*shape"], axis: int = -1) -> Float[Array, "*shape"]:
    """Logarithm of the softmax: x − log Σ eˣ along an axis, without overflow or log 0.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    xp = get_array_module(x)
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


@accelerated
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
    check_arrays(logits, labels)
    xp = get_array_module(logits, labels)
    if labels.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(f"labels must have shape {logits.shape[:1]} or {logits.shape}; found {labels.shape}")
    log_probabilities = log_softmax(logits)
    if labels.ndim == 2:
        return -xp.mean(xp.sum(labels * log_probabilities, axis=-1))
    counts = labels != ignore_index
    picked = log_probabilities[xp.arange(labels.shape[0]), xp.where(counts, labels, 0)]
    total, count = xp.sum(xp.where(counts, -picked, 0.0)), xp.sum(counts)
    return xp.where(count > 0, total / xp.maximum(count, 1), xp.nan).astype(logits.dtype)


@accelerated
def mean_squared_error(predictions: Float[Array, "*shape"], targets: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Mean squared error: the mean of (prediction − target)². A ValueError if their shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> float(mean_squared_error(np.array([1.0, 3.0]), np.array([1.0, 1.0])))
    2.0
    """
    _check_targets(predictions, targets)
    return get_array_module(predictions).mean((predictions - targets) ** 2)


@accelerated
def binary_cross_entropy_with_logits(
    logits: Float[Array, "*shape"], targets: Float[Array, "*shape"]
) -> Float[Array, ""]:
    """Mean binary cross-entropy of σ(x) against t: max(x, 0) − x t + log(1 + exp(−|x|)), which cannot overflow.

    A ValueError if their shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> float(binary_cross_entropy_with_logits(np.array([0.0, 1000.0]), np.array([1.0, 1.0])).round(4))
    0.3466
    """
    _check_targets(logits, targets)
    xp = get_array_module(logits, targets)
    return xp.mean(xp.maximum(logits, 0.0) - logits * targets + xp.log1p(xp.exp(-xp.abs(logits))))


def _check_targets(predictions: Array, targets: Array) -> None:
    check_arrays(predictions, targets)
    if targets.shape != predictions.shape:  # which broadcasting would hide
        raise ValueError(f"targets must have shape {predictions.shape}; found {targets.shape}")


# What each head makes of its logits and labels; multiple choice takes cross-entropy as it is


def token_loss(
    logits: Float[Array, "batch length classes"], labels: Integer[Array, "batch length"]
) -> Float[Array, ""]:
    """Cross-entropy over all tokens, of the masked language model and of token classification; −100 is ignored.

    Examples
    --------
    >>> import numpy as np
    >>> float(token_loss(np.zeros((1, 2, 4)), np.array([[3, -100]])).round(4))
    1.3863
    """
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def sequence_loss(logits: Float[Array, "batch classes"], labels: Array, problem_type: str) -> Float[Array, ""]:
    """Loss of sequence classification, by the name that a configuration gives the problem (transformers 4.37.2).

    It is cross-entropy for "single_label_classification", with labels (B,); binary cross-entropy for
    "multi_label_classification", with floats (B, C); squared error for "regression", with floats that broadcast to it.

    Examples
    --------
    >>> import numpy as np
    >>> float(sequence_loss(np.array([[1.0], [3.0]]), np.array([1.0, 1.0]), "regression"))
    2.0
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels.reshape(-1))
    if problem_type == "multi_label_classification":
        return binary_cross_entropy_with_logits(logits, labels)
    if logits.shape[-1] == 1:
        return mean_squared_error(logits[:, 0], labels.reshape(-1))
    return mean_squared_error(logits, get_array_module(logits).broadcast_to(labels, logits.shape))


def answer_loss(
    logits: Float[Array, "batch length 2"], starts: Integer[Array, "batch"], ends: Integer[Array, "batch"]
) -> Float[Array, ""]:
    """Loss of question answering: the mean of the cross-entropies of where the answer begins and ends.

    Positions are clamped to 0 … L, and L itself is ignored, as an answer that was cut off (transformers 4.37.2).

    Examples
    --------
    >>> import numpy as np
    >>> float(answer_loss(np.zeros((1, 4, 2)), np.array([0]), np.array([9])))
    nan
    """
    length = logits.shape[1]
    starts, ends = (get_array_module(at).clip(at, 0, length) for at in (starts, ends))
    begin = cross_entropy(logits[..., 0], starts, ignore_index=length)
    return (begin + cross_entropy(logits[..., 1], ends, ignore_index=length)) / 2.0
