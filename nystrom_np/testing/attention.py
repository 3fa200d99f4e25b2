"""Another implementation of Nyström attention, compared with this one over drawn cases."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nystrom_np.array_module import Array
from nystrom_np.functional import iterative_pinv, nystrom_attention, nystrom_kernels, softmax_attention
from nystrom_np.testing.cases import AttentionCase, Sizes, attention_cases, sizes_of
from nystrom_np.testing.mismatch import compare_arrays
from nystrom_np.testing.search import Exercised, search

__all__ = ["compare_nystrom_attention"]

MASKED, UNMASKED, EMPTY = "a mask with padding", "no mask", "a sequence without a real token"
EQUAL, UNEQUAL, EXACT = "segments of one length", "segments of two lengths", "no more tokens than landmarks"


def compare_nystrom_attention(
    function: Callable[..., Any],
    *,
    pinv: Callable[[Array], Array] = iterative_pinv,
    masking: str = "transformers",
    exact_where_short: bool = False,
    dtype: Any = "float64",
    tolerance: float | None = None,
    with_masks: bool = True,
    equal_segments: bool = False,
    lengths: Sizes = range(1, 13),
    batch: Sizes = (1, 2),
    empty_rows: bool = True,
    layouts: tuple[str, ...] = ("contiguous",),
    max_examples: int = 200,
) -> Exercised:
    """Compare another implementation of Nyström attention with this package's, over drawn cases.

    Parameters
    ----------
    function : callable
        ``function(query, key, value, num_landmarks, mask)`` with NumPy arrays as in :class:`AttentionCase`;
        returns the context (..., length, values) as anything that ``numpy.asarray`` reads, or a tensor of PyTorch.
    pinv : callable
        The inverse to compare with: by default six steps of :func:`nystrom_np.functional.iterative_pinv` from
        the initial value shared by the batch. ``functools.partial(iterative_pinv, initial="matrix")`` begins with
        one for each matrix.
    masking : {"transformers", "original"}
        What a mask does: it is for the last kernel alone, or padded queries and keys are 0 besides, as with the
        authors.
    exact_where_short : bool
        Whether the implementation computes exact attention where there are no more tokens than landmarks, as this
        package's models do.
    dtype : dtype
        Of the arrays given to the function, float64 or float32. The result is compared with this package's
        in float64.
    tolerance : float, optional
        The largest difference allowed. By default 100 · ε · (1 + ‖A⁺‖)² · max(1, max abs(value)): rounding errors
        as an ill-conditioned inverse magnifies them.
    with_masks, equal_segments, lengths, batch, empty_rows, layouts
        Which cases to draw: see :func:`attention_cases`. Change one to see whether the other cases agree.
        By default arrays are contiguous and can be written to, as ``torch.from_numpy`` likes them.
    max_examples : int
        How many cases.

    Returns
    -------
    Exercised
        How many cases of which kind agree.

    Raises
    ------
    Mismatch
        If a case differs; the message shows the smallest one found.
    NotExercised
        If no case of a kind that the options allow was tried.

    Examples
    --------
    >>> def attention(query, key, value, num_landmarks, mask):
    ...     return nystrom_attention(query, key, value, num_landmarks, mask)
    >>> compare_nystrom_attention(attention, max_examples=10).kinds["a mask with padding"] > 0
    True

    One that forgets the mask:

    >>> def unmasked(query, key, value, num_landmarks, mask):
    ...     return nystrom_attention(query, key, value, num_landmarks)
    >>> compare_nystrom_attention(unmasked)
    Traceback (most recent call last):
    nystrom_np.testing.mismatch.Mismatch: context: largest difference ... expected ..., found ...
    """
    if masking not in ("transformers", "original"):
        raise ValueError(f'masking must be "transformers" or "original"; found {masking!r}')

    def check(case: AttentionCase) -> None:
        wide = _in_float64(case, masking)
        exact = exact_where_short and _is_short(case)
        if exact:
            expected, magnified = softmax_attention(wide.query, wide.key, wide.value, wide.mask), 1.0
        else:
            expected, magnified = nystrom_attention(*wide.arguments(), pinv=pinv), _magnified(wide, pinv)
        rounding = 100.0 * np.finfo(dtype).eps * magnified * max(1.0, np.abs(case.value).max())
        allowed = float(rounding) if tolerance is None else tolerance
        compare_arrays("context", function(*case.arguments()), expected, allowed, case)

    given: dict[str, Any] = {"lengths": lengths, "batch": batch, "empty_rows": empty_rows, "layouts": layouts}
    cases = attention_cases(dtype, with_masks, equal_segments, fewer_tokens=exact_where_short, **given)
    wanted = [UNMASKED, EXACT]
    wanted += [MASKED] if with_masks and (empty_rows or max(sizes_of("lengths", lengths)) > 1) else []
    wanted += [EMPTY] if with_masks and empty_rows else []
    wanted += [EQUAL] if max(sizes_of("lengths", lengths)) > 1 else []
    wanted += [UNEQUAL] if max(sizes_of("lengths", lengths)) > 2 and not equal_segments else []
    return search(check, cases, max_examples, _kinds, wanted)


def _is_short(case: AttentionCase) -> bool:
    return bool(case.query.shape[-2] <= case.num_landmarks)


def _kinds(case: AttentionCase) -> Iterator[str]:
    if _is_short(case):
        yield EXACT
    else:
        yield UNEQUAL if case.query.shape[-2] % case.num_landmarks else EQUAL
    if case.mask is None:
        yield UNMASKED
        return
    real = case.mask.astype(bool)
    if not real.all():
        yield MASKED
    if not real.any(axis=-1).all():
        yield EMPTY


def _in_float64(case: AttentionCase, masking: str) -> AttentionCase:
    query, key, value = (x.astype("float64") for x in (case.query, case.key, case.value))
    if masking == "original" and case.mask is not None:
        real = case.mask.swapaxes(-1, -2).astype(bool)
        query, key = query * real, key * real
    return AttentionCase(query, key, value, case.num_landmarks, case.mask)


def _magnified(case: AttentionCase, pinv: Callable[[Array], Array]) -> float:
    """What the inverse makes of a rounding error: (1 + ‖A⁺‖)²."""
    inverse = pinv(nystrom_kernels(case.query, case.key, case.num_landmarks, case.mask)[1])
    return float((1.0 + np.abs(inverse).sum(axis=-1).max()) ** 2)
