"""What the laws share: a few strategies beside those of ``nystrom_np.testing``, and exact comparisons."""

import math
import os
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import Phase, settings

from nystrom_np.fast.on_numpy import attention, rows
from nystrom_np.testing import arrays

FLOATS = ("float64", "float32", "float16")

MOST_CASES = int(os.environ.get("NYSTROM_NP_MOST_CASES", "1000"))
"""What bounds the cases of a law where time is short, as on a GPU that is borrowed for minutes."""

shapes = st.sampled_from([(1,), (4,), (7,), (1, 1), (2, 3), (3, 1), (5, 4), (2, 3, 4), (2, 1, 2, 3)])


def float_arrays(dtype: str = "float64", scale: float = 4.0) -> st.SearchStrategy[np.ndarray]:
    """Arrays of any small shape and any layout."""
    return shapes.flatmap(lambda shape: arrays(shape, dtype, scale))


def eps(dtype: Any) -> float:
    """The distance from 1 to the next number: results of one rounding differ by half of it, relatively."""
    return float(np.finfo(dtype).eps)


def cases(number: int) -> Any:
    """How many cases a law draws: the more it could depend on, the more."""
    return settings(
        max_examples=min(number, MOST_CASES), phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
    )


def exponential_is(patch: pytest.MonkeyPatch, base_two: bool) -> None:
    """Let the twins on NumPy take 2ʸ, or eˣ itself, whatever this processor does fast."""
    form = (np.exp2, math.log2(math.e)) if base_two else (np.exp, 1.0)
    for module in (rows, attention):
        patch.setattr(module, "exponential", lambda: form)


def assert_close(found: Any, expected: Any, allowed: float, what: str = "") -> None:
    """Assert that no element is off by more than an absolute bound (infinities equal, no NaN)."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    np.testing.assert_allclose(found.astype("float64"), expected, rtol=0, atol=allowed, equal_nan=False, err_msg=what)
